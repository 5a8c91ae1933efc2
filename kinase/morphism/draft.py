"""A graph under the knife, with the plan of its tensors."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kinase.morphism.errors import MorphismError
from kinase.morphism.plan import Base, Fill, Identity, Moments, Normal, Recipe, Step, seed_for
from kinase.space.graph import Graph
from kinase.space.nodes import Node, Shape

Attrs = Mapping[str, int | float]


class Draft:
    """Nodes by name, changed one by one. New nodes are named ``m<number>_<what>``, with the number
    after the largest that a node of the graph has; so the same edit of the same graph always gives
    the same names."""

    def __init__(self, graph: Graph, seed: int = 0, noise: float = 0.0) -> None:
        """Begin with a graph.

        Args:
            graph: the parent.
            seed: of all draws.
            noise: of what is an identity or a copy, relative to the tensor's deviation.
        """
        self.output, self.auxiliary = graph.output, graph.auxiliary
        self.nodes = {node.name: node for node in graph}
        self.shapes: dict[str, Shape] = graph.shapes()
        self.plan: dict[str, Recipe] = {}
        self.norms: list[str] = []
        self.seed, self.noise = seed, noise
        taken = (re.match(r"m(\d+)_", name) for name in self.nodes)
        self._prefix = f"m{1 + max((int(m[1]) for m in taken if m), default=0)}"

    # -- looking -----------------------------------------------------------------------------

    def node(self, name: str) -> Node:
        """A node of the graph."""
        if name not in self.nodes:
            raise MorphismError(f"{name!r:.80} is not a node of the graph")
        return self.nodes[name]

    def inner(self, name: str) -> Node:
        """A node that is neither the input nor an end of the graph."""
        node = self.node(name)
        if node.op == "input":
            raise MorphismError(f"{name} is the graph's input; use a node after it")
        if name in (self.output, self.auxiliary):
            raise MorphismError(f"{name} gives the logits; use a node before it")
        return node

    def readers(self, name: str) -> list[str]:
        """Nodes that take this one's output, each once."""
        return [node.name for node in self.nodes.values() if name in node.inputs]

    def only_reader(self, name: str) -> Node | None:
        """The one node that takes this one's output, if there is just one and no other use."""
        readers = self.readers(name)
        if len(readers) != 1 or name in (self.output, self.auxiliary):
            return None
        return self.nodes[readers[0]]

    def behind(self, name: str) -> set[str]:
        """The node and all that depend on it."""
        found = {name}
        for node in self.nodes.values():  # the parent's nodes are in topological order
            if not found.isdisjoint(node.inputs):
                found.add(node.name)
        return found

    # -- editing -----------------------------------------------------------------------------

    def add(self, what: str, op: str, inputs: tuple[str, ...], attrs: Attrs | None = None) -> str:
        """A new node; returns its name."""
        name, number = f"{self._prefix}_{what}", 1
        while name in self.nodes:
            number += 1
            name = f"{self._prefix}_{what}{number}"
        self.nodes[name] = Node(name, op, inputs, dict(attrs or {}))
        return name

    def change(self, name: str, **attrs: int | float) -> None:
        """Other numbers of a node."""
        self.nodes[name] = replace(self.nodes[name], attrs={**self.nodes[name].attrs, **attrs})

    def window(self, name: str, sizes: Sequence[int], padding: Sequence[int]) -> None:
        """Another window of a convolution: heights, then widths."""
        self.change(name, kernel=sizes[0], padding=padding[0])
        attrs = self.nodes[name].attrs
        if "kernel_h" in attrs or "padding_h" in attrs:
            self.change(
                name,
                kernel_h=sizes[0],
                kernel_w=sizes[1],
                padding_h=padding[0],
                padding_w=padding[1],
            )

    def step(self, name: str, strides: tuple[int, int]) -> None:
        """Other strides of a convolution: down, then across."""
        self.change(name, stride=strides[0])
        if "stride_h" in self.nodes[name].attrs:
            self.change(name, stride_h=strides[0], stride_w=strides[1])

    def feed(self, name: str, inputs: tuple[str, ...]) -> None:
        """Other inputs of a node."""
        self.nodes[name] = replace(self.nodes[name], inputs=inputs)

    def redirect(self, old: str, new: str, readers: list[str]) -> None:
        """Let these readers of `old` take `new`."""
        for name in readers:
            inputs = tuple(new if each == old else each for each in self.nodes[name].inputs)
            self.feed(name, inputs)

    def tensor(self, name: str, base: Base, *steps: Step) -> None:
        """How a tensor of the child is made."""
        self.plan[name] = Recipe(base, steps)

    # -- layers ------------------------------------------------------------------------------

    def conv(
        self,
        what: str,
        x: str,
        inputs: int,
        out: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> str:
        """A convolution without bias whose padding keeps the size at stride 1; its weights are
        drawn (He et al. 2015)."""
        name = self.add(
            what,
            "conv",
            (x,),
            {
                "in": inputs,
                "out": out,
                "kernel": kernel,
                "stride": stride,
                "padding": dilation * (kernel - 1) // 2,
                "dilation": dilation,
                "groups": groups,
                "bias": 0,
            },
        )
        self.drawn(f"{name}.weight", (out, inputs // groups, kernel, kernel))
        return name

    def drawn(self, tensor: str, shape: Shape) -> None:
        """Weights drawn for their number of inputs (He et al. 2015)."""
        std = math.sqrt(2 / math.prod(shape[1:]))
        self.tensor(tensor, Normal(shape, std, seed_for(self.seed, tensor)))

    def linear(self, what: str, x: str, inputs: int, out: int) -> str:
        """An affine layer with drawn weights and a bias of zero."""
        name = self.add(what, "linear", (x,), {"in": inputs, "out": out})
        self.drawn(f"{name}.weight", (out, inputs))
        self.tensor(f"{name}.bias", Fill((out,), 0.0))
        return name

    def identity(self, tensor: str, shape: Shape, *steps: Step) -> None:
        """Weights that pass the input on."""
        self.tensor(tensor, Identity(shape), *steps)

    def zero(self, tensor: str, shape: Shape) -> None:
        """Weights of zero."""
        self.tensor(tensor, Fill(shape, 0.0))

    def norm(self, x: str, channels: int, scale: float) -> str:
        """A batch normalisation as new, with this scale."""
        name = self.add("bn", "batch_norm", (x,), {"channels": channels, "affine": 1})
        each = (channels,)
        for tensor, value in (("weight", scale), ("running_var", 1.0)):
            self.tensor(f"{name}.{tensor}", Fill(each, value))
        for tensor in ("bias", "running_mean"):
            self.tensor(f"{name}.{tensor}", Fill(each, 0.0))
        self.tensor(f"{name}.num_batches_tracked", Fill((), 0, whole=True))
        return name

    def identity_norm(self, x: str, channels: int, moments: Moments | None) -> str:
        """A batch normalisation that inverts itself: scale and shift are the deviation and the
        mean that it holds. Where these are unknown they begin as 1 and 0, which is as exact but
        far from what it will meet in training: `norms` names it for a calibration."""
        eps = 1e-5
        name = self.norm(x, channels, math.sqrt(1 + eps))
        if moments is not None:
            for tensor, part in (("weight", "std"), ("running_var", "var")):
                self.tensor(f"{name}.{tensor}", replace(moments, part=part, eps=eps))
            for tensor in ("bias", "running_mean"):
                self.tensor(f"{name}.{tensor}", replace(moments, part="mean", eps=eps))
        self.norms.append(name)
        return name

    def layer_norm(self, x: str, dim: int) -> str:
        """A layer normalisation as new."""
        name = self.add("ln", "layer_norm", (x,), {"dim": dim})
        self.tensor(f"{name}.weight", Fill((dim,), 1.0))
        self.tensor(f"{name}.bias", Fill((dim,), 0.0))
        return name

    def mix(self, x: str, other: str, share: float) -> str:
        """(1 - share) x + share other."""
        name = self.add("mix", "mix", (x, other))
        self.tensor(f"{name}.share", Fill((1,), share))
        return name

    # -- finishing ---------------------------------------------------------------------------

    def build(self) -> Graph:
        """The child, its nodes in topological order, those of the parent in its order where that
        is free."""
        place = {name: index for index, name in enumerate(self.nodes)}
        waits = {name: len(set(node.inputs)) for name, node in self.nodes.items()}
        readers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for each in dict.fromkeys(node.inputs):
                readers[each].append(node.name)
        ready = [place[name] for name, count in waits.items() if not count]
        names = list(self.nodes)
        order: list[Node] = []
        while ready:
            name = names[heapq.heappop(ready)]
            order.append(self.nodes[name])
            for each in readers[name]:
                waits[each] -= 1
                if not waits[each]:
                    heapq.heappush(ready, place[each])
        if len(order) < len(names):
            stuck = next(name for name in names if waits[name])
            raise MorphismError(f"{stuck}: the edit would make a cycle")
        graph = Graph(tuple(order), self.output, self.auxiliary).needed()
        kept = {node.name for node in graph}
        self.plan = {n: recipe for n, recipe in self.plan.items() if n.partition(".")[0] in kept}
        self.norms = [name for name in self.norms if name in kept]
        return graph
