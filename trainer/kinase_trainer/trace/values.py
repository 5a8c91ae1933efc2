"""Values for interpreting a module's calls: locations of tensors, and placeholders for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from kinase.space import Graph
from kinase.space.nodes import Shape
from kinase_trainer.errors import ConfigError


class Untraceable(ConfigError):
    """A module cannot be converted to a graph; the message names its part, and an alternative."""


def place(path: str, module: nn.Module) -> str:
    """A part of a module, for people."""
    return f"{path} ({type(module).__name__})" if path else f"{type(module).__name__}"


@dataclass(frozen=True, slots=True)
class Source:
    """Location of a graph's tensor in a module's `state_dict`."""

    key: str
    part: tuple[int, int] = (0, 1)
    """Index and number of equal parts of its first axis."""
    shape: Shape | None = None
    """Shape in the graph, if it differs."""

    def take(self, state: Mapping[str, Tensor]) -> Tensor:
        """Get the tensor."""
        index, count = self.part
        whole = state[self.key]
        own = whole if count == 1 else whole.chunk(count)[index]
        return own if self.shape is None else own.reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Traced:
    """A module's graph."""

    graph: Graph
    sources: dict[str, Source]
    """Locations by the names of the graph's tensors, ``node.tensor``."""
    places: dict[str, str] = field(default_factory=dict)
    """Paths of the modules that are nodes, by the nodes' names."""

    def state(self, module: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert a module's `state_dict` to the state of the graph's network."""
        return {f"nodes.{name}": source.take(module) for name, source in self.sources.items()}


class Batch:
    """The number of images, which is arbitrary."""


BATCH = Batch()


@dataclass(frozen=True, slots=True)
class Value:
    """The output of a node."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Last:
    """A map whose channels were moved to the last axis."""

    map: Value

    @property
    def shape(self) -> Shape:
        """(height, width, channels)."""
        return (*self.map.shape[1:], self.map.shape[0])


@dataclass(frozen=True, slots=True)
class Flat:
    """A map whose height and width were merged into one axis: half of the operation `tokens`."""

    map: Value

    @property
    def shape(self) -> Shape:
        """(channels, pixels)."""
        return (self.map.shape[0], self.map.shape[1] * self.map.shape[2])


@dataclass(frozen=True, slots=True)
class Grouped:
    """A map whose channels were split into two axes, groups and channels per group, or the reverse:
    half of the operation `shuffle`."""

    map: Value
    groups: int
    turned: bool

    @property
    def shape(self) -> Shape:
        """(groups, channels of each, height, width), the first two swapped if turned."""
        channels, *size = self.map.shape
        axes = (self.groups, channels // self.groups)
        return (*(reversed(axes) if self.turned else axes), *size)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that does not belong to a layer."""

    key: str
    shape: Shape


SYMBOLS = (Value, Last, Flat, Grouped, Parameter)


def symbolic_in(data: object) -> bool:
    """Whether arguments contain a placeholder for a tensor."""
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, list | tuple):
        return any(symbolic_in(each) for each in data)
    return isinstance(data, SYMBOLS)
