"""Asynchronous successive halving: no slot waits for a rung to be whole."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from kinase.api.estimation import ASHAEstimation
from kinase.api.fidelity import Grant
from kinase.estimation._waiting import pays, wait_or_end
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, Left, Promote, Sample, Stop
from kinase.estimation.ladder import increment, ladder
from kinase.history import History, Trial


class ASHA(Estimator):
    """Asynchronous successive halving (Li et al. 2020, algorithm 2): a free slot gets the best
    trial that rests among the best 1/eta of its rung, from the highest rung down; where there is
    none, a new candidate at the lowest.

    A rung's trials are all that got to its end, those promoted since included, and those that
    ended in it: one that failed counts as the worst. A trial rests until it is promoted or the
    search ends. A promotion that the budget does not pay for is passed over, so the last epochs go
    to lower rungs and to new candidates.

    A trial is stopped if it can no longer be promoted, however all trials turn out that the budget
    still pays for. This changes nothing but the number of checkpoints that are kept: at most 1/eta
    of a rung's trials, where the budget limits their number.
    """

    options: ASHAEstimation

    def __init__(self, options: Any, setting: Setting) -> None:
        """See `Estimator`.

        Raises:
            ValueError: the ladder does not fit the full fidelity or the space.
        """
        super().__init__(options, setting)
        self._ladder = ladder(self.options, setting)

    @property
    def ladder(self) -> tuple[Grant, ...]:
        """The rungs, the full fidelity last."""
        return self._ladder

    @cached_property
    def brackets(self) -> tuple[tuple[Grant, ...], ...]:
        """The ladder of each bracket; its candidates begin at the rung `first` of its number."""
        return (self.ladder,)

    def first(self, bracket: int) -> int:
        """The rung at which candidates of a bracket begin."""
        return bracket

    def next(self, history: History, left: Left) -> Decision:
        """Promote what can be, or sample; first of all stop what can never be promoted."""
        hopeless = self.hopeless(history, left)
        if hopeless is not None:
            return Stop(hopeless.number, "it can no longer be promoted")
        for rung in reversed(range(len(self.ladder) - 1)):
            if not pays(left, increment(self.ladder, rung + 1)):
                continue
            for bracket, grants in enumerate(self.brackets):
                if self.first(bracket) > rung:
                    continue
                found = history.best_resting(rung, bracket, best=self.options.score == "best")
                if found is None:
                    continue
                trial, place = found
                most = history.reached(rung, bracket) // self.options.eta
                if place < most and trial.usable_at(rung):
                    return Promote(trial.number, grants[rung + 1])
        drawn = None if left.trials == 0 else self.draw(history, left)
        if drawn is None:
            return wait_or_end(history, left)
        return Sample(self.brackets[drawn][self.first(drawn)])

    def hopeless(self, history: History, left: Left) -> Trial | None:
        """The worst trial of a rung where more rest than can ever be promoted, if there is one."""
        for bracket in range(len(self.brackets)):
            first = self.first(bracket)
            new = self.most_new(self.ladder[first], left)
            if new is None:
                continue
            for rung in range(first, len(self.ladder) - 1):
                tally = history.tally(rung, bracket)
                reached = history.reached(rung, bracket)
                room = (reached + tally.under_way + new) // self.options.eta
                if tally.resting > room:
                    best = self.options.score == "best"
                    return history.worst_resting(rung, bracket, best=best)
                new = room  # at most so many more get to the next rung
        return None

    @staticmethod
    def most_new(grant: Grant, left: Left) -> int | None:
        """Candidates that the budget pays for at most; None without a limit."""
        if left.epochs is None or not grant.until:
            return left.trials
        most = left.epochs // grant.until
        return most if left.trials is None else min(most, left.trials)

    def draw(self, history: History, left: Left) -> int | None:
        """The bracket of the next candidate; None if the budget pays for none."""
        return 0 if pays(left, self.ladder[0].until) else None

    def at(self, rung: int, bracket: int, history: History) -> list[Trial]:
        """The trials of a rung, best first."""
        return history.at(rung, bracket, best=self.options.score == "best")

    def bar(self, trial: Trial, history: History) -> float:
        """The loss of the last trial of its rung and bracket that would be promoted now; at the
        full fidelity, of the best one. Infinity where there is none."""
        rung = trial.grant.rung
        there = self.at(rung, trial.grant.bracket, history)
        place = 1 if rung == len(self.ladder) - 1 else len(there) // self.options.eta
        return there[place - 1].rungs[rung][0] if 1 <= place <= len(there) else float("inf")
