"""Checkpoints that are needed no more."""

from __future__ import annotations

from collections.abc import Iterable

from kinase.api.trial import Outcome
from kinase.experiment import artifacts
from kinase.experiment.entries import AnyEntry, Granted, Told
from kinase.experiment.record import Record
from kinase.experiment.state import State


def needless(state: State, entries: Iterable[AnyEntry]) -> set[str]:
    """Prefixes below which entries of this turn leave a checkpoint that is needed no more: those of
    trials that ended while they rested or ran, and of the fidelity at which a trial was trained
    before it began again at another.

    Args:
        state: as it is after the entries.
        entries: which are in the journal.
    """
    places = set()
    for entry in entries:
        match entry:
            case Granted(restart=True):
                trial = state.trials[entry.trial]
                if trial.before.epochs:
                    places.add(artifacts.prefix(trial.number, trial.restarts - 1))
            case Told(outcome=Outcome.STOPPED | Outcome.FAILED):
                # one that has ended otherwise has deleted its checkpoint itself
                trial = state.trials[entry.trial]
                if trial.cost.epochs:
                    places.add(trial.prefix)
    return places


def free(record: Record, entries: Iterable[AnyEntry]) -> None:
    """Delete the checkpoints that are needed no more after entries of this turn."""
    places = needless(record.state, entries)
    artifacts.clean(record.store, record.spec.storage, places)
