"""Skips: by a convex combination (Elsken et al. 2017, section 3, type IV), or by concatenation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from kinase.morphism.base import Base, Change, NodeName, Place
from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.morphism.facts import unit_ends
from kinase.morphism.match import bring, fits
from kinase.morphism.plan import Norms, Parent, Take
from kinase.space.graph import Graph
from kinase.space.nodes import Node, channels_of


class Skip(Base):
    """Add the output of an earlier node to a node."""

    op: Literal["skip"] = "skip"
    source: NodeName
    """Node at which the skip starts."""
    node: NodeName
    """`mix`: the node whose output it joins. `concat`: the convolution or linear layer whose input
    it joins."""
    merge: Literal["mix", "concat"] = "mix"
    """`mix`: (1 - l) x + l skip, initially with l = 0, and with a 1x1 convolution on the skip if
    shapes differ. `concat`: additional input channels, with weights of zero."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node, source = draft.node(self.node), draft.node(self.source)
        if source.name in draft.behind(node.name):
            raise MorphismError(f"{self.source} depends on {self.node}: the graph would be a cycle")
        if self.merge == "mix":
            self._mix(draft)
        else:
            self._concat(draft, node)
        return Change(draft.build(), draft.plan)

    def _mix(self, draft: Draft) -> None:
        shape = draft.shapes[self.node]
        draft.inner(self.node)
        readers = draft.readers(self.node)
        width = channels_of(shape)
        skip = bring(draft, self.source, draft.shapes[self.source], shape, width)
        draft.redirect(self.node, draft.mix(self.node, skip, 0.0), readers)

    def _concat(self, draft: Draft, node: Node) -> None:
        if node.op not in ("conv", "linear") or node.attrs.get("groups", 1) != 1:
            what = "grouped convolution" if node.op == "conv" else node.op
            raise MorphismError(f"{self.node} is a {what}; use a convolution or a linear layer")
        before = node.inputs[0]
        source, target = draft.shapes[self.source], draft.shapes[before]
        more = channels_of(source)
        if len(target) == 2 and source[:-1] != target[:-1]:
            raise MorphismError(f"{self.source} has shape {source}, {before} has {target}")
        if len(target) == 2 or source == target:
            skip = self.source
        else:
            skip = bring(draft, self.source, source, target, more)
        joined = draft.add("concat", "concat", (before, skip))
        draft.feed(self.node, (joined,))
        width = int(node.attrs["in"])
        draft.change(self.node, **{"in": width + more})
        weight = f"{self.node}.weight"
        indices = np.concatenate([np.arange(width), np.full(more, -1)])
        draft.tensor(weight, Parent(weight), Take(1, indices))

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        shapes, order = graph.shapes(), {node.name: i for i, node in enumerate(graph)}
        ends = unit_ends(graph)
        for node in ends:
            for source in ends:
                before = order[source.name] < order[node.name]
                fit = fits(shapes[source.name], shapes[node.name])
                if before and fit and source.name not in node.inputs:
                    yield {"source": source.name, "node": node.name, "merge": "mix"}
        for node in graph:
            if node.op in ("conv", "linear") and node.attrs.get("groups", 1) == 1:
                target = shapes[node.inputs[0]]
                for source in ends:
                    before = order[source.name] < order[node.name]
                    size = shapes[source.name]
                    tokens = len(target) == 2 and size[:-1] == target[:-1]
                    if before and source.name not in node.inputs and (tokens or fits(size, target)):
                        yield {"source": source.name, "node": node.name, "merge": "concat"}
