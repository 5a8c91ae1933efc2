from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinase import registry
from kinase.api.task import Augmentation, Training
from kinase.api.trial import Outcome, Point, TrialResult
from kinase.store import NotFound
from kinase.store.file import FileStore
from kinase.store.memory import MemoryStore
from kinase_trainer import load, trial
from kinase_trainer.data import (
    Part,
    batches,
    open_parts,
    open_splits,
    open_test,
    smallest_batch,
    steps_of,
)
from kinase_trainer.errors import ConfigError, CorruptModel
from kinase_trainer.model import CARD, WEIGHTS
from kinase_trainer.tasks import Classification
from kinase_trainer.train import Run
from tests.trainer.helpers import DARTS, cell, job

PREFIX = "trials/00007"
GOOD: dict[str, Any] = {
    "batchSize": 32,
    "optimizer": {"type": "AdamW", "adamw": {"learningRate": 0.02}},
    "device": "cpu",
}


def kept(**changes: Any) -> MemoryStore:
    store = MemoryStore()
    trial.run(job(kind="Final", keepWeights=True, training=GOOD, **changes), store)
    return store


def test_the_trainer_is_found_by_its_entry_point() -> None:
    assert registry.load("kinase.trainers", "torch") is trial


def test_describe_says_what_the_task_is() -> None:
    info = trial.describe(job().task, job().training)
    assert (info.input, info.outputs) == ((1, 8, 8), 10)
    assert (info.train, info.validation, info.test) == (1079, 359, 359)
    assert info.metrics == tuple(f"val_{name}" for name in Classification.metrics)
    assert info.device == "cpu"
    assert info.facts["torch"] == torch.__version__
    assert info.warnings == ()


def test_a_batch_larger_than_the_data_is_said() -> None:
    large = job().training.model_copy(update={"batch_size": 2000})
    (warning,) = trial.describe(job().task, large).warnings
    assert "training.batchSize 2,000 is above the 1,079 training samples" in warning


def test_a_network_learns_the_digits() -> None:
    points: list[Point] = []
    store = MemoryStore()
    layers = [{"op": "conv", "width": 8, "kernel": 3, "stride": s} for s in (1, 2, 1)]
    own = job(training=GOOD, fidelity={"epochs": 8}, architecture={"layers": layers})
    result = trial.run(own, store, lambda point: points.append(point) is None)
    assert result.outcome is Outcome.SUCCEEDED
    assert result.metrics["val_accuracy"] > 0.9
    assert result.curve == tuple(points)
    assert result.metrics == points[-1].metrics
    assert (result.cost.epochs, result.cost.samples) == (8, 8 * 1079)
    assert TrialResult.model_validate_json(store.get(f"{PREFIX}/result.json")) == result


def test_a_seed_gives_the_same_result_again_and_another_one_another() -> None:
    one, again, other = (trial.run(job(seed=seed), MemoryStore()) for seed in (1, 1, 2))
    assert one.metrics == again.metrics
    assert one.metrics != other.metrics


def test_the_result_does_not_depend_on_what_the_process_did_before() -> None:
    first = trial.run(job(), MemoryStore())
    trial.run(job(seed=9, fidelity={"epochs": 1, "dataFraction": 0.2}), MemoryStore())
    torch.manual_seed(1234)
    assert trial.run(job(), MemoryStore()).metrics == first.metrics


def test_fidelity_shrinks_data_images_and_network() -> None:
    store = MemoryStore()
    full = trial.run(job(fidelity={"epochs": 1}), MemoryStore())
    less = trial.run(
        job(
            fidelity={
                "epochs": 1,
                "dataFraction": 0.25,
                "resolution": 4,
                "scale": {"filterFraction": 0.5},
            },
            keepWeights=True,
        ),
        store,
    )
    assert full.cost.samples == 1079
    assert less.cost.samples == 270
    card = json.loads(store.get(f"{PREFIX}/{CARD}"))
    assert card["input"] == [1, 4, 4]
    assert card["scale"]["filterFraction"] == 0.5
    network, _ = load(store.sub(PREFIX))
    assert network.nodes["layer0_conv"].out_channels == 2


def test_an_auxiliary_head_is_for_finalists() -> None:
    own: dict[str, Any] = {
        "space": {
            "type": "Cell",
            "cell": {"preset": "darts", "nodes": 2, "search": {"cells": 6, "filters": 4}},
        },
        "architecture": cell(np.random.default_rng(0)),
        "training": {**GOOD, "auxiliary": 0.4},
        "fidelity": {"epochs": 1, "dataFraction": 0.1, "scale": {"cells": 6, "filters": 4}},
    }
    seen: dict[str, bool] = {}
    real = Run.train_epoch

    def looking(self: Run) -> int:
        seen[kind] = self.model._auxiliary is not None
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "train_epoch", looking)
        for kind in ("Search", "Final"):
            store = MemoryStore()
            trial.run(job(kind=kind, keepWeights=True, **own), store)
    assert seen == {"Search": False, "Final": True}
    network, card = load(store.sub(PREFIX))
    assert sum(p.numel() for p in network.parameters()) == card["params"]


# -- ends other than success -----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": {"layers": []}}, "layers is 0; use a list of 1 to 4 layers"),
        ({"architecture": {"nonsense": 1}}, "a chain is an object with the field layers"),
        (
            {"architecture": {"layers": [{"op": "maxpool", "kernel": 3, "stride": 2}] * 4}},
            "leaves nothing",
        ),
    ],
)
def test_an_architecture_without_a_network_is_infeasible(
    changes: dict[str, Any], message: str
) -> None:
    store = MemoryStore()
    result = trial.run(job(**changes), store)
    assert result.outcome is Outcome.INFEASIBLE
    assert message in result.message
    assert result.cost.epochs == 0
    assert TrialResult.model_validate_json(store.get(f"{PREFIX}/result.json")) == result


ONE_PIXEL = {"layers": [{"op": "conv", "width": 4, "kernel": 3, "stride": 2}] * 3}


def test_a_batch_of_one_sample_on_a_map_of_one_pixel_is_infeasible() -> None:
    """Batch normalization has no variance there; torch would raise in the first epoch."""
    changes = {"training": {**job().training.model_dump(by_alias=True), "batchSize": 1}}
    result = trial.run(job(architecture=ONE_PIXEL, **changes), MemoryStore())
    assert result.outcome is Outcome.INFEASIBLE
    assert "training.batchSize 1 gives a batch of one sample" in result.message
    assert result.cost.epochs == 0
    assert trial.run(job(architecture=ONE_PIXEL), MemoryStore()).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("size", range(1, 9))
def test_the_batches_of_an_epoch_are_known(count: int, size: int) -> None:
    part = Part(torch.zeros(count, 1, 2, 2), torch.zeros(count, dtype=torch.long))
    found = [len(y) for _, y in batches(part, size, torch.Generator(), Augmentation())]
    assert smallest_batch(count, size) == min(found)
    assert steps_of(count, size) == len(found)


def too_large(self: Run) -> int:
    torch.empty(2**60)  # what torch really says on a CPU
    return 0


def no_memory(self: Run) -> int:
    raise MemoryError("no memory")


def no_gpu_memory(self: Run) -> int:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.mark.parametrize("failure", [too_large, no_memory, no_gpu_memory])
def test_out_of_memory_is_infeasible_and_charged(
    monkeypatch: pytest.MonkeyPatch, failure: Any
) -> None:
    monkeypatch.setattr(Run, "train_epoch", failure)
    result = trial.run(job(), MemoryStore())
    assert result.outcome is Outcome.INFEASIBLE
    assert "out of memory at training.batchSize 64" in result.message
    assert result.cost.epochs == 1
    assert result.cost.device_seconds > 0


def test_any_other_error_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Run) -> int:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Run, "train_epoch", broken)
    store = MemoryStore()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trial.run(job(), store)
    with pytest.raises(NotFound):
        store.get(f"{PREFIX}/result.json")


def test_a_loss_that_is_no_number_is_a_result_without_metrics() -> None:
    own = job(
        training={
            "optimizer": {"type": "SGD", "sgd": {"learningRate": 1e6, "momentum": 0.99}},
            "warmupEpochs": 1,
            "device": "cpu",
        },
        fidelity={"epochs": 20},
        keepWeights=True,
    )
    store = MemoryStore()
    result = trial.run(own, store)
    assert result.outcome is Outcome.SUCCEEDED
    assert result.metrics == {}
    assert "the loss is" in result.message
    assert result.cost.epochs == len(result.curve) + 1 < 20
    assert all(math.isfinite(v) for p in result.curve for v in p.metrics.values())
    assert not store.exists(f"{PREFIX}/{WEIGHTS}")


def test_a_gpu_where_there_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"training.device is 'cuda'"):
        trial.describe(job().task, Training(device="cuda"))


# -- trained networks ------------------------------------------------------------------


def test_a_kept_network_loads_and_scores_as_measured(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    result = trial.run(job(kind="Final", keepWeights=True, training=GOOD), store)
    for source in (str(tmp_path / PREFIX), tmp_path / PREFIX, f"file://{tmp_path}/{PREFIX}"):
        network, card = load(source)
        assert not network.training
        part = open_splits(job().task).validation
        with torch.no_grad():
            hits = network(part.images).argmax(1) == part.targets
        assert float(hits.double().mean()) == result.metrics["val_accuracy"]
    assert card["metrics"] == result.metrics
    assert card["params"] == sum(p.numel() for p in network.parameters())
    assert card["classes"] == list("0123456789")


def test_a_kept_network_of_cells_loads() -> None:
    architecture = cell(np.random.default_rng(2))
    store = kept(
        space=DARTS,
        architecture=architecture,
        fidelity={"epochs": 1, "dataFraction": 0.1, "scale": {"cells": 3, "filters": 4}},
    )
    network, card = load(store.sub(PREFIX))
    assert card["architecture"] == architecture
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (WEIGHTS, lambda raw: raw[:-1]),
        (WEIGHTS, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])),
        (CARD, lambda raw: b"{"),
        (CARD, lambda raw: raw.replace(b'"width": 4', b'"width": 8')),
        (CARD, lambda raw: raw.replace(b'"op": "conv"', b'"op": "exec"')),
        (CARD, lambda raw: raw.replace(b'"kinase"', b'"odd"')),
    ],
)
def test_a_damaged_network_is_refused(key: str, change: Any) -> None:
    store = kept(fidelity={"epochs": 1, "dataFraction": 0.1})
    raw = store.get(f"{PREFIX}/{key}")
    document = raw if key == WEIGHTS else json.dumps(json.loads(raw)).encode()
    assert change(document) != document
    store.put(f"{PREFIX}/{key}", change(document))
    with pytest.raises(CorruptModel):
        load(store.sub(PREFIX))


def test_pickled_weights_are_not_loaded() -> None:
    import hashlib
    import io

    store = kept(fidelity={"epochs": 1, "dataFraction": 0.1})
    network, card = load(store.sub(PREFIX))
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    store.put(f"{PREFIX}/{WEIGHTS}", buffer.getvalue())
    card["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    store.put(f"{PREFIX}/{CARD}", json.dumps(card).encode())
    with pytest.raises(CorruptModel, match="is a pickled file"):
        load(store.sub(PREFIX))


# -- the test part ---------------------------------------------------------------------


def test_the_test_part_is_scored_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    store = kept()
    asked = job(kind="Final", training=GOOD, test=True)
    first = trial.run(asked, store)
    network, _ = load(store.sub(PREFIX))
    part = open_test(asked.task)[0]
    with torch.no_grad():
        hits = network(part.images).argmax(1) == part.targets
    assert first.metrics["test_accuracy"] == float(hits.double().mean())
    assert set(first.metrics) == {f"test_{name}" for name in Classification.metrics}
    assert first.cost.epochs == 0

    def forbidden(*_: Any) -> Any:
        raise AssertionError("the test part was opened a second time")

    monkeypatch.setattr(trial, "open_test", forbidden)
    assert trial.run(asked, store) == first


def test_training_never_opens_the_test_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> Any:
        raise AssertionError("the test part was opened")

    monkeypatch.setattr(trial, "open_test", forbidden)
    open_splits.cache_clear()
    open_parts.cache_clear()
    kept(fidelity={"epochs": 1})


@pytest.mark.parametrize("kind", ["Search", "Control"])
def test_a_candidate_may_not_be_tested(kind: str) -> None:
    with pytest.raises(ConfigError, match="the test part is for finalists"):
        trial.run(job(kind=kind, test=True), kept(fidelity={"epochs": 1}))


def test_testing_without_weights_is_an_error() -> None:
    with pytest.raises(NotFound):
        trial.run(job(kind="Final", test=True), MemoryStore())
