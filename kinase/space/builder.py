"""Builds graphs node by node."""

from __future__ import annotations

from collections.abc import Mapping

from kinase.space.graph import Graph
from kinase.space.nodes import Node, Shape, channels_of
from kinase.space.rules import shape_of


class GraphBuilder:
    """Builds a graph node by node. Every method returns the name of the new node."""

    def __init__(self, shape: Shape) -> None:
        """Start with an input of `shape` (channels, height, width)."""
        channels, height, width = shape
        self._nodes: list[Node] = []
        self._shapes: dict[str, Shape] = {}
        self.input = self._node(
            "input", "input", (), {"channels": channels, "height": height, "width": width}
        )

    def _node(
        self, name: str, op: str, inputs: tuple[str, ...], attrs: Mapping[str, int | float]
    ) -> str:
        if name in self._shapes:
            raise ValueError(f"the graph has a node {name!r} already")
        node = Node(name, op, inputs, dict(attrs))
        self._shapes[name] = shape_of(node, [self._shapes[i] for i in inputs])
        self._nodes.append(node)
        return name

    def shape(self, name: str) -> Shape:
        """Shape of a node's output."""
        return self._shapes[name]

    def conv(
        self,
        name: str,
        x: str,
        out: int,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        padding: int | None = None,
    ) -> str:
        """A convolution. By default, its padding keeps the size at stride 1. A pair is (height,
        width)."""
        high, wide = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        down, across = stride if isinstance(stride, tuple) else (stride, stride)
        top, left = (
            dilation * (size - 1) // 2 if padding is None else padding for size in (high, wide)
        )
        attrs: dict[str, int | float] = {
            "in": self._shapes[x][0],
            "out": out,
            "kernel": high,
            "stride": down,
            "padding": top,
            "dilation": dilation,
            "groups": groups,
            "bias": int(bias),
        }
        if high != wide:
            attrs |= {"kernel_h": high, "kernel_w": wide, "padding_h": top, "padding_w": left}
        if down != across:
            attrs |= {"stride_h": down, "stride_w": across}
        return self._node(name, "conv", (x,), attrs)

    def batch_norm(self, name: str, x: str, *, affine: bool = True) -> str:
        """Batch normalization over the channels."""
        return self._node(
            name, "batch_norm", (x,), {"channels": self._shapes[x][0], "affine": int(affine)}
        )

    def relu(self, name: str, x: str) -> str:
        """Rectified linear unit."""
        return self._node(name, "relu", (x,), {})

    def pool(
        self, name: str, x: str, kind: str, kernel: int, stride: int, padding: int | None = None
    ) -> str:
        """`kind` is max or avg. An average does not count zero padding."""
        attrs = {
            "kernel": kernel,
            "stride": stride,
            "padding": (kernel - 1) // 2 if padding is None else padding,
        }
        return self._node(name, f"{kind}_pool", (x,), attrs)

    def unpool(self, name: str, x: str, height: int, width: int) -> str:
        """A map of twice the size, with zeros between the pixels, cut to `height` by `width`."""
        return self._node(name, "unpool", (x,), {"height": height, "width": width})

    def global_avg_pool(self, name: str, x: str) -> str:
        """Mean over height and width: (C, H, W) -> (C,)."""
        return self._node(name, "global_avg_pool", (x,), {})

    def flatten(self, name: str, x: str) -> str:
        """(C, H, W) -> (C·H·W,)."""
        return self._node(name, "flatten", (x,), {})

    def linear(self, name: str, x: str, out: int) -> str:
        """An affine layer on a vector or on every token."""
        return self._node(name, "linear", (x,), {"in": self._shapes[x][-1], "out": out})

    def class_token(self, name: str, x: str) -> str:
        """A learned token before the others."""
        return self._node(name, "class_token", (x,), {"dim": self._shapes[x][-1]})

    def position(self, name: str, x: str) -> str:
        """A learned embedding added to each token."""
        tokens, dim = self._shapes[x]
        return self._node(name, "position", (x,), {"tokens": tokens, "dim": dim})

    def layer_norm(self, name: str, x: str) -> str:
        """Layer normalization over the features, or over the channels of each pixel."""
        return self._node(name, "layer_norm", (x,), {"dim": channels_of(self._shapes[x])})

    def attention(self, name: str, x: str, heads: int, head_dim: int) -> str:
        """Multi-head self-attention with its output projection."""
        attrs = {"dim": self._shapes[x][-1], "heads": heads, "head_dim": head_dim}
        return self._node(name, "attention", (x,), attrs)

    def add(self, name: str, xs: list[str]) -> str:
        """Sum of maps of one shape."""
        return self._node(name, "add", tuple(xs), {})

    def concat(self, name: str, xs: list[str]) -> str:
        """Concatenate maps of one size along the channels."""
        return self._node(name, "concat", tuple(xs), {})

    def unary(self, name: str, op: str, x: str, **attrs: int | float) -> str:
        """Any other operation with one input: an activation, identity, zero, shift, drop_path,
        dropout, slice, tokens, select."""
        return self._node(name, op, (x,), attrs)

    def mix(self, name: str, x: str, other: str) -> str:
        """(1 - l) x + l other, with l learned."""
        return self._node(name, "mix", (x, other), {})

    def choice(self, name: str, xs: list[str]) -> str:
        """One of several maps of one shape, or a weighted sum of them: in a supernet."""
        return self._node(name, "choice", tuple(xs), {})

    def gate(self, name: str, x: str, gate: str) -> str:
        """A map times a gate, of its shape or one number a channel."""
        return self._node(name, "scale", (x, gate), {})

    def build(self, output: str, auxiliary: str | None = None) -> Graph:
        """The finished graph."""
        return Graph(tuple(self._nodes), output, auxiliary)
