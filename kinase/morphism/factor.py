"""Factor a layer into two, neither of which is an identity (Wei et al. 2016, section 3)."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from kinase.morphism import plan
from kinase.morphism.base import Base, Change, Count, NodeName, Place
from kinase.morphism.deepen import Activation
from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.morphism.factoring import least_width
from kinase.morphism.plan import Fill, Norms, Step, Take, seed_for
from kinase.space.graph import Graph
from kinase.space.nodes import Node, Shape
from kinase.space.tensors import kernel, padding, stride

Window = Annotated[int, Field(ge=1, le=63)]


class Factor(Base):
    """Replace a convolution or a linear layer by the product of two. `deepen` keeps a layer and
    inserts an identity, mostly zeros, after it. Here both factors are dense and share the function
    of the layer."""

    op: Literal["factor"] = "factor"
    node: NodeName
    """It becomes the second of the two."""
    first: Window
    """Height and width of the first window, at most those of the layer. 1 for a linear layer."""
    second: Window | None = None
    """Those of the second window, if both windows together, K1 + K2 - 1, are larger than the
    layer's by an even number. Taps for which `width` is too small start as zeros (Wei et al. 2016,
    algorithm 2). Default: the rest of the layer's window."""
    width: Count | None = None
    """Channels between the two. Default: the minimum for arbitrary weights."""
    norm: bool = True
    """Batch normalization between two convolutions, initialized as an identity."""
    activation: Activation = "relu"
    """Activation between the two, which starts as an identity: (1 - a) f(x) + a x, with a = 1."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node = draft.node(self.node)
        whole, first, second = self._windows(node)
        groups = int(node.attrs.get("groups", 1))
        inputs, outputs = int(node.attrs["in"]) // groups, int(node.attrs["out"]) // groups
        least = {
            pair: groups * least_width(inputs, outputs, *pair)
            for pair in _within(whole, first, second)
        }
        fewest = min(least.values())
        width = self.width or fewest
        if width < fewest or width % groups:
            multiple = f", a multiple of {groups}" if groups > 1 else ""
            raise MorphismError(
                f"{self.node}: width is {width}; between windows of {self.first} and "
                f"{max(second, default=1)} use {fewest} or more{multiple}"
            )
        fitting = [pair for pair, need in least.items() if need <= width]
        inner = max(fitting, key=lambda pair: inputs * prod(pair[0]) + outputs * prod(pair[1]))
        layer = draft.add(node.op, node.op, node.inputs, {**node.attrs, "out": width})
        draft.change(self.node, **{"in": width})
        if node.op == "conv":
            self._convolve(draft, layer, node, first, second)
        elif node.attrs.get("bias", 1):
            draft.tensor(f"{layer}.bias", Fill((width,), 0.0))
        weight, seed = f"{self.node}.weight", seed_for(self.seed, f"{layer}.weight")
        for part, name, size, taps in zip(
            ("first", "second"), (layer, self.node), (first, second), inner, strict=True
        ):
            base = plan.Factor(part, weight, width, *inner, groups, seed)
            draft.tensor(f"{name}.weight", base, *_amid(size, taps, part == "second"))
        x = layer
        if self.norm and node.op == "conv":
            x = draft.identity_norm(x, width, None)
        if self.activation != "none":
            x = draft.mix(draft.add(self.activation, self.activation, (x,)), x, 1.0)
        draft.feed(self.node, (x,))
        return Change(draft.build(), draft.plan, tuple(draft.norms))

    def _windows(self, node: Node) -> tuple[Shape, Shape, Shape]:
        """Windows of the layer and of its two factors."""
        if node.op == "linear" and (self.first, self.second or 1) == (1, 1):
            return (), (), ()
        if node.op == "linear":
            raise MorphismError(f"{self.node} is linear, without a window; use first 1 alone")
        if node.op != "conv":
            raise MorphismError(f"{self.node} is {node.op}; use a convolution or a linear layer")
        whole = kernel(node)
        found = f"{self.node} has a window of {whole[0]}x{whole[1]}"
        if self.second is None:
            if self.first > max(whole):
                raise MorphismError(f"{found}; first is {self.first}, use at most {max(whole)}")
            first = tuple(min(self.first, size) for size in whole)
            return whole, first, tuple(k - f + 1 for k, f in zip(whole, first, strict=True))
        both = self.first + self.second - 1
        if any(size > both or (both - size) % 2 for size in whole):
            raise MorphismError(
                f"{found}; first and second make one of {both}, which must be as large, or larger "
                "by an even number so that the middle stays"
            )
        return whole, (self.first,) * 2, (self.second,) * 2

    def _convolve(self, draft: Draft, layer: str, node: Node, first: Shape, second: Shape) -> None:
        """The first factor gets all padding: padding of the second would add zeros where the layer
        has values from its outer taps at the edge. The second factor gets the stride, because the
        first must be computed everywhere, unless the second's window is one pixel."""
        a = node.attrs
        pads = [
            pad + int(a["dilation"]) * (before + after - 1 - size) // 2
            for pad, size, before, after in zip(
                padding(node), kernel(node), first, second, strict=True
            )
        ]
        draft.window(layer, first, pads)
        draft.window(self.node, second, (0, 0))
        step_first = max(second) == 1
        draft.change(layer, bias=0)
        draft.step(layer, stride(node) if step_first else (1, 1))
        draft.step(self.node, (1, 1) if step_first else stride(node))

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        for node in graph:
            if node.op == "linear":
                yield {"node": node.name, "first": 1}
            if node.op != "conv":
                continue
            high, wide = kernel(node)
            for first in range(1, max(high, wide) + 1):
                yield {"node": node.name, "first": first}
            if high == wide and high % 2 and high > 1:  # the two layers instead of one
                yield {"node": node.name, "first": high, "second": high}


def _within(whole: Shape, first: Shape, second: Shape) -> Iterator[tuple[Shape, Shape]]:
    """These two windows and all smaller ones that still cover the layer's window."""
    spare = min((f + s - 1 - k for k, f, s in zip(whole, first, second, strict=True)), default=0)
    for one in range(min((spare + 1, *first))):
        for other in range(one % 2, min((spare + 1 - one, *second)), 2):
            yield tuple(size - one for size in first), tuple(size - other for size in second)


def _amid(window: Shape, taps: Shape, late: bool) -> Iterator[Step]:
    """Taps in the middle of a window; if it is even, the earlier or the later of two."""
    for axis, (size, inner) in enumerate(zip(window, taps, strict=True), start=2):
        if size > inner:
            before = (size - inner + late) // 2
            sides = (before, size - inner - before)
            yield Take(axis, np.pad(np.arange(inner), sides, constant_values=-1))
