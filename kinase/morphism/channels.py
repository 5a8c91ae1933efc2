"""Find which channels of a graph are tied together.

The width of a convolution's output is shared by the normalization after it, by activations, pools
and depthwise convolutions, and by all branches of a residual stage, and is a part of the width of a
concatenation. Each channel of each node belongs to a class: all channels of a class change
together. Classes are found by propagation: sources (convolutions, linear layers) have new channels,
an addition merges those of its inputs.

A node's channels are blocks: runs of one class. A block has several channels after `flatten`
(height x width inputs of a linear layer are one channel of the map) and in a depthwise convolution
with a multiplier; otherwise it has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from kinase.morphism.plan import Ints, Reals
from kinase.space.graph import Graph
from kinase.space.nodes import Node, Shape

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The channels of a node's output."""

    classes: Ints
    sizes: Ints

    def part(self, start: int, size: int) -> tuple[Blocks, Ints]:
        """A part of the channels, and the classes of blocks that this splits."""
        ends = np.cumsum(self.sizes)
        starts = ends - self.sizes
        low, high = np.maximum(starts, start), np.minimum(ends, start + size)
        kept = high > low
        sizes = (high - low)[kept]
        cut = self.classes[kept][sizes < self.sizes[kept]]
        return Blocks(self.classes[kept], sizes), cut


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The channels of a node's output in the child: for each the index of the parent's channel,
    whether it is new (an additional copy, or drawn), and how often its class occurs."""

    indices: Ints
    new: Flags
    counts: Reals
    changed: bool
    """Whether some class of the node does not occur exactly once."""

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.indices)


def is_depthwise(node: Node) -> bool:
    """One input channel for each output channel."""
    a = node.attrs
    return node.op == "conv" and a["groups"] > 1 and a["groups"] == a["in"]


def is_grouped(node: Node) -> bool:
    """Groups of several channels."""
    return node.op == "conv" and 1 < node.attrs["groups"] < node.attrs["in"]


class Channels:
    """The classes of a graph's channels."""

    def __init__(self, graph: Graph) -> None:
        """Propagate through the graph."""
        self._roots: list[int] = []
        self._fixed: dict[int, str] = {}
        self._blocks: dict[str, Blocks] = {}
        shapes = graph.shapes()
        for node in graph:
            inputs = [self._blocks[each] for each in node.inputs]
            before = shapes[node.inputs[0]] if node.inputs else ()
            self._blocks[node.name] = self._propagate(node, inputs, before)
        for end in (graph.output, graph.auxiliary):
            if end is not None:
                self._fix(self._blocks[end].classes, "the number of classes is the task's")
        self._settle()

    def of(self, name: str) -> Blocks:
        """The channels of a node's output."""
        return self._blocks[name]

    @property
    def number(self) -> int:
        """Upper bound of the numbers of classes."""
        return len(self._roots)

    def fixed(self, name: str) -> str | None:
        """Why the width of a node cannot change, or None if it can."""
        for each in self._blocks[name].classes.tolist():
            if each in self._fixed:
                return self._fixed[each]
        return None

    def layout(self, name: str, counts: Ints) -> Layout:
        """A node's channels if each class occurs `counts` times."""
        blocks = self._blocks[name]
        times = counts[blocks.classes]
        if (times == 1).all():
            width = int(blocks.sizes.sum())
            return Layout(np.arange(width), np.zeros(width, np.bool_), np.ones(width), False)
        ends = np.cumsum(blocks.sizes)
        order = np.repeat(np.arange(len(times)), times)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(times) - times, times)
        sizes = blocks.sizes[order]
        begin = (ends - blocks.sizes)[order]
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return Layout(
            np.repeat(begin, sizes) + within,
            np.repeat(rank > 0, sizes),
            np.repeat(times[order], sizes).astype(np.float64),
            True,
        )

    # -- propagation -------------------------------------------------------------------------

    def _propagate(self, node: Node, inputs: list[Blocks], before: Shape) -> Blocks:
        match node.op:
            case "input":
                blocks = self._own(int(node.attrs["channels"]))
                self._fix(blocks.classes, "the number of the image's channels is the task's")
                return blocks
            case "conv" if is_depthwise(node):
                each = int(node.attrs["out"]) // int(node.attrs["in"])
                return Blocks(inputs[0].classes, inputs[0].sizes * each)
            case "conv" | "linear":
                return self._own(int(node.attrs["out"]))
            case "attention":
                return self._own(int(node.attrs["dim"]))
            case "add" | "mix" | "scale":
                return self._join(node, inputs)
            case "concat":
                return Blocks(
                    np.concatenate([each.classes for each in inputs]),
                    np.concatenate([each.sizes for each in inputs]),
                )
            case "slice":
                part, cut = inputs[0].part(int(node.attrs["start"]), int(node.attrs["size"]))
                self._fix(cut, f"{node.name} takes a part of these channels")
                return part
            case "flatten" if len(before) == 3:
                return Blocks(inputs[0].classes, inputs[0].sizes * prod(before[1:]))
            case "flatten" if len(before) == 2:
                return Blocks(
                    np.tile(inputs[0].classes, before[0]), np.tile(inputs[0].sizes, before[0])
                )
            case "layer_norm" | "group_norm":
                self._fix(inputs[0].classes, f"{node.name} normalizes over this width")
            case "shuffle":
                self._fix(inputs[0].classes, f"{node.name} shuffles these channels")
                single = np.repeat(inputs[0].classes, inputs[0].sizes)
                order = single.reshape(int(node.attrs["groups"]), -1).T.ravel()
                return Blocks(order, np.ones(len(order), np.int64))
        return inputs[0]

    def _own(self, width: int) -> Blocks:
        first = len(self._roots)
        self._roots.extend(range(first, first + width))
        return Blocks(np.arange(first, first + width), np.ones(width, np.int64))

    def _join(self, node: Node, inputs: list[Blocks]) -> Blocks:
        first = inputs[0]
        if any(not np.array_equal(each.sizes, first.sizes) for each in inputs[1:]):
            for each in inputs:
                self._fix(each.classes, f"{node.name} adds channels that are laid out differently")
            return first
        for other in inputs[1:]:
            for a, b in zip(first.classes.tolist(), other.classes.tolist(), strict=True):
                low, high = sorted((self._root(a), self._root(b)))
                self._roots[high] = low
        return first

    def _root(self, label: int) -> int:
        roots = self._roots
        while roots[label] != label:
            roots[label] = roots[roots[label]]
            label = roots[label]
        return label

    def _fix(self, classes: Ints, reason: str) -> None:
        for label in classes.tolist():
            self._fixed.setdefault(label, reason)

    def _settle(self) -> None:
        """Name every class by its root."""
        final = np.array([self._root(label) for label in range(len(self._roots))], np.int64)
        self._blocks = {
            name: Blocks(final[blocks.classes], blocks.sizes)
            for name, blocks in self._blocks.items()
        }
        self._fixed = {int(final[label]): reason for label, reason in self._fixed.items()}
