"""A graph that is being edited, with the plan of its tensors."""

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
    """Nodes by name, edited one by one. New nodes are named ``m<number>_<what>``, with the next
    number after the largest in the graph, so the same edit of the same graph always gives the same
    names."""

    def __init__(self, graph: Graph, seed: int = 0, noise: float = 0.0) -> None:
        """Start from a graph.

        Args:
            graph: graph of the parent.
            seed: seed of all random numbers.
            noise: noise on identities and copies, relative to the tensor's standard deviation.
        """
        self.output, self.auxiliary = graph.output, graph.auxiliary
        self.nodes = {node.name: node for node in graph}
        self.shapes: dict[str, Shape] = graph.shapes()
        self.plan: dict[str, Recipe] = {}
        self.norms: list[str] = []
        self.seed, self.noise = seed, noise
        taken = (re.match(r"m(\d+)_", name) for name in self.nodes)
        self._prefix = f"m{1 + max((int(m[1]) for m in taken if m), default=0)}"

    # -- queries -----------------------------------------------------------------------------

    def node(self, name: str) -> Node:
        """A node of the graph."""
        if name not in self.nodes:
            raise MorphismError(f"{name!r:.80} is not a node of the graph")
        return self.nodes[name]

    def inner(self, name: str) -> Node:
        """A node that is not the input or an output of the graph."""
        node = self.node(name)
        if node.op == "input":
            raise MorphismError(f"{name} is the graph's input; use a node after it")
        if name in (self.output, self.auxiliary):
            raise MorphismError(f"{name} gives the logits; use a node before it")
        return node

    def readers(self, name: str) -> list[str]:
        """Nodes that read this node's output, without duplicates."""
        return [node.name for node in self.nodes.values() if name in node.inputs]

    def only_reader(self, name: str) -> Node | None:
        """The only reader of this node's output, or None if there are other uses."""
        readers = self.readers(name)
        if len(readers) != 1 or name in (self.output, self.auxiliary):
            return None
        return self.nodes[readers[0]]

    def behind(self, name: str) -> set[str]:
        """The node and all nodes that depend on it."""
        found = {name}
        for node in self.nodes.values():  # the parent's nodes are in topological order
            if not found.isdisjoint(node.inputs):
                found.add(node.name)
        return found

    # -- edits -------------------------------------------------------------------------------

    def add(self, what: str, op: str, inputs: tuple[str, ...], attrs: Attrs | None = None) -> str:
        """Add a node; return its name."""
        name, number = f"{self._prefix}_{what}", 1
        while name in self.nodes:
            number += 1
            name = f"{self._prefix}_{what}{number}"
        self.nodes[name] = Node(name, op, inputs, dict(attrs or {}))
        return name

    def change(self, name: str, **attrs: int | float) -> None:
        """Change numbers of a node."""
        self.nodes[name] = replace(self.nodes[name], attrs={**self.nodes[name].attrs, **attrs})

    def window(self, name: str, sizes: Sequence[int], padding: Sequence[int]) -> None:
        """Change the window of a convolution: heights, then widths."""
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
        """Change the strides of a convolution: vertical, then horizontal."""
        self.change(name, stride=strides[0])
        if "stride_h" in self.nodes[name].attrs:
            self.change(name, stride_h=strides[0], stride_w=strides[1])

    def feed(self, name: str, inputs: tuple[str, ...]) -> None:
        """Change the inputs of a node."""
        self.nodes[name] = replace(self.nodes[name], inputs=inputs)

    def redirect(self, old: str, new: str, readers: list[str]) -> None:
        """Make these readers of `old` read `new` instead."""
        for name in readers:
            inputs = tuple(new if each == old else each for each in self.nodes[name].inputs)
            self.feed(name, inputs)

    def tensor(self, name: str, base: Base, *steps: Step) -> None:
        """Set the recipe of a tensor of the child."""
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
        """Add a convolution without bias whose padding keeps the size at stride 1, with random
        weights (He et al. 2015)."""
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
        """Random weights for their number of inputs (He et al. 2015)."""
        std = math.sqrt(2 / math.prod(shape[1:]))
        self.tensor(tensor, Normal(shape, std, seed_for(self.seed, tensor)))

    def linear(self, what: str, x: str, inputs: int, out: int) -> str:
        """An affine layer with random weights and a bias of zero."""
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
        """Add a new batch normalization with this scale."""
        name = self.add("bn", "batch_norm", (x,), {"channels": channels, "affine": 1})
        each = (channels,)
        for tensor, value in (("weight", scale), ("running_var", 1.0)):
            self.tensor(f"{name}.{tensor}", Fill(each, value))
        for tensor in ("bias", "running_mean"):
            self.tensor(f"{name}.{tensor}", Fill(each, 0.0))
        self.tensor(f"{name}.num_batches_tracked", Fill((), 0, whole=True))
        return name

    def identity_norm(self, x: str, channels: int, moments: Moments | None) -> str:
        """Add a batch normalization that is an identity: scale and shift equal its stored deviation
        and mean. If these are unknown they start as 1 and 0, which is also exact but far from the
        statistics in training, so `norms` lists it for calibration."""
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
        """Add a new layer normalization."""
        name = self.add("ln", "layer_norm", (x,), {"dim": dim})
        self.tensor(f"{name}.weight", Fill((dim,), 1.0))
        self.tensor(f"{name}.bias", Fill((dim,), 0.0))
        return name

    def mix(self, x: str, other: str, share: float) -> str:
        """(1 - share) x + share other."""
        name = self.add("mix", "mix", (x, other))
        self.tensor(f"{name}.share", Fill((1,), share))
        return name

    # -- result ------------------------------------------------------------------------------

    def build(self) -> Graph:
        """The child, with its nodes in topological order, keeping the parent's order where
        possible."""
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
