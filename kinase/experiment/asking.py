"""Entries that begin a trial, train it on or end it by decision: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kinase.api.fidelity import Grant
from kinase.api.inheritance import Inheritance
from kinase.api.slice import Slice
from kinase.api.trial import Kind, Outcome
from kinase.estimation import Promote, Sample, Stop, Train
from kinase.experiment import budget, inheritance
from kinase.experiment.entries import AnyEntry, Asked, Ended, Granted, Told
from kinase.experiment.record import Record
from kinase.experiment.rungs import OVER
from kinase.experiment.seeds import Stream, derive
from kinase.experiment.state import FINALS
from kinase.experiment.trial_record import TrialRecord
from kinase.space import InfeasibleError
from kinase.strategy import Proposal


def ask(
    record: Record,
    kind: Kind,
    proposal: Proposal,
    grant: Grant,
    inherit: Inheritance | None = None,
    measure: tuple[str, ...] = (),
    weights: Slice | None = None,
    above: str = "",
    stands_for: int = 1,
) -> list[AnyEntry]:
    """A new trial; one that cannot be built is told at once, as is one that is above a limit, by
    what `above` says, and stands for so many proposals."""
    number = len(record.state.trials)
    # as if finalists of an earlier end had not been numbered in between
    stream, label = (Stream.FINAL, number)
    if kind not in FINALS:
        stream, label = Stream.TRAINING, record.state.searched
    resources: dict[str, float] = {}
    infeasible = above
    try:
        resources = record.appraise(proposal.architecture)
    except InfeasibleError as error:
        infeasible = str(error)
    asked = Asked(
        trial=number,
        kind=kind,
        architecture=proposal.architecture,
        key=record.space.key(proposal.architecture),
        grant=grant,
        seed=derive(record.spec.seed, stream, label),
        resources=resources,
        parents=proposal.parents,
        operation=proposal.operation,
        inherit=inherit,
        learning_rate=proposal.learning_rate,
        measure=measure,
        slice=weights,
        excluded=stands_for if above else 0,
        elapsed=record.elapsed,
    )
    if not infeasible:
        return [asked]
    return [asked, infeasible_told(record, number, infeasible)]


def supernet(record: Record, train: Train) -> Asked:
    """The trial of the supernet. It has no architecture, and belongs to no arm."""
    return Asked(
        trial=len(record.state.trials),
        kind=Kind.SUPERNET,
        architecture={},
        key="",
        grant=train.grant,
        seed=derive(record.spec.seed, Stream.SUPERNET, record.state.counts[Kind.SUPERNET]),
        plan=train.plan,
        elapsed=record.elapsed,
    )


def slice_of(record: Record, sample: Sample) -> Slice | None:
    """The supernet whose weights a candidate takes."""
    if sample.supernet is None:
        return None
    supernet = record.state.trials[sample.supernet]
    scale = supernet.fidelity.scale
    return Slice(prefix=supernet.prefix, scale=scale, recalibrate=sample.recalibrate)


def infeasible_told(record: Record, number: int, message: str) -> Told:
    """The end of a trial whose network cannot be built."""
    return Told(trial=number, outcome=Outcome.INFEASIBLE, message=message, elapsed=record.elapsed)


def inherits(record: Record, proposal: Proposal) -> Inheritance | None:
    """What the next trial of the search may begin with, if that is to be."""
    if record.inheritance is None or not proposal.parents or not proposal.inherits:
        return None
    return inheritance.plan(
        record.inheritance,
        record.space,
        record.frame,
        record.state.trials,
        proposal.parents,
        proposal.architecture,
        derive(record.spec.seed, Stream.TRAINING, record.state.searched),
    )


def grant_of(sample: Sample, inherit: Inheritance | None) -> Grant:
    """The first grant of a candidate."""
    if inherit is None or sample.child is None:
        return sample.grant
    grant = sample.child
    # what it learns from its parent comes before, and is charged
    fidelity = grant.fidelity.model_copy(update={"epochs": grant.fidelity.epochs + inherit.distil})
    return grant.model_copy(update={"fidelity": fidelity, "until": grant.until + inherit.distil})


def promote(record: Record, decision: Promote) -> Granted:
    """A resting trial trains on, in the same process if that still waits; at another fidelity it
    begins again."""
    trial = record.state.trials[decision.trial]
    restart = restarts(trial, decision.grant)
    held = not restart and record.holds(trial.number)
    forecast = decision.forecast
    expected = {}
    if forecast is not None:
        expected = {
            "predicted": _metric(record, forecast.predicted),
            "probability": forecast.probability,
            "bar": _metric(record, forecast.bar),
        }
    return Granted(
        trial=trial.number,
        grant=decision.grant,
        attempt=trial.attempt if held else trial.attempt + 1,
        restart=restart,
        spared=decision.spared,
        **expected,
        elapsed=record.elapsed,
    )


def _why(record: Record, decision: Stop) -> str:
    """Why a trial is stopped, with the values of the main metric on which a rule acted."""
    expected, bar = _metric(record, decision.predicted), _metric(record, decision.bar)
    found = [
        f"{value:.4g} is {word}"
        for value, word in ((bar, "needed"), (expected, "expected"))
        if value is not None
    ]
    if not found:
        return decision.why
    return f"{decision.why}: {record.aims[0].metric} {', '.join(found)}"


def _metric(record: Record, loss: float | None) -> float | None:
    """The value of the main metric that a loss stands for; None if it is not finite."""
    if loss is None or not math.isfinite(loss):
        return None
    return -loss if record.aims[0].goal == "maximize" else loss


def restarts(trial: TrialRecord, grant: Grant) -> bool:
    """Whether a grant makes a resting trial begin again from epoch 0."""
    return grant.fidelity != trial.grant.fidelity


def costs(trial: TrialRecord, grant: Grant) -> int:
    """Epochs that a grant commits beyond those that are committed already."""
    begin = 0 if restarts(trial, grant) else trial.done
    return max(0, grant.until - begin - trial.to_train)


def stop(record: Record, decision: Stop) -> Told:
    """A resting trial ends, with what it has measured. Its curve is that of its last rest, and not
    written again."""
    trial = record.state.trials[decision.trial]
    return Told(
        trial=trial.number,
        outcome=Outcome.STOPPED,
        metrics=trial.metrics,
        cost=trial.cost,
        message=_why(record, decision)[:2000],
        inherited=trial.inherited,
        kept_bytes=trial.kept_bytes,
        kept_in=trial.kept_in,
        predicted=_metric(record, decision.predicted),
        probability=decision.probability,
        bar=_metric(record, decision.bar),
        elapsed=record.elapsed,
    )


def end(record: Record, reason: str) -> Sequence[AnyEntry]:
    """The search is over: what rests is told with its last value."""
    resting = [t for t in record.state.outstanding.values() if t.resting]
    return [
        *(stop(record, Stop(trial.number, OVER)) for trial in resting),
        Ended(reason=reason, limits=budget.recorded(record.spec), elapsed=record.elapsed),
    ]
