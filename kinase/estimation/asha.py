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

    With `promote: delayed` a trial is promoted only while fewer than 1/eta of its rung's trials
    were (D-ASHA; Yang Li et al. 2022, Hyper-Tune). So of n trials at most n/eta are promoted,
    however the results come in, as in successive halving. With `soon` every trial is promoted that
    is among the best at some time, as in the paper.

    While trials are under way, a candidate is begun only if the budget also pays for the promotions
    that are still to come. Without this, the last epochs of a search with many slots go to
    candidates of which none can be promoted.

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
        rungs = range(len(self.ladder) - 1)
        if self.options.promote == "last" and left != Left(None, None):
            if brackets := self._payable(history, left, promotions=True):
                return self._sample(brackets, history)
            due = [
                (rung, b) for rung in rungs for b in self._in(rung) if self.due(b, history)[rung]
            ]
            for rung, bracket in due:
                if (found := self._promote(rung, bracket, history, left)) is not None:
                    return found
            if due and history.running:
                return Wait()
        for rung in reversed(rungs):
            for bracket in self._in(rung):
                if (found := self._promote(rung, bracket, history, left)) is not None:
                    return found
        brackets = self._payable(history, left, promotions=history.running > 0)
        return self._sample(brackets, history) if brackets else wait_or_end(history, left)

    def _in(self, rung: int) -> Iterator[int]:
        """The brackets that have a rung."""
        return (b for b in range(len(self.brackets)) if self.first(b) <= rung)

    def _sample(self, brackets: list[int], history: History) -> Sample:
        bracket = self.draw(brackets, history)
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
        most = history.reached(rung, bracket) // self.options.eta
        if self.options.promote == "delayed" and history.tally(rung + 1, bracket).entered >= most:
            return None
        if place < most and trial.usable_at(rung):
            return Promote(trial.number, self.brackets[bracket][rung + 1])
        return None

    def due(self, bracket: int, history: History, more: int = 0) -> list[int]:
        """Promotions out of each rung that are to come for 1/eta of its trials to be promoted, as
        far as trials rest there with a value or are on their way.

        Args:
            bracket: of the trials.
            history: of this arm.
            more: candidates that are begun in addition.
        """
        found, first = [0] * (len(self.ladder) - 1), self.first(bracket)
        for rung in range(first, len(self.ladder) - 1):
            coming = history.tally(rung, bracket).under_way + more
            most = (history.reached(rung, bracket) + coming) // self.options.eta
            ready = history.usable_resting(rung, bracket) + coming
            entered = history.tally(rung + 1, bracket).entered
            found[rung] = more = max(0, min(most - entered, ready))
        return found

    def _payable(self, history: History, left: Left, *, promotions: bool) -> list[int]:
        """The brackets of which the budget pays for a candidate, with or without all promotions
        that are to come."""
        numbers = range(len(self.brackets))
        if left.trials == 0:
            return []
        costs = [self.ladder[self.first(number)].until for number in numbers]
        if promotions and left.epochs is not None:
            due = [self._cost(self.due(number, history)) for number in numbers]
            for number in numbers:
                own = self._cost(self.due(number, history, 1))
                costs[number] += sum(due) - due[number] + own
        return [number for number in numbers if pays(left, costs[number])]

    def _cost(self, promotions: list[int]) -> int:
        return sum(n * each for n, each in zip(promotions, self._increments, strict=True))

    def hopeless(self, history: History, left: Left) -> Trial | None:
        """The worst trial of a rung where more rest than can ever be promoted, if there is one."""
        best = self.options.score == "best"
        delayed = self.options.promote == "delayed"
        for bracket in range(len(self.brackets)):
            first = self.first(bracket)
            new = self.most_new(self.ladder[first], left)
            if new is None:
                continue
            for rung in range(first, len(self.ladder) - 1):
                tally = history.tally(rung, bracket)
                coming = tally.under_way + new
                most = (history.reached(rung, bracket) + coming) // self.options.eta
                if delayed:
                    most = max(0, most - history.tally(rung + 1, bracket).entered)
                if tally.resting > most:  # of these, at most so many are ever promoted
                    return history.worst_resting(rung, bracket, best=best)
                new = most
                if not delayed:  # each that comes may be promoted at once
                    new = coming + tally.resting
                    if left.epochs is not None:
                        new = min(new, left.epochs // self._increments[rung])
        return None

    @staticmethod
    def most_new(grant: Grant, left: Left) -> int | None:
        """Candidates that the budget pays for at most; None without a limit."""
        if left.epochs is None or not grant.until:
            return left.trials
        most = left.epochs // grant.until
        return most if left.trials is None else min(most, left.trials)

    def draw(self, brackets: list[int], history: History) -> int:
        """The bracket of the next candidate, one of these."""
        return brackets[0]

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
