"""Operations of traced networks, exported: the files give what the torch module gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from kinase.store.memory import MemoryStore
from kinase_trainer.export import FORMATS
from kinase_trainer.network import Network
from kinase_trainer.trace import trace
from tests.trainer.test_export import READERS, batches

SHAPE = (3, 9, 10)
WIDTH = 4


class Norm(nn.Module):
    """A layer normalization of each pixel's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return out.permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """A learned factor of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.rand(WIDTH, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def conv(kernel: int | tuple[int, int], **more: int | tuple[int, int] | str) -> nn.Module:
    return nn.Conv2d(WIDTH, WIDTH, kernel, **more)  # type: ignore[arg-type]


def pool(kind: Callable[..., nn.Module], kernel: int, stride: int, padding: int = 0) -> nn.Module:
    return kind(kernel, stride, padding, ceil_mode=True)


def uncounted(*sizes: int, ceil: bool) -> nn.Module:
    return nn.AvgPool2d(*sizes, ceil_mode=ceil, count_include_pad=False)


GROUPS: dict[str, Callable[[], dict[str, nn.Module]]] = {
    "activations": lambda: {
        "relu6": nn.ReLU6(),
        "leaky_relu": nn.LeakyReLU(0.2),
        "elu": nn.ELU(0.5),
        "selu": nn.SELU(),
        "gelu": nn.GELU(),
        "gelu_tanh": nn.GELU("tanh"),
        "silu": nn.SiLU(),
        "mish": nn.Mish(),
        "hard_swish": nn.Hardswish(),
        "hard_sigmoid": nn.Hardsigmoid(),
        "sigmoid": nn.Sigmoid(),
        "tanh": nn.Tanh(),
    },
    "normalisations": lambda: {
        "group_norm": nn.GroupNorm(2, WIDTH, eps=1e-3),
        "instance": nn.GroupNorm(WIDTH, WIDTH, affine=False),
        "layer_norm": Norm(),
        "layer_scale": LayerScale(),
        "shuffle": nn.ChannelShuffle(2),
        "drop_path": StochasticDepth(0.2, "row"),
        "dropout": nn.Dropout(0.3),
    },
    "pools": lambda: {
        "max": pool(nn.MaxPool2d, 3, 2),
        "max_padded": pool(nn.MaxPool2d, 3, 2, 1),
        "max_dropped": pool(nn.MaxPool2d, 2, 3, 1),  # a last window that begins in the padding
        "avg": pool(nn.AvgPool2d, 3, 2),
        "avg_counted": pool(nn.AvgPool2d, 3, 2, 1),
        "avg_dropped": pool(nn.AvgPool2d, 2, 3, 1),
        "avg_uncounted": uncounted(3, 2, 1, ceil=True),
        "avg_floor": uncounted(3, 2, 1, ceil=False),
        "avg_even": uncounted(2, 2, ceil=True),
        "adaptive": nn.AdaptiveAvgPool2d((3, 5)),
    },
    "convolutions": lambda: {
        "strides": conv(3, stride=(2, 1), padding=1),
        "padding": conv(3, padding=(0, 1)),
        "window": conv((3, 5), padding=(1, 0), stride=(1, 2)),
        "same": conv((5, 3), padding="same"),
        "dilated": conv(3, padding=2, dilation=2, groups=2),
        "point": conv(1, stride=(1, 2)),
        "conv_7x1_1x7": nn.Sequential(
            conv((1, 7), stride=(1, 2), padding=(0, 3)), conv((7, 1), stride=(2, 1), padding=(3, 0))
        ),
    },
}


class Several(nn.Module):
    """Layers of one map, and a linear layer of all that they give."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.stem, self.layers = nn.Conv2d(3, WIDTH, 1), nn.ModuleDict(layers)
        width = sum(each(torch.zeros(1, WIDTH, *SHAPE[1:])).numel() for each in layers.values())
        self.end = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = self.end(torch.cat([each(x).flatten(1) for each in self.layers.values()], 1))
        return out


@cache
def traced(group: str) -> tuple[nn.Module, Network]:
    torch.manual_seed(0)
    module = Several(GROUPS[group]()).eval()
    with torch.no_grad():
        for each in module.parameters():
            each.add_(0.1 * torch.randn_like(each))
    found = trace(module, SHAPE)
    network = Network(found.graph)
    own = {"mean": network.mean, "deviation": network.deviation}
    network.load_state_dict({**own, **found.state(module.state_dict())})
    return module, network.eval()


@pytest.mark.parametrize(
    ("format", "file"), [("torchscript", "model.torchscript.pt"), ("onnx", "model.onnx")]
)
@pytest.mark.parametrize("group", GROUPS)
def test_an_exported_network_gives_what_the_module_gives(
    group: str, format: str, file: str, tmp_path: Path
) -> None:
    module, network = traced(group)
    card = {"input": list(SHAPE), "task": "Classification"}
    FORMATS[format](network, card, MemoryStore(), tmp_path)
    run = READERS[file](tmp_path / file)
    with torch.no_grad():
        for images in batches(list(SHAPE)):
            torch.testing.assert_close(run(images), module(images), rtol=0, atol=1e-5)
