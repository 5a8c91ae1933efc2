"""Torch modules as graphs: torchvision's classifiers are the same functions before and after."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import StochasticDepth

from kinase.api.space import Space as SpaceModel
from kinase.morphism import MorphismError, load_chain
from kinase.morphism.model import Model
from kinase.space import Graph, dump_graph, load_graph, make_space
from kinase_trainer.morphism import inherit
from kinase_trainer.network import Network
from kinase_trainer.trace import Traced, Untraceable, trace

SHAPE = (3, 32, 32)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": models.resnet18,
    "resnet50": lambda: models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1]),
    "vgg11": lambda: models.vgg11(init_weights=False),
    "vgg16_bn": lambda: models.vgg16_bn(init_weights=False),
    "mobilenet_v2": models.mobilenet_v2,
    "mobilenet_v3_small": models.mobilenet_v3_small,
    "densenet121": lambda: models.DenseNet(block_config=(3, 2, 2, 2)),
    "vit_b_16": lambda: models.vit_b_16(image_size=32),
}
"""With squeeze-and-excitation, hard-swish, grouped and depthwise convolutions, concatenations,
batch normalisations of other eps and momentum, and attention. Of the deep ones fewer blocks, for
they are all alike."""


def scattered(module: nn.Module) -> nn.Module:
    """The module with statistics, scales and shifts that mean something; what is large repeats."""
    generator = torch.Generator().manual_seed(1)
    block = torch.randn(65_521, generator=generator)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            part = name.rpartition(".")[2]
            if not tensor.is_floating_point():
                continue
            drawn = block.repeat(1 + tensor.numel() // len(block))[: tensor.numel()]
            drawn = drawn.view(tensor.shape)
            if part == "running_var" or (part == "weight" and tensor.ndim == 1):
                tensor.copy_(1 + 0.5 * drawn.tanh())
            elif tensor.ndim > 1:
                tensor.copy_(drawn * (1 / max(1, tensor[0].numel())) ** 0.5)
            else:
                tensor.copy_(0.2 * drawn)
    return module.eval()


def made(name: str) -> nn.Module:
    with torch.device("meta"):
        module = NETWORKS[name]()
        if name.startswith("vgg"):  # of its 130 million weights most are in two layers
            module.classifier[0] = nn.Linear(512 * 49, 64)
            module.classifier[3], module.classifier[6] = nn.Linear(64, 64), nn.Linear(64, 1000)
        if name == "vit_b_16":
            module.encoder.layers = module.encoder.layers[:3]
    return scattered(module.to_empty(device="cpu"))


@cache
def traced(name: str) -> tuple[nn.Module, Traced]:
    """Made once."""
    module = made(name)
    return module, trace(module, SHAPE)


def network_of(graph: Graph, state: dict[str, Tensor]) -> Network:
    with torch.device("meta"):
        network = Network(graph)
    own = {"mean": torch.zeros(1, 1, 1, 1), "deviation": torch.ones(1, 1, 1, 1)}
    network.load_state_dict({**own, **state}, assign=True)
    return network.eval()


def images(count: int = 2) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(3))


def difference(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1.0))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_torchvision_gives_what_it_gave(name: str) -> None:
    module, found = traced(name)
    graph = load_graph(json.loads(json.dumps(dump_graph(found.graph))))
    assert graph == found.graph
    assert graph.params() == sum(each.numel() for each in module.parameters())
    assert {source.key for source in found.sources.values()} == set(module.state_dict())
    with torch.no_grad():
        network = network_of(graph, found.state(module.state_dict()))
        assert difference(network(images()), module(images())) <= 1e-5


def test_training_is_the_same_too() -> None:
    """Batch statistics, and the momentum with which they are kept."""
    module, found = traced("mobilenet_v2")
    module = copy.deepcopy(module)
    state = {n: t.clone() for n, t in found.state(module.state_dict()).items()}
    network = network_of(found.graph, state).train()
    module.train()
    for each in (*module.modules(), *network.modules()):
        if isinstance(each, nn.Dropout):
            each.p = 0.0
    with torch.no_grad():
        assert difference(network(images(4)), module(images(4))) <= 1e-5
    kept = found.state(module.state_dict())
    for name, tensor in network.state_dict().items():
        if name in kept:
            torch.testing.assert_close(tensor, kept[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121", "vit_b_16"])
def test_a_grown_network_gives_what_it_gave(name: str) -> None:
    module, found = traced(name)
    ops = ["widen", "heads", "deepen", "kernel", "skip", "branch"]
    space = make_space(
        SpaceModel.model_validate(
            {"type": "Model", "model": {"from": "torchvision", "name": name, "operations": ops}}
        ),
        found.graph,
    )
    assert isinstance(space, Model)
    rng = np.random.default_rng(5)
    state = found.state(module.state_dict())
    with torch.no_grad():
        wanted = module(images())
    done = set[str]()
    for op in ops:
        for _ in range(20):
            places = space._candidates({"morphisms": []})[op]
            if not places:
                break
            place = places[int(rng.integers(len(places)))]
            filled = space._filled({"morphisms": []}, op, place)
            try:
                child = inherit(found.graph, state, load_chain(filled[-1:]))
            except MorphismError:
                continue
            with torch.no_grad():
                assert difference(network_of(child.graph, child.state)(images()), wanted) <= 1e-5
            done.add(op)
            break
    assert done == {*ops} - ({"heads"} if name != "vit_b_16" else set())


def test_the_depthwise_convolutions_between_share_a_width() -> None:
    """An inverted residual's expansion is widened with its squeeze-and-excitation."""
    module, found = traced("mobilenet_v3_small")
    node = "features_4_block_0_0"
    width = next(int(n.attrs["out"]) for n in found.graph if n.name == node)
    chain = load_chain([{"op": "widen", "node": node, "to": 2 * width, "rule": "replicate"}])
    child = inherit(found.graph, found.state(module.state_dict()), chain)
    wider = {n.name for n in child.graph if n.attrs.get("out") == 2 * width}
    assert {node, "features_4_block_1_0", "features_4_block_2_fc2"} <= wider
    with torch.no_grad():
        assert difference(network_of(child.graph, child.state)(images()), module(images())) <= 1e-5


# -- what cannot be traced ---------------------------------------------------------------


class Net(nn.Module):
    """A convolution, something else, and a linear layer."""

    def __init__(self, middle: nn.Module | Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = middle
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.middle(self.first(x)).mean((2, 3)))


class Branching(nn.Module):
    """Does what the numbers say."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


class Hidden(nn.Module):
    """Holds the part that is at fault."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.part(x)
        return out


class Twice(nn.Module):
    """Calls one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.layer(x))
        return out


class Doubled(nn.Identity):
    """An identity by its name alone."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * input


Doubled.__name__ = "Identity"


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (Hidden(Branching()), r"middle\.part \(Branching\) cannot be traced: .*branches or loops"),
        (nn.Sequential(nn.ReLU(), nn.PReLU()), r"middle\.1 \(PReLU\) has no counterpart; use one"),
        (nn.GELU("tanh"), r"middle \(GELU\) is approximate; use the exact one"),
        (Twice(), r"middle\.layer \(Conv2d\) is called twice"),
        (nn.MaxPool2d(3, 2, ceil_mode=True), r"middle \(MaxPool2d\) rounds sizes up"),
        (nn.AvgPool2d(3, 1, 1), r"middle \(AvgPool2d\) counts its padding"),
        (nn.MaxPool2d(64, 64), r"middle \(MaxPool2d\) .*use larger images"),
        (nn.Conv2d(4, 4, 3, (1, 2)), r"middle \(Conv2d\) has another stride"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), r"padding_mode 'reflect'"),
        (nn.BatchNorm2d(4, track_running_stats=False), r"middle \(BatchNorm2d\) keeps no moving"),
        (lambda x: x * 2, r"Net: mul multiplies by what is no layer's output"),
        (lambda x: x + 1, r"Net: add adds what is neither"),
        (lambda x: x.transpose(2, 3), r"Net: transpose moves axes"),
        (lambda x: x[:, :, ::2], r"Net: getitem takes a part"),
        (lambda x: x.softmax(1), r"Net: softmax has no counterpart"),
        (Doubled(), r"Net: its graph gives other outputs than it does"),
    ],
)
def test_what_is_no_graph_is_named(middle: Any, message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(Untraceable, match=message) as error:
        trace(Net(middle), SHAPE)
    assert len(str(error.value)) < 1500


def test_a_network_with_two_outputs_is_refused() -> None:
    class Two(Net):
        def forward(self, x: Tensor) -> Any:
            x = super().forward(x)
            return x, x

    with pytest.raises(Untraceable, match="must return one tensor"):
        trace(Two(nn.ReLU()), SHAPE)


def test_what_is_random_in_training_stays_so() -> None:
    parts = [StochasticDepth(0.2, "row"), nn.Dropout(0.3), nn.Identity()]
    ops = {n.op: n for n in trace(Net(nn.Sequential(*parts)), SHAPE).graph}
    assert {"drop_path", "dropout", "identity"} <= set(ops)
    assert ops["dropout"].attrs == {"rate": 0.3}


def test_a_module_is_left_as_it_was() -> None:
    module = Net(nn.BatchNorm2d(4)).train()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    graph = trace(module, (1, 9, 7)).graph
    assert module.training
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())
    assert dict(graph.nodes[0].attrs) == {"channels": 3, "height": 9, "width": 7}
