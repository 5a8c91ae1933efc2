"""Best value so far over the cost, for one search and for comparisons.

Only trials of the search count, in the order in which they ended, not the control, finalists or
baselines. Their cost includes killed attempts. Where trials pause at rungs, each rung of a trial is
a result at the time at which it was reached, and a value of a higher rung replaces all below.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from kinase.api.trial import Kind
from kinase.report.control import ended, sign, value_of
from kinase.report.data import ReportData, ReportTrial

COSTS: dict[str, tuple[str, Callable[[ReportTrial], float]]] = {
    "epochs": ("training epochs", lambda t: t.cost.epochs),
    "sample passes": ("sample passes", lambda t: t.cost.samples),
    "device seconds": ("device seconds", lambda t: t.cost.device_seconds),
    "trials": ("trials", lambda t: 1),
}
"""Units of cost: (axis title, cost of a trial)."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A search's best value so far: a step at each improvement."""

    xs: tuple[float, ...]
    """Cost at each improvement."""
    ys: tuple[float, ...]
    """The best value after it."""
    spent: float
    """Cost of the whole search."""
    sign: float
    """1 if more is better, -1 if less is."""

    @property
    def final(self) -> float | None:
        """The best value at the end, or None if there is none."""
        return self.ys[-1] if self.ys else None

    def at(self, cost: float) -> float | None:
        """The best value at a cost, or None if there was none yet."""
        index = bisect_right(self.xs, cost)
        return self.ys[index - 1] if index else None

    def steps(self, begin: float = 0.0) -> tuple[list[float], list[float]]:
        """Costs and best values from `begin`: at the start, at each improvement, and at the end."""
        late = [(x, y) for x, y in zip(self.xs, self.ys, strict=True) if x > begin]
        first, last = self.at(begin), self.final
        if first is not None:
            late.insert(0, (begin, first))
        if last is not None and late[-1][0] < self.spent:
            late.append((self.spent, last))
        return [x for x, _ in late], [y for _, y in late]

    def until(self, goal: float) -> float | None:
        """The cost at which the search reached a value, or None if it never did."""
        good = (x for x, y in zip(self.xs, self.ys, strict=True) if self.sign * (y - goal) >= 0)
        return next(good, None)


@dataclass(frozen=True, slots=True)
class Result:
    """A value of a trial, or its end without one."""

    trial: ReportTrial
    """With the metrics that it had then."""
    cost: float
    """What it took since the trial's last result."""
    rung: int
    """-1 without a ladder."""


def results(data: ReportData, unit: str, kind: Kind = Kind.SEARCH) -> list[Result]:
    """What was measured of the trials of a kind, in order."""
    cost_of = COSTS[unit][1]
    there = ended(data, kind)
    if not any(trial.rungs for trial in there):
        return [Result(trial, cost_of(trial), -1) for trial in there]
    found: list[tuple[float, int, Result]] = []
    for trial in there:
        spent, last = 0.0, -1
        for rung in trial.rungs:
            then = replace(trial, metrics=rung.metrics, cost=rung.cost)
            cost = 0.0 if unit == "trials" and last >= 0 else cost_of(then) - spent
            found.append((rung.ended, trial.number, Result(then, cost, rung.rung)))
            spent, last = cost_of(then), rung.rung
        rest = cost_of(trial) - spent
        if trial.ended is not None and (rest or not trial.rungs):  # it was stopped on its way
            found.append((trial.ended, trial.number, Result(trial, rest, last)))
    found.sort(key=lambda each: each[:2])
    return [result for _, _, result in found]


def shared(data: ReportData, unit: str) -> float:
    """What the supernet took, before any candidate had a value. It is no candidate."""
    if unit == "trials":
        return 0.0
    return sum(COSTS[unit][1](trial) for trial in ended(data, Kind.SUPERNET))


def curve(data: ReportData, unit: str, kind: Kind = Kind.SEARCH) -> Curve:
    """The best value so far of the search's trials, or of those of another kind."""
    s = sign(data)
    xs: list[float] = []
    ys: list[float] = []
    spent, highest = shared(data, unit), -1
    for result in results(data, unit, kind):
        spent += result.cost
        value = value_of(data, result.trial)
        if value is None or result.rung < highest:
            continue
        if not ys or result.rung > highest or s * (value - ys[-1]) > 0:
            xs.append(spent)
            ys.append(value)
        highest = result.rung
    return Curve(tuple(xs), tuple(ys), spent, s)


def quantile(values: Sequence[float | None], share: float, sign: float = 1.0) -> float | None:
    """Quantile by linear interpolation, from the worst to the best. None is worse than any value,
    and is the result if the quantile falls on a None."""
    ordered = sorted(-math.inf if v is None else sign * v for v in values)
    if not ordered:
        return None
    below, part = divmod(share * (len(ordered) - 1), 1)
    low = ordered[int(below)]
    if part and math.isfinite(low):
        low += part * (ordered[int(below) + 1] - low)
    return sign * low if math.isfinite(low) else None


def middle(values: Sequence[float | None], sign: float = 1.0) -> float | None:
    """The median, with None as worse than any value."""
    return quantile(values, 0.5, sign)


Band = tuple[float, float | None, float | None, float | None]
"""The quartiles at a cost: the lower, the median, the upper."""


def band(curves: Sequence[Curve]) -> list[Band]:
    """The quartiles over runs at each cost at which one of them improves, up to `common`, so that
    no run is extended beyond its end."""
    end = common(curves)
    costs = sorted({x for each in curves for x in each.xs if x <= end} | {end})
    found: list[Band] = []
    for cost in costs:
        values = [each.at(cost) for each in curves]
        low, mid, high = (quantile(values, q, curves[0].sign) for q in (0.25, 0.5, 0.75))
        if high is not None:
            found.append((cost, low, mid, high))
    return found


def common(curves: Sequence[Curve]) -> float:
    """The cost that all runs have reached."""
    return min((each.spent for each in curves), default=0.0)


@dataclass(frozen=True, slots=True)
class Reach:
    """The share of a reference's cost at which runs reach its final value."""

    seeds: tuple[int, ...]
    """Seeds of the runs, in the order of `shares`."""
    shares: tuple[float | None, ...]
    """Share of each run; None if it never reached the value."""
    paired: bool
    """Whether each run is compared with the reference's run of the same seed; otherwise with the
    medians of its runs."""

    @property
    def median(self) -> float | None:
        """None if at least half of the runs never reached the value."""
        if not self.shares:
            return None
        found = median(math.inf if share is None else share for share in self.shares)
        return found if math.isfinite(found) else None


Seeded = Sequence[tuple[int, Curve]]
"""Runs, each with its seed."""


def reach(runs: Seeded, reference: Seeded) -> Reach:
    """Compare runs with a reference: by pairs of the same seed if there are any, otherwise with the
    medians. A reference without a final value or cost is ignored."""
    theirs: dict[int, list[Curve]] = defaultdict(list)
    for seed, each in reference:
        theirs[seed].append(each)
    pairs = [(seed, each, theirs[seed].pop(0)) for seed, each in runs if theirs[seed]]
    if pairs:
        held = [(seed, each, other.final, other.spent) for seed, each, other in pairs]
    else:
        others = [each for _, each in reference]
        goal = middle([each.final for each in others], others[0].sign) if others else None
        cost = median(each.spent for each in others) if others else 0.0
        held = [(seed, each, goal, cost) for seed, each in runs]
    shares = {
        place: None if (spent := each.until(goal)) is None else spent / cost
        for place, (_, each, goal, cost) in enumerate(held)
        if goal is not None and cost
    }
    return Reach(tuple(held[place][0] for place in shares), tuple(shares.values()), bool(pairs))
