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
class Promote:
    """Train a resting trial on. With its own grant again, it continues past a look."""

    trial: int
    grant: Grant


@dataclass(frozen=True, slots=True)
class Stop:
    """End a resting trial. Its last value counts, or what is predicted for it."""

    trial: int
    why: str
    """For a person, in a few words."""
    predicted: float | None = None
    """The main loss that is expected of it at the end of its grant."""
    probability: float | None = None
    """That it would not have reached what it had to reach, by the rule that stops it."""


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
