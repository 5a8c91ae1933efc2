"""Trials of a supernet of slices: a MobileNet's, and a trained network's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load

from kinase.api.model_space import ModelSpace
from kinase.api.space import Space as SpaceModel
from kinase.api.trial import TrialJob
from kinase.space import Graph, GraphBuilder, dump_graph, make_space
from kinase.store.memory import MemoryStore
from kinase_trainer import root as roots
from kinase_trainer import trial
from kinase_trainer.errors import ConfigError
from tests.trainer.helpers import job

MOBILE: dict[str, Any] = {
    "type": "MobileNet",
    "mobileNet": {
        "stages": [{"width": 4, "maxDepth": 2}],
        "kernels": [3, 5],
        "stem": 4,
        "first": 0,
        "head": 8,
    },
}
COMMON: dict[str, Any] = {
    "training": {"epochs": 2, "batchSize": 64, "device": "cpu"},
    "fidelity": {"epochs": 2, "dataFraction": 0.1},
}


def training(space: dict[str, Any], ofa: dict[str, Any], **changes: Any) -> TrialJob:
    plan = {"relaxation": {"type": "OFA", "ofa": ofa}}
    document = {"trial": 0, "kind": "Supernet", "prefix": "trials/00000", "keepWeights": True}
    return job(
        **{**document, **COMMON, "space": space, "architecture": {}, "supernet": plan} | changes
    )


def scoring(space: dict[str, Any], architecture: dict[str, Any], **changes: Any) -> TrialJob:
    part = {"prefix": "trials/00000", "recalibrate": 64}
    document = {"trial": 1, "prefix": "trials/00001", "until": 0, "slice": part}
    return job(**{**document, **COMMON, "space": space, "architecture": architecture} | changes)


def test_a_mobilenet_shrinks_and_its_slices_are_scored() -> None:
    store = MemoryStore()
    result = trial.run(training(MOBILE, {"largest": 1, "kernel": 0, "depth": [0, 0]}), store)
    assert result.kept_bytes
    assert result.cost.samples == 2 * 4 * 108, "four networks in each step"
    tensors = load(store.get("trials/00000/supernet.safetensors"))
    matrix = tensors["transforms.stage0_block0_depthwise_conv_5"]
    assert matrix.shape == (9, 9)
    assert not torch.equal(matrix, torch.eye(9)), "it has learned"
    space = make_space(SpaceModel.model_validate(MOBILE))
    for architecture in (space.largest, space.smallest):
        assert architecture is not None
        scored = trial.run(scoring(MOBILE, architecture), store)
        assert 0 <= scored.metrics["val_accuracy"] <= 1


def network() -> Graph:
    """A small residual network."""
    g = GraphBuilder((1, 8, 8))
    x = g.relu("relu1", g.batch_norm("bn1", g.conv("conv1", g.input, 6, 5)))
    y = g.batch_norm("bn2", g.conv("conv2", x, 6, 3))
    x = g.relu("relu2", g.add("add", [x, y]))
    return g.build(g.linear("classifier", g.global_avg_pool("pool", x), 10))


OWN: dict[str, Any] = {
    "type": "Model",
    "model": {
        "from": "graph",
        "graph": dump_graph(network()),
        "operations": ["prune", "crop", "remove"],
        "seed": 3,
    },
}
STILL = {
    "epochs": 2,
    "batchSize": 64,
    "device": "cpu",
    "optimizer": {"type": "SGD", "sgd": {"learningRate": 1e-12, "weightDecay": 0}},
}


def test_a_network_of_ones_own_begins_with_its_trained_weights() -> None:
    store = MemoryStore()
    root = roots.make_root(ModelSpace.model_validate(OWN["model"]), (1, 8, 8), 10, store)
    files = root.files.model_dump(mode="json", by_alias=True)
    ofa = {"largest": 0, "networks": [2, 2, 2], "sort": False}
    changes: dict[str, Any] = {"root": files, "training": STILL}
    result = trial.run(training(OWN, ofa, **changes), store)
    assert result.message == ""
    found = load(store.get("trials/00000/supernet.safetensors"))
    begun = load(store.get(f"root/{root.weights}.safetensors"))
    for name, tensor in begun.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-6)
    smaller = {"morphisms": [{"op": "prune", "node": "conv1", "to": 3}]}
    scored = trial.run(scoring(OWN, smaller, root=files), store)
    assert 0 <= scored.metrics["val_accuracy"] <= 1


def test_a_space_that_grows_has_no_slices_and_says_why() -> None:
    store = MemoryStore()
    grows = {**OWN, "model": {**OWN["model"], "operations": ["prune", "widen"]}}
    root = roots.make_root(ModelSpace.model_validate(grows["model"]), (1, 8, 8), 10, store)
    files = root.files.model_dump(mode="json", by_alias=True)
    with pytest.raises(ConfigError, match=r"operations has widen; networks share .* prune, crop"):
        trial.run(training(grows, {}, root=files), store)


def test_a_space_without_a_largest_network_says_so() -> None:
    with pytest.raises(ConfigError, match=r"oneShot: sampling OFA .* Chain has none"):
        trial.run(training({"type": "Chain"}, {}), MemoryStore())
