"""Writes a graph's nodes, and the location of their tensors in the module."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from kinase.space import GraphBuilder
from kinase.space.nodes import Shape
from kinase_trainer.trace.calls import where_of
from kinase_trainer.trace.values import Last, Source, Untraceable, Value


class Writer:
    """A graph under construction, and the current call."""

    call: fx.Node

    def __init__(self, module: nn.Module, shape: tuple[int, int, int]) -> None:
        """Start with the input node.

        Args:
            module: traced module.
            shape: shape of an image.
        """
        self.module = module
        self.graph = GraphBuilder(shape)
        self.sources: dict[str, Source] = {}
        self.places: dict[str, str] = {}
        self._taken: dict[Source, str] = {}

    def refused(self, what: str) -> Untraceable:
        """An error that names the part of the module that makes the call."""
        return Untraceable(f"{where_of(self.call, self.module)} {what}")

    @property
    def name(self) -> str:
        """Name of the call's node."""
        return f"{self.call.name}"[:96]

    def seen(self, name: str) -> Value:
        """The output of a node."""
        return Value(name, self.graph.shape(name))

    def add(self, op: str, x: Value, more: str = "", /, **attrs: int | float) -> Value:
        """Add a node with one input; `more` distinguishes several nodes of one call."""
        return self.seen(self.graph.unary(f"{self.name}{more}", op, x.name, **attrs))

    def each(self, op: str, x: Any, **attrs: int | float) -> Value | Last:
        """Add a node that does not depend on the position of the channel axis."""
        if isinstance(x, Last):
            return Last(self.add(op, x.map, **attrs))
        if not isinstance(x, Value):
            raise self.refused("is called on axes that are half moved; use it before or after")
        return self.add(op, x, **attrs)

    def tensor(
        self,
        value: Value,
        name: str,
        key: str,
        part: tuple[int, int] = (0, 1),
        shape: Shape | None = None,
    ) -> None:
        """Record the location of a node's tensor."""
        taken = Source(key, part)
        if taken in self._taken:
            raise self.refused(f"takes {key}, which {self._taken[taken]} has; share no weights")
        self._taken[taken] = value.name
        self.sources[f"{value.name}.{name}"] = Source(key, part, shape)

    def one(self, value: Any, name: str) -> int:
        """A number that is the same in height and width."""
        values = set(value) if isinstance(value, list | tuple) else {value}
        if len(values) > 1:
            raise self.refused(f"has another {name} in height than in width; use equal ones")
        return int(values.pop())
