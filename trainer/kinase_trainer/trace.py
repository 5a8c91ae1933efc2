"""A torch module as a graph of primitive operations, and where its tensors are in it.

`torch.fx` runs the module's `forward` with a symbol for the images and writes down what is called
(Reed et al. 2022). What was written down is then read with shapes instead of tensors, operation by
operation: so a reshape by the map's own size is understood, and what has no place in our graphs is
refused by the name of the module that does it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from kinase.space import Graph, GraphBuilder, InfeasibleError, Node
from kinase.space.graph import Shape
from kinase_trainer.errors import ConfigError
from kinase_trainer.network import ACTIVATIONS, Network

TOLERANCE = 1e-5
"""Largest difference of an output, relative to the largest, that a traced network may show."""


class Untraceable(ConfigError):
    """A module that is no graph of ours; the message names its part, and what would be right."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a tensor of a graph is in a module's `state_dict`."""

    key: str
    part: tuple[int, int] = (0, 1)
    """Which of how many equal parts of its first axis."""

    def take(self, state: Mapping[str, Tensor]) -> Tensor:
        """The tensor itself."""
        index, count = self.part
        whole = state[self.key]
        return whole if count == 1 else whole.chunk(count)[index]


@dataclass(frozen=True, slots=True)
class Traced:
    """A module's graph."""

    graph: Graph
    sources: dict[str, Source]
    """By the names of the graph's tensors, ``node.tensor``."""

    def state(self, module: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of the graph's network that a module's `state_dict` is."""
        return {f"nodes.{name}": source.take(module) for name, source in self.sources.items()}


def trace(module: nn.Module, shape: tuple[int, int, int]) -> Traced:
    """The graph of a module, which gives one number for each class.

    Args:
        module: in whatever mode; it is not changed.
        shape: of an image. A module whose first convolution takes another number of channels is
            traced with that.

    Raises:
        Untraceable: it is no graph of ours.
    """
    mode = module.training
    module.eval()
    try:
        first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
        channels = shape[0] if first is None else first.in_channels
        traced = _Reader(module, (channels, *shape[1:])).read(_symbolic(module))
        _compare(module, traced)
    finally:
        module.train(mode)
    return traced


def _compare(module: nn.Module, traced: Traced) -> None:
    """Run both on random images: the graph must be the module's whole function."""
    first = traced.graph.nodes[0].attrs
    shape = (int(first["channels"]), int(first["height"]), int(first["width"]))
    parameters = [*module.parameters(), *module.buffers()]
    like = next((p for p in parameters if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, *shape, generator=generator).to(like)
    state = traced.state(module.state_dict())
    state |= {"mean": images.new_zeros(1, 1, 1, 1), "deviation": images.new_ones(1, 1, 1, 1)}
    with torch.device("meta"):  # nothing is drawn and thrown away
        network = Network(traced.graph).eval()
    network.load_state_dict(state, assign=True)
    with torch.no_grad():
        found, wanted = network(images), module(images)
    difference = float((found - wanted).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(wanted.abs().max())):
        raise Untraceable(
            f"{type(module).__name__}: its graph gives other outputs than it does, by "
            f"{difference:.2e}: it computes something beside what its layers do; use layers alone"
        )


class _Tracer(fx.Tracer):
    """Looks into every module that has no place of its own in a graph, and knows where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.path: list[tuple[str, nn.Module]] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether it is a node."""
        return type(m).__name__ in _LAYERS or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Remember where it is; an error leaves the place there."""
        self.path.append((self.path_of_module(m), m))
        result = super().call_module(m, forward, args, kwargs)
        self.path.pop()
        return result


def _symbolic(module: nn.Module) -> fx.Graph:
    tracer = _Tracer()
    try:
        return tracer.trace(module)
    except Exception as error:  # whatever its forward does with a symbol
        path, part = tracer.path[-1] if tracer.path else ("", module)
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise Untraceable(
            f"{_place(path, part)} cannot be traced: {reason:.300}. Its forward must do the same "
            "for every batch: no branches or loops that depend on what a tensor holds or on how "
            "many images there are, no changes of tensors by index"
        ) from error


def _place(path: str, module: nn.Module) -> str:
    return f"{path} ({type(module).__name__})" if path else f"{type(module).__name__}"


class _Batch:
    """How many images there are, whatever that is."""


BATCH = _Batch()


@dataclass(frozen=True, slots=True)
class _Value:
    """The output of a node."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class _Flat:
    """A map whose height and width were made one axis: half of what `tokens` is."""

    map: _Value


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter that is no layer's."""

    key: str
    shape: Shape


_SYMBOLS = (_Value, _Flat, _Parameter)
_FUNCTIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "gelu": "gelu",
    "silu": "silu",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
}
"""Activations as functions and methods."""


@dataclass
class _Reader:
    """Reads what a module was seen to call, and writes the graph."""

    module: nn.Module
    shape: tuple[int, int, int]
    sources: dict[str, Source] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)

    def read(self, calls: fx.Graph) -> Traced:
        """The graph."""
        self.graph = GraphBuilder(self.shape)
        known: dict[fx.Node, Any] = {}
        for call in calls.nodes:
            self.call = call
            args = fx.map_arg(call.args, lambda each: known[each])
            kwargs = fx.map_arg(call.kwargs, lambda each: known[each])
            try:
                known[call] = self._read(call, args, kwargs)
            except Untraceable:
                raise
            except InfeasibleError as error:
                raise self._refused(f"{error}; use larger images (task.resolution)") from error
            except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
                raise self._refused(f"is called with what it does not take ({error})") from error
        output = known[call]
        if not isinstance(output, _Value) or len(output.shape) != 1:
            raise self._refused("must return one tensor with a number for each class")
        graph = _pooled(self.graph.build(output.name)).needed()
        names = {node.name for node in graph}
        kept = {n: s for n, s in self.sources.items() if n.partition(".")[0] in names}
        return Traced(graph, kept)

    def _refused(self, what: str) -> Untraceable:
        call = self.call
        if call.op == "call_module":
            where = _place(str(call.target), self.module.get_submodule(str(call.target)))
        else:
            stack = list(call.meta.get("nn_module_stack", {}).values())
            path = str(stack[-1][0]) if stack else ""
            where = _place(path, self.module.get_submodule(path))
            if call.op in ("call_function", "call_method"):
                where = f"{where}: {_named(call.target)}"
        return Untraceable(f"{where} {what}")

    def _read(self, call: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        match call.op:
            case "placeholder":
                if self.called:
                    raise self._refused("takes more than the images")
                self.called.add("")
                return _Value(self.graph.input, self.shape)
            case "get_attr":
                tensor = operator.attrgetter(str(call.target))(self.module)
                return _Parameter(str(call.target), tuple(tensor.shape))
            case "call_module":
                return self._layer(str(call.target), args, kwargs)
            case "output":
                return args[0]
            case _:
                return self._function(_named(call.target), args, kwargs)

    # -- layers ------------------------------------------------------------------------------

    def _layer(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self.module.get_submodule(path)
        if any(True for _ in layer.parameters()) and path in self.called:
            raise self._refused("is called twice; a graph has no layers that share weights")
        self.called.add(path)
        write = _LAYERS.get(type(layer).__name__)
        if write is None:
            raise self._refused(f"has no counterpart; use one of {', '.join(sorted(_LAYERS))}")
        if not args or not isinstance(args[0], _Value):
            raise self._refused("is called with something else than the output of a layer")
        return write(self, layer, path, *args, **kwargs)

    def _add(self, op: str, x: _Value, **attrs: int | float) -> _Value:
        return self._seen(self.graph.unary(self._name(), op, x.name, **attrs))

    def _seen(self, name: str) -> _Value:
        return _Value(name, self.graph.shape(name))

    def _name(self) -> str:
        return f"{self.call.name}"[:100]

    def _tensors(self, value: _Value, path: str, **keys: str) -> None:
        for tensor, key in keys.items():
            name = tensor.replace("__", ".")
            self.sources[f"{value.name}.{name}"] = Source(f"{path}.{key}" if path else key)

    def _conv(self, layer: nn.Conv2d, path: str, x: _Value) -> _Value:
        kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
        padding = layer.padding
        if isinstance(padding, str):
            spread = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            if padding == "same" and any(each % 2 for each in spread):
                raise self._refused("pads one side more than the other; use an odd window")
            padding = tuple(each // 2 if padding == "same" else 0 for each in spread)
        if stride[0] != stride[1] or dilation[0] != dilation[1]:
            raise self._refused(
                "has another stride or dilation in height than in width; use equal ones"
            )
        if layer.padding_mode != "zeros":
            raise self._refused(f"has padding_mode {layer.padding_mode!r}; use zeros")
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
        out = self._add("conv", x, **attrs)
        self._tensors(out, path, weight="weight", **_bias(layer))
        return out

    def _batch_norm(self, layer: nn.BatchNorm2d, path: str, x: _Value) -> _Value:
        if layer.momentum is None or not layer.track_running_stats:
            raise self._refused("keeps no moving statistics; use momentum and track_running_stats")
        attrs: dict[str, int | float] = {
            "channels": layer.num_features,
            "affine": int(layer.affine),
        }
        attrs |= {"eps": layer.eps} if layer.eps != 1e-5 else {}
        attrs |= {"momentum": layer.momentum} if layer.momentum != 0.1 else {}
        out = self._add("batch_norm", x, **attrs)
        names: tuple[str, ...] = ("weight", "bias") if layer.affine else ()
        names += ("running_mean", "running_var", "num_batches_tracked")
        self._tensors(out, path, **{name: name for name in names})
        return out

    def _layer_norm(self, layer: nn.LayerNorm, path: str, x: _Value) -> _Value:
        if len(layer.normalized_shape) != 1 or layer.weight is None or layer.bias is None:
            raise self._refused("must normalise the last axis, with weight and bias")
        attrs: dict[str, int | float] = {"dim": layer.normalized_shape[0]}
        attrs |= {"eps": layer.eps} if layer.eps != 1e-5 else {}
        out = self._add("layer_norm", x, **attrs)
        self._tensors(out, path, weight="weight", bias="bias")
        return out

    def _linear(self, layer: nn.Linear, path: str, x: _Value) -> _Value:
        bias: dict[str, int] = {} if layer.bias is not None else {"bias": 0}
        attrs = {"in": layer.in_features, "out": layer.out_features}
        out = self._add("linear", x, **attrs, **bias)
        self._tensors(out, path, weight="weight", **_bias(layer))
        return out

    def _attention(
        self,
        layer: nn.MultiheadAttention,
        path: str,
        query: _Value,
        key: _Value,
        value: _Value,
        **options: Any,
    ) -> tuple[_Value, None]:
        if not query == key == value:
            raise self._refused("attends to another sequence than its own; use self-attention")
        for name in ("key_padding_mask", "attn_mask", "is_causal"):
            if options.get(name):
                raise self._refused(f"is called with {name}; a graph has no masks")
        if not layer.batch_first or layer.in_proj_bias is None or layer.in_proj_weight is None:
            raise self._refused("must have batch_first, bias, and keys and values of its own width")
        if layer.bias_k is not None or layer.add_zero_attn or layer.dropout:
            raise self._refused("must have neither add_bias_kv nor add_zero_attn nor dropout")
        dim, heads = layer.embed_dim, layer.num_heads
        out = self._add("attention", query, dim=dim, heads=heads, head_dim=dim // heads)
        for index, part in enumerate(("query", "key", "value")):
            for kind in ("weight", "bias"):
                self.sources[f"{out.name}.{part}.{kind}"] = Source(
                    f"{path}.in_proj_{kind}", (index, 3)
                )
        keys = {"output__weight": "out_proj.weight", "output__bias": "out_proj.bias"}
        self._tensors(out, path, **keys)
        return out, None

    def _dropout(self, layer: nn.Dropout, path: str, x: _Value) -> _Value:
        return self._add("dropout", x, rate=layer.p)

    def _drop_path(self, layer: nn.Module, path: str, x: _Value) -> _Value:
        return self._add("drop_path", x)

    def _identity(self, layer: nn.Module, path: str, x: _Value) -> _Value:
        return self._add("identity", x)

    def _activation(self, layer: nn.Module, path: str, x: _Value) -> _Value:
        if getattr(layer, "approximate", "none") != "none":
            raise self._refused("is approximate; use the exact one")
        return self._add(_ACTIVATIONS[type(layer).__name__], x)

    def _max_pool(self, layer: nn.MaxPool2d, path: str, x: _Value) -> _Value:
        return self.max_pool2d(
            x, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode
        )

    def _avg_pool(self, layer: nn.AvgPool2d, path: str, x: _Value) -> _Value:
        return self.avg_pool2d(
            x,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.ceil_mode,
            layer.count_include_pad,
            layer.divisor_override,
        )

    def _adaptive(self, layer: nn.AdaptiveAvgPool2d, path: str, x: _Value) -> _Value:
        return self.adaptive_avg_pool2d(x, layer.output_size)

    def _flatten(self, layer: nn.Flatten, path: str, x: _Value) -> _Value | _Flat:
        return self.flatten(x, layer.start_dim, layer.end_dim)

    # -- functions ---------------------------------------------------------------------------

    def _function(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == "getitem" and isinstance(args[0], list | tuple):
            return args[0][args[1]]
        if not _symbolic_in((args, kwargs)):  # numbers and shapes
            if name == "assert":
                return self._assert(*args)
            return self.call.target(*args, **kwargs)
        if name in _FUNCTIONS:
            if kwargs.get("approximate", "none") != "none":
                raise self._refused("is approximate; use the exact one")
            return self._add(_FUNCTIONS[name], args[0])
        method = _METHODS.get(name)
        if method is None:
            raise self._refused(
                "has no counterpart in a graph; use layers, sums, products and torch.cat"
            )
        return method(self, *args, **kwargs)

    def _assert(self, condition: Any, message: str = "") -> None:
        if condition is False:
            raise self._refused(f"does not hold: {message:.200}")

    def getattr(self, x: Any, name: str) -> Any:
        """The shape alone."""
        if name != "shape" or isinstance(x, _Parameter):
            raise self._refused(f"of {name} is no operation on a tensor")
        return (BATCH, *_shape(x))

    def size(self, x: Any, axis: int | None = None) -> Any:
        """As torch's."""
        shape = (BATCH, *_shape(x))
        return shape if axis is None else shape[axis]

    def dim(self, x: Any) -> int:
        """As torch's."""
        return 1 + len(_shape(x))

    def same(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """What leaves a tensor's numbers as they are."""
        return x

    def expand(self, x: Any, *sizes: Any) -> Any:
        """A parameter for every image."""
        if not isinstance(x, _Parameter) or any(each != -1 for each in _unpacked(sizes)[1:]):
            raise self._refused("is only understood of a parameter, along the batch")
        return x

    def getitem(self, x: Any, index: Any) -> Any:
        """One token."""
        whole = isinstance(index, tuple) and index[:1] == (slice(None),)
        rest = tuple(each for each in index[1:] if each != slice(None)) if whole else ()
        if not isinstance(x, _Value) or len(x.shape) != 2 or len(rest) != 1:
            raise self._refused("takes a part that a graph cannot; use all images and one token")
        if type(index[1]) is not int or index[1] < 0:
            raise self._refused("takes a part that a graph cannot; use one token, counted from 0")
        return self._add("select", x, index=index[1])

    def add(self, x: Any, other: Any, alpha: Any = 1) -> _Value:
        """A sum of two maps, or of a sequence and a learned position."""
        if isinstance(x, _Parameter):
            x, other = other, x
        if alpha == 1 and isinstance(x, _Value):
            if isinstance(other, _Value):
                if x.shape != other.shape:
                    raise self._refused(f"adds shapes {x.shape} and {other.shape}; use equal ones")
                return self._seen(self.graph.add(self._name(), [x.name, other.name]))
            if isinstance(other, _Parameter) and other.shape == (1, *x.shape) and len(x.shape) == 2:
                out = self._seen(self.graph.position(self._name(), x.name))
                self.sources[f"{out.name}.embedding"] = Source(other.key)
                return out
        raise self._refused(
            "adds what is neither another layer's output nor a position of each token"
        )

    def mul(self, x: Any, other: Any) -> _Value:
        """A map times a gate."""
        if isinstance(x, _Value) and isinstance(other, _Value):
            if x.shape != other.shape and x.shape[1:] == (1,) * (len(x.shape) - 1):
                x, other = other, x
            return self._seen(self.graph.gate(self._name(), x.name, other.name))
        raise self._refused(
            "multiplies by what is no layer's output; use a gate that a layer gives"
        )

    def cat(self, parts: Any, dim: int = 0) -> _Value:
        """Maps along their channels, or a learned token before the others."""
        if isinstance(parts, list | tuple) and all(isinstance(each, _Value) for each in parts):
            last = len(parts[0].shape)
            channels = (1, -3) if last == 3 else (last, -1)
            if dim not in channels:
                raise self._refused(
                    f"joins along axis {dim}; use that of the channels, {channels[0]}"
                )
            return self._seen(self.graph.concat(self._name(), [each.name for each in parts]))
        if len(parts) == 2 and isinstance(parts[0], _Parameter) and isinstance(parts[1], _Value):
            token, x = parts
            if dim == 1 and len(x.shape) == 2 and token.shape == (1, 1, x.shape[1]):
                out = self._seen(self.graph.class_token(self._name(), x.name))
                self.sources[f"{out.name}.token"] = Source(token.key)
                return out
        raise self._refused(
            "joins what is neither several layers' outputs nor one token and the others"
        )

    def flatten(self, x: _Value, start_dim: int = 0, end_dim: int = -1) -> _Value | _Flat:
        """To a vector, or half of what makes tokens."""
        end = end_dim if end_dim >= 0 else end_dim + 1 + len(x.shape)
        if end == len(x.shape) and start_dim == 1:
            return self._add("flatten", x) if len(x.shape) > 1 else x
        if end == len(x.shape) == 3 and start_dim == 2:
            return _Flat(x)
        raise self._refused(f"flattens axes {start_dim} to {end_dim}; use 1 to -1")

    def reshape(self, x: Any, *sizes: Any) -> Any:
        """To a vector, or half of what makes tokens, or nothing at all."""
        first, *rest = _unpacked(sizes)
        before = _shape(x)
        if rest.count(-1) == 1:
            known = prod(each for each in rest if each != -1)
            rest = [prod(before) // known if each == -1 else each for each in rest]
        good = first is BATCH or first == -1
        if good and prod(rest) == prod(before) and isinstance(x, _Value):
            if tuple(rest) == x.shape:
                return x
            if len(rest) == 1:
                return self._add("flatten", x)
            if len(x.shape) == 3 and tuple(rest) == (x.shape[0], x.shape[1] * x.shape[2]):
                return _Flat(x)
        raise self._refused(f"makes shape {tuple(rest)} of {before}; use a vector for each image")

    def transpose(self, x: Any, *axes: Any) -> _Value:
        """The other half of what makes tokens."""
        order = _unpacked(axes)
        swapped = {each % 3 for each in order} == {1, 2} if len(order) == 2 else order == [0, 2, 1]
        if not isinstance(x, _Flat) or not swapped:
            raise self._refused(
                "moves axes in a way that a graph cannot; only a map's pixels to tokens"
            )
        return self._add("tokens", x.map)

    def mean(self, x: _Value, dim: Any = None, keepdim: bool = False) -> _Value:
        """Over height and width, or over tokens."""
        axes = sorted(each % (1 + len(x.shape)) for each in _unpacked((dim,)))
        if axes == [2, 3] and len(x.shape) == 3:
            if keepdim:
                return self._add("adaptive_avg_pool", x, height=1, width=1)
            return self._add("global_avg_pool", x)
        if axes == [1] and len(x.shape) == 2 and not keepdim:
            return self._add("global_avg_pool", x)
        raise self._refused(f"is over axes {dim}; use height and width, or the tokens")

    def dropout(self, x: _Value, p: float = 0.5, training: bool = True, inplace: Any = 0) -> _Value:
        """Whatever `training` was when this was traced: it is the module's own."""
        return self._add("dropout", x, rate=p)

    def stochastic_depth(self, x: _Value, p: float, mode: str, training: bool = True) -> _Value:
        """With the rate that the experiment's training has."""
        return self._add("drop_path", x)

    def max_pool2d(
        self,
        x: _Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> _Value:
        """As torch's."""
        if self._one(dilation, "dilation") != 1 or return_indices:
            raise self._refused("has a dilation or returns indices; use neither")
        return self._pool("max_pool", x, kernel_size, stride, padding, ceil_mode)

    def avg_pool2d(
        self,
        x: _Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
    ) -> _Value:
        """As torch's."""
        if divisor_override is not None or (count_include_pad and self._one(padding, "padding")):
            raise self._refused("counts its padding; use count_include_pad=False")
        return self._pool("avg_pool", x, kernel_size, stride, padding, ceil_mode)

    def _pool(
        self, op: str, x: _Value, kernel: Any, stride: Any, padding: Any, ceil: bool
    ) -> _Value:
        if ceil:
            raise self._refused("rounds sizes up; use ceil_mode=False")
        attrs = {
            "kernel": self._one(kernel, "kernel_size"),
            "stride": self._one(kernel if stride in (None, ()) else stride, "stride"),
            "padding": self._one(padding, "padding"),
        }
        return self._add(op, x, **attrs)

    def adaptive_avg_pool2d(self, x: _Value, output_size: Any) -> _Value:
        """As torch's."""
        sizes = output_size if isinstance(output_size, list | tuple) else (output_size,) * 2
        height, width = (x.shape[1 + i] if s is None else s for i, s in enumerate(sizes))
        return self._add("adaptive_avg_pool", x, height=height, width=width)

    def _one(self, value: Any, name: str) -> int:
        values = set(value) if isinstance(value, list | tuple) else {value}
        if len(values) > 1:
            raise self._refused(f"has another {name} in height than in width; use equal ones")
        return int(values.pop())


def _named(target: Any) -> str:
    """A function or method by the name that all its forms share."""
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    return {"iadd": "add", "imul": "mul"}.get(name.strip("_"), name.strip("_"))


def _bias(layer: nn.Module) -> dict[str, str]:
    return {"bias": "bias"} if layer.bias is not None else {}


def _unpacked(sizes: tuple[Any, ...]) -> list[Any]:
    """Sizes that were given one by one or as one sequence."""
    one = len(sizes) == 1 and isinstance(sizes[0], list | tuple)
    return list(sizes[0] if one else sizes)


def _shape(x: Any) -> Shape:
    if isinstance(x, _Flat):
        return (x.map.shape[0], x.map.shape[1] * x.map.shape[2])
    shape: Shape = x.shape
    return shape


def _symbolic_in(data: Any) -> bool:
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, list | tuple):
        return any(_symbolic_in(each) for each in data)
    return isinstance(data, _SYMBOLS)


def _pooled(graph: Graph) -> Graph:
    """With each map that is averaged to one pixel and then flattened written as the mean it is."""
    by_name = {node.name: node for node in graph}
    readers: dict[str, int] = {}
    for node in graph:
        for each in node.inputs:
            readers[each] = readers.get(each, 0) + 1
    nodes = []
    for node in graph:
        before = by_name[node.inputs[0]] if node.inputs else node
        one = (before.attrs.get("height"), before.attrs.get("width")) == (1, 1)
        pooled = before.op == "adaptive_avg_pool" and one and readers[before.name] == 1
        if node.op == "flatten" and pooled:
            node = Node(node.name, "global_avg_pool", before.inputs)
        nodes.append(node)
    return Graph(tuple(nodes), graph.output)


_ACTIVATIONS = {each.__name__: op for op, each in ACTIVATIONS.items()}
_LAYERS: dict[str, Callable[..., Any]] = {
    "Conv2d": _Reader._conv,
    "BatchNorm2d": _Reader._batch_norm,
    "LayerNorm": _Reader._layer_norm,
    "Linear": _Reader._linear,
    "NonDynamicallyQuantizableLinear": _Reader._linear,
    "MultiheadAttention": _Reader._attention,
    "Dropout": _Reader._dropout,
    "StochasticDepth": _Reader._drop_path,
    "Identity": _Reader._identity,
    "MaxPool2d": _Reader._max_pool,
    "AvgPool2d": _Reader._avg_pool,
    "AdaptiveAvgPool2d": _Reader._adaptive,
    "Flatten": _Reader._flatten,
    **dict.fromkeys(_ACTIVATIONS, _Reader._activation),
}
"""Modules that are a node, by the name of their class."""
_METHODS: dict[str, Callable[..., Any]] = {
    "getattr": _Reader.getattr,
    "size": _Reader.size,
    "dim": _Reader.dim,
    "contiguous": _Reader.same,
    "clone": _Reader.same,
    "expand": _Reader.expand,
    "getitem": _Reader.getitem,
    "add": _Reader.add,
    "mul": _Reader.mul,
    "cat": _Reader.cat,
    "concat": _Reader.cat,
    "flatten": _Reader.flatten,
    "reshape": _Reader.reshape,
    "view": _Reader.reshape,
    "permute": _Reader.transpose,
    "transpose": _Reader.transpose,
    "mean": _Reader.mean,
    "dropout": _Reader.dropout,
    "stochastic_depth": _Reader.stochastic_depth,
    "max_pool2d": _Reader.max_pool2d,
    "avg_pool2d": _Reader.avg_pool2d,
    "adaptive_avg_pool2d": _Reader.adaptive_avg_pool2d,
}
"""Functions and methods, by name."""
