"""Trials by kind, and the expected best value of random search at a cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from kinase.api.trial import Kind
from kinase.report.data import ReportData, ReportTrial


def expected_best(values: Sequence[float], draws: int) -> float:
    """Expected largest of `draws` values drawn without replacement: exact, no resampling.

    With n values sorted from small to large, the i-th is the largest of k drawn with
    probability C(i - 1, k - 1) / C(n, k).

    Raises:
        ValueError: `draws` is below 1 or above the number of values.
    """
    weights = _weights(len(values), draws)
    return math.fsum(value * p for value, p in zip(sorted(values), weights, strict=True))


def quantile_best(values: Sequence[float], draws: int, share: float) -> float:
    """Smallest value that the largest of `draws` does not exceed with a probability of at least
    `share`.

    Raises:
        ValueError: `draws` is below 1 or above the number of values.
    """
    cumulative = accumulate(_weights(len(values), draws))
    ordered = sorted(values)
    for value, p in zip(ordered, cumulative, strict=True):
        if p >= share - 1e-12:  # the sum of the weights is 1 up to rounding
            return value
    return ordered[-1]


def _weights(count: int, draws: int) -> list[float]:
    """P(the i-th smallest of `count` is the largest of `draws`), i from 1 to `count`.

    From the top down, because p(n) = k / n and p(i - 1) / p(i) = (i - k) / (i - 1): no
    binomial coefficient is formed, which for thousands of values no float holds.
    """
    if not 1 <= draws <= count:
        raise ValueError(f"draw between 1 and all {count} values, got {draws=}")
    weights = [0.0] * count
    p = draws / count
    for i in range(count, draws - 1, -1):
        weights[i - 1] = p
        p *= (i - draws) / (i - 1) if i > 1 else 0.0
    return weights


def sign(data: ReportData) -> float:
    """1 if the objective is maximized, -1 if it is minimized."""
    return 1.0 if data.goal == "maximize" else -1.0


def value_of(data: ReportData, trial: ReportTrial) -> float | None:
    """The main metric of a trial, or None if it is not finite."""
    value = trial.metrics.get(data.metric)
    return value if value is not None and math.isfinite(value) else None


def ended(data: ReportData, *kinds: Kind) -> list[ReportTrial]:
    """Trials of some kinds that have a result: those that ended, in this order, then those that
    have reached a rung and pause or are trained on."""
    found = [
        t
        for t in data.trials
        if t.kind in kinds and not t.excluded and (t.order is not None or t.rungs)
    ]
    return sorted(found, key=lambda t: (t.order is None, t.order or 0, t.number))


def valued(data: ReportData, *kinds: Kind) -> list[tuple[ReportTrial, float]]:
    """Those with a value, together with it."""
    return [(t, v) for t in ended(data, *kinds) if (v := value_of(data, t)) is not None]


def best_of(data: ReportData, trials: Sequence[ReportTrial]) -> tuple[ReportTrial, float] | None:
    """The best trial and its value (the first if equal), or None if there are no values. A trial of
    a higher rung is before one of a lower rung."""
    scored = [(t, v) for t in trials if (v := value_of(data, t)) is not None]
    return max(scored, key=lambda pair: (pair[0].rung, sign(data) * pair[1]), default=None)
