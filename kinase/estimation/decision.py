"""What an estimator can decide for a free slot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kinase.api.fidelity import Grant
from kinase.api.supernet import SupernetPlan


@dataclass(frozen=True, slots=True)
class Sample:
    """Ask the strategy for a new candidate."""

    grant: Grant
    """Of a candidate that is trained from scratch."""
    child: Grant | None = None
    """Of one that begins with its parent's weights; None: as any other."""
    measure: tuple[str, ...] = ()
    """Zero-cost proxies to measure on the network as it begins."""
    supernet: int | None = None
    """The supernet's trial whose weights the candidate takes; None: it begins from scratch."""
    recalibrate: int = 0
    """Training samples from which the statistics of its batch normalizations are computed."""


@dataclass(frozen=True, slots=True)
class Train:
    """Train the supernet of all candidates, which both arms then share."""

    grant: Grant
    plan: SupernetPlan


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


Decision = Sample | Train | Promote | Stop | Wait | End


@dataclass(frozen=True, slots=True)
class Left:
    """What the budget has left for the search."""

    epochs: int | None
    """Epochs; None without a limit."""
    trials: int | None
    """New trials; None without a limit."""


def check(found: Any) -> Decision:
    """Check what an estimator, maybe of another package, has decided.

    Raises:
        TypeError: it is not a decision, or one of its fields is not of its type.
    """
    match found:
        case Sample(grant, child, measure, supernet):
            _expect(isinstance(grant, Grant), "grant", grant, "a Grant", found)
            _expect(child is None or isinstance(child, Grant), "child", child, "a Grant", found)
            names = isinstance(measure, tuple) and all(isinstance(n, str) for n in measure)
            _expect(names, "measure", measure, "a tuple of names", found)
            right = supernet is None or _whole(supernet)
            _expect(right, "supernet", supernet, "the number of a trial", found)
        case Train(grant, plan):
            _expect(isinstance(grant, Grant), "grant", grant, "a Grant", found)
            _expect(isinstance(plan, SupernetPlan), "plan", plan, "a SupernetPlan", found)
        case Promote(trial, grant, forecast):
            _expect(isinstance(grant, Grant), "grant", grant, "a Grant", found)
            _expect(_whole(trial), "trial", trial, "the number of a trial", found)
            right = forecast is None or isinstance(forecast, Forecast)
            _expect(right, "forecast", forecast, "a Forecast", found)
        case Stop(trial, why, predicted, probability, bar):
            _expect(_whole(trial), "trial", trial, "the number of a trial", found)
            _expect(isinstance(why, str), "why", why, "a text", found)
            _expect(_number(predicted), "predicted", predicted, "a finite number", found)
            right = _number(probability) and 0 <= (probability or 0) <= 1
            _expect(right, "probability", probability, "a number from 0 to 1", found)
            _expect(_number(bar), "bar", bar, "a finite number", found)
        case End(why):
            _expect(isinstance(why, str), "why", why, "a text", found)
        case Wait():
            pass
        case _:
            raise TypeError(
                f"it decided {found!r:.200}; it must decide Sample, Train, Promote, Stop, Wait or "
                "End"
            )
    decision: Decision = found
    return decision


def _expect(right: bool, field: str, value: object, wanted: str, found: object) -> None:
    if not right:
        raise TypeError(f"its {type(found).__name__} has {field} {value!r:.100}; give {wanted}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))
