"""What an estimator can decide for a free slot."""

from __future__ import annotations

from dataclasses import dataclass

from kinase.api.fidelity import Grant


@dataclass(frozen=True, slots=True)
class Sample:
    """Ask the strategy for a new candidate."""

    grant: Grant
    """Of a candidate that is trained from scratch."""
    child: Grant | None = None
    """Of one that begins with its parent's weights; None: as any other."""
    measure: tuple[str, ...] = ()
    """Zero-cost proxies to measure on the network as it begins."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a rule expects of a trial at a look."""

    probability: float
    """That it does not reach `bar` at the end of its grant."""
    bar: float
    """The main loss that it has to reach."""
    predicted: float | None = None
    """The main loss that is expected."""


@dataclass(frozen=True, slots=True)
class Promote:
    """Train a resting trial on. With its own grant again, it continues past a look."""

    trial: int
    grant: Grant
    forecast: Forecast | None = None
    """What a rule expected of it at this look, for the record."""
    spared: bool = False
    """Whether a rule would have stopped it, and it is trained on to show what it becomes."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End a resting trial. Its last value counts, or what is predicted for it."""

    trial: int
    why: str
    """For a person, in a few words."""
    predicted: float | None = None
    """The main loss that is expected of it at the end of its grant."""
    probability: float | None = None
    """That it would not have reached `bar`, by the rule that stops it."""
    bar: float | None = None
    """The main loss that it had to reach at the end of its grant."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be decided until a running trial rests or ends."""


@dataclass(frozen=True, slots=True)
class End:
    """The search is over."""

    why: str
    """For a person."""


Decision = Sample | Promote | Stop | Wait | End


@dataclass(frozen=True, slots=True)
class Left:
    """What the budget has left for the search."""

    epochs: int | None
    """Epochs; None without a limit."""
    trials: int | None
    """New trials; None without a limit."""
