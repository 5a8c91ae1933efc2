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
    kept = [each for t in record.state.of_kind(Kind.SEARCH) for each in t.kept.items()]
    there = record.kept
    return sum(size for _, size in kept), sum(size for place, size in kept if place in there)


class Weights:
    """The weights of a search whose children inherit them."""

    def __init__(self, record: Record) -> None:
        """Look at what is there."""
        self._record = record
        self.there = artifacts.places_with_weights(record.store)
        """Where there are weights: prefixes of trials, and folders below them."""

    def add(self, trials: Iterable[TrialRecord]) -> None:
        """Trials that rest or have ended: one whose result was lost may have left some, too."""
        self.there |= {
            t.weights for t in trials if t.kept_bytes or t.outcome is not Outcome.SUCCEEDED
        }

    def free(self, arm: Arm) -> None:
        """Delete those that no unfinished and no future child can need. Of a trial that trains on,
        that is what it had kept before its last rest.

        Args:
            arm: that of the search.
        """
        state = self._record.state
        to_come = arm.strategy.parents_to_come(arm.history) if state.ended is None else set()
        if self._record.spec.storage.weights == "all":
            to_come = None
        needed = inheritance.needed(state, to_come)
        for place in sorted(self.there - needed):
            number = artifacts.trial_of(place)
            trial = None if number is None else state.trials.get(number)
            if trial is None or trial.kind is not Kind.SEARCH:
                continue
            if trial.number in state.running and place not in trial.kept:
                continue  # its process may have just written it
            artifacts.drop_weights(self._record.store, place)
            self.there.discard(place)
