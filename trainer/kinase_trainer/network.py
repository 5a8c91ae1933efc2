"""Builds a torch module from a graph of primitive operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinase.space import Graph, Node
from kinase_trainer.tokens import Attention, ClassToken, Position, Select, Tokens


class Shift(nn.Module):
    """Shift a map by one pixel up and left, filled with zeros, so that the second path of a
    factorized reduction sees the pixels that the first one skips."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))


class Zero(nn.Module):
    """A map of zeros, at a stride."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.cut = False
        """Whether no gradient passes, rather than zeros: in a supernet decay and momentum would
        move weights that are on no path."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))."""
        x = x.detach() if self.cut else x
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class Unpool(nn.Module):
    """A map of twice the size, with zeros between the pixels (Saxena & Verbeek 2016, section 3.1),
    cut to the size that was halved."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, height, width)."""
        _, channels, high, wide = x.shape
        x = F.pad(x.reshape(-1, channels, high, 1, wide, 1), (0, 1, 0, 0, 0, 1))
        x = x.reshape(-1, channels, 2 * high, 2 * wide)
        return x[:, :, : self.height, : self.width]


class Sampled(nn.Conv2d):
    """A strided convolution with a kernel of 1, computed as a convolution without stride on every
    stride-th pixel.

    The same function. On a CPU without AVX-512, oneDNN's gradient of such a kernel's weights writes
    past its workspace where there are fewer than 8 channels (uxlfoundation/oneDNN, issue 6035): a
    projection of an image by a skip then corrupts the trainer's memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))."""
        x = x[:, :, :: self.stride[0], :: self.stride[1]]
        return F.conv2d(x, self.weight, self.bias, groups=self.groups)


class DropPath(nn.Module):
    """Drop a sample's whole map with probability `rate` in training, and scale what is kept
    (Larsson et al. 2017; Huang et al. 2016)."""

    def __init__(self, rate: float | None = None) -> None:
        """With a fixed rate, or one that is set for each epoch."""
        super().__init__()
        self.own = rate is not None
        self.rate = rate or 0.0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = torch.empty(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x * mask.bernoulli_(keep).div_(keep or 1.0)


class Add(nn.Module):
    """Sum of maps of one shape."""

    def forward(self, *xs: Tensor) -> Tensor:
        """k maps -> their sum."""
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return total


class Concat(nn.Module):
    """Maps, sequences or vectors joined along the channels."""

    def forward(self, *xs: Tensor) -> Tensor:
        """k maps (N, C_i, H, W) -> (N, sum of C_i, H, W)."""
        return torch.cat(xs, dim=-1 if xs[0].ndim == 3 else 1)


class Mix(nn.Module):
    """Two maps in a learned proportion, initially only the first one: a skip by convex combination
    (Elsken et al. 2017, type IV), or a parametrized activation (Wei et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Two maps of one shape -> (1 - share) x + share other."""
        return (1.0 - self.share) * x + self.share * other


class Weighted(nn.Module):
    """A choice of a supernet: the sum of its options' maps, each times its weight."""

    weights: Tensor | None = None
    """(options,): set for each step."""
    only: int | None = None
    """The option that is run, if it is one alone. The weights of the others, which are then zero,
    are added as numbers, so that gradients reach them (Dong & Yang 2019, section 3.2)."""

    def forward(self, *maps: Tensor) -> Tensor:
        """A map of each option, or of the one that is run -> their weighted sum.

        Raises:
            RuntimeError: no weights were set.
        """
        if self.weights is None:
            raise RuntimeError(
                "the choices of a supernet have no weights; call follow or mix first"
            )
        if self.only is not None:
            others = self.weights.sum() - self.weights[self.only]
            return self.weights[self.only] * maps[0] + others
        total = self.weights[0] * maps[0]
        for weight, each in zip(self.weights[1:], maps[1:], strict=True):
            total = total + weight * each
        return total


class Gate(nn.Module):
    """A map times a gate, such as that of a squeeze-and-excitation (Hu et al. 2018)."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """A map, and a map of its shape or one number per channel -> their product."""
        return x * gate


class LayerNorm(nn.LayerNorm):
    """Layer normalization over the features of a token or a vector, or over the channels of each
    pixel of a map (Liu et al. 2022)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), (N, T, C) or (N, C) -> the same shape."""
        if x.ndim < 4:
            return super().forward(x)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """A learned factor for each channel (Touvron et al. 2021)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), (N, T, C) or (N, C) -> the same shape."""
        return x * (self.scale.view(-1, 1, 1) if x.ndim == 4 else self.scale)


class Slice(nn.Module):
    """Some of the channels."""

    def __init__(self, start: int, size: int) -> None:
        super().__init__()
        self.start, self.size = start, size

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, size, H, W)."""
        return x.narrow(-1 if x.ndim == 3 else 1, self.start, self.size)


class GlobalAvgPool(nn.Module):
    """Mean over height and width, or over the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C), or (N, T, C) -> (N, C)."""
        return x.mean(dim=1 if x.ndim == 3 else (2, 3))


ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, "tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hard_swish": nn.Hardswish,
    "hard_sigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def module_of(node: Node) -> nn.Module:
    """The module of a node, with torch's own initial weights."""
    real = ("rate", "eps", "momentum", "slope", "alpha")
    a = {name: int(value) for name, value in node.attrs.items() if name not in real}
    eps = float(node.attrs.get("eps", 1e-5))
    match node.op:
        case "conv":
            kernel = (a.get("kernel_h", a["kernel"]), a.get("kernel_w", a["kernel"]))
            padding = (a.get("padding_h", a["padding"]), a.get("padding_w", a["padding"]))
            stride = (a.get("stride_h", a["stride"]), a.get("stride_w", a["stride"]))
            pointwise = kernel == (1, 1) and padding == (0, 0)
            few = a["in"] // a["groups"] < 16  # a block of channels, with AVX-512
            return (Sampled if pointwise and few and max(stride) > 1 else nn.Conv2d)(
                a["in"],
                a["out"],
                kernel,
                stride,
                padding,
                a["dilation"],
                a["groups"],
                bias=bool(a["bias"]),
            )
        case "batch_norm":
            momentum = float(node.attrs.get("momentum", 0.1))
            return nn.BatchNorm2d(a["channels"], eps, momentum, affine=bool(a["affine"]))
        case op if op in ACTIVATIONS:
            return ACTIVATIONS[op](*node.attrs.values())
        case "max_pool":
            ceil = bool(a.get("ceil", 0))
            return nn.MaxPool2d(a["kernel"], a["stride"], a["padding"], ceil_mode=ceil)
        case "avg_pool":
            ceil, counted = bool(a.get("ceil", 0)), bool(a.get("count_pad", 0))
            return nn.AvgPool2d(a["kernel"], a["stride"], a["padding"], ceil, counted)
        case "global_avg_pool":
            return GlobalAvgPool()
        case "adaptive_avg_pool":
            return nn.AdaptiveAvgPool2d((a["height"], a["width"]))
        case "flatten":
            return nn.Flatten()
        case "linear":
            return nn.Linear(a["in"], a["out"], bias=bool(a.get("bias", 1)))
        case "add":
            return Add()
        case "mix":
            return Mix()
        case "choice":
            return Weighted()
        case "scale":
            return Gate()
        case "slice":
            return Slice(a["start"], a["size"])
        case "tokens":
            return Tokens()
        case "class_token":
            return ClassToken(a["dim"])
        case "position":
            return Position(a["tokens"], a["dim"])
        case "group_norm":
            return nn.GroupNorm(a["groups"], a["channels"], eps, affine=bool(a["affine"]))
        case "layer_norm":
            return LayerNorm(a["dim"], eps)
        case "layer_scale":
            return LayerScale(a["channels"])
        case "shuffle":
            return nn.ChannelShuffle(a["groups"])
        case "attention":
            return Attention(a["dim"], a["heads"], a["head_dim"])
        case "select":
            return Select(a["index"])
        case "concat":
            return Concat()
        case "identity":
            return nn.Identity()
        case "zero":
            return Zero(a["stride"])
        case "shift":
            return Shift()
        case "unpool":
            return Unpool(a["height"], a["width"])
        case "drop_path":
            return DropPath(node.attrs.get("rate"))
        case "dropout":
            return nn.Dropout(float(node.attrs["rate"]))
        case op:
            raise ValueError(f"{node.name}: no module for operation {op!r}")


class Network(nn.Module):
    """The network of a graph: float images in 0..1 in, logits out.

    It normalizes images by the training split's mean and deviation itself, so users need not do it.
    A node's parameters are named ``nodes.<node>.<tensor>``. In training, a graph with an auxiliary
    head gives (logits, auxiliary logits).
    """

    mean: Tensor
    deviation: Tensor
    target_mean: Tensor | None
    target_deviation: Tensor | None

    def __init__(
        self,
        graph: Graph,
        mean: tuple[float, ...] = (0.0,),
        deviation: tuple[float, ...] = (1.0,),
        make: Callable[[Node], nn.Module] | None = None,
    ) -> None:
        """Build the modules, with weights from torch's generator.

        Args:
            graph: the network.
            mean: mean of each channel of the training split, or one value for all.
            deviation: standard deviation of each channel.
            make: gives the module of a node instead, whose weights stay as they are.
        """
        super().__init__()
        graph = graph.needed()
        self._set_up((node for node in graph if node.op != "input"), mean, deviation, make)
        self._input = next(n.name for n in graph if n.op == "input")
        self._output = graph.output
        self._auxiliary = graph.auxiliary
        self._train_plan = plan_of(graph)
        self._eval_plan = plan_of(graph.without_auxiliary())

    def _set_up(
        self,
        nodes: Iterable[Node],
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        make: Callable[[Node], nn.Module] | None = None,
    ) -> None:
        """Make the modules of some nodes, and what every network has."""
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1))
        self.register_buffer("target_mean", None, persistent=False)
        self.register_buffer("target_deviation", None, persistent=False)
        self.nodes = nn.ModuleDict({node.name: (make or module_of)(node) for node in nodes})
        drops = (m for m in self.nodes.values() if isinstance(m, DropPath))
        self.drop_paths = [each for each in drops if not each.own]
        if make is None:
            self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(N, C, H, W) -> (N, classes)."""
        nodes = self.nodes
        maps = {self._input: (images - self.mean) / self.deviation}
        for name, inputs, done in self._train_plan if self.training else self._eval_plan:
            if len(inputs) == 1:
                maps[name] = nodes[name](maps[inputs[0]])
            else:
                maps[name] = nodes[name](*[maps[i] for i in inputs])
            for each in done:
                del maps[each]
        if self.training and self._auxiliary is not None:
            return maps[self._output], maps[self._auxiliary]
        return self._answer(maps[self._output])

    def _answer(self, output: Tensor) -> Tensor:
        """The output in the units of the task."""
        if self.target_mean is not None and self.target_deviation is not None:
            return output.float() * self.target_deviation + self.target_mean
        return output

    def answer_in(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        """Undo the standardization of the outputs: each times its deviation, plus its mean."""
        self.target_mean, self.target_deviation = torch.tensor(mean), torch.tensor(deviation)

    def set_drop_path(self, rate: float) -> None:
        """Set the drop probability of maps for which the graph does not set one."""
        for each in self.drop_paths:
            each.rate = rate


Plan = list[tuple[str, tuple[str, ...], tuple[str, ...]]]
"""(node, its inputs, maps no longer needed after it), in order."""


def plan_of(graph: Graph) -> Plan:
    """In what order a graph is computed."""
    last: dict[str, str] = {}
    for node in graph:
        for name in node.inputs:
            last[name] = node.name
    kept = {graph.output, graph.auxiliary}
    return [
        (
            node.name,
            node.inputs,
            tuple(x for x in dict.fromkeys(node.inputs) if last[x] == node.name and x not in kept),
        )
        for node in graph
        if node.op != "input"
    ]


def _initialize(module: nn.Module) -> None:
    """Initialize convolutions as He et al. 2015, and linear layers with small weights."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Attention):  # after its linear layers: children are visited first
        module.reset()
