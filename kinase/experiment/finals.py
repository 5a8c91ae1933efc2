"""Finalists and the winner: pure choices from the state."""

from __future__ import annotations

import math
from collections.abc import Callable

from kinase.api.experiment import ExperimentSpec
from kinase.api.trial import Kind
from kinase.experiment.state import SEARCHING, State, TrialRecord
from kinase.strategy import Proposal
from kinase.strategy.pareto import crowding_distance, pareto_front

LossesOf = Callable[[TrialRecord], tuple[float, ...]]


def choose(trials: list[TrialRecord], count: int, losses: LossesOf) -> list[TrialRecord]:
    """The trials whose architectures are trained anew at full fidelity.

    With one objective, the best. With several, the best by the main one, then the members of
    the Pareto front that lie furthest apart (crowding distance, Deb et al. 2002), then the
    best of the rest. An architecture is chosen once.
    """
    usable: dict[str, TrialRecord] = {}
    for trial in sorted(trials, key=lambda t: (losses(t), t.number)):
        if all(math.isfinite(value) for value in losses(trial)):
            usable.setdefault(trial.key, trial)
    ranked = list(usable.values())
    if ranked and len(losses(ranked[0])) > 1:
        points = [losses(trial) for trial in ranked]
        front = [ranked[i] for i in pareto_front(points)]
        distance = dict(
            zip(
                (t.number for t in front),
                crowding_distance([losses(t) for t in front]),
                strict=True,
            )
        )
        best = ranked[0].number
        front.sort(key=lambda t: (t.number != best, -distance[t.number], t.number))
        chosen = {t.number for t in front}
        ranked = front + [t for t in ranked if t.number not in chosen]
    return ranked[:count]


def due(spec: ExperimentSpec, state: State, losses: LossesOf) -> list[tuple[Kind, Proposal]]:
    """Finalists and baselines that are still to be asked.

    A function of the search's results alone, so a restarted experiment chooses the same.
    """
    asked_baselines = {t.operation for t in state.of_kind(Kind.BASELINE)}
    asked_finalists = {t.parents[0] for t in state.of_kind(Kind.FINAL)}
    chosen = choose(list(state.of_kind(*SEARCHING)), spec.finalists.count, losses)
    return [
        (Kind.FINAL, Proposal(t.architecture, (t.number,), "finalist"))
        for t in chosen
        if t.number not in asked_finalists
    ] + [
        (Kind.BASELINE, Proposal(b.architecture, (), b.name))
        for b in spec.baselines
        if b.name not in asked_baselines
    ]


def winner(state: State, losses: LossesOf) -> TrialRecord | None:
    """The finalist that is best on the validation part; ties go to the further objectives,
    then to fewer parameters."""
    finalists = [t for t in state.of_kind(Kind.FINAL) if math.isfinite(losses(t)[0])]
    return min(
        finalists,
        key=lambda t: (losses(t), t.resources.get("params", 0.0), t.number),
        default=None,
    )
