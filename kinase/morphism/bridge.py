"""From a parent's architecture to its child's by morphisms that exist, or not at all."""

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
from kinase.morphism.tensors import WEIGHTED
from kinase.morphism.widen import Growth, Widen
from kinase.space.base import Frame, Space
from kinase.space.errors import InfeasibleError
from kinase.space.graph import Graph

POOLS = ("max_pool", "avg_pool")


@dataclass(frozen=True, slots=True)
class Bridge:
    """A chain of morphisms to a network of a space, and the names that the space gives it."""

    morphisms: tuple[Base, ...]
    names: dict[str, str]
    """For each node with tensors at the chain's end, its name in the space's own graph."""

    @property
    def exact(self) -> bool:
        """Whether the child begins as the same function as its parent."""
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
    """The morphisms that lead from one architecture of a space to another, if there are any.

    What the space proposes is applied, and compared with the network that the space builds: the
    child has exactly its parent's function, but for the noise; or it is a smaller network near it.

    Args:
        space: of both.
        parent: whose weights are inherited.
        child: who inherits them.
        frame: of both networks.
        seed: of all that is drawn.
        noise: on copied units; identities need none, since their units differ.
        rule: of new units, where the space does not say.
        approximate: whether approximate morphisms may lead there, where exact ones do not.
    """
    try:
        before, after = space.graph(parent, frame), space.graph(child, frame)
        found = None
        # no exact morphism takes a layer away; most refusals end here
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
    """What was proposed, if it leads from the one network to the other."""
    if proposed is None:
        return None
    try:
        graph, taken = before.needed(), list[Base]()
        wider = {"widen": {"rule": rule}}
        chain = [{**wider.get(edit["op"], {}), **edit, "seed": seed} for edit in proposed]
        for morphism in load_chain(chain):
            if isinstance(morphism, Widen | Prune) and _width(graph, morphism.node) == morphism.to:
                continue  # another one, whose width it shares, has changed it
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
    """The names that a chain's last network has in another graph, which is the same network.

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
    """How many layers there are of each kind that a morphism keeps."""
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
