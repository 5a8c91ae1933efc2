"""Which weights a candidate inherits, and how long weights are kept. No I/O, no randomness.

This is decided when the candidate is proposed, from the journal alone, and recorded there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kinase.api.inheritance import Ancestor, Inheritance
from kinase.api.trial import Architecture, Kind, Outcome
from kinase.estimation.base import InheritanceRule
from kinase.experiment.state import State
from kinase.experiment.trial_record import TrialRecord
from kinase.morphism import dump_chain
from kinase.morphism.bridge import bridge
from kinase.space import Frame, Space

ANCESTORS = 3
"""Number of generations that a child can look back if nearer ancestors have no weights."""


def left_weights(trial: TrialRecord) -> bool:
    """Whether a trial left weights that a child can begin with, be it those of its last rest while
    it trains on."""
    able = trial.outcome in (None, Outcome.SUCCEEDED, Outcome.STOPPED)
    return trial.kind is Kind.SEARCH and able and trial.kept_bytes > 0


def plan(
    rule: InheritanceRule,
    space: Space,
    frame: Frame,
    trials: Mapping[int, TrialRecord],
    parents: Iterable[int],
    architecture: Architecture,
    seed: int,
) -> Inheritance | None:
    """What a candidate can inherit, or None to train it from scratch.

    If it has several parents, the first one is chosen for which exact morphisms produce the child,
    else the first with approximate morphisms, else the first.

    Args:
        rule: how weights are inherited.
        space: of all trials.
        frame: size of the candidate's network.
        trials: all trials so far.
        parents: trials that the candidate was made from.
        architecture: the candidate's.
        seed: seed of its training.
    """
    able = [trials[n] for n in parents if left_weights(trials[n]) and not trials[n].gone]
    for approximate in (False, True) if rule.approximate else (False,):
        for parent in able:
            found = bridge(
                space,
                parent.architecture,
                architecture,
                frame,
                seed=seed,
                noise=rule.noise,
                rule=rule.rule,
                approximate=approximate,
            )
            if found is not None:
                distil = 0 if found.exact else rule.distil
                return _line(rule, space, parent, tuple(dump_chain(found.morphisms)), distil)
    return _line(rule, space, able[0], None) if able and rule.matching else None


def _line(
    rule: InheritanceRule,
    space: Space,
    parent: TrialRecord,
    morphisms: tuple[dict[str, object], ...] | None,
    distil: int = 0,
) -> Inheritance:
    own = Ancestor(
        trial=parent.number,
        prefix=parent.weights,
        architecture=space.network(parent.architecture),
        scale=parent.fidelity.scale,
        morphisms=morphisms,
    )
    before = parent.inherit.ancestors if parent.inherit is not None else ()
    return Inheritance(
        ancestors=(own, *before)[:ANCESTORS],
        matching=rule.matching,
        learning_rate_factor=rule.learning_rate_factor,
        optimizer=rule.optimizer,
        distil=distil,
    )


def needed(state: State, to_come: Iterable[int] | None) -> set[str]:
    """Where the weights are that an unfinished or future child can inherit.

    A future child inherits what its parent has kept last. An unfinished one keeps to what its job
    names, also when the parent was promoted since.

    Args:
        state: state of the experiment.
        to_come: trials that have ended and that the strategy may still use as parents; None: all.
    """
    able = state.trials.keys() if to_come is None else {*to_come, *state.outstanding}
    kept = {state.trials[n].weights for n in able if n in state.trials}
    for trial in state.outstanding.values():
        if trial.inherit is not None:
            kept |= {ancestor.prefix for ancestor in trial.inherit.ancestors}
    return kept
