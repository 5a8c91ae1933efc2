"""A slice of the shared tensors computes what the network with those tensors computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kinase.api.mobile import MobileNetSpace, MobileNetStage
from kinase.api.space import ChainSpace, MultiBranchSpace
from kinase.space import Frame, InfeasibleError, Space, derive_rng
from kinase.space.chain import Chain
from kinase.space.mobilenet import MobileNet
from kinase.space.multibranch import MultiBranch
from kinase_trainer.network import Network
from kinase_trainer.supernet import elastic as module
from kinase_trainer.supernet.elastic import ElasticNetwork, take
from kinase_trainer.supernet.uniform import Uniform

FRAME = Frame((2, 8, 8), 5)
IMAGES = torch.rand(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
STAGES = (MobileNetStage(width=3, max_depth=2), MobileNetStage(width=4, stride=2, max_depth=2))
SPACES: dict[str, Space] = {
    "mobilenet": MobileNet(
        MobileNetSpace(stages=STAGES, stem=3, head=6, multipliers=(1.0, 1.5), resolutions=(6, 8))
    ),
    "chain": Chain(ChainSpace(widths=(2, 3, 5), max_depth=3, skips=True)),
    "multi-branch": MultiBranch(MultiBranchSpace(widths=(2, 3, 5), max_nodes=4)),
}


def shared(name: str, **options: bool) -> ElasticNetwork:
    """The shared tensors of a space, with statistics that differ."""
    torch.manual_seed(0)
    elastic = SPACES[name].elastic(FRAME)
    assert elastic is not None
    network = ElasticNetwork(elastic, (0.4,), (0.3,), **options)
    for key, tensor in network.state_dict().items():
        if key.endswith("running_mean"):
            tensor.normal_()
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    return network


def drawn(name: str, count: int) -> Iterator[dict[str, object]]:
    """Architectures whose networks exist."""
    space = SPACES[name]
    for draw in range(count):
        architecture = space.sample(derive_rng(1, draw))
        try:
            space.graph(architecture, FRAME)
        except InfeasibleError:
            continue
        yield architecture


def alone(network: ElasticNetwork, name: str, architecture: dict[str, object]) -> Network:
    """The space's own network, with the slices copied."""
    graph = SPACES[name].graph(architecture, FRAME).needed()
    own = Network(graph, (0.4,), (0.3,))
    state = dict(network.state_dict())
    cuts = network.elastic.slice(architecture).cuts
    taken = {f"nodes.{n}": take(state[f"nodes.{n}"], cut).clone() for n, cut in cuts.items()}
    own.load_state_dict(taken | {n: state[n] for n in ("mean", "deviation")})
    return own


@pytest.mark.parametrize("draws", [12, pytest.param(400, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", SPACES)
def test_slices_compute_what_the_networks_compute(name: str, draws: int) -> None:
    network, count = shared(name).eval(), 0
    with torch.no_grad():
        for architecture in drawn(name, draws):
            network.follow(architecture)
            own = alone(network, name, architecture).eval()
            torch.testing.assert_close(network(IMAGES), own(IMAGES), atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(
                network.standing_alone()(IMAGES), own(IMAGES), atol=1e-6, rtol=1e-6
            )
            assert sum(p.numel() for p in own.parameters()) == sum(
                p.numel() for p in network.standing_alone().parameters()
            )
            count += 1
    assert count > draws * 0.8


@pytest.mark.parametrize("name", SPACES)
def test_training_a_slice_trains_its_part_and_nothing_else(name: str) -> None:
    for architecture in list(drawn(name, 8)):
        network = shared(name).train()
        own = alone(network, name, architecture).train()
        before = {n: t.clone() for n, t in network.state_dict().items()}
        network.follow(architecture)
        for each in (network, own):
            each(IMAGES).square().sum().backward()
        cuts = network.elastic.slice(architecture).cuts
        for key, parameter in network.named_parameters():
            cut = cuts.get(key.removeprefix("nodes."))
            if cut is None:
                assert parameter.grad is None, "not zero: decay and momentum would move it"
                continue
            assert parameter.grad is not None
            mine = dict(own.named_parameters())[key].grad
            assert mine is not None
            torch.testing.assert_close(parameter.grad.sum(), mine.sum(), atol=1e-4, rtol=1e-4)
            inside = torch.zeros_like(parameter).index_put_(
                torch.meshgrid(*(torch.as_tensor(list(axis)) for axis in cut.axes), indexing="ij"),
                mine,
                accumulate=True,
            )
            torch.testing.assert_close(parameter.grad, inside, atol=1e-5, rtol=1e-4)
        for key, tensor in network.state_dict().items():
            rest = key.removeprefix("nodes.")
            if "running" not in key or rest not in cuts:
                assert (
                    key in dict(network.named_parameters())
                    or torch.equal(tensor, before[key])
                    or "tracked" in key
                )
                continue
            theirs = own.state_dict()[key]
            torch.testing.assert_close(take(tensor, cuts[rest]), theirs)
            changed = (tensor != before[key]).sum()
            assert changed <= len(set(cuts[rest].axes[0])), "other channels' statistics stay"


def test_no_architecture_is_said() -> None:
    with pytest.raises(RuntimeError, match="call follow"):
        shared("chain")(IMAGES)


def test_plans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    network = shared("chain").eval()
    outputs = []
    architectures = list(drawn("chain", 6))
    for architecture in [*architectures, architectures[0]]:
        network.follow(architecture)
        outputs.append(network(IMAGES))
        assert len(network._plans) <= 3
    assert torch.equal(outputs[0], outputs[-1])


def test_networks_share_modules_where_they_are_alike() -> None:
    network = shared("chain").eval()
    layers = [{"op": "conv", "width": 3, "kernel": k, "stride": 1, "skip": None} for k in (3, 5)]
    plans = []
    for second in layers:
        network.follow({"layers": [layers[0], second]})
        assert network._plan is not None
        plans.append(network._plan.network.nodes)
    assert plans[0]["layer0_conv"] is plans[1]["layer0_conv"]
    assert plans[0]["layer1_conv"] is not plans[1]["layer1_conv"]
    assert all(p.is_meta for nodes in plans for p in nodes.parameters())


def test_uniform_draws_follow_architectures_of_the_space() -> None:
    network = shared("chain").eval()
    draws = []
    for seed in (1, 1, 2):
        Uniform(None, SPACES["chain"]).choose(network, torch.Generator().manual_seed(seed))
        draws.append(network(IMAGES))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_kernel_transforms_begin_as_the_centre_and_learn() -> None:
    plain, transformed = shared("chain").eval(), shared("chain", transforms=True).eval()
    layer = {"op": "sepconv", "width": 3, "stride": 1, "skip": None}
    small, large = ({"layers": [{**layer, "kernel": size}]} for size in (3, 5))
    for architecture in (small, large):
        for each in (plain, transformed):
            each.follow(architecture)
        torch.testing.assert_close(transformed(IMAGES), plain(IMAGES))
        transformed.zero_grad()
        transformed(IMAGES).sum().backward()
        learns = transformed.transforms["layer0_depthwise_5"].grad is not None
        assert learns == (architecture is small)
    assert transformed.transforms["layer0_depthwise_5"].shape == (9, 9)
