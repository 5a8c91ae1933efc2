"""What follows from how an attempt ended: pure functions from the engine's events to entries."""

from __future__ import annotations

from contextlib import suppress

from kinase.api.supernet import Derived
from kinase.api.trial import MAX_ATTEMPTS, Cost, Kind, Outcome, TrialProgress, TrialResult
from kinase.engine import Lost
from kinase.experiment import artifacts
from kinase.experiment.entries import Attempt, Rested, Told
from kinase.experiment.record import Record
from kinase.experiment.state import SEARCHING
from kinase.experiment.trial_record import TrialRecord
from kinase.space import ArchitectureError
from kinase.words import counted


def reached(trial: TrialRecord, result: TrialResult) -> bool:
    """Whether a result is that of a whole stretch, so that the trial rests or ends."""
    if result.outcome is not Outcome.STOPPED:
        return True
    return _done(result) >= trial.stop


def unheard(trial: TrialRecord, result: TrialResult) -> bool:
    """Whether a result is that of the trial's last rest: the process that left it was to continue
    in the same attempt, and did not hear of that."""
    rested = bool(trial.rests) and result.attempt == trial.attempt
    return rested and _done(result) == trial.done and not reached(trial, result)


def missed(record: Record, trial: TrialRecord) -> Attempt:
    """Another attempt for a process that did not wait long enough. It has begun nothing."""
    progress = artifacts.read_progress(record.store, trial.prefix)
    return again(record, trial, progress, "the pod did not wait long enough", crash=False)


def _spent(trial: TrialRecord, found: Cost, done: int = 0) -> Cost:
    """What a trial has cost, by what it left at this fidelity. Epochs that are known to have begun
    stay charged, also if the ledger that counted them is gone. Those of the curve, `done`, are
    charged even if the trainer does not say what they cost: else the budget would never be
    spent."""
    cost = trial.before + found
    least = trial.before.epochs + max(trial.begun, done)
    if cost.epochs >= least:
        return cost
    most = max(cost, trial.cost, key=lambda each: each.device_seconds)
    return most.model_copy(update={"epochs": least})


def _done(result: TrialResult) -> int:
    return result.curve[-1].epoch if result.curve else 0


def _strays(trial: TrialRecord, result: TrialResult) -> str:
    """In what a trainer did other than its job said, by the curve; empty if in nothing. Unless it
    is said, such a search only looks bad."""
    done, until = _done(result), trial.stop
    if done > until:
        return (
            f"the trainer trained {counted(done, 'epoch')} and was to pause after {until}: "
            "a trainer that does not pause must not list until in supports"
        )
    if result.outcome is Outcome.STOPPED and done < until:
        return (
            f"the trainer stopped with {counted(done, 'epoch')} in its curve and was to train "
            f"up to epoch {until}"
        )
    return ""


def of_result(
    record: Record, trial: TrialRecord, result: TrialResult, *, stopped: bool = False
) -> Told | Rested:
    """A trial's rest, or its end.

    It ends where the result says that it cannot continue, where its grant is final, where it was
    stopped on its way, and where the search is over.

    Args:
        record: of the experiment.
        trial: that left the result.
        result: what the trainer says.
        stopped: whether the trial was asked to stop.
    """
    metric = record.aims[0].metric
    curve = tuple(point.metrics.get(metric) for point in result.curve)
    whole = reached(trial, result)
    done = _done(result)
    succeeded = result.outcome is Outcome.SUCCEEDED
    at_end = whole and (succeeded or done >= trial.grant.until)
    # a training that diverged has its proxies, but not the objective
    measured = metric in result.metrics or metric in trial.resources
    usable = result.outcome is Outcome.STOPPED or (succeeded and measured)
    cost = _spent(trial, result.cost, done)
    message = result.message
    if not stopped:
        message = "; ".join(filter(None, (message, _strays(trial, result))))[:4000]
    kept = result.kept_bytes if trial.kind in (Kind.SEARCH, Kind.SUPERNET) else 0
    goes_on = whole and usable and not (at_end and trial.grant.final)
    if goes_on and trial.kind in SEARCHING and record.state.ended is None:
        return Rested(
            trial=trial.number,
            done=trial.grant.until if at_end else done,
            metrics=result.metrics,
            cost=cost,
            curve=curve,
            message=message,
            inherited=result.inherited,
            kept_bytes=kept,
            kept_in=result.kept_in,
            elapsed=record.elapsed,
        )
    outcome = result.outcome
    if outcome is Outcome.STOPPED and at_end and trial.grant.final:
        outcome = Outcome.SUCCEEDED
    return Told(
        trial=trial.number,
        outcome=outcome,
        metrics=result.metrics,
        cost=cost,
        curve=curve,
        message=message,
        facts=result.facts if trial.kind not in SEARCHING else {},
        derived=_derived(record, trial, result),
        inherited=result.inherited,
        kept_bytes=kept,
        kept_in=result.kept_in,
        elapsed=record.elapsed,
    )


def _derived(record: Record, trial: TrialRecord, result: TrialResult) -> tuple[Derived, ...]:
    """Those of a supernet's derived architectures that are of the space."""
    found = []
    for each in result.derived if trial.kind is Kind.SUPERNET else ():
        with suppress(ArchitectureError):
            record.space.validate(each.architecture)
            found.append(each)
    return tuple(found)


def of_progress(
    record: Record,
    trial: TrialRecord,
    progress: TrialProgress,
    message: str,
    outcome: Outcome = Outcome.STOPPED,
) -> Told:
    """The end of a trial that left no result: what it spent is charged, and what it measured
    counts, also at an earlier rest."""
    if outcome is Outcome.FAILED and trial.rests:
        outcome = Outcome.STOPPED
        message = f"{message}; its value at its last rest counts"
    return Told(
        trial=trial.number,
        outcome=outcome,
        metrics=progress.metrics or trial.metrics,
        cost=_spent(trial, progress.cost),
        curve=trial.curve,
        message=message,
        inherited=trial.inherited,
        kept_bytes=trial.kept_bytes,
        kept_in=trial.kept_in,
        elapsed=record.elapsed,
    )


def of_loss(
    record: Record, trial: TrialRecord, lost: Lost, progress: TrialProgress, *, stopped: bool
) -> Told | Attempt:
    """Another attempt, or the end of a trial whose process was lost.

    Args:
        record: of the experiment.
        trial: that was lost.
        lost: what is known of it.
        progress: what it has spent.
        stopped: whether it was to stop for the budget.
    """
    # a trainer that misses epochs which its ledger says it holds would miss them again and again
    confused = lost.checkpoint_gone and progress.epochs_done >= trial.done
    crash = lost.crash or confused
    crashes = trial.crashes + crash
    if stopped and not lost.crash:
        return of_progress(record, trial, progress, lost.message)
    if lost.permanent or (lost.out_of_memory and crashes > 1):
        return of_progress(record, trial, progress, lost.message, Outcome.INFEASIBLE)
    if lost.given_up:
        return of_progress(record, trial, progress, lost.message, Outcome.FAILED)
    if crashes > record.spec.trial_template.max_retries or trial.lost >= MAX_ATTEMPTS:
        times = f" ({crashes} attempts)" if crashes > 1 else ""
        message = f"{lost.message}{times}"
        return of_progress(record, trial, progress, message, Outcome.FAILED)
    return again(record, trial, progress, lost.message, crash=crash)


def again(
    record: Record, trial: TrialRecord, progress: TrialProgress, message: str, *, crash: bool
) -> Attempt:
    """Another attempt at a stretch; what the lost one has begun is paid for."""
    return Attempt(
        trial=trial.number,
        attempt=trial.attempt + 1,
        begun=max(trial.begun, progress.epochs_begun),
        done=min(progress.epochs_done, trial.grant.until),
        crash=crash,
        message=message[:2000],
        elapsed=record.elapsed,
    )
