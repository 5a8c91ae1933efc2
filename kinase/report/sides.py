"""What the verdict compares: the strategy's trials after its random start with the control's, and
the cost of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinase.api.trial import Kind
from kinase.report.control import ended
from kinase.report.data import ReportData, ReportTrial

DRAWN = frozenset({"", "sample", "start"})
"""Operations of proposals that rest on no result: drawn from the space, or given by the user."""
UNMARKED = ("", "Random", "Custom")
"""Strategies of which proposals without parents may be all there is: random search itself, and
strategies of other packages, which need not say how a proposal was made."""
START_OPTIONS = ("population", "initial")
"""Options that set how many trials come before a strategy looks at results."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared with what."""

    ours: list[ReportTrial]
    theirs: list[ReportTrial]
    start: int
    """Trials of the random start, which are left out."""
    unit: str
    costs: tuple[float, float]
    remark: str = ""
    """Why the random start is not left out, for a person."""

    @property
    def cost(self) -> float:
        """What both have spent."""
        return min(self.costs)

    @property
    def share(self) -> float:
        """The strategy's share of the cost."""
        return self.costs[0] / sum(self.costs)

    def draws(self, valued: int, side: int) -> int:
        """How many of a side's trials with a value the common cost pays for."""
        return max(1, min(valued, round(valued * self.cost / self.costs[side])))


def sides_of(data: ReportData) -> Sides | None:
    """Both sides, or None where one of them has cost nothing yet, or there was no search beyond
    the random start."""
    search = sorted(ended(data, Kind.SEARCH), key=lambda t: t.number)
    asked = [t for t in data.trials if t.kind is Kind.SEARCH]
    first = random_start(asked, strategy_of(data))
    if first is None:
        return None
    remark = ""
    if first and data.spec.get("estimation", {}).get("type") == "Morphism":
        # the children's weights carry on the start's training, so its cost is theirs
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
    """The strategy's type; empty where it is not known."""
    return str(data.spec.get("strategy", {}).get("type", ""))


def random_start(trials: Sequence[ReportTrial], strategy: str) -> int | None:
    """How many trials of the search come before the first that rests on results, in the order in
    which they were begun.

    A trial rests on results if it has parents, or if its operation is neither one of `DRAWN` nor
    the first trial's, which was proposed before there was a result. Random search, and a strategy
    of another package that marks no proposal in one of these ways, count from the first trial on.

    Args:
        trials: All that the search began.
        strategy: Its type, as in the manifest.

    Returns:
        None where no trial of a strategy that would mark it rests on results: there was no search
        beyond the random start.
    """
    order = sorted(trials, key=lambda t: t.number)
    drawn = DRAWN | {t.operation for t in order[:1]}
    for place, trial in enumerate(order):
        if trial.parents or trial.operation not in drawn:
            return place
    return 0 if strategy in UNMARKED or not order else None


def start_option(spec: Mapping[str, Any]) -> str:
    """The option that sets the length of the random start: `strategy.evolution.population is 20`;
    empty where the strategy has none."""
    for name, options in spec.get("strategy", {}).items():
        for option in START_OPTIONS if isinstance(options, dict) else ():
            if isinstance(options.get(option), int):
                return f"strategy.{name}.{option} is {options[option]}"
    return ""


def unit_of(data: ReportData) -> str:
    """What cost is counted in: device seconds where time is what the budget limits, else epochs."""
    budget = data.spec.get("budget", {})
    timed = any(budget.get(name) for name in ("deviceHours", "duration"))
    counted = any(budget.get(name) for name in ("trials", "epochs"))
    return "device seconds" if timed and not counted else "epochs"


def cost_of(trials: Sequence[ReportTrial], unit: str) -> float:
    """What they were charged."""
    if unit == "epochs":
        return float(sum(t.cost.epochs for t in trials))
    return math.fsum(t.cost.device_seconds for t in trials)
