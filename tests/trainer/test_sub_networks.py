"""A trained network as the supernet of its sub-networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinase.api.model_space import ModelSpace
from kinase.morphism import apply, load_chain
from kinase.morphism.base import Base
from kinase.morphism.model import Model
from kinase.space import Frame, Graph, derive_rng, dump_graph
from kinase_trainer.morphism import inherit
from kinase_trainer.supernet.elastic import ElasticNetwork
from tests.trainer.morphism_graphs import BUILT, images, network_of, trained


def supernet(graph: Graph, state: dict[str, torch.Tensor]) -> tuple[Model, ElasticNetwork]:
    """The space of a network's parts, and its tensors, trained."""
    options = {"from": "graph", "graph": dump_graph(graph), "steps": 5}
    operations = ["prune", "crop", "remove", "cut"]
    model = Model(ModelSpace.model_validate({**options, "operations": operations}))
    shape = graph.shapes()["input"]
    elastic = model.elastic(Frame((shape[0], shape[1], shape[2]), 5))
    assert elastic is not None
    network = ElasticNetwork(elastic, (0.4, 0.5, 0.6), (0.3, 0.2, 0.3)).double()
    network.load_state_dict(state)
    return model, network


def resolved(graph: Graph, chain: tuple[Base, ...]) -> list[Base]:
    """The morphisms, told to keep the first channels of each part."""
    found = []
    for each in chain:
        change = apply(graph, each, lambda *_: np.zeros(()))
        graph = change.graph
        found.append(change.morphism or each)
    return found


@pytest.mark.parametrize("kind", BUILT)
@pytest.mark.parametrize("draws", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_a_slice_is_the_network_that_inherits_the_same_tensors(kind: str, draws: int) -> None:
    graph = BUILT[kind]().needed()
    state = trained(graph)
    model, network = supernet(graph, state)
    x = images(graph, torch.float64)
    for draw in range(draws):
        architecture = model.sample(derive_rng(0, draw))
        child = inherit(graph, state, resolved(graph, load_chain(architecture["morphisms"])))
        own = network_of(child.graph, child.state, torch.float64)
        for training in (False, True):
            torch.manual_seed(0)  # dropout
            expected = own.train(training)(x)
            network.follow(architecture)
            network.train(training)
            torch.manual_seed(0)
            torch.testing.assert_close(network(x), expected, atol=1e-9, rtol=1e-9)
        network.load_state_dict(state)
        alone = network.eval().standing_alone()
        assert {n: t.shape for n, t in alone.state_dict().items()} == {
            n: t.shape for n, t in own.state_dict().items()
        }
        assert sum(p.numel() for p in alone.parameters()) == child.graph.params() + sum(
            p.numel() for n, p in alone.named_parameters() if n.startswith("nodes.aux")
        )


def test_the_whole_is_the_trained_network() -> None:
    graph = BUILT["residual"]().needed()
    state = trained(graph)
    _, network = supernet(graph, state)
    network.eval().follow({"morphisms": []})
    x = images(graph, torch.float64)
    torch.testing.assert_close(network(x), network_of(graph, state, torch.float64)(x))


def test_gradients_reach_the_columns_of_each_group() -> None:
    graph = BUILT["residual"]().needed()
    _, network = supernet(graph, trained(graph))
    network.follow({"morphisms": [{"op": "prune", "node": "stem", "to": 4}]})
    network.train()(images(graph, torch.float64))[0].sum().backward()
    gradient = dict(network.named_parameters())["nodes.s0b0_c1.weight"].grad
    assert gradient is not None
    assert bool(gradient[:, :2].any())
    assert not bool(gradient[:, 2:].any()), "each group of four channels has kept its first two"
