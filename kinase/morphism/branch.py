"""A parallel branch: its last weights are zero, so it starts as zero (Elsken et al. 2017; Wei et
al. 2016, subnet morphing)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from kinase.morphism.base import Base, Change, NodeName, Place
from kinase.morphism.blocks import attention, mlp
from kinase.morphism.deepen import OddKernel, heads_of, readers_of
from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.morphism.facts import unit_ends
from kinase.morphism.match import stride_between
from kinase.morphism.plan import Norms
from kinase.space.graph import Graph
from kinase.space.nodes import Shape

Layer = Literal["conv", "sepconv", "linear", "attention", "mlp"]


class _Beside(Base):
    """The layers of a branch."""

    layer: Layer = "conv"
    """For a map, a convolution or a separable convolution; for a vector or tokens, a linear layer;
    for tokens, an attention or an MLP."""
    kernel: OddKernel = 3
    """Window of a convolution; odd."""
    dilation: Annotated[int, Field(ge=1, le=16)] = 1
    norm: bool = True
    """Batch normalization after a convolution; then its scale starts as zero."""
    relu: bool = False
    """A ReLU before the convolution, as in the edge of a cell."""

    def write(self, draft: Draft, source: str, target: str, graph: Graph) -> str:
        """Build the branch from a node to the shape of another."""
        before, after = draft.shapes[source], draft.shapes[target]
        match self.layer:
            case "conv" | "sepconv":
                return self._conv(draft, source, before, after)
            case "linear":
                self._check(len(before) < 3 and before[:-1] == after[:-1], source, before, after)
                name = draft.linear("linear", source, before[-1], after[-1])
                draft.zero(f"{name}.weight", (after[-1], before[-1]))
                return name
            case "attention":
                self._check(len(before) == 2 and before == after, source, before, after)
                return attention(draft, source, before[-1], *heads_of(graph, source, before))
            case "mlp":
                self._check(len(before) < 3 and before == after, source, before, after)
                return mlp(draft, source, before[-1], 4 * before[-1], "gelu")

    def _check(self, good: bool, source: str, before: Shape, after: Shape) -> None:
        if not good:
            raise MorphismError(
                f"{source} has shape {before}: no {self.layer} takes that to shape {after}"
            )

    def _conv(self, draft: Draft, source: str, before: Shape, after: Shape) -> str:
        maps = len(before) == len(after) == 3
        stride = stride_between(before, after) if maps else None
        if stride is None:
            self._check(False, source, before, after)
            raise AssertionError
        if self.kernel % 2 == 0:
            raise MorphismError(f"kernel is {self.kernel}; use an odd one")
        x, width, out = source, before[0], after[0]
        if self.relu:
            x = draft.add("relu", "relu", (x,))
        window = {"stride": stride, "dilation": self.dilation}
        if self.layer == "sepconv":
            x = draft.conv("depthwise", x, width, width, self.kernel, groups=width, **window)
            x = draft.conv("pointwise", x, width, out, 1)
        else:
            x = draft.conv("conv", x, width, out, self.kernel, **window)
        if self.norm:
            return draft.norm(x, out, 0.0)
        shape = (out, width, 1, 1) if self.layer == "sepconv" else (out, width, *[self.kernel] * 2)
        draft.zero(f"{x}.weight", shape)
        return x


class Branch(_Beside):
    """Add a branch from an earlier node to a node's output."""

    op: Literal["branch"] = "branch"
    node: NodeName
    """Node to whose output the branch is added."""
    source: NodeName | None = None
    """Node from which it starts. Default: the node's own input."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node = draft.inner(self.node)
        source = draft.node(self.source or node.inputs[0]).name
        if source in draft.behind(self.node) and source != self.node:
            raise MorphismError(f"{source} depends on {self.node}: the graph would be a cycle")
        readers = draft.readers(self.node)
        branch = self.write(draft, source, self.node, graph)
        draft.redirect(self.node, draft.add("add", "add", (self.node, branch)), readers)
        return Change(draft.build(), draft.plan)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`: parallel to each single layer, and between the ends of layers of the same
        shape."""
        shapes = graph.shapes()
        for node in unit_ends(graph):
            source = node.inputs[0]
            before, after = shapes[source], shapes[node.name]
            if len(before) == len(after) == 3 and stride_between(before, after) is not None:
                yield {"node": node.name, "layer": "conv"}
                yield {"node": node.name, "layer": "sepconv"}
            elif len(before) == len(after) < 3 and before[:-1] == after[:-1]:
                yield {"node": node.name, "layer": "linear"}
                if before == after:
                    yield {"node": node.name, "layer": "mlp"}
                    if len(after) == 2:
                        yield {"node": node.name, "layer": "attention"}


class Unfold(_Beside):
    """Turn a pool or an identity into a cell's edge: it stays, and a convolution is added parallel
    to it."""

    op: Literal["unfold"] = "unfold"
    node: NodeName
    """A pool, an `identity`, or with `into` any node, if the edge between the two is an
    identity."""
    into: NodeName | None = None
    """The node that reads the edge's output. Default: all readers."""
    relu: bool = True
    """A ReLU before the convolution, as in the edge of a cell."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node = draft.node(self.node) if self.into else draft.inner(self.node)
        pool = node.op in ("max_pool", "avg_pool", "identity")
        if not pool and self.into is None:
            raise MorphismError(
                f"{self.node} is {node.op}; use a pool or an identity, or name the node that the "
                "edge leads into"
            )
        readers = readers_of(draft, self.node, self.into)
        source = node.inputs[0] if pool else self.node
        branch = self.write(draft, source, self.node, graph)
        draft.redirect(self.node, draft.add("add", "add", (self.node, branch)), readers)
        return Change(draft.build(), draft.plan)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        shapes = graph.shapes()
        for node in graph:
            if node.op in ("max_pool", "avg_pool", "identity"):
                before, after = shapes[node.inputs[0]], shapes[node.name]
                if len(after) == 3 and stride_between(before, after) is not None:
                    yield {"node": node.name}
            if node.op == "add":  # an input that does not belong to the edge
                for each in dict.fromkeys(node.inputs):
                    readers = [n for n in graph if each in n.inputs]
                    if len(readers) > 1 and len(shapes[each]) == 3:
                        yield {"node": each, "into": node.name}
