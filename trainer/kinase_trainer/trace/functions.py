"""Functions and methods that are nodes of a graph, or are allowed between nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kinase_trainer.trace import shapes
from kinase_trainer.trace.calls import in_training
from kinase_trainer.trace.shapes import unpacked
from kinase_trainer.trace.values import Last, Parameter, Value
from kinase_trainer.trace.writer import Writer

EPS = 1e-5
"""Default epsilon of a normalization."""


# -- sums and products -------------------------------------------------------------------


def add(w: Writer, x: Any, other: Any, alpha: Any = 1) -> Value | Last:
    """A sum of two maps, or of a sequence and a learned position."""
    if isinstance(x, Parameter):
        x, other = other, x
    if alpha == 1 and isinstance(x, Last) and isinstance(other, Last):
        return Last(_sum(w, x.map, other.map))
    if alpha == 1 and isinstance(x, Value):
        if isinstance(other, Value):
            return _sum(w, x, other)
        if isinstance(other, Parameter) and other.shape == (1, *x.shape) and len(x.shape) == 2:
            out = w.seen(w.graph.position(w.name, x.name))
            w.tensor(out, "embedding", other.key)
            return out
    raise w.refused("adds something other than a layer's output or a position of each token")


def _sum(w: Writer, x: Value, other: Value) -> Value:
    if x.shape != other.shape:
        raise w.refused(f"adds shapes {x.shape} and {other.shape}; use equal ones")
    return w.seen(w.graph.add(w.name, [x.name, other.name]))


def mul(w: Writer, x: Any, other: Any) -> Value | Last:
    """A map times a gate, or times a learned factor of each channel."""
    if isinstance(x, Parameter):
        x, other = other, x
    if isinstance(x, Value) and isinstance(other, Value):
        if x.shape != other.shape and x.shape[1:] == (1,) * (len(x.shape) - 1):
            x, other = other, x
        return w.seen(w.graph.gate(w.name, x.name, other.name))
    if isinstance(x, Value | Last) and isinstance(other, Parameter):
        inside = x.map if isinstance(x, Last) else x
        channels = inside.shape[1] if len(inside.shape) == 2 else inside.shape[0]
        wanted = (channels, 1, 1) if isinstance(x, Value) and len(x.shape) == 3 else (channels,)
        found = other.shape
        while len(found) > len(wanted) and found[0] == 1:
            found = found[1:]
        if found == wanted:
            out = w.add("layer_scale", inside, channels=channels)
            w.tensor(out, "scale", other.key, shape=(channels,))
            return Last(out) if isinstance(x, Last) else out
        raise w.refused(f"multiplies by a parameter of shape {other.shape}; use one for a channel")
    raise w.refused("multiplies by something other than a layer's output; use a layer's gate")


def cat(w: Writer, tensors: Any, dim: int = 0) -> Value:
    """Maps along their channels, or a learned token before the others."""
    if isinstance(tensors, list | tuple) and all(isinstance(each, Value) for each in tensors):
        last = len(tensors[0].shape)
        channels = (1, -3) if last == 3 else (last, -1)
        if dim not in channels:
            raise w.refused(f"joins along axis {dim}; use that of the channels, {channels[0]}")
        return w.seen(w.graph.concat(w.name, [each.name for each in tensors]))
    if len(tensors) == 2 and isinstance(tensors[0], Parameter) and isinstance(tensors[1], Value):
        token, x = tensors
        if dim == 1 and len(x.shape) == 2 and token.shape == (1, 1, x.shape[1]):
            out = w.seen(w.graph.class_token(w.name, x.name))
            w.tensor(out, "token", token.key)
            return out
    raise w.refused("joins something other than layers' outputs, or one token and the others")


def pointwise_linear(w: Writer, x: Last, out: int, weight: str, bias: str) -> Last:
    """A linear layer on each pixel's channels: a convolution with a window of one."""
    inside = x.map.shape[0]
    attrs = {"in": inside, "out": out, "kernel": 1, "stride": 1, "padding": 0, "dilation": 1}
    node = w.add("conv", x.map, **attrs, groups=1, bias=int(bool(bias)))
    w.tensor(node, "weight", weight.lstrip("."), shape=(out, inside, 1, 1))
    if bias:
        w.tensor(node, "bias", bias.lstrip("."))
    return Last(node)


# -- normalizations and activations --------------------------------------------------------


def write_layer_norm(w: Writer, x: Any, shape: Any, keys: list[str], eps: float) -> Value | Last:
    """Over the last axis; `keys` are the names of weight and bias."""
    if len(shape) != 1 or not all(keys):
        raise w.refused("must normalize the last axis alone, with weight and bias")
    if isinstance(x, Value) and len(x.shape) == 3:
        raise w.refused(
            "normalizes the width of a map; move its channels to the last axis before "
            "(permute(0, 2, 3, 1)) and back"
        )
    attrs: dict[str, int | float] = {"dim": int(shape[0])}
    out = w.each("layer_norm", x, **attrs, **({"eps": eps} if eps != EPS else {}))
    node = out.map if isinstance(out, Last) else out
    for name, key in zip(("weight", "bias"), keys, strict=True):
        w.tensor(node, name, key.lstrip("."))
    return out


def layer_norm(
    w: Writer, x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = EPS
) -> Value | Last:
    """As torch's."""
    keys = [each.key if isinstance(each, Parameter) else "" for each in (weight, bias)]
    return write_layer_norm(w, x, normalized_shape, keys, eps)


def write_group_norm(w: Writer, x: Any, groups: int, affine: int, eps: float) -> Value:
    """Over groups of a map's channels."""
    if not isinstance(x, Value) or len(x.shape) != 3:
        raise w.refused("normalizes something other than a map")
    attrs: dict[str, int | float] = {"channels": x.shape[0], "groups": groups, "affine": affine}
    return w.add("group_norm", x, **attrs, **({"eps": eps} if eps != EPS else {}))


def group_norm(
    w: Writer, x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = EPS
) -> Value:
    """As torch's."""
    affine = isinstance(weight, Parameter) and isinstance(bias, Parameter)
    if not affine and (weight, bias) != (None, None):
        raise w.refused("must have both a weight and a bias that are parameters, or neither")
    out = write_group_norm(w, x, num_groups, int(affine), eps)
    if affine:
        w.tensor(out, "weight", weight.key)
        w.tensor(out, "bias", bias.key)
    return out


def channel_shuffle(w: Writer, x: Any, groups: int) -> Value:
    """As torch's."""
    return w.add("shuffle", x, groups=groups)


def _plain(op: str) -> Callable[..., Value | Last]:
    def write(w: Writer, x: Any, inplace: bool = False) -> Value | Last:
        return w.each(op, x)

    return write


def gelu(w: Writer, x: Any, approximate: str = "none") -> Value | Last:
    """As torch's."""
    return w.each({"none": "gelu", "tanh": "gelu_tanh"}[approximate], x)


def leaky_relu(
    w: Writer, x: Any, negative_slope: float = 0.01, inplace: bool = False
) -> Value | Last:
    """As torch's."""
    return w.each("leaky_relu", x, slope=float(negative_slope))


def elu(w: Writer, x: Any, alpha: float = 1.0, inplace: bool = False) -> Value | Last:
    """As torch's."""
    return w.each("elu", x, alpha=float(alpha))


# -- what is random in training ------------------------------------------------------------


def dropout(
    w: Writer,
    x: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    train: bool = True,
) -> Value | Last:
    """Only in training."""
    _check_mode(w)
    return w.each("dropout", x, rate=p)


def write_drop_path(w: Writer, x: Any, p: float, mode: str) -> Value | Last:
    """With its own rate, only in training."""
    if mode != "row":
        raise w.refused(f"drops whole batches (mode {mode!r}); use mode 'row'")
    return w.each("drop_path", x, rate=float(p))


def stochastic_depth(w: Writer, x: Any, p: float, mode: str, training: bool = True) -> Any:
    """Only in training."""
    _check_mode(w)
    return write_drop_path(w, x, p, mode)


def _check_mode(w: Writer) -> None:
    if in_training(w.call):
        raise w.refused("drops in evaluation, too; pass training=self.training, or use Dropout")
    if not in_training(w.call.meta["training"]):
        raise w.refused(
            "is called with training=False, and never drops anything; leave it out, or pass "
            "training=self.training"
        )


# -- pools -------------------------------------------------------------------------------


def mean(w: Writer, x: Any, dim: Any = None, keepdim: bool = False) -> Value:
    """Over height and width, or over tokens."""
    axes = sorted(each % (1 + len(x.shape)) for each in unpacked((dim,)))
    if isinstance(x, Last) and axes == [1, 2] and not keepdim:
        return w.add("global_avg_pool", x.map)
    if isinstance(x, Value) and axes == [2, 3] and len(x.shape) == 3:
        if keepdim:
            return w.add("adaptive_avg_pool", x, height=1, width=1)
        return w.add("global_avg_pool", x)
    if isinstance(x, Value) and axes == [1] and len(x.shape) == 2 and not keepdim:
        return w.add("global_avg_pool", x)
    raise w.refused(f"is over axes {dim}; use height and width, or the tokens")


def max_pool2d(
    w: Writer,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    """As torch's."""
    if w.one(dilation, "dilation") != 1 or return_indices:
        raise w.refused("has a dilation or returns indices; use neither")
    return _pool(w, "max_pool", x, kernel_size, stride, padding, ceil_mode)


def avg_pool2d(
    w: Writer,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Value:
    """As torch's."""
    if divisor_override is not None:
        raise w.refused("divides by divisor_override; leave it out")
    counted = {"count_pad": 1} if count_include_pad and w.one(padding, "padding") else {}
    return _pool(w, "avg_pool", x, kernel_size, stride, padding, ceil_mode, **counted)


def _pool(
    w: Writer, op: str, x: Any, kernel: Any, stride: Any, padding: Any, ceil: bool, **more: int
) -> Value:
    attrs = {
        "kernel": w.one(kernel, "kernel_size"),
        "stride": w.one(kernel if stride in (None, ()) else stride, "stride"),
        "padding": w.one(padding, "padding"),
    }
    return w.add(op, x, **attrs, **({"ceil": 1} if ceil else {}), **more)


def adaptive_avg_pool2d(w: Writer, x: Any, output_size: Any) -> Value:
    """As torch's."""
    sizes = output_size if isinstance(output_size, list | tuple) else (output_size,) * 2
    height, width = (x.shape[1 + i] if s is None else s for i, s in enumerate(sizes))
    return w.add("adaptive_avg_pool", x, height=height, width=width)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "getattr": shapes.attribute,
    "size": shapes.size,
    "dim": shapes.dim,
    **dict.fromkeys(("contiguous", "clone"), shapes.same),
    "expand": shapes.expand,
    "getitem": shapes.getitem,
    "chunk": shapes.chunk,
    "split": shapes.split,
    "flatten": shapes.flatten,
    **dict.fromkeys(("reshape", "view"), shapes.reshape),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims"), shapes.transpose),
    "add": add,
    **dict.fromkeys(("mul", "multiply"), mul),
    **dict.fromkeys(("cat", "concat", "concatenate"), cat),
    "mean": mean,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), channel_shuffle),
    "relu": _plain("relu"),
    "relu6": _plain("relu6"),
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": _plain("selu"),
    "gelu": gelu,
    "silu": _plain("silu"),
    "mish": _plain("mish"),
    "hardswish": _plain("hard_swish"),
    "hardsigmoid": _plain("hard_sigmoid"),
    "sigmoid": _plain("sigmoid"),
    "tanh": _plain("tanh"),
    "dropout": dropout,
    "stochastic_depth": stochastic_depth,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
}
"""Interpreters of functions and methods, by name."""
HINTS = {
    "detach": "stops gradients, which a graph cannot; leave it out",
    **dict.fromkeys(
        ("sub", "truediv", "div", "subtract"),
        "has no counterpart in a graph; to normalize images use space.model.mean and deviation",
    ),
    "pad": "has no counterpart in a graph; let the layer after it pad",
}
"""Alternatives for some unsupported functions."""
