"""Find morphisms from a parent's architecture to its child's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kinase.api.trial import Architecture
from kinase.morphism.base import Base
from kinase.morphism.chain import apply, load_chain
from kinase.morphism.errors import MorphismError
from kinase.morphism.path import Path
from kinase.morphism.same import changes_nothing, renaming
from kinase.morphism.shrink import Prune
from kinase.morphism.widen import Growth, Widen
from kinase.space.base import Frame, Space
from kinase.space.errors import InfeasibleError
from kinase.space.graph import Graph
from kinase.space.tensors import WEIGHTED

POOLS = ("max_pool", "avg_pool")


@dataclass(frozen=True, slots=True)
class Bridge:
    """A chain of morphisms to a network in a space, and the names of its nodes in the space."""

    morphisms: tuple[Base, ...]
    names: dict[str, str]
    """For each node with tensors at the chain's end, its name in the space's graph."""

    @property
    def exact(self) -> bool:
        """Whether the child starts as the same function as its parent."""
        return all(morphism.exact for morphism in self.morphisms)


def bridge(
    space: Space,
    parent: Architecture,
    child: Architecture,
    frame: Frame,
    *,
    seed: int = 0,
    noise: float = 0.0,
    rule: Growth = "replicate",
    approximate: bool = False,
) -> Bridge | None:
    """The morphisms from one architecture of a space to another, if there are any.

    The space proposes morphisms. They are applied, and the result is compared with the network that
    the space builds. The child has exactly its parent's function, except for the noise, or it is a
    smaller network that approximates it.

    Args:
        space: space of both.
        parent: architecture whose weights are inherited.
        child: architecture that inherits them.
        frame: size of both networks.
        seed: seed of all random numbers.
        noise: noise on copied units; identities need none, since their units differ.
        rule: initialization of new units, unless the space sets it.
        approximate: whether approximate morphisms are used if no exact ones exist.
    """
    try:
        before, after = space.graph(parent, frame), space.graph(child, frame)
        found = None
        # no exact morphism removes a layer; most pairs are rejected here
        if not _layers(before) - _layers(after):
            proposed = space.exact_morphisms(parent, child, frame)
            found = _verified(before, after, proposed, True, seed, noise, rule)
        if found is None and approximate:
            proposed = space.approximate_morphisms(parent, child, frame)
            found = _verified(before, after, proposed, False, seed, noise, rule)
    except InfeasibleError:
        return None
    return found


def _verified(
    before: Graph,
    after: Graph,
    proposed: list[dict[str, Any]] | None,
    exact: bool,
    seed: int,
    noise: float,
    rule: Growth,
) -> Bridge | None:
    """The proposed morphisms, if they lead from one network to the other."""
    if proposed is None:
        return None
    try:
        graph, taken = before.needed(), list[Base]()
        wider = {"widen": {"rule": rule}}
        chain = [{**wider.get(edit["op"], {}), **edit, "seed": seed} for edit in proposed]
        for morphism in load_chain(chain):
            if isinstance(morphism, Widen | Prune) and _width(graph, morphism.node) == morphism.to:
                continue  # changed by another morphism, because they share the width
            if isinstance(morphism, Widen | Path):
                morphism = morphism.model_copy(update={"noise": noise})
            if exact and not morphism.exact:
                return None
            graph = apply(graph, morphism).graph
            taken.append(morphism)
    except MorphismError:
        return None
    names = renaming(graph, after)
    return None if names is None else Bridge(tuple(taken), names)


def follow(before: Graph, morphisms: Iterable[Base], after: Graph) -> dict[str, str]:
    """Map the node names of a chain's last network to those of another graph of the same network.

    Raises:
        MorphismError: a morphism does not fit, or the two are different networks.
    """
    graph = before.needed()
    for morphism in morphisms:
        graph = apply(graph, morphism).graph
    names = renaming(graph, after)
    if names is None:
        raise MorphismError("the morphisms lead to another network than the architecture's")
    return names


def _layers(graph: Graph) -> Counter[str]:
    """Number of layers of each kind that morphisms preserve."""
    return Counter(
        node.op
        for node in graph.needed()
        if node.op in WEIGHTED or (node.op in POOLS and not changes_nothing(node))
    )


def _width(graph: Graph, name: str) -> int | None:
    for node in graph:
        if node.name == name:
            return int(node.attrs.get("out", 0))
    return None
