"""Tensors that all networks of a space share by slices, where networks differ in their widths,
kernels and depths.

For each layer there is one set of tensors, as large as the largest that any architecture builds. An
architecture's network is the very graph that the space builds; its tensors are slices of the shared
ones: the first output channels, the centre of a window (Cai et al. 2020, section 3.2), and the
inputs' own channels wherever they stand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from kinase.api.trial import Architecture
from kinase.space.graph import Graph
from kinase.space.nodes import Node, Shape
from kinase.space.tensors import WEIGHTED, kernel, tensors

Ints = NDArray[np.int64]
Axis = range | Ints
"""Indices of an axis, in the slice's order. One can occur twice: then both share it."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """The part of a shared tensor that is a tensor of a network."""

    axes: tuple[Axis, ...]
    """The indices of each axis."""
    columns: Ints | None = None
    """(rows, columns): the indices of the second axis, if each row has its own, as where groups
    read different channels."""

    @property
    def shape(self) -> Shape:
        """Shape of the part."""
        return tuple(len(axis) for axis in self.axes)


@dataclass(frozen=True, slots=True, eq=False)
class Sliced:
    """A network, and the slices of the shared tensors that are its own."""

    graph: Graph
    cuts: Mapping[str, Cut]
    """``node.tensor`` -> the slice of the shared tensor of this name."""


class Elastic(ABC):
    """The shared tensors of a space, and how they are sliced."""

    @property
    @abstractmethod
    def nodes(self) -> Mapping[str, Node]:
        """The layers that have tensors, each as large as in any network."""

    @abstractmethod
    def slice(self, architecture: Architecture) -> Sliced:
        """An architecture's network as slices of the shared tensors.

        Raises:
            InfeasibleError: the network does not exist at this input size.
            ValueError: the network has a layer that does not fit the shared one.
        """

    @cached_property
    def tensors(self) -> dict[str, Shape]:
        """``node.tensor`` -> shape, of parameters and buffers."""
        return tensors(Graph(tuple(self.nodes.values()), ""))


def largest(nodes: Iterable[Node]) -> dict[str, Node]:
    """For each name the layer with the greatest numbers of all layers of this name.

    Raises:
        ValueError: layers of one name are different operations.
    """
    found: dict[str, Node] = {}
    for node in nodes:
        if node.op not in WEIGHTED:
            continue
        known = found.setdefault(node.name, node)
        if known.op != node.op or set(known.attrs) != set(node.attrs):
            raise ValueError(f"{node.name} is a {known.op} in one network, a {node.op} in another")
        attrs = {name: max(value, node.attrs[name]) for name, value in known.attrs.items()}
        found[node.name] = Node(node.name, node.op, (), attrs)
    return found


@dataclass(frozen=True, eq=False)
class Layered(Elastic):
    """Layers that a space names alike in all of its networks."""

    shared: Mapping[str, Node]
    build: Callable[[Architecture], Graph]
    """The space's network of an architecture."""
    sources: Mapping[str, str]
    """The source of a layer's output channels, by the layer's name; the same source for layers that
    stand for each other. A layer that is not listed has one without a name."""
    places: Mapping[str, Mapping[str, int]]
    """Where the channels of each source begin among a layer's input channels; 0 where nothing is
    listed."""

    @property
    def nodes(self) -> Mapping[str, Node]:
        """See `Elastic`."""
        return self.shared

    def slice(self, architecture: Architecture) -> Sliced:
        """See `Elastic`."""
        graph = self.build(architecture).needed()
        slicer = _Slicer(self, graph)
        return Sliced(graph, slicer.cuts)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The channels of a map: the source of each, by number, and its place in that source."""

    sources: Ints
    indices: Ints

    def taken(self, which: Ints | slice) -> _Layout:
        return _Layout(self.sources[which], self.indices[which])

    def spread(self, each: int) -> _Layout:
        """Every channel as `each` neighbours."""
        indices = self.indices[:, None] * each + np.arange(each)
        return _Layout(np.repeat(self.sources, each), indices.ravel())


class _Slicer:
    """Follows channels through a graph."""

    def __init__(self, elastic: Layered, graph: Graph) -> None:
        self._elastic = elastic
        self._numbers = {"": 0}
        self.cuts: dict[str, Cut] = {}
        shapes, wanted = graph.shapes(), dict[str, dict[str, Shape]]()
        for tensor, shape in tensors(graph).items():
            wanted.setdefault(tensor.partition(".")[0], {})[tensor] = shape
        layouts: dict[str, _Layout] = {}
        for node in graph:
            inputs = [layouts[each] for each in node.inputs]
            before = shapes[node.inputs[0]] if node.inputs else ()
            layouts[node.name] = self._output(node, inputs, before)
            if node.op in WEIGHTED:
                self._cut(node, inputs, wanted.get(node.name, {}))

    # -- channels ------------------------------------------------------------------------

    def _own(self, name: str, width: int) -> _Layout:
        source = self._elastic.sources.get(name, "")
        number = self._numbers.setdefault(source, len(self._numbers))
        return _Layout(np.full(width, number), np.arange(width))

    def _output(self, node: Node, inputs: list[_Layout], before: Shape) -> _Layout:
        a = node.attrs
        match node.op:
            case "input":
                return self._own(node.name, int(a["channels"]))
            case "conv" if _is_depthwise(node):
                return inputs[0].spread(int(a["out"]) // int(a["in"]))
            case "conv" | "linear":
                return self._own(node.name, int(a["out"]))
            case "concat":
                return _Layout(
                    np.concatenate([each.sources for each in inputs]),
                    np.concatenate([each.indices for each in inputs]),
                )
            case "add" | "mix":
                # a map that was projected to the others' width has no source
                named = [each for each in inputs if each.sources.any()]
                return (named or inputs)[0]
            case "slice":
                start = int(a["start"])
                return inputs[0].taken(slice(start, start + int(a["size"])))
            case "shuffle":
                count = len(inputs[0].indices)
                return inputs[0].taken(np.arange(count).reshape(int(a["groups"]), -1).T.ravel())
            case "flatten" if len(before) == 3:
                return inputs[0].spread(prod(before[1:]))
            case "flatten" if len(before) == 2:
                return self._own(node.name, prod(before))
        return inputs[0]

    def _places(self, name: str, layout: _Layout) -> Axis:
        """The indices of a layout's channels among the shared layer's."""
        begins = self._elastic.places.get(name, {})
        starts = np.array([begins.get(source, 0) for source in self._numbers], np.int64)
        return plain(starts[layout.sources] + layout.indices)

    # -- tensors -------------------------------------------------------------------------

    def _cut(self, node: Node, inputs: list[_Layout], wanted: Mapping[str, Shape]) -> None:
        name, inside = node.name, inputs[0]
        shared = self._elastic.nodes.get(name)
        if shared is None or shared.op != node.op:
            raise ValueError(f"{name} ({node.op}) is not one of the shared layers")
        axes: dict[str, tuple[Axis, ...]]
        match node.op:
            case "conv" if _is_depthwise(node):
                each = int(node.attrs["out"]) // int(node.attrs["in"])
                rows = self._places(name, inside.spread(each))
                axes = {"weight": (rows, range(1), *_windows(node, shared)), "bias": (rows,)}
            case "conv" if node.attrs["groups"] == 1:
                out = range(int(node.attrs["out"]))
                columns = self._places(name, inside)
                axes = {"weight": (out, columns, *_windows(node, shared)), "bias": (out,)}
            case "linear":
                out = range(int(node.attrs["out"]))
                axes = {"weight": (out, self._places(name, inside)), "bias": (out,)}
            case "batch_norm" | "group_norm" | "layer_norm" | "layer_scale":
                axes = dict.fromkeys((n.partition(".")[2] for n in wanted), ())
                for tensor, shape in wanted.items():
                    if shape:
                        axes[tensor.partition(".")[2]] = (self._places(name, inside),)
            case _:  # it is the same in all networks
                axes = {
                    tensor.partition(".")[2]: tuple(range(size) for size in shape)
                    for tensor, shape in wanted.items()
                }
        for tensor, shape in wanted.items():
            cut = Cut(axes[tensor.partition(".")[2]])
            have = self._elastic.tensors.get(tensor)
            if have is None or cut.shape != shape or not _within(cut, have):
                raise ValueError(f"{tensor} of shape {shape} is not a part of the shared {have}")
            self.cuts[tensor] = cut


def _is_depthwise(node: Node) -> bool:
    a = node.attrs
    return a["groups"] > 1 and a["groups"] == a["in"]


def _windows(node: Node, shared: Node) -> tuple[Axis, Axis]:
    """The centre of a window."""
    found = []
    for size, whole in zip(kernel(node), kernel(shared), strict=True):
        margin, odd = divmod(whole - size, 2)
        if odd or margin < 0:
            raise ValueError(f"{node.name}: a window of {size} is not the centre of one of {whole}")
        found.append(range(margin, margin + size))
    return found[0], found[1]


def plain(indices: Ints) -> Axis:
    """A range, where they are one."""
    count, first = len(indices), int(indices[0])
    if np.array_equal(indices, np.arange(first, first + count)):
        return range(first, first + count)
    return indices


def _within(cut: Cut, shape: Shape) -> bool:
    return len(cut.axes) == len(shape) and all(
        max(axis, default=-1) < size for axis, size in zip(cut.axes, shape, strict=True)
    )
