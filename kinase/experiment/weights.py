"""Which trials' weights are in the store, and which may go."""

from __future__ import annotations

from collections.abc import Iterable

from kinase.api.trial import Kind, Outcome
from kinase.experiment import artifacts, inheritance
from kinase.experiment.arm import Arm
from kinase.experiment.record import Record
from kinase.experiment.trial_record import TrialRecord


def bytes_of(record: Record) -> tuple[int, int]:
    """Bytes of weights that the search's trials have kept for children, and of those the ones
    that are there now."""
    sizes = {t.number: t.kept_bytes for t in record.state.told if inheritance.left_weights(t)}
    there = record.kept
    return sum(sizes.values()), sum(size for n, size in sizes.items() if n in there)


class Weights:
    """The weights of a search whose children inherit them."""

    def __init__(self, record: Record) -> None:
        """Look at what is there."""
        self._record = record
        self.there = artifacts.with_weights(record.store)
        """Trials whose weights are there."""

    def add(self, trials: Iterable[TrialRecord]) -> None:
        """Trials that rest or have ended: one whose result was lost may have left some, too."""
        self.there |= {
            t.number for t in trials if t.kept_bytes or t.outcome is not Outcome.SUCCEEDED
        }

    def free(self, arm: Arm) -> None:
        """Delete those that no unfinished and no future child can need.

        Args:
            arm: that of the search.
        """
        state = self._record.state
        to_come = arm.strategy.parents_to_come(arm.history) if state.ended is None else set()
        if self._record.spec.storage.weights == "all" or to_come is None:
            return
        trials = state.trials
        searched = {n for n in self.there if n in trials and trials[n].kind is Kind.SEARCH}
        ended = searched - set(state.outstanding)
        for number in sorted(ended - inheritance.needed(state, to_come)):
            for restart in range(trials[number].restarts + 1):
                artifacts.drop_weights(self._record.store, artifacts.prefix(number, restart))
            self.there.discard(number)
