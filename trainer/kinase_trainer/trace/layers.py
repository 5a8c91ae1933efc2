"""Modules that are nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from kinase_trainer.trace import functions, shapes
from kinase_trainer.trace.functions import EPS, pointwise_linear
from kinase_trainer.trace.values import Flat, Last, Value
from kinase_trainer.trace.writer import Writer

Result = Value | Last | Flat


def kind(module: nn.Module) -> str | None:
    """Which of `LAYERS` a module is: an instance of that class, or of a subclass with the same
    forward."""
    own: Any = type(module)
    for base in own.__mro__:
        name = f"{base.__module__}.{base.__qualname__}"
        if name in LAYERS and "forward" not in module.__dict__:
            kept = all(
                getattr(own, method, None) is getattr(base, method, None)
                for method in ("forward", "_conv_forward", "__call__")
            )
            return name if kept else None
    return None


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a node."""
    return kind(module) is not None


def names() -> str:
    """Names of the layers, for people."""
    return ", ".join(sorted({name.rpartition(".")[2] for name in LAYERS}))


def _conv(w: Writer, layer: nn.Conv2d, path: str, x: Value) -> Value:
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    padding = layer.padding
    if isinstance(padding, str):
        spread = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if padding == "same" and any(each % 2 for each in spread):
            raise w.refused("pads one side more than the other; use an odd window")
        padding = tuple(each // 2 if padding == "same" else 0 for each in spread)
    if dilation[0] != dilation[1]:
        raise w.refused("has another dilation in height than in width; use equal ones")
    if layer.padding_mode != "zeros":
        raise w.refused(f"has padding_mode {layer.padding_mode!r}; use zeros")
    attrs = {
        "in": layer.in_channels,
        "out": layer.out_channels,
        "kernel": kernel[0],
        "stride": stride[0],
        "padding": padding[0],
        "dilation": dilation[0],
        "groups": layer.groups,
        "bias": int(layer.bias is not None),
    }
    if kernel[0] != kernel[1] or padding[0] != padding[1]:
        attrs |= {"kernel_h": kernel[0], "kernel_w": kernel[1]}
        attrs |= {"padding_h": padding[0], "padding_w": padding[1]}
    if stride[0] != stride[1]:
        attrs |= {"stride_h": stride[0], "stride_w": stride[1]}
    out = w.add("conv", x, **attrs)
    _own(w, out, layer, path)
    return out


def _own(w: Writer, out: Value, layer: nn.Module, path: str) -> None:
    """Weight and bias, if they exist."""
    for name in ("weight", "bias"):
        if getattr(layer, name) is not None:
            w.tensor(out, name, f"{path}.{name}".lstrip("."))


def _batch_norm(w: Writer, layer: nn.BatchNorm2d, path: str, x: Value) -> Value:
    if layer.momentum is None or not layer.track_running_stats:
        raise w.refused("keeps no moving statistics; use momentum and track_running_stats")
    attrs: dict[str, int | float] = {"channels": layer.num_features, "affine": int(layer.affine)}
    attrs |= {"eps": layer.eps} if layer.eps != EPS else {}
    attrs |= {"momentum": layer.momentum} if layer.momentum != 0.1 else {}
    out = w.add("batch_norm", x, **attrs)
    _own(w, out, layer, path)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        w.tensor(out, name, f"{path}.{name}".lstrip("."))
    return out


def _group_norm(w: Writer, layer: nn.GroupNorm, path: str, x: Value) -> Value:
    out = functions.write_group_norm(w, x, layer.num_groups, int(layer.affine), layer.eps)
    _own(w, out, layer, path)
    return out


def _layer_norm(w: Writer, layer: nn.LayerNorm, path: str, x: Value | Last) -> Value | Last:
    keys = [f"{path}.{n}" if getattr(layer, n) is not None else "" for n in ("weight", "bias")]
    return functions.write_layer_norm(w, x, layer.normalized_shape, keys, layer.eps)


def _linear(w: Writer, layer: nn.Linear, path: str, x: Value | Last) -> Value | Last:
    if isinstance(x, Last):
        bias = f"{path}.bias" if layer.bias is not None else ""
        return pointwise_linear(w, x, layer.out_features, f"{path}.weight", bias)
    bias_attr: dict[str, int] = {} if layer.bias is not None else {"bias": 0}
    attrs = {"in": layer.in_features, "out": layer.out_features}
    out = w.add("linear", x, **attrs, **bias_attr)
    _own(w, out, layer, path)
    return out


def _attention(
    w: Writer,
    layer: nn.MultiheadAttention,
    path: str,
    query: Value,
    key: Value,
    value: Value,
    **options: Any,
) -> tuple[Value, None]:
    if not query == key == value:
        raise w.refused("attends to another sequence; use self-attention")
    for name in ("key_padding_mask", "attn_mask", "is_causal"):
        if options.get(name):
            raise w.refused(f"is called with {name}; a graph has no masks")
    if not layer.batch_first or layer.in_proj_bias is None or layer.in_proj_weight is None:
        raise w.refused("must have batch_first, bias, and keys and values of the same width")
    if layer.bias_k is not None or layer.add_zero_attn or layer.dropout:
        raise w.refused("must not have add_bias_kv, add_zero_attn or dropout")
    dim, heads = layer.embed_dim, layer.num_heads
    out = w.add("attention", query, dim=dim, heads=heads, head_dim=dim // heads)
    for index, part in enumerate(("query", "key", "value")):
        for name in ("weight", "bias"):
            w.tensor(out, f"{part}.{name}", f"{path}.in_proj_{name}".lstrip("."), (index, 3))
    for name in ("weight", "bias"):
        w.tensor(out, f"output.{name}", f"{path}.out_proj.{name}".lstrip("."))
    return out, None


def _dropout(w: Writer, layer: nn.Dropout, path: str, x: Any) -> Value | Last:
    return w.each("dropout", x, rate=layer.p)


def _drop_path(w: Writer, layer: Any, path: str, x: Any) -> Value | Last:
    return functions.write_drop_path(w, x, layer.p, layer.mode)


def _identity(w: Writer, layer: nn.Module, path: str, x: Any) -> Value | Last:
    return w.each("identity", x)


def _max_pool(w: Writer, layer: nn.MaxPool2d, path: str, x: Value) -> Value:
    sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return functions.max_pool2d(w, x, *sizes, layer.ceil_mode, layer.return_indices)


def _avg_pool(w: Writer, layer: nn.AvgPool2d, path: str, x: Value) -> Value:
    sizes = (layer.kernel_size, layer.stride, layer.padding)
    counted = (layer.count_include_pad, layer.divisor_override)
    return functions.avg_pool2d(w, x, *sizes, layer.ceil_mode, *counted)


def _adaptive(w: Writer, layer: nn.AdaptiveAvgPool2d, path: str, x: Value) -> Value:
    return functions.adaptive_avg_pool2d(w, x, layer.output_size)


def _flatten(w: Writer, layer: nn.Flatten, path: str, x: Any) -> Any:
    return shapes.flatten(w, x, layer.start_dim, layer.end_dim)


def _shuffle(w: Writer, layer: nn.ChannelShuffle, path: str, x: Value) -> Value:
    return functions.channel_shuffle(w, x, layer.groups)


def _activation(op: str, *numbers: str) -> Callable[..., Value | Last]:
    def write(w: Writer, layer: nn.Module, path: str, x: Any) -> Value | Last:
        short = {"negative_slope": "slope"}
        return w.each(op, x, **{short.get(n, n): float(getattr(layer, n)) for n in numbers})

    return write


def _gelu(w: Writer, layer: nn.GELU, path: str, x: Any) -> Value | Last:
    return functions.gelu(w, x, layer.approximate)


_TORCH: dict[str, Callable[..., Any]] = {
    "activation.ReLU": _activation("relu"),
    "activation.ReLU6": _activation("relu6"),
    "activation.LeakyReLU": _activation("leaky_relu", "negative_slope"),
    "activation.ELU": _activation("elu", "alpha"),
    "activation.SELU": _activation("selu"),
    "activation.GELU": _gelu,
    "activation.SiLU": _activation("silu"),
    "activation.Mish": _activation("mish"),
    "activation.Hardswish": _activation("hard_swish"),
    "activation.Hardsigmoid": _activation("hard_sigmoid"),
    "activation.Sigmoid": _activation("sigmoid"),
    "activation.Tanh": _activation("tanh"),
    "activation.MultiheadAttention": _attention,
    "batchnorm.BatchNorm2d": _batch_norm,
    "channelshuffle.ChannelShuffle": _shuffle,
    "conv.Conv2d": _conv,
    "dropout.Dropout": _dropout,
    "flatten.Flatten": _flatten,
    "linear.Identity": _identity,
    "linear.Linear": _linear,
    "normalization.GroupNorm": _group_norm,
    "normalization.LayerNorm": _layer_norm,
    "pooling.AdaptiveAvgPool2d": _adaptive,
    "pooling.AvgPool2d": _avg_pool,
    "pooling.MaxPool2d": _max_pool,
}
LAYERS: dict[str, Callable[..., Any]] = {
    **{f"torch.nn.modules.{name}": write for name, write in _TORCH.items()},
    "torchvision.ops.stochastic_depth.StochasticDepth": _drop_path,
}
"""Functions that write a module's nodes, by class."""
CHANNELS_LAST = frozenset(
    {"LayerNorm", "Linear", "Dropout", "StochasticDepth", "Identity"}
    | {name.partition(".")[2] for name in _TORCH if name.startswith("activation.")}
) - {"MultiheadAttention"}
"""Classes that can follow when the channels are on the last axis."""
