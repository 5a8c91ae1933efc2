"""The two sides of the verdict: the strategy's trials after its random start, and the control's,
with their costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinase.api.supernet import LEARNED
from kinase.api.trial import Kind
from kinase.report.control import ended
from kinase.report.data import ReportData, ReportTrial
from kinase.report.rungs import inherits

DRAWN = frozenset({"", "sample", "start"})
"""Operations of proposals that do not depend on results: drawn from the space, or given by the
user."""
UNMARKED = ("", "Random", "Custom", *LEARNED)
"""Strategies that can have only proposals without parents: random search itself, those that learn
the choices of a supernet, and strategies of other packages, which need not record how a proposal
was made."""
START_OPTIONS = ("population", "initial")
"""Options that set the number of trials before a strategy uses results."""


@dataclass(frozen=True, slots=True)
class Sides:
    """The two sides of a comparison."""

    ours: list[ReportTrial]
    theirs: list[ReportTrial]
    start: int
    """Number of trials in the random start, which are excluded."""
    unit: str
    costs: tuple[float, float]
    remark: str = ""
    """Why the random start is not excluded, for people."""
    rung: str = ""
    """With a ladder: which trials are compared, and when, for people."""

    @property
    def cost(self) -> float:
        """Cost that both sides have reached."""
        return min(self.costs)

    @property
    def share(self) -> float:
        """The strategy's share of the cost."""
        return self.costs[0] / sum(self.costs)

    def draws(self, valued: int, side: int) -> int:
        """Number of a side's trials with a value that the common cost pays for."""
        return max(1, min(valued, round(valued * self.cost / self.costs[side])))


def sides_of(data: ReportData) -> Sides | None:
    """Both sides, or None if one of them has no cost yet, or there was no search beyond the random
    start."""
    search = sorted(ended(data, Kind.SEARCH), key=lambda t: t.number)
    asked = [t for t in data.trials if t.kind is Kind.SEARCH and not t.excluded]
    first = random_start(asked, strategy_of(data))
    if first is None:
        return None
    remark = ""
    if first and (inherits(data) or data.spec.get("estimation", {}).get("type") == "Morphism"):
        # the children's weights continue the training of the start, so its cost is included
        first, remark = 0, f"its random start of {first} included, since weights are inherited"
    elif not first and strategy_of(data) == "Custom":
        remark = "all of them, since none says what it was made from"
    numbers = set(sorted(t.number for t in asked)[first:])
    ours = [t for t in search if t.number in numbers]
    theirs = ended(data, Kind.CONTROL)
    unit = unit_of(data)
    costs = cost_of(ours, unit), cost_of(theirs, unit)
    if not all(costs):
        return None
    return Sides(ours, theirs, first, unit, costs, remark)


def strategy_of(data: ReportData) -> str:
    """The strategy's type; empty if unknown."""
    return str(data.spec.get("strategy", {}).get("type", ""))


def random_start(trials: Sequence[ReportTrial], strategy: str) -> int | None:
    """Number of the search's trials before the first one that depends on results, in order of their
    start.

    A trial depends on results if it has parents, or if its operation is not in `DRAWN` and differs
    from that of the first trial, which was proposed before there were results. Random search, and a
    strategy of another package that marks no proposal in one of these ways, count from the first
    trial.

    Args:
        trials: All trials that the search has started.
        strategy: Its type, as in the manifest.

    Returns:
        The number, or None if the strategy marks such trials but there are none: there was no
            search beyond the random start.
    """
    order = sorted(trials, key=lambda t: t.number)
    drawn = DRAWN | {t.operation for t in order[:1]}
    for place, trial in enumerate(order):
        if trial.parents or trial.operation not in drawn:
            return place
    return 0 if strategy in UNMARKED or not order else None


def start_option(spec: Mapping[str, Any]) -> str:
    """The option that sets the length of the random start: `strategy.evolution.population is 20`;
    empty if the strategy has no such option."""
    for name, options in spec.get("strategy", {}).items():
        for option in START_OPTIONS if isinstance(options, dict) else ():
            if isinstance(options.get(option), int):
                return f"strategy.{name}.{option} is {options[option]}"
    return ""


def unit_of(data: ReportData) -> str:
    """Unit of cost: device seconds if the budget limits time, otherwise epochs. Where candidates
    share the weights of a supernet, which both sides have paid for, candidates."""
    if data.spec.get("estimation", {}).get("type") == "OneShot":
        return "candidates"
    budget = data.spec.get("budget", {})
    timed = any(budget.get(name) for name in ("deviceHours", "duration"))
    counted = any(budget.get(name) for name in ("trials", "epochs"))
    return "device seconds" if timed and not counted else "epochs"


def cost_of(trials: Sequence[ReportTrial], unit: str) -> float:
    """The trials' charged cost."""
    if unit == "candidates":
        return float(len(trials))
    if unit == "epochs":
        return float(sum(t.cost.epochs for t in trials))
    return math.fsum(t.cost.device_seconds for t in trials)
