"""A training that pauses, at every epoch or now and then, is the one that never paused, bit for
bit; and what an attempt does that is asked for less, or more, than the checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kinase.api.inheritance import Inherited
from kinase.api.trial import CheckpointGone, Outcome, TrialJob, TrialResult
from kinase.morphism import dump_chain
from kinase.morphism.bridge import bridge
from kinase.space import Frame, make_space
from kinase.store.memory import MemoryStore
from kinase_trainer import checkpoint, trial
from kinase_trainer.datasets import raw
from kinase_trainer.epochs import Diverged
from kinase_trainer.ledger import read_ledger
from kinase_trainer.train import Run
from tests.trainer.helpers import DARTS, EVERYTHING, cell, job
from tests.trainer.test_resume import PREFIX, damaged, train

CHECKPOINT = f"{PREFIX}/{checkpoint.CHECKPOINT}"
WEIGHTS = f"{PREFIX}/weights.safetensors"
CONV = {"op": "conv", "width": 8, "kernel": 3, "stride": 1}
POOL = {"op": "maxpool", "kernel": 3, "stride": 2}
NARROW = {**CONV, "width": 4}
PARENT = {"layers": [CONV, NARROW, POOL, CONV]}
WIDER = {"layers": [CONV, CONV, POOL, CONV]}
PRUNED = {"layers": [CONV, NARROW, POOL, NARROW]}
FIDELITY = {"epochs": 3, "dataFraction": 0.1}


def recipe(optimizer: str = "SGD", **changes: Any) -> dict[str, Any]:
    return {**EVERYTHING, "epochs": 3, "optimizer": {"type": optimizer}, **changes}


def chain(optimizer: str, precision: str) -> TrialJob:
    training = recipe(optimizer, precision=precision)
    return job(keepWeights=True, training=training, fidelity=FIDELITY)


def from_scratch(optimizer: str = "SGD") -> TrialJob:
    """A cell network with drop-path and an auxiliary head, and all augmentation."""
    return job(
        kind="Final",
        keepWeights=True,
        training=recipe(optimizer),
        space=DARTS,
        architecture=cell(np.random.default_rng(1)),
        fidelity={**FIDELITY, "scale": {"cells": 3, "filters": 4}},
    )


def child(architecture: dict[str, Any], morphisms: bool = True, distil: int = 0) -> TrialJob:
    """A child of trial 5: by morphisms, with distillation if they are approximate, or by what
    matches; it takes over the optimizer's state, and another learning rate."""
    found = bridge(
        make_space(job().space), PARENT, architecture, Frame((1, 8, 8), 10), approximate=distil > 0
    )
    assert found is not None
    assert found.exact is (distil == 0)
    ancestor = {
        "trial": 5,
        "prefix": "trials/00005",
        "architecture": PARENT,
        "morphisms": dump_chain(found.morphisms) if morphisms else None,
    }
    return job(
        keepWeights=True,
        architecture=architecture,
        training=recipe("AdamW", batchSize=32),
        fidelity=FIDELITY,
        inherit={
            "ancestors": [ancestor],
            "optimizer": True,
            "learningRateFactor": 0.5,
            "distil": distil,
        },
    )


CASES: dict[str, Callable[[], TrialJob]] = {
    "SGD": from_scratch,
    "AdamW": lambda: from_scratch("AdamW"),
    "bfloat16": lambda: chain("SGD", "bfloat16"),
    "float16": lambda: chain("AdamW", "float16"),
    "exact child": lambda: child(WIDER),
    "approximate child": lambda: child(PRUNED, distil=2),
    "matching child": lambda: child(WIDER, morphisms=False),
}
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def parent() -> MemoryStore:
    store, own = MemoryStore(), child(WIDER)
    changes = {
        "trial": 5,
        "prefix": "trials/00005",
        "architecture": PARENT,
        "inherit": None,
        "keep_optimizer": True,
    }
    trial.run(own.model_copy(update=changes), store)
    return store


def copied(store: MemoryStore) -> MemoryStore:
    other = MemoryStore()
    for key in store.list():
        other.put(key, store.get(key))
    return other


def stretches(
    own: TrialJob, store: MemoryStore, stops: Sequence[int]
) -> list[tuple[TrialResult, Tensors]]:
    """Train in stretches that end after so many epochs, each with objects of its own."""
    found, done = [], 0
    for attempt, until in enumerate(stops, start=1):
        torch.manual_seed(1000 + attempt)  # another process has other random states
        changes = {"attempt": attempt, "until": until, "done": done}
        found.append(train(own.model_copy(update=changes), store))
        done = until
    return found


def points(result: TrialResult) -> list[Any]:
    return [(point.epoch, point.metrics) for point in result.curve]


@pytest.mark.parametrize("name", CASES)
def test_rests_at_every_epoch_change_no_bit(name: str, parent: MemoryStore) -> None:
    own = CASES[name]()
    whole, wanted = train(own, store := copied(parent))
    rested = copied(parent)
    found = stretches(own, rested, [1, 2, 3])
    for until, (result, _) in enumerate(found[:-1], start=1):
        assert (result.outcome, len(result.curve)) == (Outcome.STOPPED, until)
        assert points(result) == points(whole)[:until]
        assert result.metrics == result.curve[-1].metrics
        assert result.cost.epochs == until
    last, tensors = found[-1]
    assert (last.outcome, points(last), last.metrics) == (
        Outcome.SUCCEEDED,
        points(whole),
        whole.metrics,
    )
    assert last.inherited == whole.inherited
    assert (last.cost.epochs, last.cost.samples) == (whole.cost.epochs, whole.cost.samples)
    assert tensors.keys() == wanted.keys()
    assert any(key.startswith("optimiser.") for key in tensors)
    for key, tensor in wanted.items():
        assert torch.equal(tensor, tensors[key]), key
    assert rested.get(WEIGHTS) == store.get(WEIGHTS)
    assert not rested.exists(CHECKPOINT)


def test_the_cases_are_what_they_say(parent: MemoryStore) -> None:
    def began(name: str) -> Inherited:
        own = CASES[name]().model_copy(update={"until": 2})
        found = trial.run(own, copied(parent)).inherited
        assert found is not None
        return found

    exact, approximate, matching = (began(n) for n in CASES if n.endswith("child"))
    assert (exact.trial, exact.morphisms, exact.distilled) == (5, 1, 0)
    assert (approximate.trial, approximate.morphisms, approximate.distilled) == (5, 1, 2)
    assert (matching.trial, matching.morphisms) == (5, None)


def test_images_that_are_read_by_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their order is that of the epoch, whichever process reads them."""
    monkeypatch.setattr(raw, "MAX_BYTES", 0)
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for i in range(12):
            pixels = generator.integers(0, 255, (8, 8), np.uint8)
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    own = job(
        task={"dataset": "folder", "path": str(tmp_path), "resolution": 8},
        training=recipe(batchSize=5),
        keepWeights=True,
        measure=["snip"],
    )
    whole, wanted = train(own, MemoryStore())
    last, tensors = stretches(own, MemoryStore(), [1, 3])[-1]
    assert (points(last), last.metrics) == (points(whole), whole.metrics)
    assert all(torch.equal(tensors[key], tensor) for key, tensor in wanted.items())


def test_the_checkpoint_is_there_before_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one is written by a thread, which is waited for."""
    monkeypatch.setattr(checkpoint, "SMALL", -1)
    order: list[tuple[str, int]] = []

    class Ordered(MemoryStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
            super().put(key, data, if_absent=if_absent)
            order.append((key.removeprefix(f"{PREFIX}/"), read_ledger(self, PREFIX).epochs_done))

    store = Ordered()
    trial.run(job(until=2), store)
    assert order[-3:] == [(checkpoint.CHECKPOINT, 1), ("progress.json", 2), ("result.json", 2)]
    saved, _ = checkpoint.restore(store, PREFIX)
    assert saved is not None
    assert saved.epoch == 2


def test_the_same_attempt_again_trains_nothing() -> None:
    store, own = MemoryStore(), job(until=2, keepWeights=True)
    first = trial.run(own, store)
    assert first.kept_in == "epoch-2"
    key = f"{PREFIX}/epoch-2/weights.safetensors"
    weights = store.get(key)
    again = trial.run(own.model_copy(update={"attempt": 2, "done": 2}), store)
    assert (again.outcome, points(again), again.metrics) == (
        first.outcome,
        points(first),
        first.metrics,
    )
    assert again.cost.epochs == read_ledger(store, PREFIX).epochs_begun == 2
    assert store.get(key) == weights
    assert store.exists(CHECKPOINT)
    assert not store.exists(WEIGHTS)


def test_a_pause_at_the_last_epoch_is_the_end() -> None:
    store = MemoryStore()
    result = trial.run(job(until=3), store)
    assert (result.outcome, len(result.curve)) == (Outcome.SUCCEEDED, 3)
    assert not store.exists(CHECKPOINT)


def test_a_stop_within_a_stretch_is_shorter_than_it() -> None:
    store = MemoryStore()
    result = trial.run(job(until=2), store, lambda point: False)
    assert (result.outcome, len(result.curve)) == (Outcome.STOPPED, 1)


def test_a_training_that_diverges_in_a_stretch_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    trial.run(job(until=1), store)

    def diverge(self: Run) -> int:
        raise Diverged(2, float("inf"), 64)

    monkeypatch.setattr(Run, "train_epoch", diverge)
    result = trial.run(job(until=2, done=1, attempt=2), store)
    assert (result.outcome, result.metrics, len(result.curve)) == (Outcome.SUCCEEDED, {}, 1)
    assert result.message == "the loss is inf in epoch 2; the training ended there"
    assert result.cost.epochs == 2


# -- a checkpoint that does not hold what it should ------------------------------------


def rested(until: int, **changes: Any) -> MemoryStore:
    store = MemoryStore()
    trial.run(job(until=until, **changes), store)
    return store


def _gone(store: MemoryStore) -> None:
    store.delete(CHECKPOINT)


def _cut(store: MemoryStore) -> None:
    store.put(CHECKPOINT, damaged(store.get(CHECKPOINT), "cut short"))


def _foreign(store: MemoryStore) -> None:
    other = job(architecture=PARENT, until=2, prefix="trials/00008")
    trial.run(other, store)
    store.put(CHECKPOINT, store.get(f"trials/00008/{checkpoint.CHECKPOINT}"))


def _older(store: MemoryStore) -> None:
    store.put(CHECKPOINT, rested(1).get(CHECKPOINT))


@pytest.mark.parametrize(
    ("damage", "why", "left"),
    [
        (_gone, "the checkpoint is gone", 0),
        (_cut, r"the checkpoint cannot be used \(its checksum is wrong\)", 0),
        (_foreign, r"the checkpoint cannot be used \(it is of another network\)", 0),
        (_older, "the checkpoint holds 1 epoch", 1),
    ],
)
def test_epochs_that_are_gone_are_not_trained_again_unpaid(
    damage: Callable[[MemoryStore], None], why: str, left: int
) -> None:
    store = rested(2)
    damage(store)
    before = store.get(f"{PREFIX}/result.json")
    with pytest.raises(CheckpointGone, match=f"^{why}; it must hold 2 epochs"):
        trial.run(job(until=3, done=2, attempt=2), store)
    assert store.get(f"{PREFIX}/result.json") == before
    ledger = read_ledger(store, PREFIX)
    assert (ledger.epochs_begun, ledger.epochs_done) == (2, left), "what is left can be paid for"
    paid = trial.run(job(done=left, attempt=3), store)
    assert points(paid) == points(trial.run(job(), MemoryStore()))
    assert paid.cost.epochs == 2 + 3 - left


def test_what_need_not_be_there_is_trained_again() -> None:
    store = rested(2)
    _cut(store)
    result = trial.run(job(until=2, attempt=2), store)
    assert result.message.startswith("the checkpoint was not used (its checksum is wrong)")
    assert result.cost.epochs == 4
    assert read_ledger(store, PREFIX).epochs_done == 2


def test_of_a_checkpoint_that_is_further_the_curve_is_the_answer() -> None:
    store = rested(2)
    result = trial.run(job(until=1, done=1, attempt=2), store)
    whole = trial.run(job(), MemoryStore())
    assert (result.outcome, points(result)) == (Outcome.STOPPED, points(whole)[:1])
    assert result.metrics == whole.curve[0].metrics
    assert result.cost.epochs == 2
    after = trial.run(job(until=3, done=1, attempt=3), store)
    assert (points(after), after.cost.epochs) == (points(whole), 3)


@pytest.mark.parametrize("done", [0, 1])
def test_weights_are_never_those_of_a_later_epoch(done: int) -> None:
    """They cannot be taken back from a checkpoint that is further: trained again, if that is paid
    for."""
    store = rested(2, keepWeights=True)
    own = job(until=1, done=done, attempt=2, keepWeights=True)
    if done:
        with pytest.raises(CheckpointGone, match="it holds 2 epochs, more than the 1 asked for"):
            trial.run(own, store)
        return
    result = trial.run(own, store)
    assert "it holds 2 epochs, more than the 1 asked for" in result.message
    other = MemoryStore()
    trial.run(job(until=1, keepWeights=True), other)
    key = f"{PREFIX}/epoch-1/weights.safetensors"
    assert store.get(key) == other.get(key)
    assert result.cost.epochs == 3


def test_a_checkpoint_of_another_schedule_is_not_used() -> None:
    store = rested(2)
    result = trial.run(job(fidelity={"epochs": 4}, until=3, attempt=2), store)
    assert "it is of a training of 3 epochs, not 4" in result.message
    assert points(result) == points(trial.run(job(fidelity={"epochs": 4}, until=3), MemoryStore()))


# -- without training ------------------------------------------------------------------


def test_nothing_is_trained_at_zero() -> None:
    store = MemoryStore()
    own = job(until=0, measure=["synflow", "params"], keepWeights=True)
    result = trial.run(own, store)
    assert (result.outcome, result.curve, result.cost.epochs) == (Outcome.STOPPED, (), 0)
    assert result.metrics.keys() == {"proxy_synflow", "proxy_params"}
    assert result.cost.device_seconds > 0
    assert set(store.list()) == {f"{PREFIX}/progress.json", f"{PREFIX}/result.json"}
    assert trial.run(own.model_copy(update={"attempt": 2}), store).metrics == result.metrics


def test_a_measured_network_trains_as_any_other(parent: MemoryStore) -> None:
    """Proxies are of the weights as drawn, not of inherited ones, and are told with each rest."""
    own = child(WIDER)
    plain, measured = copied(parent), copied(parent)
    whole, wanted = train(own, plain)
    asked = own.model_copy(update={"measure": ("snip",)})
    found = stretches(asked, measured, [0, 2, 3])
    value = found[0][0].metrics["proxy_snip"]
    fresh = own.model_copy(update={"inherit": None, "until": 0, "measure": ("snip",)})
    assert trial.run(fresh, MemoryStore()).metrics["proxy_snip"] == value
    for result, _ in found:
        assert result.metrics["proxy_snip"] == value
    last, tensors = found[-1]
    assert points(last) == points(whole)
    assert {**last.metrics} == {**whole.metrics, "proxy_snip": value}
    assert all(torch.equal(tensors[key], tensor) for key, tensor in wanted.items())


def test_it_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = trial.proxies.measure_one
    monkeypatch.setattr(trial.proxies, "measure_one", lambda *a: calls.append("") or real(*a))
    store = MemoryStore()
    trial.run(job(until=1, measure=["params"]), store)
    result = trial.run(job(until=2, done=1, attempt=2, measure=["params", "macs"]), store)
    assert len(calls) == 1
    assert "proxy_params" in result.metrics
    assert result.message == "not measured, because the training had begun: macs"


def test_what_is_not_finite_is_left_out_and_said() -> None:
    linear = {"layers": [POOL]}
    result = trial.run(job(architecture=linear, until=0, measure=["nwot", "params"]), MemoryStore())
    assert result.metrics.keys() == {"proxy_params"}
    assert result.message == "the proxy nwot has no value: it is -inf"
