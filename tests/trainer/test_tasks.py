"""Another kind of task joins by one class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kinase import registry
from kinase.api.task import Task
from kinase.store.memory import MemoryStore
from kinase_trainer import load, trial
from kinase_trainer.tasks import Classification, LearningTask, make_task
from tests.trainer.helpers import job


class Regression(LearningTask):
    """One real number an image."""

    metrics = ("mse",)

    def prepare(self, targets: Tensor) -> Tensor:
        return targets.float().reshape(len(targets), -1)

    def outputs(self, targets: Tensor) -> int:
        return targets.shape[1]

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        return F.mse_loss(output, target)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"mse": float(F.mse_loss(outputs, targets.double())) * outputs.shape[1]}


class MultiLabel(Regression):
    """Any number of labels an image."""

    metrics = ("hamming",)

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(output, target)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"hamming": float(((outputs > 0) != (targets > 0.5)).double().mean())}


def use(monkeypatch: pytest.MonkeyPatch, task: Any) -> None:
    real = registry.load
    monkeypatch.setattr(
        registry, "load", lambda g, n: task if (g, n) == ("kinase.tasks", "Own") else real(g, n)
    )


@pytest.mark.parametrize("kind", [Regression, MultiLabel])
def test_a_task_of_ones_own_is_trained_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[LearningTask]
) -> None:
    use(monkeypatch, kind)
    rng = np.random.default_rng(0)
    x = rng.random((300, 6, 6, 3)) * rng.random((300, 1, 1, 3))
    light = x[..., :2].mean((1, 2))
    y = light if kind is Regression else (light > np.median(light, 0)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    own = job(
        task={"type": "Own", "dataset": "npz", "path": str(tmp_path / "d.npz")},
        kind="Final",
        keepWeights=True,
        training={
            "batchSize": 16,
            "device": "cpu",
            "optimizer": {"type": "AdamW", "adamw": {"learningRate": 0.02}},
        },
        fidelity={"epochs": 10},
    )
    name = kind.metrics[0]
    info = trial.describe(own.task, own.training)
    assert (info.outputs, info.metrics) == (2, (f"val_{name}",))
    store = MemoryStore()
    curve = trial.run(own, store).curve
    assert curve[-1].metrics[f"val_{name}"] < curve[0].metrics[f"val_{name}"] / 1.5
    assert set(trial.run(own.model_copy(update={"test": True}), store).metrics) == {f"test_{name}"}
    network, _ = load(store.sub(own.prefix))
    assert network(torch.rand(5, 3, 6, 6)).shape == (5, 2)


def test_accuracy_and_loss_are_the_field_s() -> None:
    output = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    target = torch.tensor([0, 1, 1])
    task = Classification()
    measured = task.measure(output, target)
    assert measured["accuracy"] == pytest.approx(2 / 3)
    assert measured["loss"] == pytest.approx(float(F.cross_entropy(output, target)))
    assert task.outputs(target) == 2


def test_an_entry_point_that_is_no_task_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, dict)
    with pytest.raises(ValueError, match=r"task.type 'Own' is not a kinase_trainer.tasks"):
        make_task(Task(type="Own"))


def test_labels_that_are_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="one whole number a sample"):
        Classification().prepare(torch.rand(4))
    with pytest.raises(ValueError, match="one whole number a sample"):
        Classification().prepare(torch.zeros(4, 2, dtype=torch.long))
    assert Classification().prepare(torch.tensor([0, 1], dtype=torch.uint8)).dtype == torch.int64
    assert Task().type == "Classification"
