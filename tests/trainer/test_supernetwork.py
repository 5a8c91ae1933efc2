"""The output of a slice is that of the network that stands alone, and so are its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kinase.api.fidelity import Scale
from kinase.api.space import Space as SpaceModel
from kinase.space import Frame, derive_rng, make_space
from kinase.space.supernet import NONE, match
from kinase_trainer.network import Network
from kinase_trainer.supernet.network import Supernetwork, slice_weights
from kinase_trainer.supernet.recalibrate import recalibrate

FRAME = Frame((3, 8, 8), 10, Scale(cells=3, filters=4), searching=True)
IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


SPACES: dict[str, dict[str, Any]] = {
    "darts": {"type": "Cell", "cell": {"preset": "darts"}},
    "nasbench201": {"type": "Cell", "cell": {"preset": "nasbench201"}},
    "macro": {"type": "Macro", "macro": {"layers": 4}},
    "choice blocks": {"type": "ChoiceBlocks", "choiceBlocks": {"blocks": 2}},
    "fabric": {"type": "Fabric", "fabric": {"layers": 4, "scales": 3}},
}


def pair(name: str, draw: int) -> tuple[Supernetwork, Network, dict[str, int], dict[str, str]]:
    """A supernet, one of its networks with the supernet's weights, its path and its names."""
    torch.manual_seed(draw)
    space = make_space(SpaceModel.model_validate(SPACES[name]))
    supernet = space.supernet(FRAME)
    assert supernet is not None
    architecture = space.sample(derive_rng(0, draw))
    path = space.path(architecture)
    graph = space.graph(architecture, FRAME).needed()
    names = match(graph, supernet.slice(path))
    network, whole = Network(graph), Supernetwork(supernet)
    network.load_state_dict(slice_weights(whole.state_dict(), names))
    return whole, network, path, names


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("training", [True, False])
def test_a_slice_computes_what_the_network_computes(name: str, training: bool) -> None:
    for draw in range(3):
        whole, network, path, _ = pair(name, draw)
        whole.train(training)
        network.train(training)
        whole.follow(path)
        with torch.no_grad():
            assert torch.equal(whole(IMAGES), network(IMAGES))


@pytest.mark.parametrize("name", SPACES)
def test_weights_of_one_on_a_path_and_zero_elsewhere_compute_the_path(name: str) -> None:
    whole, network, path, _ = pair(name, 1)
    weights = {
        group: torch.eye(len(options))[path[group]]
        for group, options in whole.supernet.groups.items()
    }
    whole.eval()
    network.eval()
    whole.mix(weights)
    with torch.no_grad():
        torch.testing.assert_close(whole(IMAGES), network(IMAGES), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["darts", "macro", "choice blocks", "fabric"])
def test_only_what_is_on_the_path_is_trained(name: str) -> None:
    whole, network, path, names = pair(name, 0)
    whole.follow(path)
    whole(IMAGES).square().sum().backward()
    network(IMAGES).square().sum().backward()
    gradients = {name: p.grad for name, p in whole.named_parameters()}
    own = dict(network.named_parameters())
    back = {theirs: name for name, theirs in names.items()}
    for key, gradient in gradients.items():
        _, node, rest = key.split(".", 2)
        if node not in back:
            assert gradient is None  # not zero: decay and momentum would move it
            continue
        expected = own[f"nodes.{back[node]}.{rest}"].grad
        assert gradient is not None
        assert expected is not None
        torch.testing.assert_close(gradient, expected)


def test_a_mixture_is_the_sum_over_the_options() -> None:
    # one cell, one edge: the output is linear in the weights before the head
    whole, _, path, _ = pair("nasbench201", 0)
    groups = whole.supernet.groups
    uniform = {group: torch.full((len(o),), 1 / len(o)) for group, o in groups.items()}
    whole.mix(uniform)
    choice = whole.supernet.choices[0]
    maps = [torch.rand(2, 4, 8, 8) for _ in choice.options]
    mixed = whole.nodes[choice.node](*maps)
    torch.testing.assert_close(mixed, torch.stack(maps).mean(dim=0))
    assert NONE in choice.options
    assert path.keys() == groups.keys()


def test_a_supernet_that_was_told_nothing_says_what_is_missing() -> None:
    whole, *_ = pair("nasbench201", 0)
    with pytest.raises(RuntimeError, match="follow or mix"):
        whole(IMAGES)


def test_recalibrated_statistics_are_those_of_the_network_that_stands_alone() -> None:
    whole, network, path, names = pair("nasbench201", 2)
    batches = [torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    weights = {name: p.detach().clone() for name, p in whole.named_parameters()}
    whole.eval()
    whole.follow(path)
    whole.set_drop_path(0.4)
    assert recalibrate(whole, batches) == 24
    assert not whole.training
    assert {each.rate for each in whole.drop_paths} == {0.4}
    for name, p in whole.named_parameters():
        assert torch.equal(p, weights[name]), "weights do not change"
    network.train()
    norms = [n for n, m in network.nodes.items() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    for name in norms:
        own = network.nodes[name]
        assert isinstance(own, torch.nn.BatchNorm2d)
        own.momentum = None  # the mean over the batches
    with torch.no_grad():
        for batch in batches:
            network(batch)
    for name in norms:
        for key in ("running_mean", "running_var"):
            torch.testing.assert_close(
                getattr(whole.nodes[names[name]], key), getattr(network.nodes[name], key)
            )


def test_the_order_of_the_batches_does_not_count() -> None:
    whole, _, path, _ = pair("nasbench201", 2)
    batches = [torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    whole.eval()
    whole.follow(path)
    outputs = []
    for order in (batches, batches[::-1]):
        recalibrate(whole, order)
        with torch.no_grad():
            outputs.append(whole(IMAGES))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
