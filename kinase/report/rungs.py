"""Trials of several rungs: what each of them measured, and all of them at their first rung."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kinase.api.trial import Cost

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


def at_first_rung(data: ReportData) -> ReportData:
    """All trials as they were at the end of their first rung, where some trials have several.

    Values of different rungs cannot be compared as if they were of one: who is promoted has trained
    longer. Those of the first rung can, and were measured of all.
    """
    if not any(trial.rungs for trial in data.trials):
        return data
    trials = tuple(
        replace(trial, metrics=trial.rungs[0].metrics, cost=trial.rungs[0].cost)
        if trial.rungs
        else trial
        for trial in data.trials
    )
    return replace(data, trials=trials)
