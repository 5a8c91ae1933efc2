"""Trials in stretches: how far they got, what was saved, and whether the decisions were right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from kinase.api.trial import Kind, Outcome
from kinase.estimation.calibration import Forecasted, Group, reliability
from kinase.report.control import sign, value_of
from kinase.report.data import ReportData, ReportTrial
from kinase.report.importance import ranks
from kinase.report.rungs import Step

ROWS = 30
"""Maximum number of rungs, reasons and pairs in a table."""
LISTED = 50
"""Maximum number of trials in a table."""
LEVEL = 0.95
"""Coverage of the intervals."""
FEWEST = 8
"""Minimum number of trials for a rank correlation: fewer often agree in all ranks by chance."""


@dataclass(frozen=True, slots=True)
class Saving:
    """What trials took, and what they would have taken if each had been trained in full."""

    trials: int
    """Trials of the search and its control that were trained."""
    spent: int
    whole: int
    unit: str
    """epochs, or sample passes where the rungs differ in more than epochs."""

    @property
    def share(self) -> float:
        """Share of the whole that was not spent; below 0 if more was."""
        return 1 - self.spent / self.whole if self.whole else 0.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well the ranking at one rung predicts that at the next one."""

    rung: int
    following: int
    trials: int
    """Trials that reached both with a value."""
    correlation: float | None
    """Of the ranks (Spearman 1904); None if there are too few trials, or all are equal."""
    interval: tuple[float, float] | None
    """95 % interval (Bonett & Wright 2000)."""


@dataclass(frozen=True, slots=True)
class Section:
    """What the section shows."""

    steps: tuple[Step, ...]
    saving: Saving
    agreements: tuple[Agreement, ...]
    resting: tuple[ReportTrial, ...]
    """The best of those that pause."""
    resting_count: int
    reasons: tuple[tuple[str, int], ...]
    """Why trials were stopped, and how many."""
    ruled: tuple[ReportTrial, ...]
    """Trials that a rule stopped, the latest."""
    spared: tuple[ReportTrial, ...]
    """Trials that it would have stopped, and that were trained on, the latest."""
    groups: tuple[Group, ...]
    """What came true of the rule's probabilities."""


def section_of(data: ReportData) -> Section | None:
    """The contents of the section; None where trials are trained at once."""
    if not data.ladder:
        return None
    searched = [t for t in data.trials if t.kind in (Kind.SEARCH, Kind.CONTROL)]
    paused = sorted(
        (t for t in searched if t.resting), key=lambda t: (-t.rung, *order(data, t), t.number)
    )
    known = [step for step in data.ladder if step.count.entered] or list(data.ladder)
    return Section(
        steps=thinned(known),
        saving=saving(data),
        agreements=agreements(data)[:ROWS],
        resting=tuple(paused[:LISTED]),
        resting_count=len(paused),
        reasons=tuple(reasons(data, searched).most_common(ROWS)),
        ruled=tuple(t for t in searched if t.ruled)[-LISTED:],
        spared=tuple(t for t in searched if t.spared)[-LISTED:],
        groups=tuple(groups_of(data)),
    )


def thinned(steps: Sequence[Step]) -> tuple[Step, ...]:
    """At most `ROWS` rungs: both ends, and those between evenly."""
    if len(steps) <= ROWS:
        return tuple(steps)
    return tuple(steps[round(i * (len(steps) - 1) / (ROWS - 1))] for i in range(ROWS))


def order(data: ReportData, trial: ReportTrial) -> tuple[bool, float]:
    """Sort key: the better value first, those without one last."""
    value = value_of(data, trial)
    return value is None, -sign(data) * (value or 0.0)


def saving(data: ReportData) -> Saving:
    """What was spent on the search's and the control's trials, against all in full."""
    trained = [
        t for t in data.trials if t.kind in (Kind.SEARCH, Kind.CONTROL) and t.cost.epochs > 0
    ]
    epochs = sum(t.cost.epochs for t in trained)
    samples = sum(t.cost.samples for t in trained)
    if samples and any(_differs(step, data) for step in data.ladder):
        return Saving(len(trained), samples, len(trained) * data.whole.samples, "sample passes")
    return Saving(len(trained), epochs, len(trained) * data.whole.epochs, "epochs")


def _differs(step: Step, data: ReportData) -> bool:
    """Whether a rung below the last one is a whole training at a lower fidelity."""
    last = data.ladder[-1]
    return step.rung >= 0 and step is not last and step.count.until >= data.whole.epochs


def columns(data: ReportData, trials: Sequence[ReportTrial]) -> dict[str, list[Any]]:
    """Further columns of the file of all trials: how far each got, its value at each rung, and what
    a rule expected of it at its last look. None where trials are trained at once."""
    if not data.ladder:
        return {}
    found: dict[str, list[Any]] = {}
    if data.laddered:
        found["rung"] = [t.rung if t.rungs else None for t in trials]
        for step in thinned([step for step in data.ladder if step.rung >= 0]):
            found[f"{data.metric} at rung {step.rung}"] = [
                next(
                    (_finite(r.metrics.get(data.metric)) for r in t.rungs if r.rung == step.rung),
                    None,
                )
                for t in trials
            ]
    if data.stopping is not None:
        last = [t.looks[-1] if t.looks else None for t in trials]
        found["stopped by the rule"] = [str(t.ruled).lower() for t in trials]
        found["spared"] = [str(t.spared).lower() for t in trials]
        found["probability to reach the bar"] = [
            _finite(look.reaches) if look else None for look in last
        ]
        found["expected"] = [_finite(look.predicted) if look else None for look in last]
        found["bar"] = [_finite(look.bar) if look else None for look in last]
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Correlation of the ranks, ties at their mean rank; None where all of one are equal."""
    a, b = (ranks(np.asarray(values, np.float64)) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return None if scale == 0 else max(-1.0, min(1.0, float(a @ b) / scale))


def interval_of(correlation: float, count: int) -> tuple[float, float]:
    """Interval of a rank correlation of so many pairs: Fisher's transformation with the variance of
    Bonett & Wright 2000, (1 + r^2 / 2) / (n - 3)."""
    if count <= 3 or abs(correlation) >= 1:
        return (-1.0, 1.0) if count <= 3 else (correlation, correlation)
    z = math.atanh(correlation)
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    half *= math.sqrt((1 + correlation**2 / 2) / (count - 3))
    return math.tanh(z - half), math.tanh(z + half)


def agreements(data: ReportData) -> tuple[Agreement, ...]:
    """For each two rungs that follow each other, on the trials that reached both."""
    values: dict[int, dict[int, float]] = {}
    for trial in data.trials:
        for reached in trial.rungs:
            value = reached.metrics.get(data.metric, math.nan)
            if math.isfinite(value):
                values.setdefault(reached.rung, {})[trial.number] = value
    found = []
    rungs = [step.rung for step in data.ladder if step.rung >= 0]
    for rung, following in pairwise(rungs):
        low, high = values.get(rung, {}), values.get(following, {})
        both = sorted(low.keys() & high.keys())
        correlation = None
        if len(both) >= FEWEST:
            correlation = spearman([low[n] for n in both], [high[n] for n in both])
        interval = None if correlation is None else interval_of(correlation, len(both))
        if both:
            found.append(Agreement(rung, following, len(both), correlation, interval))
    return tuple(found)


def reasons(data: ReportData, trials: Sequence[ReportTrial]) -> Counter[str]:
    """Why trials ended before their last epoch. What a rule says differs from trial to trial, so it
    counts as the rule's."""
    rule = data.stopping.rule if data.stopping is not None else "a rule"
    return Counter(
        f"{rule}, by the learning curve" if t.ruled else (t.message or "no reason is known")
        for t in trials
        if t.outcome is Outcome.STOPPED
    )


def groups_of(data: ReportData) -> list[Group]:
    """What came true of the probabilities that a rule gave trials whose end is known."""
    stopping = data.stopping
    if stopping is None:
        return []
    looks = [
        Forecasted(
            trial.number,
            look.reaches,
            look.reached,
            1 / stopping.spare if trial.spared and stopping.spare else 1.0,
        )
        for trial in data.trials
        for look in trial.looks
        if look.reached is not None
    ]
    return reliability(looks, stopping.probability)
