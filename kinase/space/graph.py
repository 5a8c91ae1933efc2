"""The network of an architecture as a graph of primitive operations.

Every search space turns an architecture into such a graph, and nothing else about a space
needs to be known to count parameters and multiply-adds, to draw the network, or to build it
in torch (`kinase_trainer.network`). So what is counted here is what is trained there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from kinase.space.errors import InfeasibleError

Shape = tuple[int, ...]
"""(channels, height, width) of a feature map, (tokens, features) of a sequence, or (features,) of
a vector; no batch axis."""


def channels_of(shape: Shape) -> int:
    """Channels of a map, features of a sequence or a vector."""
    return shape[-1] if len(shape) == 2 else shape[0]


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive operation.

    `op` is one of `OPS`; `attrs` are its numbers. Names are unique, stable across
    architectures of one space where the layer is the same one (weights are inherited by name),
    and made of letters, digits and underscores.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in topological order; the first is the input."""

    nodes: tuple[Node, ...]
    output: str
    """Name of the node that gives the logits."""
    auxiliary: str | None = None
    """Name of the node that gives the auxiliary head's logits (training only)."""

    def shapes(self) -> dict[str, Shape]:
        """Shape of every node's output.

        Raises:
            InfeasibleError: a feature map shrinks to nothing.
        """
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            shapes[node.name] = _shape(node, [shapes[i] for i in node.inputs])
        return shapes

    def params(self) -> int:
        """Trainable parameters, the auxiliary head left out."""
        return sum(_params(node) for node in self.without_auxiliary().nodes)

    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers and attention for one sample, the
        auxiliary head left out."""
        shapes = self.shapes()
        return sum(_macs(node, shapes[node.name]) for node in self.without_auxiliary().nodes)

    def needed(self) -> Graph:
        """The graph without nodes that lead neither to the logits nor to the auxiliary ones: they
        would be computed and never trained."""
        if self.auxiliary is None:
            return self.without_auxiliary()
        kept = {node.name for node in self.without_auxiliary()}
        kept |= {node.name for node in Graph(self.nodes, self.auxiliary).without_auxiliary()}
        return Graph(
            tuple(node for node in self.nodes if node.name in kept), self.output, self.auxiliary
        )

    def without_auxiliary(self) -> Graph:
        """The graph that inference needs: only what leads to the output."""
        by_name = {node.name: node for node in self.nodes}
        needed: set[str] = set()
        stack = [self.output]
        while stack:
            name = stack.pop()
            if name not in needed:
                needed.add(name)
                stack.extend(by_name[name].inputs)
        kept = tuple(n for n in self.nodes if n.name in needed or n.op == "input")
        return Graph(kept, self.output)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)


def _window(node: Node, size: int, axis: str) -> int:
    """Output size of a convolution or pooling along one axis."""
    a = node.attrs
    kernel = int(a.get(f"kernel_{axis}", a["kernel"]))
    padding = int(a.get(f"padding_{axis}", a["padding"]))
    stride = int(a.get(f"stride_{axis}", a["stride"]))
    dilation = int(a.get("dilation", 1))
    last = size + 2 * padding - dilation * (kernel - 1) - 1
    out = last // stride + 1
    if a.get("ceil"):  # a last window may hang over the edge, but must begin before it
        out = -(-last // stride) + 1
        out -= (out - 1) * stride >= size + padding
    if out < 1:
        raise InfeasibleError(
            f"{node.name}: a window of {kernel} with stride {stride} on a feature map "
            f"of size {size} leaves nothing"
        )
    return out


def _shape(node: Node, inputs: list[Shape]) -> Shape:
    a = node.attrs
    first = inputs[0] if inputs else ()
    match node.op:
        case "input":
            return (int(a["channels"]), int(a["height"]), int(a["width"]))
        case "conv":
            channels, height, width = first
            if channels != a["in"]:
                raise ValueError(f"{node.name}: {channels} input channels, built for {a['in']}")
            return (int(a["out"]), _window(node, height, "h"), _window(node, width, "w"))
        case "max_pool" | "avg_pool":
            channels, height, width = first
            if height < a["stride"] and width < a["stride"]:
                raise InfeasibleError(
                    f"{node.name}: stride {a['stride']} on a feature map of "
                    f"{height}x{width} leaves nothing"
                )
            return (channels, _window(node, height, "h"), _window(node, width, "w"))
        case "adaptive_avg_pool" if len(first) == 3:
            return (first[0], int(a["height"]), int(a["width"]))
        case "scale":
            if inputs[1] not in (first, (first[0], *[1] * (len(first) - 1))):
                raise ValueError(f"{node.name}: a gate of shape {inputs[1]} on {first}")
            return first
        case "linear":
            if len(first) == 3 or first[-1] != a["in"]:
                raise ValueError(f"{node.name}: input of shape {first}, built for {a['in']}")
            return (*first[:-1], int(a["out"]))
        case "global_avg_pool":
            return (channels_of(first),)
        case "flatten":
            return (prod(first),)
        case "add" | "mix":
            if any(shape != first for shape in inputs):
                raise ValueError(f"{node.name}: adds {inputs}, which differ in shape")
            return first
        case "concat":
            total = sum(channels_of(shape) for shape in inputs)
            if len(first) == 2 and all(shape[:1] == first[:1] for shape in inputs):
                return (first[0], total)
            if any(shape[1:] != first[1:] for shape in inputs):
                raise ValueError(f"{node.name}: joins {inputs}, which differ in size")
            return (total, *first[1:])
        case "slice":
            start, size = int(a["start"]), int(a["size"])
            if start + size > channels_of(first):
                raise ValueError(
                    f"{node.name}: channels {start} to {start + size} of {channels_of(first)}"
                )
            return (first[0], size) if len(first) == 2 else (size, *first[1:])
        case "tokens" if len(first) == 3:
            return (first[1] * first[2], first[0])
        case "class_token" if len(first) == 2 and first[1] == a["dim"]:
            return (first[0] + 1, first[1])
        case "position" if first == (a["tokens"], a["dim"]):
            return first
        case "layer_norm" if channels_of(first) == a["dim"]:
            return first
        case "group_norm" if len(first) == 3 and first[0] == a["channels"]:
            if first[0] % int(a["groups"]):
                raise ValueError(f"{node.name}: {a['groups']} groups do not divide {first[0]}")
            return first
        case "layer_scale" if channels_of(first) == a["channels"]:
            return first
        case "shuffle" if len(first) == 3 and first[0] % int(a["groups"]) == 0:
            return first
        case "attention" if len(first) == 2 and first[1] == a["dim"]:
            return first
        case "select" if len(first) == 2 and a["index"] < first[0]:
            return first[1:]
        case (
            "tokens"
            | "class_token"
            | "position"
            | "layer_norm"
            | "group_norm"
            | "layer_scale"
            | "shuffle"
            | "attention"
            | "select"
            | "adaptive_avg_pool"
        ):
            raise ValueError(f"{node.name}: input of shape {first} does not fit {dict(a)}")
        case "zero":
            stride = int(a["stride"])
            return (first[0], *(-(-size // stride) for size in first[1:]))
        case op if op in OPS:
            return first
        case op:
            raise ValueError(f"{node.name}: unknown operation {op!r}")


def _params(node: Node, *, bias: bool = True) -> int:
    a = node.attrs
    match node.op:
        case "conv":
            kernel = int(a.get("kernel_h", a["kernel"])) * int(a.get("kernel_w", a["kernel"]))
            weights = int(a["in"]) // int(a["groups"]) * int(a["out"]) * kernel
            return weights + (int(a["out"]) if bias and a["bias"] else 0)
        case "linear":
            return int(a["in"]) * int(a["out"]) + (
                int(a["out"]) if bias and a.get("bias", 1) else 0
            )
        case "batch_norm":
            return 2 * int(a["channels"]) if a["affine"] else 0
        case "group_norm":
            return 2 * int(a["channels"]) if a["affine"] else 0
        case "layer_norm":
            return 2 * int(a["dim"])
        case "layer_scale":
            return int(a["channels"])
        case "attention":
            inner, dim = int(a["heads"]) * int(a["head_dim"]), int(a["dim"])
            return 4 * inner * dim + (3 * inner + dim if bias else 0)
        case "class_token":
            return int(a["dim"])
        case "position":
            return int(a["tokens"]) * int(a["dim"])
        case "mix":
            return 1
        case _:
            return 0


def _macs(node: Node, shape: Shape) -> int:
    match node.op:
        case "conv":
            return _params(node, bias=False) * prod(shape[1:])
        case "linear":
            return _params(node, bias=False) * prod(shape[:-1])
        case "attention":
            inner = int(node.attrs["heads"]) * int(node.attrs["head_dim"])
            return _params(node, bias=False) * shape[0] + 2 * shape[0] * shape[0] * inner
        case _:
            return 0


ACTIVATIONS = frozenset(
    {
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "gelu",
        "gelu_tanh",
        "silu",
        "mish",
        "hard_swish",
        "hard_sigmoid",
        "sigmoid",
        "tanh",
    }
)
"""Operations on every number alone, without parameters."""

OPS = ACTIVATIONS | frozenset(
    {
        "input",
        "conv",
        "batch_norm",
        "group_norm",
        "layer_norm",
        "layer_scale",
        "shuffle",
        "max_pool",
        "avg_pool",
        "global_avg_pool",
        "adaptive_avg_pool",
        "flatten",
        "linear",
        "add",
        "mix",
        "scale",
        "concat",
        "slice",
        "tokens",
        "class_token",
        "position",
        "attention",
        "select",
        "identity",
        "zero",
        "shift",
        "drop_path",
        "dropout",
    }
)
"""Every primitive operation.

`shift` moves a feature map by one pixel up and left and pads with zeros (the second path of a
factorised reduction); `zero` is the zero map at a stride; `drop_path` drops a sample's whole map in
training, at its own `rate` or, without one, at that of the experiment's training. `leaky_relu` has
a `slope` below zero, `elu` an `alpha`; `gelu_tanh` is GELU's approximation. `layer_norm` normalises
over the channels or features of each place, `group_norm` over groups of channels and all pixels;
`layer_scale` has a learned factor for each channel; `shuffle` writes the channels of `groups`
groups in turns. A pool with `ceil` rounds its size up, an average with `count_pad` counts the zeros
of its padding. `adaptive_avg_pool` averages a map of any size to one of `height` by `width`.
`scale` is a map times a gate, of its shape or one number a channel. `mix` is (1 - l) a + l b of two
maps, with l learned: an added skip, or an activation that begins as none. `slice` takes some
channels. `tokens` makes a sequence of a map's pixels, `class_token` puts a learned token before it,
`position` adds a learned embedding, `attention` is multi-head self-attention, `select` takes one
token.
"""


class GraphBuilder:
    """Writes a graph node by node; every method returns the new node's name."""

    def __init__(self, shape: Shape) -> None:
        """Begin with an input of `shape` (channels, height, width)."""
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
        self._shapes[name] = _shape(node, [self._shapes[i] for i in inputs])
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
        """A convolution; by default its padding keeps the size at stride 1. A pair is of height
        and width."""
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
        """Batch normalisation over the channels."""
        return self._node(
            name, "batch_norm", (x,), {"channels": self._shapes[x][0], "affine": int(affine)}
        )

    def relu(self, name: str, x: str) -> str:
        """Rectified linear unit."""
        return self._node(name, "relu", (x,), {})

    def pool(
        self, name: str, x: str, kind: str, kernel: int, stride: int, padding: int | None = None
    ) -> str:
        """`kind` is max or avg; zero padding is not counted by an average."""
        attrs = {
            "kernel": kernel,
            "stride": stride,
            "padding": (kernel - 1) // 2 if padding is None else padding,
        }
        return self._node(name, f"{kind}_pool", (x,), attrs)

    def global_avg_pool(self, name: str, x: str) -> str:
        """Mean over height and width: (C, H, W) -> (C,)."""
        return self._node(name, "global_avg_pool", (x,), {})

    def flatten(self, name: str, x: str) -> str:
        """(C, H, W) -> (C·H·W,)."""
        return self._node(name, "flatten", (x,), {})

    def linear(self, name: str, x: str, out: int) -> str:
        """An affine layer, of a vector or of every token."""
        return self._node(name, "linear", (x,), {"in": self._shapes[x][-1], "out": out})

    def class_token(self, name: str, x: str) -> str:
        """A learned token before the others."""
        return self._node(name, "class_token", (x,), {"dim": self._shapes[x][-1]})

    def position(self, name: str, x: str) -> str:
        """A learned embedding added to each token."""
        tokens, dim = self._shapes[x]
        return self._node(name, "position", (x,), {"tokens": tokens, "dim": dim})

    def layer_norm(self, name: str, x: str) -> str:
        """Layer normalisation over the features, or over the channels of each pixel."""
        return self._node(name, "layer_norm", (x,), {"dim": channels_of(self._shapes[x])})

    def attention(self, name: str, x: str, heads: int, head_dim: int) -> str:
        """Multi-head self-attention with its output projection."""
        attrs = {"dim": self._shapes[x][-1], "heads": heads, "head_dim": head_dim}
        return self._node(name, "attention", (x,), attrs)

    def add(self, name: str, xs: list[str]) -> str:
        """Sum of maps of one shape."""
        return self._node(name, "add", tuple(xs), {})

    def concat(self, name: str, xs: list[str]) -> str:
        """Maps of one size, joined along the channels."""
        return self._node(name, "concat", tuple(xs), {})

    def unary(self, name: str, op: str, x: str, **attrs: int | float) -> str:
        """Any other operation with one input: an activation, identity, zero, shift, drop_path,
        dropout, slice, tokens, select."""
        return self._node(name, op, (x,), attrs)

    def mix(self, name: str, x: str, other: str) -> str:
        """(1 - l) x + l other, with l learned."""
        return self._node(name, "mix", (x, other), {})

    def gate(self, name: str, x: str, gate: str) -> str:
        """A map times a gate, of its shape or one number a channel."""
        return self._node(name, "scale", (x, gate), {})

    def build(self, output: str, auxiliary: str | None = None) -> Graph:
        """The finished graph."""
        return Graph(tuple(self._nodes), output, auxiliary)
