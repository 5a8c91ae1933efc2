"""Sub-networks of an existing network as slices of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kinase.api.trial import Architecture
from kinase.morphism.base import Base
from kinase.morphism.chain import apply
from kinase.morphism.errors import MorphismError
from kinase.morphism.plan import Ints, Pairs, Parent, Reals, Recipe, Take
from kinase.space.elastic import Cut, Elastic, Sliced, plain
from kinase.space.errors import InfeasibleError
from kinase.space.graph import Graph
from kinase.space.nodes import Node
from kinase.space.tensors import WEIGHTED, tensors

SHRINKING = ("prune", "crop", "remove", "cut")
"""Morphisms to a network whose tensors are all parts of the first one's."""


@dataclass(frozen=True, eq=False)
class SubNetworks(Elastic):
    """The tensors of a first network, of which those of all others are slices: the first channels
    of each group that must change alike, and the centres of windows."""

    first: Graph
    """The network of which others are parts."""
    chain: Callable[[Architecture], tuple[Base, ...]]
    """The morphisms of an architecture."""

    @property
    def nodes(self) -> Mapping[str, Node]:
        """See `Elastic`."""
        return {node.name: node for node in self.first if node.op in WEIGHTED}

    def slice(self, architecture: Architecture) -> Sliced:
        """See `Elastic`."""
        graph = self.first.needed()
        cuts = whole(graph)
        try:
            for morphism in self.chain(architecture):
                change = apply(graph, morphism, _alike)
                assert change.plan is not None
                graph = change.graph
                cuts = {
                    name: part_of(cuts, change.plan[name]) if name in change.plan else cuts[name]
                    for name in tensors(graph)
                }
        except MorphismError as error:
            raise InfeasibleError(str(error)) from error
        return Sliced(graph, cuts)


def whole(graph: Graph) -> dict[str, Cut]:
    """All of each tensor."""
    return {
        name: Cut(tuple(range(size) for size in shape)) for name, shape in tensors(graph).items()
    }


def _alike(_tensor: str, _axis: int) -> Reals:
    """Norms that are all the same: the first channels are kept."""
    return np.zeros(())


def part_of(before: Mapping[str, Cut], recipe: Recipe) -> Cut:
    """The part of the first network's tensor that a recipe takes of a part.

    Raises:
        ValueError: the recipe makes something else than a part.
    """
    if not isinstance(recipe.base, Parent):
        raise ValueError(f"{type(recipe.base).__name__} is not a part of a tensor")
    found = before[recipe.base.name]
    for step in recipe.steps:
        match step:
            case Take(axis, indices) if len(indices) and int(indices.min()) >= 0:
                found = _taken(found, axis, indices)
            case Pairs(rows, columns, factors) if np.all(factors == 1):
                if found.columns is None:
                    each = np.asarray(found.axes[1], np.int64)[columns]
                else:
                    each = found.columns[rows[:, None], columns]
                axes = (_of(found, 0, rows), range(columns.shape[1]), *found.axes[2:])
                found = Cut(axes, each)
            case _:
                raise ValueError(f"{type(step).__name__} does not give a part of a tensor")
    return found


def _taken(cut: Cut, axis: int, indices: Ints) -> Cut:
    columns, axes = cut.columns, list(cut.axes)
    axes[axis] = _of(cut, axis, indices)
    if columns is not None and axis == 0:
        columns = columns[indices]
    elif columns is not None and axis == 1:
        columns, axes[1] = columns[:, indices], range(len(indices))
    return Cut(tuple(axes), columns)


def _of(cut: Cut, axis: int, indices: Ints) -> range | Ints:
    return plain(np.asarray(cut.axes[axis], np.int64)[indices])
