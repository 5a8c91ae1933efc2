"""Several objectives of a search as points, and the hypervolume of their front.

Parameters and multiply-adds, in which architectures differ by factors, are used as logarithms. Each
objective is scaled by the common front: 0 is its best value on the front and 1 the worst; if the
front has only one value, 1 is the worst value of all points. The reference point is 1.1 in each
(Ishibuchi, Imada, Setoguchi & Nojima 2018, "How to Specify a Reference Point in Hypervolume
Calculation for Fair Performance Comparison"), so that the ends of a front also count. The volume is
a share of the box up to the reference point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kinase.api.objective import RESOURCE_METRICS
from kinase.api.trial import Kind
from kinase.report.anytime import COSTS, Curve
from kinase.report.control import ended, sign
from kinase.report.data import ReportData, ReportTrial
from kinase.strategy.pareto import dominates, hypervolume, pareto_front

REFERENCE = 1.1
"""Scaled coordinate of the reference point."""

Point = tuple[float, ...]
"""Values of the objectives as losses."""


def objectives(data: ReportData) -> list[tuple[str, float]]:
    """Each objective and its sign: 1 if more is better, -1 if less is."""
    also = [(metric, 1.0 if goal == "maximize" else -1.0) for metric, goal in data.also]
    return [(data.metric, sign(data)), *also]


def enough(data: ReportData) -> dict[str, float]:
    """Values of additional objectives beyond which an improvement does not count."""
    also = data.spec.get("objective", {}).get("also") or ()
    return {m["metric"]: m["enough"] for m in also if m.get("enough") is not None}


def losses_of(data: ReportData, trial: ReportTrial) -> Point | None:
    """A trial's objectives, or None if one of them is not finite."""
    limits, found = enough(data), list[float]()
    for metric, s in objectives(data):
        value = trial.metrics.get(metric, math.nan)
        if not math.isfinite(value):
            return None
        if metric in limits:
            value = s * min(s * value, s * limits[metric])
        if metric in RESOURCE_METRICS:
            value = math.log(max(value, 1.0))
        found.append(-s * value)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Box:
    """The region in which a volume is measured."""

    best: Point
    worst: Point
    """Worst value of each objective on the front, or among all points if the front has only one
    value."""

    @classmethod
    def around(cls, points: Sequence[Point]) -> Box:
        """The box of the points' front. There must be at least one point."""
        columns = list(zip(*(points[i] for i in pareto_front(points)), strict=True))
        best, worst = tuple(map(min, columns)), tuple(map(max, columns))
        whole = tuple(map(max, zip(*points, strict=True)))
        return cls(
            best,
            tuple(
                every if low == high else high
                for low, high, every in zip(best, worst, whole, strict=True)
            ),
        )

    @property
    def flat(self) -> bool:
        """Whether all points are equal, so that there is no volume."""
        return self.best == self.worst

    def scaled(self, point: Point) -> Point:
        """Scale a point: 0 is the best value, 1 the worst. An objective in which all points are
        equal is not scaled."""
        return tuple(
            (x - low) / ((high - low) or 1.0)
            for x, low, high in zip(point, self.best, self.worst, strict=True)
        )

    def volume(self, points: Sequence[Point]) -> float:
        """The share of the box that the points dominate, 0 to 1."""
        reference = (REFERENCE,) * len(self.best)
        inside = [self.scaled(point) for point in points]
        return hypervolume(inside, reference) / REFERENCE ** len(reference)


def frame_of(*runs: ReportData) -> Box | None:
    """The common box of search and control of some runs, so that their volumes are comparable; None
    if no trial has a value in each objective."""
    points = [
        point
        for run in runs
        for trial in ended(run, Kind.SEARCH, Kind.CONTROL)
        if (point := losses_of(run, trial)) is not None
    ]
    return Box.around(points) if points else None


def volumes(data: ReportData, unit: str, frame: Box, kind: Kind = Kind.SEARCH) -> Curve:
    """The hypervolume of the front so far over the cost of the trials of a kind."""
    cost_of = COSTS[unit][1]
    xs: list[float] = []
    ys: list[float] = []
    front: list[Point] = []
    spent = 0.0
    for trial in ended(data, kind):
        spent += cost_of(trial)
        point = losses_of(data, trial)
        if point is None or any(each == point or dominates(each, point) for each in front):
            continue
        front = [each for each in front if not dominates(point, each)] + [point]
        volume = frame.volume(front)
        if volume > (ys[-1] if ys else 0.0):
            xs.append(spent)
            ys.append(volume)
    return Curve(tuple(xs), tuple(ys), spent, 1.0)
