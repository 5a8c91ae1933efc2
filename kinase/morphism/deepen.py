"""Insert a layer as an identity: Net2Deeper (Chen et al. 2016, section 2.3), with a parametrized
activation if a plain activation would change the function (Wei et al. 2016, section 3.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from kinase.morphism.base import Base, Change, NodeName, Place
from kinase.morphism.blocks import attention_block, mlp_block
from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.morphism.facts import moments, nonnegative, unit_ends
from kinase.morphism.plan import Noise, Norms, Step, seed_for
from kinase.space.graph import Graph
from kinase.space.nodes import Shape

Activation = Literal["none", "relu", "relu6", "gelu", "silu", "hard_swish", "sigmoid", "tanh"]
OddKernel = Annotated[int, Field(ge=1, le=31)]


class Deepen(Base):
    """Insert a layer that is an identity after a node."""

    op: Literal["deepen"] = "deepen"
    node: NodeName
    """Node after which the layer is inserted."""
    into: NodeName | None = None
    """Insert it only on the edge to this node. Default: for all readers of the node's output."""
    layer: Literal["conv", "sepconv", "linear", "block"] = "conv"
    """Convolution or separable convolution of a map, linear layer of a vector or of tokens, or a
    transformer's attention and MLP, each with a skip."""
    kernel: OddKernel = 3
    """Window of a convolution; odd."""
    dilation: Annotated[int, Field(ge=1, le=16)] = 1
    norm: bool = True
    """Batch normalization after a convolution, initialized as an identity."""
    activation: Activation = "relu"
    """A ReLU after a non-negative output changes nothing. Any other activation starts as an
    identity and learns its share: (1 - a) f(x) + a x, with a = 1."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        draft.inner(self.node)
        readers = readers_of(draft, self.node, self.into)
        shape = draft.shapes[self.node]
        if self.layer == "block":
            x = attention_block(draft, self.node, shape, *heads_of(graph, self.node, shape))
            x = mlp_block(draft, x, shape[-1], 4 * shape[-1], "gelu")
        elif self.layer == "linear":
            x = self._activate(draft, graph, self._linear(draft, shape))
        else:
            x = self._activate(draft, graph, self._conv(draft, graph, shape))
        draft.redirect(self.node, x, readers)
        return Change(draft.build(), draft.plan, tuple(draft.norms))

    def _linear(self, draft: Draft, shape: Shape) -> str:
        if len(shape) == 3:
            raise MorphismError(
                f"{self.node} gives a map of shape {shape}; use layer conv or sepconv"
            )
        width = shape[-1]
        name = draft.linear("linear", self.node, width, width)
        draft.identity(f"{name}.weight", (width, width), *self._noise(f"{name}.weight"))
        return name

    def _conv(self, draft: Draft, graph: Graph, shape: Shape) -> str:
        if len(shape) != 3:
            raise MorphismError(f"{self.node} gives no map but shape {shape}; use layer linear")
        if self.kernel % 2 == 0:
            raise MorphismError(f"kernel is {self.kernel}; an identity needs an odd one")
        width, x = shape[0], self.node
        if self.layer == "sepconv":
            x = draft.conv(
                "depthwise", x, width, width, self.kernel, dilation=self.dilation, groups=width
            )
            shape = (width, 1, self.kernel, self.kernel)
            draft.identity(f"{x}.weight", shape, *self._noise(f"{x}.weight"))
            x = draft.conv("pointwise", x, width, width, 1)
            shape = (width, width, 1, 1)
        else:
            x = draft.conv("conv", x, width, width, self.kernel, dilation=self.dilation)
            shape = (width, width, self.kernel, self.kernel)
        draft.identity(f"{x}.weight", shape, *self._noise(f"{x}.weight"))
        if self.norm:
            x = draft.identity_norm(x, width, moments(graph, self.node, width))
        return x

    def _noise(self, tensor: str) -> list[Step]:
        return [Noise(self.noise, True, seed_for(self.seed, tensor))] if self.noise else []

    def _activate(self, draft: Draft, graph: Graph, x: str) -> str:
        if self.activation == "none":
            return x
        plain = self.activation == "relu" and self.node in nonnegative(graph)
        y = draft.add(self.activation, self.activation, (x,))
        return y if plain else draft.mix(y, x, 1.0)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        shapes = graph.shapes()
        for node in unit_ends(graph):
            layers: tuple[str, ...] = (
                ("conv", "sepconv") if len(shapes[node.name]) == 3 else ("linear",)
            )
            if any(n.op == "attention" and n.inputs for n in graph) and node.op in ("add", "mix"):
                layers += ("block",) if len(shapes[node.name]) == 2 else ()
            for layer in layers:
                yield {"node": node.name, "layer": layer}


def readers_of(draft: Draft, node: str, into: str | None) -> list[str]:
    """Nodes whose input is replaced: all readers of `node`, or only `into`."""
    readers = draft.readers(node)
    if into is None:
        return readers
    if into not in readers:
        raise MorphismError(
            f"{into} does not take {node}; use one of {', '.join(readers) or 'no node at all'}"
        )
    return [into]


def heads_of(graph: Graph, name: str, shape: Shape) -> tuple[int, int]:
    """(number of heads, size of a head) of an attention of this width in the graph; otherwise heads
    of size 64."""
    if len(shape) != 2:
        raise MorphismError(f"{name} gives shape {shape}; a block needs tokens")
    for node in graph:
        if node.op == "attention" and node.attrs["dim"] == shape[-1]:
            return int(node.attrs["heads"]), int(node.attrs["head_dim"])
    size = min(64, shape[-1])
    return max(1, shape[-1] // size), size
