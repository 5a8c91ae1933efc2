"""What reading a module's calls works with: where tensors are, and what stands for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from kinase.space import Graph
from kinase.space.nodes import Shape
from kinase_trainer.errors import ConfigError


class Untraceable(ConfigError):
    """A module that cannot become a graph; the message names its part, and what would be right."""


def place(path: str, module: nn.Module) -> str:
    """A part of a module, for people."""
    return f"{path} ({type(module).__name__})" if path else f"{type(module).__name__}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a tensor of a graph is in a module's `state_dict`."""

    key: str
    part: tuple[int, int] = (0, 1)
    """Which of how many equal parts of its first axis."""
    shape: Shape | None = None
    """What it is reshaped to, where the graph has it in another form."""

    def take(self, state: Mapping[str, Tensor]) -> Tensor:
        """The tensor itself."""
        index, count = self.part
        whole = state[self.key]
        own = whole if count == 1 else whole.chunk(count)[index]
        return own if self.shape is None else own.reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Traced:
    """A module's graph."""

    graph: Graph
    sources: dict[str, Source]
    """By the names of the graph's tensors, ``node.tensor``."""
    places: dict[str, str] = field(default_factory=dict)
    """Paths of the modules that are nodes, by the nodes' names."""

    def state(self, module: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of the graph's network that a module's `state_dict` is."""
        return {f"nodes.{name}": source.take(module) for name, source in self.sources.items()}


class Batch:
    """How many images there are, whatever that is."""


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
    """A map whose height and width were made one axis: half of what `tokens` is."""

    map: Value

    @property
    def shape(self) -> Shape:
        """(channels, pixels)."""
        return (self.map.shape[0], self.map.shape[1] * self.map.shape[2])


@dataclass(frozen=True, slots=True)
class Grouped:
    """A map whose channels were made two axes, groups and what is in each, or the reverse: half of
    what `shuffle` is."""

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
    """A parameter that is no layer's."""

    key: str
    shape: Shape


SYMBOLS = (Value, Last, Flat, Grouped, Parameter)


def symbolic_in(data: object) -> bool:
    """Whether arguments hold anything that stands for a tensor."""
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, list | tuple):
        return any(symbolic_in(each) for each in data)
    return isinstance(data, SYMBOLS)
