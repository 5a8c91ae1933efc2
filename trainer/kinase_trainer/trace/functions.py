"""Functions and methods that are nodes of a graph, or are understood between them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from kinase_trainer.trace.calls import in_training, named
from kinase_trainer.trace.values import BATCH, Flat, Grouped, Last, Parameter, Value
from kinase_trainer.trace.writer import Writer

EPS = 1e-5
"""Of a normalisation, where none is said."""


# -- shapes ------------------------------------------------------------------------------


def attribute(w: Writer, x: Any, name: str) -> Any:
    """The shape alone."""
    if name != "shape" or isinstance(x, Parameter):
        raise w.refused(f"of {name} is no operation on a tensor")
    return (BATCH, *x.shape)


def size(w: Writer, x: Any, dim: int | None = None) -> Any:
    """As torch's."""
    shape = (BATCH, *x.shape)
    return shape if dim is None else shape[dim]


def dim(w: Writer, x: Any) -> int:
    """As torch's."""
    return 1 + len(x.shape)


def same(w: Writer, x: Any, *args: Any, **kwargs: Any) -> Any:
    """What leaves a tensor's numbers as they are."""
    return x


def expand(w: Writer, x: Any, *sizes: Any) -> Any:
    """A parameter for every image."""
    if not isinstance(x, Parameter) or any(each != -1 for each in _unpacked(sizes)[1:]):
        raise w.refused("is only understood of a parameter, along the batch")
    return x


def getitem(w: Writer, x: Any, index: Any) -> Any:
    """Some of a map's channels, or one token."""
    if isinstance(x, list | tuple):
        return x[index]
    whole = isinstance(index, tuple) and index[:1] == (slice(None),)
    rest = tuple(each for each in index[1:] if each != slice(None)) if whole else ()
    if not isinstance(x, Value) or len(rest) != 1 or rest[0] is not index[1]:
        raise w.refused("takes a part that a graph cannot; use all images, and channels or a token")
    if isinstance(rest[0], slice) and len(x.shape) != 2 and rest[0].step in (None, 1):
        start, stop, _ = rest[0].indices(x.shape[0])
        if stop > start:
            return w.add("slice", x, start=start, size=stop - start)
    if type(rest[0]) is int and rest[0] >= 0 and len(x.shape) == 2:
        return w.add("select", x, index=rest[0])
    raise w.refused(
        "takes a part that a graph cannot; use channels in a row, or one token, counted from 0"
    )


def chunk(w: Writer, x: Any, chunks: int, dim: int = 0) -> Any:
    """So many equal parts of the channels."""
    return _parts(w, x, -(-_channels(w, x, dim) // chunks), dim)


def split(w: Writer, x: Any, sizes: Any, dim: int = 0) -> Any:
    """Parts of the channels of these sizes."""
    return _parts(w, x, sizes, dim)


def _channels(w: Writer, x: Any, dim: int) -> int:
    last = len(x.shape)
    axis = {3: (1, -3), 2: (2, -1), 1: (1, -1)}.get(last, ())
    if not isinstance(x, Value) or dim not in axis:
        raise w.refused(f"divides axis {dim}; use that of the channels")
    return x.shape[1] if last == 2 else x.shape[0]


def _parts(w: Writer, x: Any, sizes: Any, dim: int) -> list[Value]:
    total = _channels(w, x, dim)
    if isinstance(sizes, int):
        sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    if sum(sizes) != total:
        raise w.refused(f"divides {total} channels into {sizes}")
    return [
        w.add("slice", x, f"_{index}", start=start, size=each)
        for index, (start, each) in enumerate(zip(starts, sizes, strict=True))
    ]


def flatten(w: Writer, x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """To a vector, or half of what makes tokens, or the other half."""
    end = end_dim if end_dim >= 0 else end_dim + 1 + len(x.shape)
    if isinstance(x, Last) and (start_dim, end) == (1, 2):
        return w.add("tokens", x.map)
    if isinstance(x, Value) and end == len(x.shape) and start_dim == 1:
        return w.add("flatten", x) if len(x.shape) > 1 else x
    if isinstance(x, Value) and end == len(x.shape) == 3 and start_dim == 2:
        return Flat(x)
    raise w.refused(f"flattens axes {start_dim} to {end_dim}; use 1 to -1")


def reshape(w: Writer, x: Any, *sizes: Any) -> Any:
    """To a vector, or half of what makes tokens or a shuffle, or nothing at all."""
    first, *rest = _unpacked(sizes)
    before = x.shape
    if rest.count(-1) == 1:
        known = prod(each for each in rest if each != -1)
        rest = [prod(before) // max(1, known) if each == -1 else each for each in rest]
    good = (first is BATCH or first == -1) and prod(rest) == prod(before)
    if good and tuple(rest) == before:
        return x
    if good and isinstance(x, Value):
        if len(rest) == 1:
            return w.add("flatten", x)
        if len(x.shape) == 3 and tuple(rest) == (x.shape[0], x.shape[1] * x.shape[2]):
            return Flat(x)
        if len(x.shape) == 3 and len(rest) == 4 and tuple(rest[2:]) == x.shape[1:]:
            return Grouped(x, rest[0], turned=False)
    if good and isinstance(x, Grouped) and tuple(rest) == x.map.shape:
        return w.add("shuffle", x.map, groups=x.groups) if x.turned else x.map
    raise w.refused(f"makes shape {tuple(rest)} of {before}; use a vector for each image")


def transpose(w: Writer, x: Any, *axes: Any) -> Any:
    """Channels to the last axis and back, or the other half of what makes tokens or a shuffle."""
    order = [each % (1 + len(x.shape)) for each in _unpacked(axes)]
    if _of_two(w.call.target):
        one, other = order
        order = list(range(1 + len(x.shape)))
        order[one], order[other] = other, one
    if isinstance(x, Flat) and order == [0, 2, 1]:
        return w.add("tokens", x.map)
    if isinstance(x, Value) and order == [0, 2, 3, 1]:
        return Last(x)
    if isinstance(x, Last) and order == [0, 3, 1, 2]:
        return x.map
    if isinstance(x, Grouped) and order == [0, 2, 1, 3, 4]:
        return Grouped(x.map, x.groups, not x.turned)
    raise w.refused(
        "moves axes in a way that a graph cannot; only channels to the last axis and back, a map's "
        "pixels to tokens, or the channels of groups in turns"
    )


def _of_two(target: Any) -> bool:
    """Whether a call names two axes instead of all."""
    return named(target) in ("transpose", "swapaxes", "swapdims")


def _unpacked(sizes: tuple[Any, ...]) -> list[Any]:
    """Sizes that were given one by one or as one sequence."""
    one = len(sizes) == 1 and isinstance(sizes[0], list | tuple)
    return list(sizes[0] if one else sizes)


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
    raise w.refused("adds what is neither another layer's output nor a position of each token")


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
    raise w.refused("multiplies by what is no layer's output; use a gate that a layer gives")


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
    raise w.refused("joins what is neither several layers' outputs nor one token and the others")


def pointwise_linear(w: Writer, x: Last, out: int, weight: str, bias: str) -> Last:
    """A linear layer of each pixel's channels: a convolution with a window of one."""
    inside = x.map.shape[0]
    attrs = {"in": inside, "out": out, "kernel": 1, "stride": 1, "padding": 0, "dilation": 1}
    node = w.add("conv", x.map, **attrs, groups=1, bias=int(bool(bias)))
    w.tensor(node, "weight", weight.lstrip("."), shape=(out, inside, 1, 1))
    if bias:
        w.tensor(node, "bias", bias.lstrip("."))
    return Last(node)


# -- normalisations and activations --------------------------------------------------------


def write_layer_norm(w: Writer, x: Any, shape: Any, keys: list[str], eps: float) -> Value | Last:
    """Over the last axis; `keys` are where weight and bias are."""
    if len(shape) != 1 or not all(keys):
        raise w.refused("must normalise the last axis alone, with weight and bias")
    if isinstance(x, Value) and len(x.shape) == 3:
        raise w.refused(
            "normalises the width of a map; move its channels to the last axis before "
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
        raise w.refused("normalises what is no map")
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
    """In training alone."""
    _check_mode(w)
    return w.each("dropout", x, rate=p)


def write_drop_path(w: Writer, x: Any, p: float, mode: str) -> Value | Last:
    """With its own rate."""
    if mode != "row":
        raise w.refused(f"drops whole batches (mode {mode!r}); use mode 'row'")
    return w.each("drop_path", x, rate=float(p))


def stochastic_depth(w: Writer, x: Any, p: float, mode: str, training: bool = True) -> Any:
    """In training alone."""
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
    axes = sorted(each % (1 + len(x.shape)) for each in _unpacked((dim,)))
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
    "getattr": attribute,
    "size": size,
    "dim": dim,
    **dict.fromkeys(("contiguous", "clone"), same),
    "expand": expand,
    "getitem": getitem,
    "chunk": chunk,
    "split": split,
    "flatten": flatten,
    **dict.fromkeys(("reshape", "view"), reshape),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims"), transpose),
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
"""What understands a function or method, by its name."""
HINTS = {
    "detach": "stops gradients, which a graph cannot; leave it out",
    **dict.fromkeys(
        ("sub", "truediv", "div", "subtract"),
        "has no counterpart in a graph; to normalise images use space.model.mean and deviation",
    ),
    "pad": "has no counterpart in a graph; let the layer after it pad",
}
"""What is right instead of some that are not understood."""
