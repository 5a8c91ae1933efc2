"""Full training that ends early where a trial is worse than the others' average."""

from __future__ import annotations

import math
from bisect import insort
from functools import cached_property
from statistics import fmean
from typing import Any

from kinase.api.estimation import MedianStoppingEstimation
from kinase.api.fidelity import Grant
from kinase.api.trial import Outcome
from kinase.estimation._waiting import pays, wait_or_end
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, Left, Promote, Sample, Stop
from kinase.history import History, Trial


class MedianStopping(Estimator):
    """The median stopping rule (Golovin et al. 2017, section 3.2.2): a trial is stopped after s
    epochs if its best loss so far is above the median of the running averages, over their first s
    epochs, of the trials that are completed.

    Epochs without a number count in no average; a trial that had none at all is the worst. Trials
    that were stopped are not completed.
    """

    options: MedianStoppingEstimation
    percentile = 50.0
    """Of the running averages, which a trial's best loss must not be above."""

    def __init__(self, options: Any, setting: Setting) -> None:
        """`options` is the manifest's `MedianStoppingEstimation`."""
        super().__init__(options, setting)
        self._of: History | None = None
        self._told = 0
        self._known: dict[int, tuple[int, list[float]]] = {}
        """By epochs: how many of the told trials are in, and their averages; only saves time."""

    @cached_property
    def ladder(self) -> tuple[Grant, ...]:
        """One rung: the full fidelity, with looks."""
        full = self.setting.full
        return (Grant(fidelity=full, until=full.epochs, every=self.options.every),)

    def next(self, history: History, left: Left) -> Decision:
        """Judge what rests at a look; then sample."""
        for trial in history.resting():
            bar = self.bar(trial, history)
            if min(trial.curve, default=math.inf) > bar:
                name = "median" if self.percentile == 50 else f"{self.percentile:g}th percentile"
                return Stop(trial.number, f"worse than the {name} after {trial.done} epochs")
            return Promote(trial.number, trial.grant)
        if left.trials == 0 or not pays(left, self.ladder[0].until):
            return wait_or_end(history, left)
        return Sample(self.ladder[0])

    def bar(self, trial: Trial, history: History) -> float:
        """The percentile of the running averages up to the epochs that a trial has done; infinity
        where too few trials are completed."""
        if trial.done < self.options.grace:
            return math.inf
        averages = self._averages(history, trial.done)
        if len(averages) < self.options.completed:
            return math.inf
        place = (len(averages) - 1) * self.percentile / 100
        low, high = averages[math.floor(place)], averages[math.ceil(place)]
        return low if low == high else low + (place - math.floor(place)) * (high - low)

    def _averages(self, history: History, epochs: int) -> list[float]:
        """Running averages of completed trials over their first epochs, ascending."""
        if self._of is not history or self._told > len(history.told):
            self._of, self._told, self._known = history, 0, {}
        self._told = len(history.told)
        seen, found = self._known.get(epochs, (0, []))
        for trial in history.told[seen:]:
            if trial.outcome is Outcome.SUCCEEDED:
                insort(found, running_average(trial.curve[:epochs]))
        self._known[epochs] = (self._told, found)
        return found


def running_average(curve: tuple[float, ...]) -> float:
    """Mean of a curve's numbers; infinity where it has none."""
    numbers = [value for value in curve if math.isfinite(value)]
    return fmean(numbers) if numbers else math.inf
