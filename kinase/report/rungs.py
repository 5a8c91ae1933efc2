"""Trials of several rungs: what each of them measured, and all of them at their first rung."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kinase.api.trial import Cost
from kinase.estimation.calibration import Calibration
from kinase.experiment.rungs import RungCount

if TYPE_CHECKING:
    from kinase.report.data import ReportData


@dataclass(frozen=True, slots=True)
class ReportRung:
    """A rung that a trial reached."""

    rung: int
    """Its place on the ladder, from 0."""
    epochs: int
    """Epochs done at its fidelity."""
    metrics: dict[str, float]
    """What was measured, `params` and `macs` included."""
    cost: Cost
    """What the trial had cost by then."""
    ended: float
    """Seconds that the experiment had run by then."""


@dataclass(frozen=True, slots=True)
class Step:
    """A rung of the ladder, and how the trials of the search and its control stand there."""

    rung: int
    """Its place, from 0; -1 for a pool before the ladder."""
    text: str
    """What is trained up to its end: `3 of 27 epochs`."""
    count: RungCount
    """The trials."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which a trial held a slot; in seconds that the experiment had run."""

    began: float
    ended: float | None
    """None while it is under way."""
    device_seconds: float
    """What it was charged."""


@dataclass(frozen=True, slots=True)
class ReportLook:
    """What a rule expected of a trial at a look."""

    done: int
    """Epochs that it had done."""
    until: int
    """Epochs at the end of its grant."""
    reaches: float
    """Probability that it reaches `bar` there."""
    bar: float
    """Value of the main metric that it had to reach."""
    predicted: float | None
    """The expected value."""
    reached: bool | None
    """Whether it did; None if its training did not get there."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """A rule that stops trials by their learning curves."""

    rule: str
    """Its name."""
    probability: float
    """Trials are stopped that reach their bar with a probability below this."""
    spare: float
    """Share of these that is trained on."""
    calibration: Calibration
    """What the spared say of the stopped."""


def lowest(data: ReportData) -> int | None:
    """The rung at which trials are compared, where they begin at several; None: all that begin."""
    firsts = {trial.first for trial in data.trials if trial.first is not None}
    return min(firsts) if len(firsts) > 1 else None


def at_first_rung(data: ReportData) -> ReportData:
    """All trials as they were at the end of their first rung, where some trials have several.

    Values of different rungs cannot be compared as if they were of one: who is promoted has trained
    longer. Those of the first rung can, and were measured of all. Where brackets begin at different
    rungs, only the trials of the lowest one are left, which are the most.
    """
    if not any(trial.rungs for trial in data.trials):
        return data
    rung = lowest(data)
    trials = tuple(
        replace(trial, metrics=trial.rungs[0].metrics, cost=trial.rungs[0].cost)
        if trial.rungs
        else trial
        for trial in data.trials
        if rung is None or trial.first in (rung, None)
    )
    return replace(data, trials=trials)


def inherits(data: ReportData) -> bool:
    """Whether children climb a ladder with their parents' weights. What they have learned at their
    first rung was paid for by others, so values and costs there say nothing of the search."""
    return bool(data.spec.get("estimation", {}).get("inherit"))


def compared(data: ReportData) -> str:
    """Which trials the verdict compares, and when, for people."""
    if inherits(data):
        return "all trials at the last rung of each, with all that they cost"
    rung = lowest(data)
    if rung is None:
        return "all trials at their first rung"
    return f"the trials that begin at rung {rung}, at its end"
