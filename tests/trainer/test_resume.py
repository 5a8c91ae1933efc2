"""A training that was killed and resumed is the undisturbed one, bit for bit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from kinase.api.trial import Outcome, Point, TrialJob, TrialResult
from kinase.store import Store, StoreUnavailable
from kinase.store.memory import MemoryStore
from kinase_trainer import checkpoint, trial
from kinase_trainer.ending import Terminated
from kinase_trainer.ledger import Meter, read_ledger
from kinase_trainer.tasks import Classification
from kinase_trainer.train import Run
from tests.trainer.helpers import DARTS, EVERYTHING, cell, job

PREFIX = "trials/00007"
PLACES = ("begin", "train", "score", "save", "done")


class Killed(BaseException):
    """Stands for `kill -9`: nothing of ours may handle it."""


def everything(optimizer: str) -> TrialJob:
    """A cell network with drop-path and auxiliary head, all augmentation, and noise of order."""
    return job(
        kind="Final",
        keepWeights=True,
        training={**EVERYTHING, "optimizer": {"type": optimizer}},
        space=DARTS,
        architecture=cell(np.random.default_rng(1)),
        fidelity={"epochs": 5, "dataFraction": 0.3, "scale": {"cells": 3, "filters": 4}},
    )


def kill_at(monkeypatch: pytest.MonkeyPatch, place: str, epoch: int) -> None:
    """Have the process die at a place of epoch `epoch`, counted from 1 of this attempt."""
    owner: Any
    owner, name = {
        "begin": (Meter, "begin"),
        "train": (Run, "_loss"),
        "score": (Run, "score"),
        "save": (checkpoint.Uploads, "add"),
        "done": (Meter, "done"),
    }[place]
    real, calls = getattr(owner, name), 0

    def dying(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        per_epoch = 4 if place == "train" else 1
        answer = real(*arguments, **named)
        if calls == (epoch - 1) * per_epoch + min(2, per_epoch):
            raise Killed
        return answer

    monkeypatch.setattr(owner, name, dying)


def state(run: Run) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in checkpoint.pack(run.model, run.optimizer)[0].items()}


def train(own: TrialJob, store: Store) -> tuple[TrialResult, dict[str, torch.Tensor]]:
    """Train, and look at all tensors of model and optimizer after the last epoch."""
    at_end: dict[str, torch.Tensor] = {}
    real = Run.score

    def looking(self: Run) -> dict[str, float]:
        at_end.update(state(self))
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "score", looking)
        return trial.run(own, store), at_end


@cache
def undisturbed(optimizer: str) -> tuple[TrialResult, dict[str, torch.Tensor]]:
    """What comes of `everything` if nothing happens."""
    return train(everything(optimizer), MemoryStore())


def without_time(result: TrialResult) -> list[Any]:
    return [result.outcome, result.metrics, [(p.epoch, p.metrics) for p in result.curve]]


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("place", PLACES)
def test_killed_and_resumed_is_undisturbed_bit_for_bit(optimizer: str, place: str) -> None:
    own = everything(optimizer)
    whole, wanted = undisturbed(optimizer)
    assert len(whole.curve) == 5
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        if optimizer == "SGD":
            patch.setattr(checkpoint, "SMALL", -1)  # in a thread
        kill_at(patch, place, 3)
        with pytest.raises(Killed):
            train(own, store)
    torch.manual_seed(99)  # another process has other random states
    resumed, found = train(own.model_copy(update={"attempt": 2}), store)
    assert without_time(resumed) == without_time(whole)
    assert found.keys() == wanted.keys()
    assert any(name.startswith("optimiser.") for name in found)
    for name, tensor in wanted.items():
        assert torch.equal(tensor, found[name]), name
    lost = 0 if place == "save" else 1
    assert resumed.cost.epochs == 5 + lost
    # an epoch whose end was never written is charged whole
    assert resumed.cost.samples == whole.cost.samples + lost * whole.cost.samples // 5


def test_the_scale_of_half_precision_is_resumed() -> None:
    own = job(
        training={**EVERYTHING, "precision": "float16"},
        fidelity={"epochs": 4, "dataFraction": 0.1},
    )
    whole, wanted = train(own, MemoryStore())
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, "score", 3)
        with pytest.raises(Killed):
            train(own, store)
    saved, _ = checkpoint.restore(store, PREFIX)
    assert saved is not None
    assert saved.scalars["scaler"]["_growth_tracker"] > 0
    resumed, found = train(own, store)
    assert without_time(resumed) == without_time(whole)
    assert all(torch.equal(t, found[n]) for n, t in wanted.items())


def test_stopped_and_resumed_is_undisturbed() -> None:
    own = job(fidelity={"epochs": 4})
    whole = trial.run(own, MemoryStore())
    store = MemoryStore()
    stopped = trial.run(own, store, lambda point: point.epoch < 2)
    assert stopped.outcome is Outcome.STOPPED
    assert stopped.metrics == whole.curve[1].metrics
    assert (stopped.cost.epochs, len(stopped.curve)) == (2, 2)
    resumed = trial.run(own, store)
    assert without_time(resumed) == without_time(whole)
    assert resumed.cost.epochs == 4


def test_a_stop_after_the_last_epoch_is_a_success() -> None:
    result = trial.run(job(fidelity={"epochs": 2}), MemoryStore(), lambda point: point.epoch < 2)
    assert result.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("kills", [1, 3])
def test_every_epoch_begun_is_charged_however_often_it_is_killed(kills: int) -> None:
    store, own = MemoryStore(), job(fidelity={"epochs": 3})
    for attempt in range(1, kills + 1):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, "score", 1)
            with pytest.raises(Killed):
                trial.run(own.model_copy(update={"attempt": attempt}), store)
        ledger = read_ledger(store, PREFIX)
        assert (ledger.attempt, ledger.epochs_begun, ledger.epochs_done) == (attempt, attempt, 0)
    result = trial.run(own, store)
    assert result.cost.epochs == 3 + kills
    ledger = read_ledger(store, PREFIX)
    assert result.cost.device_seconds == ledger.device_seconds > 0


def test_an_epoch_is_charged_before_its_first_sample() -> None:
    store, seen = MemoryStore(), []
    real = Run.train_epoch

    def looking(self: Run) -> int:
        seen.append(read_ledger(store, PREFIX))
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "train_epoch", looking)
        trial.run(job(), store)
    assert [(each.epochs_begun, each.epochs_done) for each in seen] == [(1, 0), (2, 1), (3, 2)]
    assert [each.samples for each in seen] == [1079, 2158, 3237]
    assert seen[1].metrics.keys() == {f"val_{name}" for name in Classification.metrics}


def damaged(raw: bytes, how: str) -> bytes:
    middle = len(raw) // 2
    return {
        "empty": b"",
        "cut short": raw[:middle],
        "a bit in the tensors": raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:],
        "a bit in the head": raw[:60] + bytes([raw[60] ^ 1]) + raw[61:],
        "a bit in the digest": bytes([raw[0] ^ 1]) + raw[1:],
        "noise": np.random.default_rng(0).bytes(len(raw)),
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "cut short",
        "a bit in the tensors",
        "a bit in the head",
        "a bit in the digest",
        "noise",
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_said(how: str) -> None:
    own, store = job(), MemoryStore()
    trial.run(own, store, lambda point: point.epoch < 2)
    key = f"{PREFIX}/{checkpoint.CHECKPOINT}"
    store.put(key, damaged(store.get(key), how))
    result = trial.run(own, store)
    assert "the checkpoint was not used" in result.message
    assert "training started from scratch" in result.message
    assert without_time(result) == without_time(trial.run(own, MemoryStore()))
    assert result.cost.epochs == 2 + 3


def test_a_checkpoint_of_another_network_is_passed_over() -> None:
    store, own = MemoryStore(), job()
    trial.run(own, store, lambda point: point.epoch < 2)
    other = job(architecture={"layers": own.architecture["layers"][:1]})
    result = trial.run(other, store)
    assert "it is of another network" in result.message
    assert without_time(result) == without_time(trial.run(other, MemoryStore()))


def test_a_checkpoint_of_a_longer_training_is_passed_over() -> None:
    store, own = MemoryStore(), job()
    trial.run(own, store, lambda point: point.epoch < 2)
    result = trial.run(job(fidelity={"epochs": 1}), store)
    assert "it holds 2 epochs, more than the 1 asked for" in result.message


@pytest.mark.parametrize("text", [b"", b"{", b'{"epochsBegun": -3}', b'{"attempt": "x"}'])
def test_a_damaged_ledger_counts_as_none(text: bytes) -> None:
    store = MemoryStore()
    store.put(f"{PREFIX}/progress.json", text)
    assert trial.run(job(), store).cost.epochs == 3


def test_a_point_s_seconds_go_on_over_attempts() -> None:
    store, own = MemoryStore(), job()
    points: list[Point] = []

    def two(point: Point) -> bool:
        points.append(point)
        return len(points) < 2

    trial.run(own, store, two)
    resumed = trial.run(own, store)
    seconds = [point.device_seconds for point in resumed.curve]
    assert seconds == sorted(seconds)
    assert [p.device_seconds for p in points] == seconds[:2]
    assert resumed.cost.device_seconds == seconds[-1]


@pytest.mark.parametrize("keep", [False, True])
def test_the_checkpoint_goes_once_there_is_a_result_unless_it_is_to_be_kept(keep: bool) -> None:
    store = MemoryStore()
    trial.run(job(fidelity={"epochs": 3}, keepCheckpoint=keep), store)
    key = f"{PREFIX}/{checkpoint.CHECKPOINT}"
    assert store.exists(f"{PREFIX}/result.json")
    assert store.exists(key) is keep


class Slow(MemoryStore):
    """Checkpoints come to it when `gate` says so; the first is number 1."""

    def __init__(self, gate: Callable[[int], None]) -> None:
        super().__init__()
        self.gate, self.count = gate, 0
        self.doing: list[str] = []

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if key.endswith(checkpoint.CHECKPOINT):
            self.count += 1
            self.doing.append(f"upload {self.count}")
            self.gate(self.count)
        super().put(key, data, if_absent=if_absent)
        if key.endswith(checkpoint.CHECKPOINT):
            self.doing.append(f"uploaded {self.count}")


@pytest.fixture
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint is large."""
    monkeypatch.setattr(checkpoint, "SMALL", -1)


@pytest.mark.usefixtures("_large")
def test_a_large_checkpoint_is_written_while_the_next_epoch_trains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, trained = job(fidelity={"epochs": 4}), [threading.Event() for _ in range(4)]
    store = Slow(lambda number: None if trained[number].wait(30) else pytest.fail("not beside it"))
    real = Run.train_epoch
    ledgers: list[tuple[int, int]] = []

    def training(self: Run) -> int:
        samples = real(self)
        ledger = read_ledger(store, PREFIX)
        ledgers.append((ledger.epochs_begun, ledger.epochs_done))
        store.doing.append(f"trained {self.epoch}")
        trained[self.epoch - 1].set()
        return samples

    monkeypatch.setattr(Run, "train_epoch", training)
    result = trial.run(own, store)
    assert ledgers == [(1, 0), (2, 0), (3, 1), (4, 2)], "no more is said than what is there"
    steps = {step: place for place, step in enumerate(store.doing)}
    assert steps["upload 1"] < steps["trained 2"] < steps["uploaded 1"] < steps["upload 2"]
    assert steps["trained 3"] < steps["uploaded 2"] < steps["upload 3"] < steps["uploaded 3"]
    monkeypatch.setattr(Run, "train_epoch", real)
    assert without_time(result) == without_time(trial.run(own, MemoryStore()))


@pytest.mark.usefixtures("_large")
def test_killed_while_a_checkpoint_is_written_the_one_before_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(number: int) -> None:
        if number == 2:
            raise Killed

    own, store = job(fidelity={"epochs": 5}), Slow(die)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, "score", 3)
        with pytest.raises(Killed):
            trial.run(own, store)
    assert read_ledger(store, PREFIX).epochs_done == 1
    resumed = trial.run(own.model_copy(update={"attempt": 2}), store)
    assert without_time(resumed) == without_time(trial.run(own, MemoryStore()))
    assert resumed.cost.epochs == 3 + 4, "the epochs after it are trained and charged again"


@pytest.mark.usefixtures("_large")
def test_what_goes_wrong_beside_the_training_is_told() -> None:
    def away(number: int) -> None:
        if number == 2:
            raise StoreUnavailable("away")

    store = Slow(away)
    with pytest.raises(StoreUnavailable, match="away"):
        trial.run(job(fidelity={"epochs": 3}), store)
    assert not store.exists(f"{PREFIX}/result.json")
    saved, _ = checkpoint.restore(store, PREFIX)
    assert saved is not None
    assert saved.epoch == 1


@pytest.mark.usefixtures("_large")
@pytest.mark.parametrize("how", ["stopped", "terminated"])
def test_a_trial_ends_when_its_checkpoint_is_written(how: str) -> None:
    store = Slow(lambda number: time.sleep(0.3))

    def notify(point: Point) -> bool:
        if point.epoch == 2 and how == "terminated":
            raise Terminated
        return point.epoch < 2

    with suppress(Terminated):
        trial.run(job(fidelity={"epochs": 4}), store, notify)
    saved, _ = checkpoint.restore(store, PREFIX)
    assert saved is not None
    assert saved.epoch == read_ledger(store, PREFIX).epochs_done == 2


def test_a_trial_that_was_stopped_keeps_its_checkpoint() -> None:
    store = MemoryStore()
    result = trial.run(job(fidelity={"epochs": 4}), store, lambda point: point.epoch < 2)
    assert result.outcome is Outcome.STOPPED
    assert store.exists(f"{PREFIX}/{checkpoint.CHECKPOINT}")
