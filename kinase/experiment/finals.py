"""Finalists and the winner: pure choices from the state."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby

from kinase.api.slice import Slice
from kinase.api.spec import ExperimentSpec
from kinase.api.trial import Kind, Outcome
from kinase.experiment import nothing
from kinase.experiment.entries import Finished
from kinase.experiment.record import Record
from kinase.experiment.seeds import Stream, derive
from kinase.experiment.state import SEARCHING, State
from kinase.experiment.trial_record import RANK_CHECK, TrialRecord
from kinase.space import Space
from kinase.strategy import Proposal
from kinase.strategy.pareto import pareto_front

LossesOf = Callable[[TrialRecord], tuple[float, ...]]


def choose(trials: list[TrialRecord], count: int, losses: LossesOf) -> list[TrialRecord]:
    """The trials whose architectures are retrained at full fidelity: those of the highest rung
    first, since values of different rungs are not comparable.

    Of a rung with one objective, the best. With several, the Pareto front in the order of the main
    one: the best, then the best of those that beat it in a further objective, and so on; then the
    best of the rest. An architecture is chosen once.
    """
    usable: dict[str, TrialRecord] = {}
    for trial in sorted(trials, key=lambda t: (-t.rung, losses(t), t.number)):
        if all(math.isfinite(value) for value in losses(trial)):
            usable.setdefault(trial.key, trial)
    chosen: list[TrialRecord] = []
    for _, group in groupby(usable.values(), key=lambda t: t.rung):
        ranked = list(group)
        front = pareto_front([losses(trial) for trial in ranked])
        chosen += [ranked[i] for i in front]
        chosen += [trial for i, trial in enumerate(ranked) if i not in set(front)]
        if len(chosen) >= count:
            break
    return chosen[:count]


def due(
    spec: ExperimentSpec, state: State, losses: LossesOf, space: Space
) -> list[tuple[Kind, Proposal]]:
    """Finalists, baselines and networks of the rank check still to be trained.

    A function of the search's results alone, so a restarted experiment chooses the same. Those
    already trained at an earlier end of the search are not trained again.
    """
    asked_baselines = {t.operation for t in state.of_kind(Kind.BASELINE)}
    asked_finalists = {t.key for t in state.of_kind(Kind.FINAL) if not t.checks}
    count = spec.finalists.count
    chosen = choose(list(state.of_kind(*SEARCHING)), count, losses)
    if count > 1 and (first := derived(spec, state, losses)) is not None:
        chosen = [first, *(t for t in chosen if t.key != first.key)][:count]
    found = [(t, "finalist") for t in chosen if t.key not in asked_finalists]
    found += [(t, RANK_CHECK) for t in to_check(spec, state, losses)]
    return [
        (
            Kind.FINAL,
            Proposal(t.architecture, (t.number,), operation, learning_rate=t.learning_rate),
        )
        for t, operation in found
    ] + [
        (Kind.BASELINE, Proposal(space.resolve(b.architecture), (), b.name))
        for b in spec.baselines
        if b.name not in asked_baselines
    ]


def derived(spec: ExperimentSpec, state: State, losses: LossesOf) -> TrialRecord | None:
    """The architecture that the choices of a supernet have led to, the surest: it is a finalist
    whatever its score. Weights that were trained while all options ran say little of one network
    alone, so scores would not show what was learned. None if the strategy learns no choices."""
    if spec.strategy.relaxation is None:
        return None
    found = (t for t in state.of_kind(Kind.SEARCH) if math.isfinite(losses(t)[0]))
    return next(found, None)


def weights(record: Record, kind: Kind, proposal: Proposal) -> Slice | None:
    """The part of the supernet that a finalist begins with, if it is to."""
    shared = record.spec.estimation.one_shot
    if shared is None or shared.finalists != "inherit" or kind is not Kind.FINAL:
        return None
    return record.state.trials[proposal.parents[0]].slice


def in_order(space: Space, proposal: Proposal) -> Proposal:
    """The same architecture in the order of the supernet's choices, so that layers have the names
    that they have there. Where networks share slices the names are the same anyway."""
    try:
        architecture = space.architecture(space.path(proposal.architecture))
    except NotImplementedError:
        return proposal
    return replace(proposal, architecture=architecture)


def to_check(spec: ExperimentSpec, state: State, losses: LossesOf) -> list[TrialRecord]:
    """Candidates scored with a supernet that are still to be trained for the rank check.

    Each candidate has a random number, and those with the smallest are taken. So they do not depend
    on what has been asked, and no score decides. One can also be a finalist: it is then trained
    twice, because a sample without the best would not be one of all.
    """
    checked = {t.key for t in state.of_kind(Kind.FINAL) if t.checks}
    scored: dict[str, TrialRecord] = {}
    for trial in state.of_kind(*SEARCHING):
        if trial.slice is not None and math.isfinite(losses(trial)[0]):
            scored.setdefault(trial.key, trial)
    drawn = sorted(
        scored.values(), key=lambda t: (derive(spec.seed, Stream.RANK_CHECK, t.number), t.number)
    )[: spec.rank_check]
    left = max(0, spec.rank_check - state.checks)
    return [t for t in drawn if t.key not in checked][:left]


def winner(state: State, losses: LossesOf) -> TrialRecord | None:
    """The finalist that is best on the validation split. Ties are broken by the additional
    objectives, then by fewer parameters."""
    finalists = [t for t in state.of_kind(Kind.FINAL) if math.isfinite(losses(t)[0])]
    return min(
        finalists,
        key=lambda t: (losses(t), t.resources.get("params", 0.0), t.number),
        default=None,
    )


def kept_losses(record: Record, finalist: TrialRecord) -> tuple[float, ...]:
    """Those of a finalist, the worst if it did not get to the end: it kept no network."""
    if finalist.outcome is Outcome.SUCCEEDED:
        return record.losses(finalist)
    return (math.inf,) * len(record.aims)


def finished(record: Record, winner: TrialRecord | None) -> Finished:
    """The experiment's last entry, with what was measured on the test part if the winner has won
    before."""
    if winner is None:
        return Finished(winner=None, message=nothing.why(record.state), elapsed=record.elapsed)
    before = record.state.tests.get(winner.number)
    return Finished(
        winner=winner.number,
        test=before.test if before else {},
        confusion=before.confusion if before else None,
        elapsed=record.elapsed,
    )
