"""Brackets whose rungs are whole before anything of them is promoted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from kinase.api.fidelity import Grant
from kinase.api.ladder import Ladder
from kinase.estimation._waiting import pays, wait_or_end
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, Left, Promote, Sample, Stop
from kinase.estimation.ladder import increment, ladder
from kinase.history import History, Trial


class Synchronous(Estimator):
    """Successive halving in brackets (Jamieson & Talwalkar 2016, section 3).

    A rung is whole when its bracket has all of its candidates, or can have no more, and none of
    them is under way there. Of the n candidates of a bracket the best `n // eta**k` get k rungs
    up; the others are stopped. A trial that failed counts as the worst, one without a finite value
    is never promoted, and one that a rule stopped keeps its place in the order and is passed over.
    A candidate that was infeasible, and never trained, is replaced by another.

    A bracket gets a candidate only if the budget also pays for all promotions to come, of all
    brackets. So a bracket that cannot be paid as a whole is smaller, what is left then goes to
    the next, and the search ends when that pays for none of its candidates.
    """

    options: Ladder

    def __init__(self, options: Any, setting: Setting) -> None:
        """See `Estimator`.

        Raises:
            ValueError: the ladder does not fit the full fidelity or the space.
        """
        super().__init__(options, setting)
        self._ladder = ladder(self.options, setting)
        self._over: tuple[History | None, int] = (None, 0)
        """How many brackets of which history are over, the first ones; it only saves time."""

    @property
    def ladder(self) -> tuple[Grant, ...]:
        """The rungs, the full fidelity last."""
        return self._ladder

    @abstractmethod
    def first(self, bracket: int) -> int:
        """The rung at which a bracket begins."""

    @abstractmethod
    def size(self, bracket: int) -> int:
        """Candidates that begin a bracket which is whole."""

    def next(self, history: History, left: Left) -> Decision:
        """Finish rungs, the oldest bracket's first; then fill brackets."""
        taking = self._taking(history, left)
        for bracket in self._brackets(history):
            decision = self._advance(bracket, history, left, taking)
            if decision is not None:
                return decision
        if taking is None:
            return wait_or_end(history, left)
        return Sample(self._grant(self.first(taking), taking))

    def bar(self, trial: Trial, history: History) -> float:
        """The loss of the last trial of its rung that would be promoted now; at the full fidelity,
        of the best one. Infinity where there is none."""
        rung, bracket = trial.grant.rung, trial.grant.bracket
        there = history.at(rung, bracket)
        place = 1
        if rung < len(self.ladder) - 1:
            place = self.size(bracket) // self.options.eta ** (rung + 1 - self.first(bracket))
        return there[place - 1].rungs[rung][0] if 1 <= place <= len(there) else float("inf")

    # -- a bracket ---------------------------------------------------------------------

    def _brackets(self, history: History) -> range:
        """The brackets without the first ones that are over: that take no candidate, and of which
        no trial is under way or rests. Nothing can happen in them any more."""
        of, over = self._over
        if of is not history:
            over = 0
        while over < history.brackets and self._is_over(over, history):
            over += 1
        self._over = history, over
        return range(over, history.brackets)

    def _is_over(self, bracket: int, history: History) -> bool:
        rungs = range(self.first(bracket), len(self.ladder))
        tallies = (history.tally(rung, bracket) for rung in rungs)
        return not self._open(bracket, history) and not any(
            tally.under_way or tally.resting for tally in tallies
        )

    def _grant(self, rung: int, bracket: int) -> Grant:
        return self.ladder[rung].model_copy(update={"bracket": bracket})

    def _most(self, rung: int, bracket: int, members: int) -> int:
        """Candidates that get to a rung, of so many that begin."""
        return int(members // self.options.eta ** (rung - self.first(bracket)))

    def _open(self, bracket: int, history: History) -> bool:
        """Whether a bracket may take another candidate."""
        first = self.first(bracket)
        begun = first + 1 < len(self.ladder) and history.tally(first + 1, bracket).entered > 0
        return not begun and history.tally(first, bracket).entered < self.size(bracket)

    def _taking(self, history: History, left: Left) -> int | None:
        """The bracket of the next candidate: the first that is open and can be paid for; None if
        there is none."""
        if left.trials == 0:
            return None
        if left.epochs is None:
            return next(self._candidates(history))
        due = sum(self._due(each, history, 0) for each in self._brackets(history))
        for bracket in self._candidates(history):
            more = self._due(bracket, history, 1) - self._due(bracket, history, 0)
            if pays(left, due + more + self.ladder[self.first(bracket)].until):
                return bracket
        return None

    def _takes_more(self, bracket: int, history: History, taking: int | None) -> bool:
        """Whether a bracket may yet get a candidate: it is open, and was not passed over."""
        return taking is not None and taking <= bracket and self._open(bracket, history)

    def _candidates(self, history: History) -> Iterator[int]:
        """Brackets that are open, then the one that follows."""
        yield from (each for each in self._brackets(history) if self._open(each, history))
        yield history.brackets

    def _due(self, bracket: int, history: History, more: int) -> int:
        """Epochs of a bracket's promotions to come, with so many candidates more."""
        first = self.first(bracket)
        tally = history.tally(first, bracket)
        members = coming = tally.entered + more
        unsettled = bool(more) or tally.under_way + tally.resting > 0
        epochs = 0
        for rung in range(first + 1, len(self.ladder)):
            tally = history.tally(rung, bracket)
            to_come = 0
            if unsettled:
                most = min(self._most(rung, bracket, members), coming)
                to_come = max(0, most - tally.entered)
            epochs += to_come * increment(self.ladder, rung)
            unsettled = to_come > 0 or tally.under_way + tally.resting > 0
            coming = tally.entered + to_come
        return epochs

    def _advance(
        self, bracket: int, history: History, left: Left, taking: int | None
    ) -> Promote | Stop | None:
        """What is decided about a bracket's resting trials."""
        first = self.first(bracket)
        members = history.tally(first, bracket).entered
        for rung in range(first, len(self.ladder) - 1):
            tally = history.tally(rung, bracket)
            if tally.under_way or (rung == first and self._takes_more(bracket, history, taking)):
                return None  # it is not whole
            if not tally.resting:
                continue
            most = self._most(rung + 1, bracket, members)
            found = history.best_resting(rung, bracket)
            worst = history.worst_resting(rung, bracket)
            assert found is not None
            assert worst is not None
            best, _ = found
            if history.tally(rung + 1, bracket).entered < most and best.usable_at(rung):
                if pays(left, increment(self.ladder, rung + 1)):
                    return Promote(best.number, self._grant(rung + 1, bracket))
                return None
            return Stop(worst.number, _why(rung, most, fit=worst.usable_at(rung)))
        return None


def _why(rung: int, most: int, *, fit: bool) -> str:
    if not fit:
        return f"no finite value at rung {rung}"
    if not most:
        return f"its bracket ends at rung {rung}"
    return f"not among the best {most} of rung {rung}"
