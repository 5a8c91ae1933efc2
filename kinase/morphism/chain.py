"""Morphisms as data: read them, apply them in sequence, and find the places where they fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from kinase.morphism.base import Base, Change, Place
from kinase.morphism.branch import Branch, Unfold
from kinase.morphism.deepen import Deepen
from kinase.morphism.errors import MorphismError
from kinase.morphism.factor import Factor
from kinase.morphism.join import Join
from kinase.morphism.kernel import Kernel
from kinase.morphism.path import Path
from kinase.morphism.plan import Norms, Plan, shape_of
from kinase.morphism.shrink import Crop, Cut, Prune, Remove, Separate
from kinase.morphism.skip import Skip
from kinase.morphism.widen import Heads, Widen
from kinase.space.errors import GraphError, InfeasibleError
from kinase.space.graph import Graph
from kinase.space.graph_json import check_graph
from kinase.space.tensors import tensors
from kinase.words import counted

Morphism = Annotated[
    Deepen
    | Widen
    | Heads
    | Kernel
    | Factor
    | Skip
    | Join
    | Branch
    | Unfold
    | Path
    | Prune
    | Crop
    | Remove
    | Cut
    | Separate,
    Field(discriminator="op"),
]
"""Any morphism, selected by `op`."""
KINDS: dict[str, type[Base]] = {
    each.model_fields["op"].default: each
    for each in (
        Deepen,
        Widen,
        Heads,
        Kernel,
        Factor,
        Skip,
        Join,
        Branch,
        Unfold,
        Path,
        Prune,
        Crop,
        Remove,
        Cut,
        Separate,
    )
}
MAX_CHAIN = 1000
"""Maximum number of morphisms in a chain."""
_CHAIN: TypeAdapter[tuple[Morphism, ...]] = TypeAdapter(tuple[Morphism, ...])


@dataclass(frozen=True, slots=True)
class Limits:
    """Maximum size of a child."""

    params: int | None = None
    """Maximum number of parameters."""
    nodes: int | None = None
    """Maximum number of nodes of the graph."""

    def check(self, graph: Graph, op: str) -> None:
        """Check a graph. Raises MorphismError if it is too large."""
        for what, found, most in (
            ("parameters", graph.params(), self.params),
            ("nodes", len(graph.nodes), self.nodes),
        ):
            if most is not None and found > most:
                raise MorphismError(f"after {op} there would be {found:,} {what}; at most {most:,}")


def load_chain(data: object) -> tuple[Morphism, ...]:
    """Read morphisms from plain data.

    Raises:
        MorphismError: the data is invalid; the message names the place and the value.
    """
    if isinstance(data, list | tuple) and len(data) > MAX_CHAIN:
        raise MorphismError(f"{counted(len(data), 'morphism')}; at most {MAX_CHAIN} in one chain")
    try:
        return _CHAIN.validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(("morphisms", *(str(part) for part in first["loc"])))
        value = f"{first['input']!r:.80}"
        raise MorphismError(f"{place} is {value}: {first['msg']}") from error


def dump_chain(morphisms: Iterable[Base]) -> list[dict[str, Any]]:
    """Plain data, without defaults."""
    return [
        {
            "op": m.model_dump()["op"],
            **m.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        }
        for m in morphisms
    ]


def apply(
    graph: Graph, morphism: Base, norms: Norms | None = None, limits: Limits | None = None
) -> Change:
    """Apply a morphism to a graph.

    Args:
        graph: graph of the parent.
        morphism: the edit.
        norms: norms of the parent's tensors, for morphisms that depend on them.
        limits: maximum size of the child.

    Raises:
        MorphismError: it does not fit, or the child would be too large.
    """
    op = morphism.model_dump()["op"]
    graph = graph.needed()
    try:
        change = morphism.apply(graph, norms)
        check_graph(change.graph)
    except (GraphError, InfeasibleError) as error:
        raise MorphismError(f"{op}: {error}") from error
    (limits or Limits()).check(change.graph, op)
    if change.plan is not None:
        _check_plan(graph, change.graph, change.plan, op)
    return change


def apply_all(graph: Graph, morphisms: Iterable[Base], limits: Limits | None = None) -> Graph:
    """The graph at the end of a chain.

    Raises:
        MorphismError: one does not fit; the message says which, counted from 0.
    """
    for index, morphism in enumerate(morphisms):
        try:
            graph = apply(graph, morphism, limits=limits).graph
        except MorphismError as error:
            raise MorphismError(f"morphisms[{index}]: {error}") from error
    return graph


def candidates(graph: Graph, op: str) -> list[Place]:
    """The places where a morphism applies, in a fixed order: the fields that name each place.

    Raises:
        MorphismError: the morphism is unknown.
    """
    if op not in KINDS:
        raise MorphismError(f"{op!r:.80} is not a morphism; use one of {', '.join(KINDS)}")
    return list(KINDS[op].places(graph.needed()))


def _check_plan(parent: Graph, child: Graph, plan: Plan, op: str) -> None:
    """Check that every tensor of the child has a source, and the shape that its node needs."""
    before = tensors(parent)
    for name, shape in tensors(child).items():
        recipe = plan.get(name)
        found = before.get(name) if recipe is None else shape_of(recipe, before)
        if found != shape:
            raise AssertionError(f"{op}: {name} would have shape {found}, its node needs {shape}")
