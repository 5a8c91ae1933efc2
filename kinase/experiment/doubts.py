"""Warnings about manifests that are valid, and probably not what was meant."""

from __future__ import annotations

from itertools import pairwise

from kinase.api._base import struct_name
from kinase.api.auto import INHERITING
from kinase.api.ladder import Ladder, ladder_of
from kinase.api.recipe import DROPPING
from kinase.api.spec import ExperimentSpec
from kinase.api.trial import TaskInfo
from kinase.estimation.hyperband import sizes


def doubts(spec: ExperimentSpec, info: TaskInfo | None = None) -> tuple[str, ...]:
    """Warnings about valid settings that are probably a mistake, one line each.

    Args:
        spec: of the experiment.
        info: what the trainer says of the data, once it is known.
    """
    found = []
    spec = spec.settled()
    strategy, estimation = spec.strategy.type, spec.estimation.type
    if strategy in INHERITING and spec.estimation.inheriting is None and estimation != "Custom":
        ladder = ladder_of(spec)
        climbs = ladder is not None and ladder[1].axis == "epochs"
        found.append(
            f"strategy.type {strategy} makes children of trained parents, but with estimation.type "
            f"{estimation} each is trained from scratch; set "
            f"{'estimation.inherit: {}' if climbs else 'estimation: {type: Morphism}'} to have "
            "them inherit the weights"
        )
    task = spec.task
    if task.dataset == "digits" and task.path is not None:
        found.append(
            f"task.path {task.path!r} is not used: task.dataset digits is part of the trainer; "
            "set task.dataset: folder or npz to use your own data, or remove task.path"
        )
    # not an error: earlier versions accepted it, and running searches keep their manifest
    training = spec.training
    if training.warmup_epochs > training.epochs:
        found.append(
            f"training.warmupEpochs {training.warmup_epochs:g} is above training.epochs "
            f"{training.epochs}, so the learning rate never reaches learningRate; for a new "
            f"experiment use at most {training.epochs}"
        )
    rules = (_no_edges, _no_looks, _no_examples, _no_pause, _small_bracket)
    found += filter(None, (rule(spec) for rule in rules))
    if info is not None:
        found += filter(None, [_large_batches(spec, info)])
    return tuple(found)


def _large_batches(spec: ExperimentSpec, info: TaskInfo) -> str | None:
    """Batch sizes to search for that hold more than the data; of `training.batchSize` the trainer
    says so."""
    searched = spec.space.training
    sizes = None if searched is None else searched.batch_size
    if sizes is None:
        return None
    field, most = ("values", max(sizes.values)) if sizes.values else ("max", sizes.max)
    if most is None or most <= info.train:
        return None
    return (
        f"space.training.batchSize.{field} allows {most:,}, which is above the {info.train:,} "
        "training samples, so an epoch is a single step; use smaller ones"
    )


def _no_edges(spec: ExperimentSpec) -> str | None:
    """A setting for edges of cells, of networks without any. Also not an error, for the same
    reason."""
    if not spec.training.drop_path or spec.space.type in DROPPING:
        return None
    return (
        f"training.dropPath {spec.training.drop_path:g} drops edges of cells; space.type "
        f"{spec.space.type} has none, so it has no effect: remove it"
    )


def _no_looks(spec: ExperimentSpec) -> str | None:
    """A rule for learning curves that comes too late for any trial."""
    stopping, epochs = spec.estimation.stopping, spec.training.epochs
    if stopping is not None and epochs == 1:
        return (
            "training.epochs is 1, so no trial is stopped by its learning curve; raise it, or "
            "remove estimation.stopping"
        )
    for field in ("after", "every"):
        value = getattr(stopping, field, None)
        if value is not None and value >= epochs:
            return (
                f"estimation.stopping.{field} {value} is not below training.epochs {epochs}, so no "
                "trial is stopped by its learning curve; lower it"
            )
    return None


def _no_examples(spec: ExperimentSpec) -> str | None:
    """A rule for learning curves that waits for more trials than there will be."""
    stopping, most = spec.estimation.stopping, spec.budget.trials
    wanted = None if stopping is None else getattr(stopping.member, "trials", None)
    if stopping is None or wanted is None or most is None or wanted < most:
        return None
    field = f"{struct_name(stopping.type)}.trials"
    return (
        f"estimation.stopping.{field} {wanted} is not below budget.trials {most}, so no trial is "
        f"stopped by its learning curve; raise budget.trials, or lower {field}"
    )


def _no_pause(spec: ExperimentSpec) -> str | None:
    """Children that are trained to their end before they are compared."""
    inherit = spec.estimation.inherit
    if inherit is None or inherit.first_epochs is None:
        return None
    whole = inherit.child_epochs(spec.training.epochs)
    if inherit.first_epochs <= whole:
        return None
    return (
        f"estimation.inherit.firstEpochs {inherit.first_epochs} is above {whole}, the epochs of "
        "a child, so children do not pause; lower it, or raise inherit.epochsPerChild"
    )


def _small_bracket(spec: ExperimentSpec) -> str | None:
    """A budget that does not pay for one bracket of successive halving. Not of a ladder whose rungs
    depend on the data or on the space."""
    options = spec.estimation.successive_halving or spec.estimation.hyperband
    if options is None or options.axis in ("resolution", "cells"):
        return None
    found = ladder_of(spec)
    assert found is not None
    steps = _steps(options, spec.training.epochs)
    if spec.estimation.hyperband is not None:
        whole = sizes(len(steps), options.eta, spec.estimation.hyperband.brackets)[0]
    else:
        assert spec.estimation.successive_halving is not None
        whole = spec.estimation.successive_halving.initial or options.eta ** (len(steps) - 1)
    name, budget = found[0], spec.budget
    less = f"list fewer {name}.rungs" if options.rungs else f"raise {name}.least"
    if budget.trials is not None and budget.trials < whole:
        return (
            f"budget.trials {budget.trials} is below the {whole} candidates with which a bracket "
            f"of estimation.{name} begins, so the first bracket is smaller; raise budget.trials, "
            f"or {less}"
        )
    if budget.epochs is None:
        return None
    due = spec.epochs_for(0)
    left, wanted = budget.epochs - due, _epochs(whole, steps, options.eta)
    if left >= wanted:
        return None
    paid = max(n for n in range(whole) if _epochs(n, steps, options.eta) <= left)
    return (
        f"budget.epochs {budget.epochs} leaves {left} for the search, and a bracket of "
        f"estimation.{name} takes {wanted}: the first bracket begins with {paid} candidates "
        f"instead of {whole}; set budget.epochs to at least {due + wanted}, or {less}"
    )


def _steps(ladder: Ladder, full: int) -> list[int]:
    """Epochs of a candidate's training at each rung, after those before."""
    values = ladder.values(full)
    if ladder.axis != "epochs":
        return [full] * len(values)
    ends = [int(value) for value in values]
    return ends if ladder.horizon == "rung" else [b - a for a, b in pairwise((0, *ends))]


def _epochs(candidates: int, steps: list[int], eta: int) -> int:
    """Epochs of a bracket that so many candidates begin."""
    return sum(candidates // eta**rung * epochs for rung, epochs in enumerate(steps))
