"""Add an input to a concatenation, or remove one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from kinase.morphism.base import Base, Change, NodeName, Place
from kinase.morphism.carry import Rule, rewrite
from kinase.morphism.channels import Layout, is_depthwise
from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.morphism.facts import unit_ends
from kinase.morphism.plan import Ints, Norms
from kinase.space.graph import Graph
from kinase.space.nodes import ACTIVATIONS, Node, Shape, channels_of

THROUGH = ACTIVATIONS | {
    "adaptive_avg_pool",
    "avg_pool",
    "batch_norm",
    "drop_path",
    "dropout",
    "global_avg_pool",
    "identity",
    "layer_scale",
    "max_pool",
    "shift",
    "unpool",
    "zero",
}
"""Operations on single channels, which work with any number of channels."""


class Join(Base):
    """Add the output of another node to a concatenation. Its readers get weights of zero for the
    new channels (like a skip in Elsken et al. 2017)."""

    op: Literal["join"] = "join"
    node: NodeName
    """The concatenation."""
    source: NodeName
    """Its new input: of the same size as the others, with any number of channels."""
    at: Annotated[int, Field(ge=0, le=2**20)] | None = None
    """Its position among the inputs, from 0. Default: last."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node, source = draft.inner(self.node), draft.node(self.source)
        if node.op != "concat":
            raise MorphismError(f"{self.node} is {node.op}; use a concatenation")
        if source.name in draft.behind(node.name):
            raise MorphismError(f"{self.source} depends on {self.node}: the graph would be a cycle")
        if source.name in node.inputs:
            raise MorphismError(f"{self.node} has {self.source} as an input already")
        size, wanted = draft.shapes[source.name], draft.shapes[node.name]
        if _size(size) != _size(wanted):
            raise MorphismError(
                f"{self.source} has shape {size}, {self.node} has {wanted}; they must agree in "
                "all but the channels"
            )
        count = len(node.inputs)
        at = count if self.at is None else self.at
        if at > count:
            raise MorphismError(f"{self.node} has {count} inputs; at is {at}, use at most {count}")
        kept = list(range(count))
        rejoin(draft, node, [*kept[:at], source.name, *kept[at:]], "zero")
        return Change(draft.build(), draft.plan)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        draft, ends = Draft(graph), unit_ends(graph)
        for node in graph:
            if node.op != "concat" or not may_rejoin(draft, node):
                continue
            behind, size = draft.behind(node.name), _size(draft.shapes[node.name])
            for source in ends:
                fresh = source.name not in behind and source.name not in node.inputs
                if fresh and _size(draft.shapes[source.name]) == size:
                    yield {"node": node.name, "source": source.name}


def _size(shape: Shape) -> Shape:
    """The shape without the channels."""
    return (len(shape), *(shape[:-1] if len(shape) == 2 else shape[1:]))


def may_rejoin(draft: Draft, node: Node) -> bool:
    """Whether the number of a concatenation's channels can change."""
    try:
        _layouts(draft, node, np.arange(channels_of(draft.shapes[node.name]) + 1))
    except MorphismError:
        return False
    return True


def rejoin(draft: Draft, node: Node, inputs: Sequence[int | str], rule: Rule) -> None:
    """Change the inputs of a concatenation, and the channels of its readers.

    Args:
        draft: the parent's graph, with nodes in topological order.
        node: the concatenation.
        inputs: for each input the number of an old one, or the name of a new node.
        rule: `zero` if inputs are added, `prune` if inputs are removed.

    Raises:
        MorphismError: a reader's number of channels cannot change.
    """
    widths = [channels_of(draft.shapes[each]) for each in node.inputs]
    ends = np.cumsum(widths)
    parts = [
        np.full(channels_of(draft.shapes[each]), -1)
        if isinstance(each, str)
        else np.arange(ends[each] - widths[each], ends[each])
        for each in inputs
    ]
    rewrite(draft, _layouts(draft, node, np.concatenate(parts)), rule)
    draft.feed(
        node.name, tuple(each if isinstance(each, str) else node.inputs[each] for each in inputs)
    )


def _layouts(draft: Draft, changed: Node, indices: Ints) -> dict[str, Layout]:
    """The channels of every node, if the channels of a concatenation have these indices in the
    parent, or are new (-1)."""
    found: dict[str, Layout] = {}
    for node in draft.nodes.values():
        inputs = [found[each] for each in node.inputs]
        if node.name == changed.name:
            found[node.name] = _layout(indices)
        elif not any(each.changed for each in inputs) or _takes(node):
            found[node.name] = _same(channels_of(draft.shapes[node.name]))
        elif node.op == "concat":
            widths = [channels_of(draft.shapes[each]) for each in node.inputs]
            starts = np.cumsum([0, *widths[:-1]])
            found[node.name] = _layout(
                np.concatenate(
                    [
                        np.where(each.new, -1, each.indices + start)
                        for each, start in zip(inputs, starts, strict=True)
                    ]
                )
            )
        elif node.op == "flatten" and len(draft.shapes[node.inputs[0]]) == 3:
            pixels = prod(draft.shapes[node.inputs[0]][1:])
            each = inputs[0]
            spread = (each.indices[:, None] * pixels + np.arange(pixels)).ravel()
            found[node.name] = _layout(np.where(np.repeat(each.new, pixels), -1, spread))
        elif node.op in THROUGH or (is_depthwise(node) and node.attrs["in"] == node.attrs["out"]):
            found[node.name] = inputs[0]
        else:
            raise MorphismError(
                f"{node.name} is {node.op}, and reads the channels of {changed.name}; only "
                "convolutions of one group and linear layers can take more or fewer"
            )
    for end in (draft.output, draft.auxiliary):
        if end is not None and found[end].changed:
            raise MorphismError(f"{end}: the number of classes is the task's")
    return found


def _takes(node: Node) -> bool:
    """Whether a node has weights for each pair of an input and an output channel."""
    return node.op == "linear" or (node.op == "conv" and node.attrs["groups"] == 1)


def _layout(indices: Ints) -> Layout:
    return Layout(np.maximum(indices, 0), indices < 0, np.ones(len(indices)), True)


def _same(width: int) -> Layout:
    return Layout(np.arange(width), np.zeros(width, np.bool_), np.ones(width), False)
