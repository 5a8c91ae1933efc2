"""The trials that were running when the last process ended, or whose own process was lost."""

from __future__ import annotations

from collections.abc import Iterator

from kinase.api.trial import Kind, Outcome, TrialResult
from kinase.engine import Finished, Lost
from kinase.experiment import artifacts, asking, outcome
from kinase.experiment.dispatch import Dispatch, job_of
from kinase.experiment.entries import AnyEntry, Attempt, Rested, Told
from kinase.experiment.record import Record
from kinase.experiment.trial_record import TrialRecord
from kinase.space import InfeasibleError


def recover(record: Record, dispatch: Dispatch, *, results: bool) -> Iterator[AnyEntry]:
    """Entries about trials that rest or have ended meanwhile; the others are adopted by the
    engine, or wait for another attempt.

    Args:
        record: of the experiment.
        dispatch: gets what is to be launched, or is held back.
        results: whether trials leave results in the store.
    """
    for trial in list(record.state.running.values()):
        result = left(record, trial) if results else None
        if result is not None and outcome.reached(trial, result):
            if record.spec.deterministic:
                dispatch.held[trial.number] = Finished(trial.number, result)
            else:
                yield outcome.of_result(record, trial, result)
            continue
        try:  # asked, and not told infeasible before a crash
            if trial.kind is not Kind.SUPERNET:
                record.appraise(trial.architecture)
        except InfeasibleError as error:
            yield asking.infeasible_told(record, trial.number, str(error))
            continue
        # an attempt that was stopped for an interruption has ended; another is adopted
        if result is None and dispatch.engine.adopt(job_of(record, trial)):
            continue
        if results:
            progress = artifacts.read_progress(record.store, trial.prefix)
            if progress.attempt >= trial.attempt:
                message = "the controller was restarted"
                yield outcome.again(record, trial, progress, message, crash=False)
        dispatch.waiting.append(trial)


def left(record: Record, trial: TrialRecord) -> TrialResult | None:
    """The result that the present attempt of a trial has left, if any."""
    result = artifacts.read_result(record.store, trial.prefix, trial.number)
    if result is None or result.outcome is not Outcome.STOPPED:
        return result
    if outcome.unheard(trial, result):
        return None  # the attempt may have continued
    return result if result.attempt >= trial.attempt else None


def lost(
    record: Record, trial: TrialRecord, event: Lost, *, results: bool, stopped: bool
) -> Told | Rested | Attempt:
    """The entry for a trial whose process was lost: by the result that it left just before, else
    another attempt or the end.

    Args:
        record: of the experiment.
        trial: that was lost.
        event: what is known of it.
        results: whether trials leave results in the store.
        stopped: whether it was to stop for the budget.
    """
    result = left(record, trial) if results else None
    if result is not None and outcome.reached(trial, result):
        return outcome.of_result(record, trial, result, stopped=stopped)
    progress = artifacts.read_progress(record.store, trial.prefix)
    return outcome.of_loss(record, trial, event, progress, stopped=stopped)
