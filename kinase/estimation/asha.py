"""Asynchronous successive halving: no slot waits for a rung to be whole."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from kinase.api.estimation import ASHAEstimation
from kinase.api.fidelity import Grant
from kinase.estimation._waiting import pays, wait_or_end
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, Left, Promote, Sample, Stop, Wait
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

    With `promote: last`, candidates come first, as many as the budget pays for together with the
    promotions of 1/eta of each rung. Then these follow, and no more than these: the lowest rung's
    first, and each rung's best first. What is left over is spent as by `promote: soon`.

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
        self._increments = [increment(self._ladder, rung) for rung in range(1, len(self._ladder))]

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
        drawn = None if left.trials == 0 else self.draw(history, left)
        rungs = range(len(self.ladder) - 1)
        if self.options.promote == "last" and left != Left(None, None):
            if drawn is not None and self._pays_with_promotions(drawn, history, left):
                return self._sample(drawn)
            due = [(r, b) for r in rungs for b in self._in(r) if self.due(r, b, history) > 0]
            for rung, bracket in due:
                if (found := self._promote(rung, bracket, history, left)) is not None:
                    return found
            if due and history.running:
                return Wait()
        for rung in reversed(rungs):
            for bracket in self._in(rung):
                if (found := self._promote(rung, bracket, history, left)) is not None:
                    return found
        return wait_or_end(history, left) if drawn is None else self._sample(drawn)

    def _in(self, rung: int) -> Iterator[int]:
        """The brackets that have a rung."""
        return (b for b in range(len(self.brackets)) if self.first(b) <= rung)

    def _sample(self, bracket: int) -> Sample:
        return Sample(self.brackets[bracket][self.first(bracket)])

    def _promote(self, rung: int, bracket: int, history: History, left: Left) -> Promote | None:
        """Promote the best trial that rests at the end of a rung, if it is among the best 1/eta of
        those that got there, and is paid for."""
        if not pays(left, self._increments[rung]):
            return None
        found = history.best_resting(rung, bracket, best=self.options.score == "best")
        if found is None:
            return None
        trial, place = found
        if place < history.reached(rung, bracket) // self.options.eta and trial.usable_at(rung):
            return Promote(trial.number, self.brackets[bracket][rung + 1])
        return None

    def due(self, rung: int, bracket: int, history: History, more: int = 0) -> int:
        """Promotions out of a rung that are to come for 1/eta of each rung to be promoted, of the
        candidates so far and so many more."""
        first = self.first(bracket)
        members = history.tally(first, bracket).entered + more
        promoted = members // self.options.eta ** (rung + 1 - first)
        return int(max(0, promoted - history.tally(rung + 1, bracket).entered))

    def _pays_with_promotions(self, drawn: int, history: History, left: Left) -> bool:
        """Whether the budget pays for one more candidate of a bracket and for all promotions."""
        epochs = self.ladder[self.first(drawn)].until
        for rung, each in enumerate(self._increments):
            epochs += each * sum(self.due(rung, b, history, b == drawn) for b in self._in(rung))
        return pays(left, epochs)

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
