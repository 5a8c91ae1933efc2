"""A child's weights from its parent's, by a chain of morphisms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kinase.morphism import Base, Change, Limits, MorphismError, apply, tensors
from kinase.morphism.plan import Parent, Plan, Reals
from kinase.space import Graph
from kinase_trainer.errors import CorruptModel
from kinase_trainer.morphism.interpret import Like, make, make_slot, numpy_of
from kinase_trainer.morphism.slots import Slots

PREFIX = "nodes."
"""Prefix of the names of a graph's tensors in its network's state."""
COUNT = ".num_batches_tracked"
"""Suffix of the names of integer tensors."""
State = dict[str, Tensor]


@dataclass
class Inherited:
    """A child with its parent's weights."""

    graph: Graph
    state: State
    """State of its network. Unchanged tensors share the parent's memory."""
    slots: Slots = field(default_factory=dict)
    """State of its optimizer."""
    average: State | None = None
    """The exponential average of its weights."""
    morphisms: tuple[Base, ...] = ()
    """The chain, including choices that depend on the parent's weights."""
    norms: tuple[str, ...] = ()
    """New batch normalizations that are an identity (`calibrate`)."""


def inherit(
    graph: Graph,
    state: Mapping[str, Tensor],
    morphisms: Iterable[Base],
    *,
    slots: Slots | None = None,
    average: Mapping[str, Tensor] | None = None,
    limits: Limits | None = None,
) -> Inherited:
    """Make the child of a parent.

    Args:
        graph: graph of the parent.
        state: state of the parent's network, on any device; it is not changed.
        morphisms: morphisms to apply, in order.
        slots: slots of the parent's optimizer, by name (`read_slots`).
        average: average of the parent's state over its training.
        limits: maximum size of the child.

    Raises:
        CorruptModel: the state does not match the graph, or is not finite.
        MorphismError: a morphism does not fit, or the child would be too large.
    """
    graph = graph.needed()
    check_state(graph, state)
    if average is not None:
        check_state(graph, average)
    child = Inherited(graph, dict(state), dict(slots or {}), dict(average) if average else None)
    for index, morphism in enumerate(morphisms):
        try:
            change = apply(child.graph, morphism, _Norms(child.state), limits)
        except MorphismError as error:
            raise MorphismError(f"morphisms[{index}]: {error}") from error
        _follow(child, change, morphism)
    return child


def check_shapes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the names and shapes of a state's tensors match a graph's network.

    Raises:
        CorruptModel: they do not match; the message names the tensor.
    """
    wanted = {f"{PREFIX}{name}": shape for name, shape in tensors(graph).items()}
    found = {name: shape for name, shape in shapes.items() if name.startswith(PREFIX)}
    for name, shape in wanted.items():
        if name not in found:
            raise CorruptModel(f"the parent has no tensor {name}, which its graph has")
        if found[name] != shape:
            raise CorruptModel(f"the parent's {name} has shape {found[name]}, its graph {shape}")
    for name in found:
        if name not in wanted:
            raise CorruptModel(f"the parent has a tensor {name}, which its graph has not")


def check_state(graph: Graph, state: Mapping[str, Tensor]) -> None:
    """Check that a state matches a graph's network, and is finite.

    Raises:
        CorruptModel: the check fails; the message names the tensor.
    """
    check_shapes(graph, {name: tuple(t.shape) for name, t in state.items()})
    for name, tensor in state.items():
        if name.startswith(PREFIX) and tensor.is_floating_point() == name.endswith(COUNT):
            raise CorruptModel(f"the parent's {name} is of type {tensor.dtype}")
    names = [name for name, t in state.items() if t.is_floating_point() and t.numel()]
    # NaN propagates to the extremes, which is twenty times as fast as checking each value
    ends = [torch.stack(torch.aminmax(state[name])).double() for name in names]
    finite = torch.isfinite(torch.stack(ends)).all(dim=1).tolist() if ends else []
    for name, good in zip(names, finite, strict=True):
        if not good:
            raise CorruptModel(f"the parent's {name} holds a value that is not finite")


def _follow(child: Inherited, change: Change, morphism: Base) -> None:
    """Apply the plan of one morphism to all states."""
    plan = change.plan
    assert plan is not None, "a plan was not made although the weights were there"
    if child.average is not None:
        child.average = _state(child.average, change.graph, plan)
    child.slots = _slots(child.slots, change.graph, plan)
    child.state = _state(child.state, change.graph, plan)
    child.graph = change.graph
    child.morphisms += (change.morphism or morphism,)
    present = {node.name for node in change.graph}
    child.norms = tuple(name for name in child.norms + change.norms if name in present)


def _state(state: State, graph: Graph, plan: Plan) -> State:
    parent = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    example = next(t for t in state.values() if t.is_floating_point())
    like = Like(example.device, example.dtype)
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
    for name in tensors(graph):
        recipe = plan.get(name)
        kept[PREFIX + name] = parent[name] if recipe is None else make(recipe, parent, like)
    return kept


def _slots(slots: Slots, graph: Graph, plan: Plan) -> Slots:
    made: Slots = {}
    for name in tensors(graph) if slots else ():
        recipe = plan.get(name)
        if recipe is None:
            source = name
        elif isinstance(recipe.base, Parent):
            source = recipe.base.name
        else:
            continue
        for slot, value in slots.get(PREFIX + source, {}).items():
            moved = make_slot(recipe, value, slot) if recipe is not None and value.ndim else value
            if moved is not None:
                made.setdefault(PREFIX + name, {})[slot] = moved
    return made


@dataclass(frozen=True)
class _Norms:
    """Absolute weights, summed on the CPU in double precision, so that the result is the same on
    every device."""

    state: Mapping[str, Tensor]

    def __call__(self, name: str, axis: int) -> Reals:
        values = np.moveaxis(numpy_of(self.state[PREFIX + name]), axis, 0)
        sums: Reals = np.abs(values).reshape(len(values), -1).sum(axis=1)
        return sums
