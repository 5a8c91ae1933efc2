"""Torch modules as graphs: torchvision's classifiers are the same functions before and after."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.googlenet import BasicConv2d, Inception
from torchvision.ops import StochasticDepth

from kinase.api.model_space import ModelSpace
from kinase.api.space import Space as SpaceModel
from kinase.morphism import MorphismError, apply_all, load_chain
from kinase.morphism.model import Model
from kinase.space import Graph, dump_graph, load_graph, make_space
from kinase_trainer.morphism import inherit
from kinase_trainer.network import DropPath, Network
from kinase_trainer.root import make_module
from kinase_trainer.trace import Traced, trace

SHAPE = (3, 32, 32)
SLIM = [[1, 8, 1, 1], [6, 12, 2, 2], [6, 16, 1, 2]]
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1]),
    "resnet50": lambda: models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], width_per_group=16),
    "vgg11": lambda: vgg(norm=False),
    "vgg16_bn": lambda: vgg(norm=True),
    "mobilenet_v2": lambda: models.MobileNetV2(inverted_residual_setting=SLIM),
    "mobilenet_v3_small": models.mobilenet_v3_small,
    "densenet121": lambda: models.DenseNet(block_config=(2, 2, 1, 1)),
    "vit_b_16": lambda: models.VisionTransformer(32, 16, 2, 2, 32, 64),
    "efficientnet_b0": lambda: models.EfficientNet(
        [MBConvConfig(1, 3, 1, 8, 8, 1), MBConvConfig(6, 5, 2, 8, 12, 2)], 0.2
    ),
    "shufflenet_v2_x0_5": lambda: models.ShuffleNetV2([2, 2, 2], [8, 16, 32, 64, 64]),
    "squeezenet1_0": models.squeezenet1_0,
    "squeezenet1_1": models.squeezenet1_1,
    "googlenet": lambda: googlenet(),
    "convnext_tiny": lambda: models.ConvNeXt(CONVNEXT, stochastic_depth_prob=0.3),
}
"""With squeeze-and-excitation, hard-swish, grouped and depthwise convolutions, concatenations,
batch normalizations of other eps and momentum, attention, pools that round up, shuffled channels,
normalizations and linear layers of a map's channels, factors of channels and drop path. Of most
fewer blocks and channels, for they are all alike."""
CONVNEXT = [CNBlockConfig(16, 32, 1), CNBlockConfig(32, 48, 2), CNBlockConfig(48, None, 1)]


def googlenet() -> nn.Module:
    """With an eighth of the channels."""

    def conv(inside: int, out: int, **window: Any) -> nn.Module:
        return BasicConv2d(inside if inside == 3 else inside // 8, out // 8, **window)

    def block(*widths: int) -> nn.Module:
        return Inception(*(width // 8 for width in widths))

    module = models.GoogLeNet(
        aux_logits=False, init_weights=False, blocks=[conv, block, nn.Identity]
    )
    module.fc = nn.Linear(128, 1000)
    return module


def inception() -> nn.Module:
    """With an eighth of the channels."""

    def conv(inside: int, out: int, **window: Any) -> nn.Module:
        return models.inception.BasicConv2d(
            inside if inside == 3 else inside // 8, out // 8, **window
        )

    parts = models.inception
    blocks = [parts.InceptionA, parts.InceptionB, parts.InceptionC, parts.InceptionD]
    narrow = [partial(block, conv_block=conv) for block in (*blocks, parts.InceptionE)]
    module = models.Inception3(
        aux_logits=False, init_weights=False, inception_blocks=[conv, *narrow, nn.Identity]
    )
    module.fc = nn.Linear(256, 10)
    return module


def vgg(norm: bool) -> nn.Module:
    """The plan of VGG 11, narrow."""
    layers: list[int | str] = [8, "M", 12, "M", 16, 16, "M", 20, 20, "M", 20, 20, "M"]
    module = models.VGG(models.vgg.make_layers(layers, norm), init_weights=False)
    module.classifier[0] = nn.Linear(20 * 49, 64)
    module.classifier[3], module.classifier[6] = nn.Linear(64, 64), nn.Linear(64, 1000)
    return module


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
    """As `trace` itself has compared in double precision, in evaluation and in training."""
    module, found = traced(name)
    graph = load_graph(json.loads(json.dumps(dump_graph(found.graph))))
    assert graph == found.graph
    assert graph.params() == sum(each.numel() for each in module.parameters())
    assert {source.key for source in found.sources.values()} == set(module.state_dict())
    with torch.no_grad():
        network = network_of(graph, found.state(module.state_dict()))
        assert difference(network(images()), module(images())) <= 1e-6


@pytest.mark.parametrize(
    "name",
    ["shufflenet_v2_x0_5", "squeezenet1_0", "squeezenet1_1", "googlenet", "convnext_tiny"],
)
def test_sizes_are_those_that_torchvision_publishes(name: str) -> None:
    """Parameters to the digit; multiply-adds at 224 pixels in billions, to three decimals."""
    more = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        module = models.get_model(name, **more)
    graph = trace(module, (3, 224, 224)).graph
    published = models.get_model_weights(name).IMAGENET1K_V1.meta
    assert graph.params() == published["num_params"]
    assert graph.macs() / 1e9 == pytest.approx(published["_ops"], abs=6e-4)


def test_inception_v3_of_torchvision() -> None:
    """What `from: torchvision` makes has the parameters that are published, less the auxiliary
    head's; with an eighth of the channels it gives what the module gives."""
    with torch.device("meta"):
        module = make_module(
            ModelSpace.model_validate({"from": "torchvision", "name": "inception_v3"})
        )
        head = models.inception.InceptionAux(768, 1000)
    graph = trace(module, (3, 299, 299)).graph
    published = models.Inception_V3_Weights.IMAGENET1K_V1.meta
    auxiliary = sum(each.numel() for each in head.parameters())
    assert graph.params() == published["num_params"] - auxiliary == 23_834_568
    assert graph.macs() / 1e9 == pytest.approx(published["_ops"], abs=6e-4)
    narrow = scattered(inception())
    found = trace(narrow, (3, 75, 75))
    assert found.graph.params() == sum(each.numel() for each in narrow.parameters())
    x = torch.rand(2, 3, 75, 75, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        network = network_of(found.graph, found.state(narrow.state_dict()))
        assert difference(network(x), narrow(x)) <= 1e-6


@pytest.mark.parametrize("name", ["mobilenet_v2", "convnext_tiny", "shufflenet_v2_x0_5"])
def test_training_is_the_same_too(name: str) -> None:
    """Batch statistics, the momentum with which they are kept, and gradients: a step of SGD."""
    module, found = traced(name)
    module = copy.deepcopy(module).double()
    state = {n: t.clone() for n, t in found.state(module.state_dict()).items()}
    with torch.device("meta"):
        network = Network(found.graph)
    own = {"mean": torch.zeros(1, 1, 1, 1), "deviation": torch.ones(1, 1, 1, 1)}
    network.load_state_dict({**own, **state}, assign=True)
    for each in (module.train(), network.train()):
        for part in each.modules():
            if isinstance(part, nn.Dropout | StochasticDepth):
                part.p = 0.0
            elif isinstance(part, DropPath):
                part.rate = 0.0
        optimizer = torch.optim.SGD(each.parameters(), 0.1)
        output = each(images(4).double())
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        optimizer.step()
    wanted = found.state(module.state_dict())
    for key, tensor in network.state_dict().items():
        if key in wanted:
            torch.testing.assert_close(tensor, wanted[key], rtol=1e-8, atol=1e-8)


GROWN = {
    "resnet18": {"heads"},
    "mobilenet_v3_small": {"heads"},
    "densenet121": {"heads"},
    "vit_b_16": set[str](),
    "shufflenet_v2_x0_5": {"heads"},
    "squeezenet1_1": {"heads"},
    "googlenet": {"heads"},
    "convnext_tiny": {"heads"},
}
"""Networks, with the morphisms that they have no place for."""


@pytest.mark.parametrize("name", GROWN)
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
    assert done == {*ops} - GROWN[name]


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


@pytest.mark.parametrize(
    ("name", "fixed", "why"),
    [
        ("shufflenet_v2_x0_5", "stage2_1_branch2_5", "shuffles these channels"),
        ("convnext_tiny", "features_1_0_block_0", "normalizes over this width"),
    ],
)
def test_widths_that_a_layer_orders_or_normalizes_stay(name: str, fixed: str, why: str) -> None:
    _, found = traced(name)
    node = next(n for n in found.graph if n.name == fixed)
    chain = load_chain([{"op": "widen", "node": node.name, "to": 1000}])
    with pytest.raises(MorphismError, match=rf"(its width is that of|{why})"):
        apply_all(found.graph, chain)
    inner = {"shufflenet_v2_x0_5": "stage2_1_branch2_0", "convnext_tiny": "features_1_0_block_3"}
    wider = apply_all(found.graph, load_chain([{"op": "widen", "node": inner[name], "to": 1000}]))
    assert wider.params() > found.graph.params()


def test_what_is_random_in_training_stays_so() -> None:
    """With the rates that it has, which the experiment's training does not change."""
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), StochasticDepth(0.2, "row"), nn.Dropout(0.3), nn.Identity(), Head()
    )
    graph = trace(module, SHAPE).graph
    ops = {n.op: n for n in graph}
    assert {"drop_path", "dropout", "identity"} <= set(ops)
    assert ops["dropout"].attrs == {"rate": 0.3}
    assert ops["drop_path"].attrs == {"rate": 0.2}
    network = Network(graph)
    network.set_drop_path(0.7)
    [drop] = [m for m in network.modules() if isinstance(m, DropPath)]
    assert drop.rate == 0.2


class Head(nn.Module):
    """A mean and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(x.mean((2, 3)))
        return out


class Shuffled(nn.ChannelShuffle):
    """Still torch's: what a subclass leaves as it is."""


class ByFunctions(nn.Module):
    """The same layers as functions, in place and with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(4))
        self.factor = nn.Parameter(torch.rand(4, 1, 1))
        self.shift, self.scale = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(4))
        self.drop = 0.4

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(F.group_norm(x, 2, self.weight, self.bias, 1e-3), 0.2, inplace=True)
        x = F.gelu(F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), approximate="tanh") * self.factor
        y = F.layer_norm(x.permute(0, 2, 3, 1), (4,), self.scale, self.shift)
        x = x + F.silu(y).permute(0, 3, 1, 2)
        x = F.dropout(x, self.drop, self.training)
        one, other = torch.split(x, [1, 3], dim=1)
        x = torch.cat([F.elu(other, 0.5), F.mish(one)], 1)
        return F.selu(F.max_pool2d(x, 2, ceil_mode=True))


def test_layers_may_be_functions() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), ByFunctions(), Shuffled(2), Head())
    graph = trace(module, (3, 10, 9)).graph
    found = {node.op: dict(node.attrs) for node in graph}
    assert found["group_norm"] == {"channels": 4, "groups": 2, "affine": 1, "eps": 1e-3}
    assert found["leaky_relu"] == {"slope": 0.2}
    assert found["avg_pool"] == {"kernel": 3, "stride": 2, "padding": 1, "ceil": 1, "count_pad": 1}
    assert found["max_pool"] == {"kernel": 2, "stride": 2, "padding": 0, "ceil": 1}
    assert {"gelu_tanh", "layer_scale", "layer_norm", "silu", "dropout", "slice"} <= set(found)
    assert {"elu", "mish", "selu", "shuffle"} <= set(found)


class Own(nn.GroupNorm):
    """Does more than torch's."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.relu())


def test_a_class_is_known_by_what_it_does_and_not_by_its_name() -> None:
    """The forward of a subclass is looked into."""
    torch.manual_seed(0)
    graph = trace(nn.Sequential(nn.Conv2d(3, 4, 1), Own(2, 4), Head()), SHAPE).graph
    assert [node.op for node in graph][2:4] == ["relu", "group_norm"]


def test_a_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(), Head()).train()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    drawn = torch.get_rng_state()
    graph = trace(module, (1, 9, 7)).graph
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(part.training for part in module.modules())
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert dict(graph.nodes[0].attrs) == {"channels": 3, "height": 9, "width": 7}


def test_windows_may_step_one_way() -> None:
    class Stripes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Conv2d(3, 4, (1, 7), stride=(1, 2), padding=(0, 3))
            self.columns = nn.Conv2d(4, 4, (7, 1), stride=(2, 1), padding=(3, 0))
            self.head = nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.columns(self.rows(x).relu()).mean((2, 3)))  # type: ignore[no-any-return]

    module = Stripes().eval()
    found = trace(module, SHAPE)
    assert found.graph.shapes()["columns"] == (4, 16, 16)
    with torch.no_grad():
        network = network_of(found.graph, found.state(module.state_dict()))
        assert difference(network(images()), module(images())) <= 1e-6
