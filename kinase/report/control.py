"""What the strategy was worth: held against random search at equal cost."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from kinase.api.trial import Kind
from kinase.report.data import ReportData, ReportTrial


def expected_best(values: list[float], draws: int) -> float:
    """Expected largest of `draws` values drawn without replacement (exact).

    With the values sorted from small to large, the i-th is the largest of k draws from n with
    probability C(i - 1, k - 1) / C(n, k).
    """
    return sum(
        value * p for value, p in zip(sorted(values), _weights(len(values), draws), strict=True)
    )


def quantile_best(values: list[float], draws: int, share: float) -> float:
    """The value that the largest of `draws` reaches or stays below with probability `share`."""
    cumulative = list(accumulate(_weights(len(values), draws)))
    ordered = sorted(values)
    return ordered[min(bisect_right(cumulative, share - 1e-12), len(values) - 1)]


def _weights(count: int, draws: int) -> list[float]:
    if not 1 <= draws <= count:
        raise ValueError(f"{draws} draws from {count} values; draw between 1 and all of them")
    whole = math.comb(count, draws)
    return [math.comb(i - 1, draws - 1) / whole for i in range(1, count + 1)]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Search and control after the same number of trials at the same fidelity."""

    trials: int
    search: float
    """The search's best after so many of its trials."""
    control: float
    """The control's best."""
    text: str


def value_of(data: ReportData, trial: ReportTrial) -> float | None:
    """The main metric of a trial, or None if it has none."""
    return trial.metrics.get(data.metric)


def finished(data: ReportData, *kinds: Kind) -> list[ReportTrial]:
    """Trials with a value, in the order in which they ended."""
    found = [
        t
        for t in data.trials
        if t.kind in kinds and t.order is not None and value_of(data, t) is not None
    ]
    return sorted(found, key=lambda t: t.order or 0)


def compare(data: ReportData) -> Comparison | None:
    """The search's best against the control's at equal cost, or None without a control.

    Both are trained at one fidelity, so the same number of trials is the same cost.
    """
    sign = 1.0 if data.goal == "maximize" else -1.0
    control = [t for t in data.trials if t.kind is Kind.CONTROL and t.outcome is not None]
    search = [t for t in data.trials if t.kind is Kind.SEARCH and t.outcome is not None]
    search.sort(key=lambda t: t.order or 0)
    count = min(len(control), len(search))

    def best(trials: list[ReportTrial]) -> float | None:
        values = [v for t in trials if (v := value_of(data, t)) is not None]
        return max(values, key=lambda v: sign * v) if values else None

    theirs, ours, whole = best(control), best(search[:count]), best(search)
    if theirs is None or ours is None or whole is None:
        return None
    text = (
        f"best of {len(control)} random trials {theirs:.4f}; the strategy's best after as many "
        f"{ours:.4f} ({ours - theirs:+.4f}), after all {len(search)} {whole:.4f}"
    )
    return Comparison(count, ours, theirs, text)
