"""The trials of a supernet: trained, stored, and read in parts by the candidates."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from kinase.api.trial import Outcome, TrialJob
from kinase.space import Frame, make_space
from kinase.space.supernet import match
from kinase.store.memory import MemoryStore
from kinase_trainer import checkpoint, trial, weights
from kinase_trainer.data import open_splits
from kinase_trainer.errors import ConfigError, CorruptModel
from kinase_trainer.network import Network
from kinase_trainer.supernet import stored
from kinase_trainer.supernet import trial as supernets
from kinase_trainer.supernet.network import slice_weights
from tests.trainer.helpers import CHAIN, SMALL, job, search

CELL = {"type": "Cell", "cell": {"preset": "nasbench201"}}
SCALE = {"cells": 1, "filters": 4}
FIDELITY = {"epochs": 2, "dataFraction": 0.2, "scale": SCALE}
SPACE = make_space(job(space=CELL).space)
CANDIDATE = SPACE.sample(np.random.default_rng(3))


def training(kind: str = "DARTS", **changes: Any) -> TrialJob:
    document: dict[str, Any] = {
        "trial": 0,
        "kind": "Supernet",
        "prefix": "trials/00000",
        "space": CELL,
        "architecture": {},
        "training": {"epochs": 2, "batchSize": 64, "device": "cpu"},
        "fidelity": FIDELITY,
        "supernet": {"relaxation": {"type": kind}},
        "keepWeights": True,
    }
    return job(**{**document, **changes})


def scoring(**changes: Any) -> TrialJob:
    document: dict[str, Any] = {
        "trial": 1,
        "prefix": "trials/00001",
        "space": CELL,
        "architecture": CANDIDATE,
        "training": {"epochs": 2, "batchSize": 64, "device": "cpu"},
        "fidelity": FIDELITY,
        "until": 0,
        "slice": {"prefix": "trials/00000", "recalibrate": 100},
    }
    return job(**{**document, **changes})


@pytest.fixture(scope="module")
def trained() -> MemoryStore:
    """A store with a supernet. Tests that change it take a copy."""
    store = MemoryStore()
    trial.run(training(), store)
    return store


def copied(store: MemoryStore) -> MemoryStore:
    other = MemoryStore()
    for key in store.list():
        other.put(key, store.get(key))
    return other


@pytest.mark.parametrize("kind", ["Uniform", "DARTS", "GDAS", "SNAS", "DrNAS", "GAEA"])
def test_a_supernet_leaves_weights_and_what_its_choices_led_to(kind: str) -> None:
    store = MemoryStore()
    result = trial.run(training(kind), store)
    assert result.outcome is Outcome.SUCCEEDED
    assert result.cost.epochs == 2
    assert "val_accuracy" in result.metrics
    assert result.kept_bytes == len(store.get("trials/00000/supernet.safetensors"))
    assert len(result.derived) == (kind != "Uniform")
    for each in result.derived:
        SPACE.validate(each.architecture)
        assert 0 < each.score <= 1
    # first order of DARTS passes each sample of either half once; the second order four times
    half = round(1079 * 0.2) // 2
    epochs = {"Uniform": 216, "SNAS": 216, "DARTS": 108 + 4 * half}
    assert result.cost.samples == 2 * epochs.get(kind, 216)


@pytest.mark.parametrize("kind", ["Pruning", "DARTS"])
def test_a_fabric_leaves_parts_of_it(kind: str) -> None:
    fabric = {"type": "Fabric", "fabric": {"layers": 3, "scales": 2}}
    store, fidelity = MemoryStore(), {**FIDELITY, "epochs": 1}
    result = trial.run(training(kind, space=fabric, fidelity=fidelity), store)
    space = make_space(job(space=fabric).space)
    assert len(result.derived) == (4 if kind == "Pruning" else 1)
    for each in result.derived:
        space.validate(each.architecture)
        assert 0 < each.score <= 1
    if kind == "Pruning":
        whole = {"architecture": space.named["whole"]}
        assert result.derived[0].architecture == whole["architecture"]
        scored = trial.run(scoring(space=fabric, fidelity=fidelity, **whole), store)
        assert 0 < scored.metrics["val_accuracy"] <= 1
    else:
        with pytest.raises(ConfigError, match="the options of op_0 are"):
            trial.run(training("Pruning", space={"type": "Macro", "macro": {"layers": 2}}), store)


def test_probabilities_are_kept_for_each_epoch(trained: MemoryStore) -> None:
    found = json.loads(trained.get("trials/00000/choices.json"))
    assert len(found["epochs"]) == 2
    for group, options in found["options"].items():
        for epoch in found["epochs"]:
            assert len(epoch[group]) == len(options)
            assert sum(epoch[group]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", ["DARTS", "GDAS", "Uniform"])
def test_a_killed_supernet_is_the_undisturbed_one_bit_by_bit(kind: str) -> None:
    whole, killed = MemoryStore(), MemoryStore()
    undisturbed = trial.run(training(kind), whole)
    stopped = trial.run(training(kind), killed, notify=lambda point: False)
    assert stopped.outcome is Outcome.STOPPED
    resumed = trial.run(training(kind, attempt=2, done=1), killed)
    assert whole.get("trials/00000/supernet.safetensors") == killed.get(
        "trials/00000/supernet.safetensors"
    )
    assert [p.metrics for p in resumed.curve] == [p.metrics for p in undisturbed.curve]
    assert resumed.derived == undisturbed.derived
    assert resumed.cost.samples == undisturbed.cost.samples
    key = "trials/00000/choices.json"
    if kind != "Uniform":
        assert whole.get(key) == killed.get(key)


def test_a_candidate_is_scored_with_its_part_of_the_weights(trained: MemoryStore) -> None:
    """The same as to take the slice out of the whole file by hand, without the statistics."""
    result = trial.run(scoring(slice={"prefix": "trials/00000", "recalibrate": 0}), trained)
    frame = Frame((1, 8, 8), 10, scoring().fidelity.scale, searching=True)
    supernet = SPACE.supernet(frame)
    assert supernet is not None
    path = SPACE.path(CANDIDATE)
    graph = SPACE.graph(SPACE.architecture(path), frame)
    opened = stored.Opened()
    card = opened.card(trained, "trials/00000", scoring(), frame)
    whole = opened.read(trained, "trials/00000", card, set(card.tensors))
    network = Network(graph, (0.0,), (1.0,))
    network.load_state_dict(slice_weights(whole, match(graph, supernet.slice(path))))
    part = open_splits(scoring().task).validation
    with torch.no_grad():
        [(images, targets)] = part.read(torch.arange(len(part)), len(part))
        right = network.eval()(images).argmax(1) == targets
    assert result.metrics["val_accuracy"] == pytest.approx(float(right.double().mean()))
    assert result.cost.epochs == 0
    assert result.outcome is Outcome.STOPPED, "it has not trained its epochs"


def test_the_statistics_are_those_of_the_candidate(trained: MemoryStore) -> None:
    mixed = trial.run(scoring(slice={"prefix": "trials/00000", "recalibrate": 0}), trained)
    own = trial.run(scoring(), trained)
    assert own.facts["recalibrated"] == 100
    assert own.metrics != mixed.metrics


def test_equal_cells_in_another_order_score_alike(trained: MemoryStore) -> None:
    space = {"type": "Cell", "cell": {"preset": "darts", "nodes": 2}}
    store = MemoryStore()
    fidelity = {**FIDELITY, "scale": {"cells": 3, "filters": 4}, "dataFraction": 0.1}
    trial.run(training("Uniform", space=space, fidelity=fidelity), store)
    cell = [[["sep_conv_3x3", 1], ["skip_connect", 0]], [["max_pool_3x3", 2], ["skip_connect", 1]]]
    turned = [pairs[::-1] for pairs in cell]
    one, other = (
        trial.run(
            scoring(space=space, fidelity=fidelity, architecture={"normal": c, "reduction": c}),
            store,
        )
        for c in (cell, turned)
    )
    assert one.metrics == other.metrics


def test_only_the_candidates_part_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a large supernet, in which what is not read is longer than what is read along."""
    monkeypatch.setattr(weights, "FIRST", 1 << 16)
    monkeypatch.setattr(weights, "GAP", 1 << 10)
    space = {"type": "Cell", "cell": {"preset": "darts"}}
    fidelity = {"epochs": 1, "dataFraction": 0.01, "scale": {"cells": 3, "filters": 8}}
    store = MemoryStore()
    trial.run(training("Uniform", space=space, fidelity=fidelity), store)
    pools = [[["max_pool_3x3", 0], ["max_pool_3x3", 1]]] * 4
    candidate = {"normal": pools, "reduction": pools}
    found = trial.run(scoring(space=space, fidelity=fidelity, architecture=candidate), store)
    size = len(store.get("trials/00000/supernet.safetensors"))
    card = len(store.get("trials/00000/supernet.json"))
    assert found.facts["bytesRead"] - card < size / 3


def broken(key: str, change: Any) -> Any:
    def apply(store: MemoryStore) -> None:
        place = f"trials/00000/{key}"
        raw = store.get(place)
        store.delete(place)
        if change is not None:
            store.put(place, change(raw))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken("supernet.json", None), "supernet.json is missing: the supernet was deleted"),
        (broken("supernet.json", lambda raw: raw[:50]), "supernet.json is invalid"),
        (broken("supernet.safetensors", None), "supernet.safetensors is missing"),
        (broken("supernet.safetensors", lambda raw: raw[: len(raw) // 2]), "other than its card"),
        (
            broken("supernet.json", lambda raw: raw.replace(b'"filters":4', b'"filters":8')),
            "is of another supernet: its scale",
        ),
        (
            broken("supernet.safetensors", lambda raw: raw[:-400] + bytes(400)),
            "other than its card says",
        ),
    ],
)
def test_a_damaged_supernet_is_refused(trained: MemoryStore, damage: Any, message: str) -> None:
    store = copied(trained)
    damage(store)
    with pytest.raises(CorruptModel, match=message):
        trial.run(scoring(), store)


def test_a_slice_whose_tensors_are_missing_is_refused(trained: MemoryStore) -> None:
    store = copied(trained)
    card = json.loads(store.get("trials/00000/supernet.json"))
    gone = next(n for n in card["tensors"] if n.startswith("nodes.classifier"))
    raw = store.get("trials/00000/supernet.safetensors")
    tensors = load(raw)
    del tensors[gone], card["tensors"][gone]
    less = save(tensors)
    card["sha256"] = hashlib.sha256(less).hexdigest()
    store.put("trials/00000/supernet.safetensors", less)
    store.put("trials/00000/supernet.json", json.dumps(card).encode())
    with pytest.raises(CorruptModel, match="does not fit the candidate: Missing key"):
        trial.run(scoring(), store)


@pytest.mark.parametrize(
    ("relaxation", "derived"),
    [
        ({"type": "FairNAS"}, 0),
        ({"type": "PathDropout"}, 0),
        ({"type": "ProxylessNAS"}, 1),
        ({"type": "ProxylessNAS", "proxylessNAS": {"mode": "Reinforce", "paths": 2}}, 1),
        ({"type": "ENAS", "enas": {"steps": 1, "paths": 2, "derived": 3}}, 3),
    ],
    ids=["fair", "dropout", "gates", "rewards", "enas"],
)
def test_paths_are_drawn_learned_and_derived(relaxation: dict[str, Any], derived: int) -> None:
    plan = {"relaxation": relaxation, "watch": {"every": 2}}
    if derived:
        plan["cost"] = {"measure": "params"}
    result = trial.run(training(supernet=plan), MemoryStore())
    assert result.outcome is Outcome.SUCCEEDED
    assert "val_accuracy" in result.metrics
    assert ("supernet_entropy" in result.metrics) == (derived > 0)
    assert ("supernet_cost" in result.metrics) == (derived > 0)
    assert min(derived, 1) <= len(result.derived) <= derived
    for each in result.derived:
        SPACE.validate(each.architecture)
    scores = [each.score for each in result.derived]
    assert scores == sorted(scores, reverse=True)


def test_choices_that_would_never_learn_are_refused() -> None:
    plan = {"relaxation": {"type": "DARTS"}, "frozen": 2}
    with pytest.raises(ConfigError, match=r"frozen: the choices do not learn in the first 2 of 2"):
        trial.run(training(supernet=plan), MemoryStore())


def test_repairs_take_part_and_the_watch_ends_the_search() -> None:
    plan = {
        "relaxation": {"type": "DARTS", "darts": {"order": 1}},
        "smooth": {},
        "beta": {},
        "watch": {"every": 1, "stop": {"first": 1, "window": 1, "earlier": 1, "ratio": 1.000001}},
    }
    store = MemoryStore()
    result = trial.run(training(supernet=plan, fidelity={**FIDELITY, "epochs": 9}), store)
    assert result.outcome is Outcome.SUCCEEDED
    assert {"supernet_skips", "supernet_entropy"} <= result.metrics.keys()
    values = [point.metrics["supernet_eigenvalue"] for point in result.curve]
    grown = [b > a * 1.000001 > 0 for a, b in itertools.pairwise(values)]
    assert grown.index(True) == len(grown) - 1 < 7, "it ends when it has grown"
    assert f"the choices are those after epoch {len(values) - 1}" in result.message


def test_random_paths_are_selected_from_by_perturbation() -> None:
    plan = {"relaxation": {"type": "Uniform"}, "selection": {"search": 0.5}}
    result = trial.run(training(supernet=plan), MemoryStore())
    assert [each.score for each in result.derived] == [1.0]


def test_a_repair_that_does_not_fit_says_which_field() -> None:
    plan = {"relaxation": {"type": "GDAS"}, "smooth": {}}
    with pytest.raises(ConfigError, match=r"estimation\.oneShot: smooth is for"):
        trial.run(training(supernet=plan), MemoryStore())


def test_a_space_without_a_supernet_says_so() -> None:
    unshared = {"type": "Cell", "cell": {"preset": "nasnet"}}
    with pytest.raises(ConfigError, match=r"space\.type Cell: .* has no supernet"):
        trial.run(training("Uniform", space=unshared), MemoryStore())
    with pytest.raises(ConfigError, match="choices cannot be learned by gradients"):
        trial.run(training("DARTS", space=CHAIN), MemoryStore())


def test_a_supernet_larger_than_memory_is_refused_before_it_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supernets, "bytes_available", lambda: 10_000)
    with pytest.raises(ConfigError, match=r"at least [\d,]+ bytes of memory; 10,000 bytes are"):
        trial.run(training(), MemoryStore())


def test_slices_of_shared_tensors_are_scored_as_they_were_trained() -> None:
    """Of a space whose networks differ in widths and kernels."""
    store = MemoryStore()
    space: dict[str, Any] = {"space": CHAIN, "fidelity": {"epochs": 2, "dataFraction": 0.2}}
    result = trial.run(training("Uniform", **space), store)
    assert result.kept_bytes
    chain = make_space(job(space=CHAIN).space)
    candidates = [chain.sample(np.random.default_rng(seed)) for seed in range(4)]
    for architecture in candidates:
        scored = trial.run(scoring(architecture=architecture, **space), store)
        assert "val_accuracy" in scored.metrics
    gone = "nodes.classifier.weight"
    card = json.loads(store.get("trials/00000/supernet.json"))
    tensors = load(store.get("trials/00000/supernet.safetensors"))
    del tensors[gone], card["tensors"][gone]
    store.put("trials/00000/supernet.safetensors", save(tensors))
    store.put("trials/00000/supernet.json", json.dumps(card).encode())
    with pytest.raises(CorruptModel, match=f"does not fit the candidate: Missing key: {gone}"):
        trial.run(scoring(architecture=candidates[0], **space), store)


def test_too_little_data_to_hold_out_says_which_field() -> None:
    plan = {"relaxation": {"type": "DARTS"}, "held": 0.001}
    with pytest.raises(ConfigError, match=r"estimation\.oneShot\.held: a share of 0\.001"):
        trial.run(training(supernet=plan), MemoryStore())


def test_a_damaged_checkpoint_is_not_used(trained: MemoryStore) -> None:
    store = MemoryStore()
    trial.run(training(), store, notify=lambda point: False)
    key = f"trials/00000/{checkpoint.CHECKPOINT}"
    store.put(key, store.get(key)[:-9])
    result = trial.run(training(attempt=2), store)
    assert "the checkpoint was not used" in result.message
    assert result.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("strategy", ["DARTS", "Evolution"])
def test_a_search_from_its_manifest_to_the_tested_winner(strategy: str) -> None:
    loop = search(
        "one-shot",
        training={"epochs": 1, "batchSize": 64, "device": "cpu"},
        space={
            "type": "Cell",
            "cell": {"preset": "nasbench201", "search": SCALE, "evaluation": SCALE},
        },
        strategy={"type": strategy},
        estimation={"type": "OneShot", "oneShot": {"candidates": 8, "epochs": 2}},
        budget={"epochs": 4},
        finalists={"count": 1},
    )
    state = loop.state
    assert state.finished is not None
    assert "test_accuracy" in state.finished.test
    assert state.spent.epochs == 3
    searched = [t for t in state.trials.values() if t.slice is not None]
    assert len(searched) == (2 if strategy == "DARTS" else 8)
    assert all("val_accuracy" in t.metrics for t in searched)


@pytest.mark.parametrize("space", [CELL, CHAIN], ids=["choices", "slices"])
def test_a_finalist_can_begin_with_its_part_of_the_supernet(space: dict[str, Any]) -> None:
    """Filters of its convolutions are the supernet's, also in a network of the final size."""
    scale = SCALE if space is CELL else {}
    fidelity = {"epochs": 2, "dataFraction": 0.2, "scale": scale}
    store = MemoryStore()
    trial.run(training("Uniform", space=space, fidelity=fidelity), store)
    own = make_space(job(space=space).space)
    architecture = CANDIDATE if space is CELL else SMALL
    if space is CELL:
        architecture = own.architecture(own.path(CANDIDATE))
    final = scoring(
        kind="Final",
        space=space,
        architecture=architecture,
        fidelity=fidelity,
        until=None,
        slice={"prefix": "trials/00000", "scale": scale},
        keepWeights=True,
    )
    result = trial.run(final, store)
    assert result.outcome is Outcome.SUCCEEDED
    assert result.inherited is not None
    assert result.inherited.trial == 0
    assert result.inherited.share > 0.9
    scored = trial.run(scoring(space=space, architecture=architecture, fidelity=fidelity), store)
    assert result.curve[0].metrics["val_loss"] < scored.metrics["val_loss"] + 1
    alone = trial.run(final.model_copy(update={"slice": None, "prefix": "trials/00009"}), store)
    assert alone.inherited is None
    assert alone.curve[0].metrics != result.curve[0].metrics


@pytest.mark.parametrize("kind", ["DrNAS", "DARTS", "ProxylessNAS"])
def test_choices_that_learn_far_too_fast_end_with_a_result(kind: str) -> None:
    name = {"DrNAS": "drNAS", "ProxylessNAS": "proxylessNAS"}.get(kind, "darts")
    plan = {"relaxation": {"type": kind, name: {"learningRate": 100}}}
    fidelity = {**FIDELITY, "dataFraction": 0.1}
    result = trial.run(training(supernet=plan, fidelity=fidelity), MemoryStore())
    assert result.derived or "not numbers" in result.message or "loss is" in result.message
