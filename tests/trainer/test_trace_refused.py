"""Networks that a graph would change are refused, by the name of what it would change."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torchvision import models
from torchvision.ops import StochasticDepth

from kinase.space import Graph
from kinase_trainer.trace import Source, Traced, Untraceable, trace
from kinase_trainer.trace.compare import compare

SHAPE = (3, 12, 12)


class Net(nn.Module):
    """A convolution, something else, and a linear layer."""

    def __init__(self, middle: nn.Module | Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = middle
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.middle(self.first(x)).mean((2, 3)))


class Does(nn.Module):
    """Holds some layers, and does with them and a map what a function says."""

    def __init__(self, what: Callable[..., Any], **held: nn.Module | Tensor) -> None:
        super().__init__()
        self.what = what
        for name, each in held.items():
            if isinstance(each, nn.Parameter | nn.Module):
                setattr(self, name, each)
            else:
                self.register_buffer(name, each)

    def forward(self, x: Tensor) -> Any:
        return self.what(self, x)


def refused(module: nn.Module, message: str) -> None:
    before = {n: t.clone() for n, t in module.state_dict().items() if not t.is_meta}
    modes = [part.training for part in module.modules()]
    with pytest.raises(Untraceable, match=message) as error:
        trace(module, SHAPE)
    assert len(str(error.value)) < 1500
    assert "\n" not in str(error.value)
    assert [part.training for part in module.modules()] == modes
    after = module.state_dict()
    assert all(torch.equal(after[n], t) for n, t in before.items())
    assert not any(name.startswith("_tensor_constant") for name in vars(module))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# -- what training would be ------------------------------------------------------------------


def noisy(self: Any, x: Tensor) -> Tensor:
    return x + torch.randn_like(x) if self.training else x


def quiet(self: Any, x: Tensor) -> Tensor:
    return x.relu() if self.training else x


def two_heads(self: Any, x: Tensor) -> Any:
    return (x, x) if self.training else x


def no_grad(self: Any, x: Tensor) -> Any:
    with torch.no_grad():
        return self.part(x)


@torch.inference_mode()
def inference(self: Any, x: Tensor) -> Any:
    return self.part(x)


def autocast(self: Any, x: Tensor) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return self.part(x)


class Reversed(torch.autograd.Function):
    """A gradient of another sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.relu()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return -gradient


def conv() -> nn.Conv2d:
    return nn.Conv2d(4, 4, 1)


class Kept(nn.BatchNorm2d):
    """Stays in evaluation."""

    def train(self, mode: bool = True) -> Kept:
        super().train(False)
        return self


class Live(nn.Dropout):
    """Drops in evaluation, too."""

    def train(self, mode: bool = True) -> Live:
        super().train(True)
        return self


TRAINED_ELSE = {
    "noise": (Does(noisy), r"^middle \(Does\) does something else in training .*calls randn_like"),
    "left out": (Does(quiet), r"^middle \(Does\) does something else .*in training it calls relu"),
    "outputs": (Does(two_heads), r"^Net does something else|^middle \(Does\)|cannot be traced"),
    "no_grad": (Does(no_grad, part=conv()), r"^middle.part \(Conv2d\): .*torch\.no_grad"),
    "inference": (Does(inference, part=conv()), r"^middle.part \(Conv2d\): .*inference_mode"),
    "autocast": (Does(autocast, part=conv()), r"^middle.part \(Conv2d\): .*torch\.autocast"),
    "own gradient": (Does(lambda s, x: Reversed.apply(x)), r"^middle \(Does\): relu .*Function"),
    "detach": (Does(lambda s, x: x.detach()), r"^middle \(Does\): detach stops gradients"),
    "data": (
        Does(lambda s, x: x.data),
        r"^(middle \(Does\)|Net): getattr of data is not an operation",
    ),
    "dead dropout": (
        Does(lambda s, x: F.dropout(x, 0.5, training=False)),
        r"^middle \(Does\): dropout is called with training=False, and never drops",
    ),
    "live dropout": (
        Does(lambda s, x: F.dropout(x, 0.5)),
        r"^middle \(Does\): dropout drops in evaluation, too; pass training=self\.training",
    ),
    "live by position": (Does(lambda s, x: torch.dropout(x, 0.5, True)), "drops in evaluation"),
    "batch": (StochasticDepth(0.2, "batch"), r"^middle \(StochasticDepth\) drops whole batches"),
    "kept": (Kept(4), r"^middle \(Kept\) is kept in evaluation while the network is in training"),
    "live": (Live(0.5), r"^middle \(Live\) is kept in training while the network is in evaluation"),
    "given so": (nn.BatchNorm2d(4).eval(), r"^middle \(BatchNorm2d\) is kept in evaluation"),
    "statistics": (nn.BatchNorm2d(4, momentum=None), "keeps no moving statistics"),
    "none": (nn.BatchNorm2d(4, track_running_stats=False), "keeps no moving statistics"),
}


@pytest.mark.parametrize("case", TRAINED_ELSE)
def test_what_training_would_be_another(case: str) -> None:
    middle, message = TRAINED_ELSE[case]
    refused(Net(middle), message)


# -- what weights would be ---------------------------------------------------------------------


def frozen() -> nn.Module:
    module = Net(conv())
    module.middle.requires_grad_(False)  # type: ignore[union-attr]
    return module


def tied() -> nn.Module:
    module = Net(nn.Sequential(conv(), conv()))
    module.middle[1].weight = module.middle[0].weight  # type: ignore[index, union-attr]
    return module


def tied_memory() -> nn.Module:
    module = Net(nn.Sequential(conv(), conv()))
    first, other = module.middle  # type: ignore[misc]
    other.weight = nn.Parameter(first.weight.detach())
    return module


def hooked(register: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        module = Net(conv())
        getattr(module.middle, register)(lambda *args: None)
        return module

    return make


def gradient_hook() -> nn.Module:
    module = Net(conv())
    module.middle.weight.register_hook(lambda gradient: 2 * gradient)  # type: ignore[union-attr, operator]
    return module


WEIGHTS_ELSE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "frozen": (frozen, r"^middle\.weight of Conv2d is frozen \(requires_grad is False\)"),
    "tied": (tied, r"^middle\.1\.weight is middle\.0\.weight: two layers with one weight"),
    "memory": (tied_memory, r"^middle\.1\.weight is middle\.0\.weight: two layers"),
    "half": (lambda: Net(conv().half()), r"^middle\.weight of Conv2d is float16, .*call float"),
    "bfloat": (lambda: Net(conv().bfloat16()), r"^middle\.weight of Conv2d is bfloat16"),
    "spectral": (
        lambda: Net(spectral_norm(conv())),
        r"^middle \(Conv2d\) has a hook before its forward, SpectralNorm, .*remove it",
    ),
    "weight norm": (lambda: Net(weight_norm(conv())), r"hook before its forward, WeightNorm"),
    "pruned": (
        lambda: Net(prune.l1_unstructured(conv(), "weight", 0.5)),
        r"^middle \(Conv2d\) has a hook before its forward, L1Unstructured",
    ),
    "parametrized": (
        lambda: Net(parametrizations.weight_norm(conv())),
        r"^middle \(ParametrizedConv2d\) has a parametrization of weight; .*remove_parametriz",
    ),
    "hook": (hooked("register_forward_hook"), r"^middle \(Conv2d\) has a hook after its forward"),
    "before": (hooked("register_forward_pre_hook"), "a hook before its forward, hooked"),
    "backward": (hooked("register_full_backward_hook"), "a hook after its backward"),
    "gradient": (gradient_hook, r"^middle\.weight of Conv2d has a hook of its gradient"),
    "lazy": (lambda: Net(nn.LazyConv2d(4, 1)), r"^middle \(LazyConv2d\)|has no shape yet"),
    "twice": (
        lambda: Net(Does(lambda s, x: s.part(s.part(x)), part=conv())),
        r"^middle\.part \(Conv2d\) is called twice",
    ),
    "also elsewhere": (
        lambda: Net(Does(lambda s, x: s.norm(x) * s.norm.weight, norm=nn.BatchNorm2d(4))),
        r"^middle.*(shape|takes middle\.norm\.weight)",
    ),
    "unused": (
        lambda: Net(Does(lambda s, x: x.relu(), spare=conv())),
        r"^middle\.spare \(Conv2d\) has a weight that nothing the network gives depends on",
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("case", WEIGHTS_ELSE)
def test_what_weights_would_be_others(case: str) -> None:
    make, message = WEIGHTS_ELSE[case]
    if case in ("lazy",):
        with pytest.raises(Untraceable, match=message):
            trace(make(), SHAPE)
        return
    refused(make(), message)


def test_one_layer_with_two_names_is_one_layer() -> None:
    """As of a backbone that is taken apart and put together again."""
    module = Net(conv())
    whole = nn.Sequential(module.first, module.middle, nn.Flatten(2))  # type: ignore[arg-type]
    module.whole = whole
    assert trace(module, SHAPE).graph.params() == sum(p.numel() for p in module.parameters())


# -- what is done beside layers ------------------------------------------------------------------


def counted(self: Any, x: Tensor) -> Tensor:
    self.count += 1
    return x


def averaged(self: Any, x: Tensor) -> Tensor:
    self.mean = 0.9 * self.mean + 0.1 * x.mean()
    return x


def stepped(self: Any, x: Tensor) -> Tensor:
    self.steps = getattr(self, "steps", 0) + 1
    return x


stepping = Does(stepped)
stepping.steps = 0  # type: ignore[assignment]


def lucky(self: Any, x: Tensor) -> Tensor:
    return x.relu() if random.random() < 2 else x


def in_place(self: Any, x: Tensor) -> Tensor:
    y = F.relu(x, inplace=True)
    return y + x


def summed(self: Any, x: Tensor) -> Tensor:
    y = self.part(x)
    z = y
    z += x
    return z + y.relu()


class Branching(nn.Module):
    """Does what the numbers say."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


ELSE: dict[str, tuple[Any, str]] = {
    "branch": (
        nn.Sequential(Branching()),
        r"^middle\.0 \(Branching\) cannot be traced: .*branches",
    ),
    "by index": (
        Does(lambda s, x: x.__setitem__(0, 0)),
        r"^middle \(Does\): setitem has no counterpart in a graph",
    ),
    "buffer": (
        Does(averaged, mean=torch.zeros(())),
        r"^middle \(Does\) changes its mean when it is",
    ),
    "counter": (
        Does(counted, count=torch.zeros(())),
        r"^middle \(Does\) changes its count when it is",
    ),
    "used": (
        Does(lambda s, x: x * s.mean, mean=torch.ones(4, 1, 1)),
        r"uses middle\.mean, which is",
    ),
    "attribute": (stepping, r"^middle \(Does\) changes its steps when it is called"),
    "python": (Does(lucky), r"^middle \(Does\) draws random numbers when it is called"),
    "numpy": (
        Does(lambda s, x: x.relu() if np.random.rand() < 2 else x),
        r"^middle \(Does\) draws random numbers when it is called",
    ),
    "torch": (
        Does(lambda s, x: x + torch.randn(4, 1, 1)),
        r"^middle \(Does\) draws random numbers",
    ),
    "constant": (
        Does(lambda s, x: x + torch.ones(4, 1, 1)),
        r"^middle.* creates a tensor",
    ),
    "zeros": (
        Does(lambda s, x: x + torch.zeros(x.shape[1], 1, 1)),
        r"^middle \(Does\).*zeros",
    ),
    "in place": (Does(in_place), r"^middle \(Does\): relu changes in place what is read again"),
    "sum in place": (Does(summed, part=conv()), r"^Net: .* a change in place \(x \+= y\)"),
    "in place layer": (
        Does(lambda s, x: s.act(x) + x, act=nn.ReLU(inplace=True)),
        r"^middle\.act \(ReLU\) changes in place what is read again",
    ),
    "prelu": (
        nn.Sequential(nn.ReLU(), nn.PReLU()),
        r"^middle\.1 \(PReLU\) has no counterpart; use one",
    ),
    "window": (nn.MaxPool2d(64, 64), r"^middle \(MaxPool2d\) .*use larger images"),
    "indices": (nn.MaxPool2d(2, return_indices=True), r"^middle \(MaxPool2d\) .*returns indices"),
    "divisor": (nn.AvgPool2d(2, divisor_override=3), "divides by divisor_override"),
    "padding": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding_mode 'reflect'"),
    "circular": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "padding_mode 'circular'"),
    "pad": (Does(lambda s, x: F.pad(x, (1, 1, 1, 1))), r"pad has no counterpart .*let the layer"),
    "width": (nn.LayerNorm(12), r"^middle \(LayerNorm\) normalizes the width of a map"),
    "no scale": (
        nn.Sequential(nn.Flatten(2), nn.LayerNorm(144, elementwise_affine=False)),
        r"^middle\.1 \(LayerNorm\) ",
    ),
    "number": (lambda x: x * 2, r"^Net: mul multiplies by something other than a layer's output"),
    "constant sum": (lambda x: x + 1, r"^Net: add adds something other than"),
    "normalised": (lambda x: x - 0.5, r"^Net: sub .*use space\.model\.mean and deviation"),
    "elements": (
        Does(lambda s, x: x.view(-1, x.shape[1:].numel())),
        r"^middle \(Does\): numel is called with invalid arguments .*no attribute 'numel'",
    ),
    "axes": (lambda x: x.transpose(2, 3), r"^Net: transpose moves axes"),
    "pixels": (lambda x: x[:, :, ::2], r"^Net: getitem takes a part"),
    "softmax": (lambda x: x.softmax(1), r"^Net: softmax has no counterpart"),
    "dtype": (lambda x: x.half(), r"^Net: half has no counterpart"),
}


@pytest.mark.parametrize("case", ELSE)
def test_what_is_no_graph_is_named(case: str) -> None:
    refused(Net(ELSE[case][0]), ELSE[case][1])


def test_a_network_with_two_outputs_is_refused() -> None:
    class Two(Net):
        def forward(self, x: Tensor) -> Any:
            x = super().forward(x)
            return x, x

    refused(Two(nn.ReLU()), "must return one tensor")


def test_auxiliary_heads_are_named() -> None:
    with torch.device("meta"):
        module = models.googlenet(init_weights=False)
    refused(module, r"^aux1 \(InceptionAux\) does something else in training than in evaluation")


# -- what no name is known of: module and graph side by side


def alias(self: Any, x: Tensor) -> Tensor:
    x.view(x.shape).relu_()
    return self.part(x)


def seen(self: Any, x: Tensor) -> Tensor:
    """Knows a tensor from what stands for one."""
    return x.detach() if isinstance(x, Tensor) else x


def more(self: Any, x: Tensor) -> Tensor:
    if isinstance(x, Tensor) and self.training:
        self.mean.add_(1)
    return x


def failing(self: Any, x: Tensor) -> Tensor:
    if isinstance(x, Tensor):
        raise RuntimeError("no such room")
    return x


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (
            Does(alias, part=conv()),
            r"^Net: its graph gives other outputs than it does in evaluation, by .*"
            r"first at middle\.part \(Conv2d\)",
        ),
        (Does(seen), r"^first \(Conv2d\): the gradient of its weight is different in the graph"),
        (Does(more, mean=torch.zeros(2)), r"^middle \(Does\) changes its mean in training"),
        (Does(failing), r"^Net cannot be run on 4 random images of shape 3x12x12: .*no such room"),
    ],
)
def test_module_and_graph_are_run_side_by_side(middle: nn.Module, message: str) -> None:
    refused(Net(middle), message)


def changed(traced: Traced, op: str, **attrs: Any) -> Traced:
    nodes = tuple(replace(n, attrs={**n.attrs, **attrs}) if n.op == op else n for n in traced.graph)
    return replace(traced, graph=Graph(nodes, traced.graph.output))


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("batch_norm", {"momentum": 0.2}, r"middle\.1 \(BatchNorm2d\) changes its running_mean"),
        ("batch_norm", {"eps": 1.1e-5}, r"middle\.1 \(BatchNorm2d\)"),
        ("group_norm", {"groups": 2}, r"first at middle\.2 \(GroupNorm\)"),
        ("group_norm", {"eps": 1.1e-5}, r"first at middle\.2 \(GroupNorm\)"),
        ("leaky_relu", {"slope": 0.011}, r"first at middle\.3 \(LeakyReLU\)"),
        ("avg_pool", {"count_pad": 0}, r"first at middle\.4 \(AvgPool2d\)"),
        ("conv", {"padding": 0}, r"first at first \(Conv2d\)"),
    ],
)
def test_a_graph_with_another_number_is_noticed(
    op: str, attrs: dict[str, Any], message: str
) -> None:
    parts = [conv(), nn.BatchNorm2d(4), nn.GroupNorm(4, 4), nn.LeakyReLU(), nn.AvgPool2d(3, 1, 1)]
    module = Net(nn.Sequential(*parts))
    traced = trace(module, SHAPE)
    compare(copy.deepcopy(module), traced)
    with pytest.raises(Untraceable, match=message):
        compare(copy.deepcopy(module), changed(traced, op, **attrs))


def test_weights_that_are_swapped_are_noticed() -> None:
    module = Net(nn.Sequential(conv(), nn.Tanh(), conv()))
    traced = trace(module, SHAPE)
    sources = dict(traced.sources)
    sources["middle_0.weight"] = Source("middle.2.weight")
    sources["middle_2.weight"] = Source("middle.0.weight")
    with pytest.raises(Untraceable, match=r"first at middle\.0 \(Conv2d\)"):
        compare(module, replace(traced, sources=sources))
