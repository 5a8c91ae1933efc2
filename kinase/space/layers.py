"""Layers of chains and multi-branch networks: a choice of operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from numpy.random import Generator

from kinase.space.builder import GraphBuilder
from kinase.space.errors import ArchitectureError, InfeasibleError

Layer = dict[str, Any]
"""``{"op", "kernel", "stride"}``, and ``"width"`` if the operation has one."""

WEIGHTED = ("conv", "sepconv")
"""Operations that have a width."""


class Choices(Protocol):
    """The choices for a layer."""

    @property
    def ops(self) -> tuple[str, ...]:
        """Operations."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels."""

    @property
    def kernels(self) -> tuple[int, ...]:
        """Window sizes in pixels."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides in pixels."""


def fields(choices: Choices, op: str) -> dict[str, tuple[int, ...]]:
    """The numbers of a layer with this operation, with the choices for each."""
    numbers = {"kernel": choices.kernels, "stride": choices.strides}
    return {"width": choices.widths, **numbers} if op in WEIGHTED else numbers


def count(choices: Choices) -> int:
    """Number of different layers."""
    numbers = len(set(choices.kernels)) * len(set(choices.strides))
    return sum(
        numbers * (len(set(choices.widths)) if op in WEIGHTED else 1) for op in set(choices.ops)
    )


def sample(choices: Choices, rng: Generator) -> Layer:
    """Draw an operation, then its numbers, each uniformly."""
    op = choices.ops[int(rng.integers(len(choices.ops)))]
    return {"op": op} | {
        name: values[int(rng.integers(len(values)))] for name, values in fields(choices, op).items()
    }


def enumerate_layers(choices: Choices) -> Iterator[Layer]:
    """Every layer."""
    for op in choices.ops:
        partial: list[Layer] = [{"op": op}]
        for name, values in fields(choices, op).items():
            partial = [{**layer, name: value} for layer in partial for value in values]
        yield from partial


def variants(choices: Choices, layer: Layer) -> Iterator[Layer]:
    """Layers that differ in one choice. Another operation keeps the shared numbers; a new width
    starts with the first choice."""
    for op in choices.ops:
        if op != layer["op"]:
            changed: Layer = {"op": op}
            for name, values in fields(choices, op).items():
                changed[name] = layer.get(name, values[0])
            yield changed | {k: v for k, v in layer.items() if k in OTHER}
    for name, values in fields(choices, layer["op"]).items():
        for value in values:
            if value != layer[name]:
                yield {**layer, name: value}


def kinds(choices: Choices, low: int, high: int) -> tuple[str, ...]:
    """Kinds of edits of a network with between `low` and `high` layers."""
    choice = {"operation": choices.ops, "width": choices.widths}
    choice |= {"kernel": choices.kernels, "stride": choices.strides}
    varied = tuple(name for name, values in choice.items() if len(set(values)) > 1)
    return ("insert-layer", "remove-layer", *varied) if low < high else varied


def kind(one: Sequence[Layer], other: Sequence[Layer]) -> str:
    """The kind of an edit; empty if no layer has changed."""
    if len(one) != len(other):
        return "insert-layer" if len(other) > len(one) else "remove-layer"
    for old, new in zip(one, other, strict=True):
        if old["op"] != new["op"]:
            return "operation"
        for name in ("width", "kernel", "stride"):
            if old.get(name) != new.get(name):
                return name
    return ""


def move(old: Layer, new: Layer) -> str | None:
    """The morphism that could turn a layer into another one that differs in one choice."""
    if old["op"] != new["op"]:
        window = old["kernel"] > 1
        return "separate" if window and (old["op"], new["op"]) == ("conv", "sepconv") else None
    if old["stride"] != new["stride"] or old["op"] not in WEIGHTED:
        return None
    if old["width"] != new["width"]:
        return "widen" if new["width"] > old["width"] else "prune"
    return "kernel" if new["kernel"] > old["kernel"] else "crop"


OTHER = ("skip", "inputs", "merge")
"""Additional fields of a layer, defined by the space."""


def validate(choices: Choices, layer: object, path: str, own: tuple[str, ...] = ()) -> Layer:
    """Check one layer of untrusted data.

    Raises:
        ArchitectureError: the layer is invalid; the message names the field and the value.
    """
    if not isinstance(layer, Mapping):
        raise ArchitectureError(f"{path} is {layer!r:.80}; a layer is an object with an op")
    op = layer.get("op")
    if op not in choices.ops:
        raise ArchitectureError(f"{path}.op is {op!r:.80}; use one of {', '.join(choices.ops)}")
    wanted = fields(choices, op)
    for name in layer:
        if name not in wanted and name != "op" and name not in own:
            raise ArchitectureError(
                f"{path}.{name} is not a field of {op}; its fields are "
                f"{', '.join(['op', *wanted, *own])}"
            )
    for name, values in wanted.items():
        value = layer.get(name)
        if type(value) is not int or value not in values:
            raise ArchitectureError(
                f"{path}.{name} is {value!r:.80}; use one of {', '.join(map(str, values))}"
            )
    return dict(layer)


def scaled(width: int, fraction: float) -> int:
    """A width scaled by the filter fraction, at least 1."""
    return max(1, round(width * fraction))


def build(g: GraphBuilder, name: str, x: str, layer: Layer, fraction: float) -> str:
    """Add a layer to a graph.

    Raises:
        InfeasibleError: the stride is too large for the feature map.
    """
    kernel, stride = layer["kernel"], layer["stride"]
    _, height, width = g.shape(x)
    if stride > min(height, width):
        raise InfeasibleError(
            f"{name}: stride {stride} on a feature map of {height}x{width} leaves nothing"
        )
    op = layer["op"]
    if op == "maxpool" or op == "avgpool":
        return g.pool(name, x, op[:3], kernel, stride)
    out = scaled(layer["width"], fraction)
    if op == "conv":
        x = g.conv(f"{name}_conv", x, out, kernel, stride)
    else:
        channels = g.shape(x)[0]
        x = g.conv(f"{name}_depthwise", x, channels, kernel, stride, groups=channels)
        x = g.conv(f"{name}_pointwise", x, out, 1)
    x = g.batch_norm(f"{name}_bn", x)
    return g.relu(f"{name}_relu", x)


def label(layer: Layer) -> str:
    """A layer for people: `conv 3x3, 16, /2`."""
    text = f"{layer['op']} {layer['kernel']}x{layer['kernel']}"
    if "width" in layer:
        text += f", {layer['width']}"
    return text + (f", /{layer['stride']}" if layer["stride"] > 1 else "")
