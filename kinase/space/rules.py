"""Output shape, parameters and multiply-adds of each primitive operation."""

from __future__ import annotations

from math import prod

from kinase.space.errors import InfeasibleError
from kinase.space.nodes import OPS, Node, Shape, channels_of


def _window(node: Node, size: int, axis: str) -> int:
    """Output size of a convolution or pooling along one axis."""
    a = node.attrs
    kernel = int(a.get(f"kernel_{axis}", a["kernel"]))
    padding = int(a.get(f"padding_{axis}", a["padding"]))
    stride = int(a.get(f"stride_{axis}", a["stride"]))
    dilation = int(a.get("dilation", 1))
    last = size + 2 * padding - dilation * (kernel - 1) - 1
    out = last // stride + 1
    if a.get("ceil"):  # the last window can extend past the edge, but must start before it
        out = -(-last // stride) + 1
        out -= (out - 1) * stride >= size + padding
    if out < 1:
        raise InfeasibleError(
            f"{node.name}: a window of {kernel} with stride {stride} on a feature map "
            f"of size {size} leaves nothing"
        )
    return out


def shape_of(node: Node, inputs: list[Shape]) -> Shape:
    """Shape of a node's output.

    Raises:
        InfeasibleError: the map would vanish.
        ValueError: the inputs do not fit the node.
    """
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
        case "unpool" if len(first) == 3 and all(
            2 * size - 1 <= a[side] <= 2 * size
            for side, size in zip(("height", "width"), first[1:], strict=True)
        ):
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
        case "add" | "mix" | "choice":
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
            | "unpool"
        ):
            raise ValueError(f"{node.name}: input of shape {first} does not fit {dict(a)}")
        case "zero":
            stride = int(a["stride"])
            return (first[0], *(-(-size // stride) for size in first[1:]))
        case op if op in OPS:
            return first
        case op:
            raise ValueError(f"{node.name}: unknown operation {op!r}")


def params_of(node: Node, *, bias: bool = True) -> int:
    """Trainable parameters of a node, with or without the biases of weighted layers."""
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


def macs_of(node: Node, shape: Shape) -> int:
    """Multiply-adds of a node whose output has this shape, for one sample."""
    match node.op:
        case "conv":
            return params_of(node, bias=False) * prod(shape[1:])
        case "linear":
            return params_of(node, bias=False) * prod(shape[:-1])
        case "attention":
            inner = int(node.attrs["heads"]) * int(node.attrs["head_dim"])
            return params_of(node, bias=False) * shape[0] + 2 * shape[0] * shape[0] * inner
        case _:
            return 0
