"""The metrics of the tasks, compared with scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from kinase.api.objective import TASK_METRICS
from kinase.api.task import MultiLabelTask, RegressionTask
from kinase_trainer.tasks import Classification, LearningTask, MultiLabel, Regression, scores


def close(found: dict[str, float], wanted: dict[str, Any]) -> None:
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("classes", [2, 3, 11])
@pytest.mark.parametrize("ties", [False, True])
def test_classification_is_scikit_learn_s(classes: int, ties: bool) -> None:
    rng = np.random.default_rng(classes)
    for _ in range(5):
        target = np.concatenate([np.arange(classes), rng.integers(0, classes, 40)])
        logits = rng.normal(size=(len(target), classes)) + 2 * np.eye(classes)[target]
        logits = logits.round() if ties else logits
        chances = torch.from_numpy(logits).softmax(1).numpy()
        predicted = logits.argmax(1)
        found = Classification().measure(torch.from_numpy(logits), torch.from_numpy(target))
        asked = chances[:, 1] if classes == 2 else chances
        close(
            found,
            {
                "accuracy": metrics.accuracy_score(target, predicted),
                "loss": metrics.log_loss(target, chances),
                "balanced_accuracy": metrics.balanced_accuracy_score(target, predicted),
                "f1": metrics.f1_score(target, predicted, average="macro"),
                "auc": metrics.roc_auc_score(target, asked, multi_class="ovr", average="macro"),
            },
        )
        matrix = scores.confusion(torch.from_numpy(predicted), torch.from_numpy(target), classes)
        assert np.array_equal(matrix, metrics.confusion_matrix(target, predicted))


def test_a_class_that_does_not_occur_is_left_out() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 50)
    logits = rng.normal(size=(50, 4))
    logits[:, 3] -= 100  # and is never predicted
    found = Classification().measure(torch.from_numpy(logits), torch.from_numpy(target))
    predicted = logits.argmax(1)
    chances = torch.from_numpy(logits).softmax(1).numpy()
    close(
        found,
        {
            "balanced_accuracy": metrics.balanced_accuracy_score(target, predicted),
            "f1": metrics.f1_score(target, predicted, average="macro"),
            "auc": np.mean([metrics.roc_auc_score(target == k, chances[:, k]) for k in range(3)]),
        },
    )


@pytest.mark.parametrize("ties", [False, True])
def test_labels_are_scikit_learn_s(ties: bool) -> None:
    rng = np.random.default_rng(1)
    for threshold in (0.5, 0.3):
        target = rng.random((60, 5)) < [0.1, 0.3, 0.5, 0.7, 0.9]
        target[:2] = [[True] * 5, [False] * 5]
        logits = rng.normal(size=target.shape) + target
        logits = logits.round() if ties else logits
        chances = 1 / (1 + np.exp(-logits))
        task = MultiLabel(MultiLabelTask(threshold=threshold))
        found = task.measure(torch.from_numpy(logits), torch.from_numpy(target).float())
        close(
            found,
            {
                "auc": metrics.roc_auc_score(target, logits, average="macro"),
                "map": metrics.average_precision_score(target, logits, average="macro"),
                "f1": metrics.f1_score(target, chances >= threshold, average="macro"),
                "loss": np.mean([metrics.log_loss(target[:, k], chances[:, k]) for k in range(5)]),
            },
        )


def test_a_label_that_does_not_occur_is_left_out() -> None:
    rng = np.random.default_rng(2)
    target, logits = rng.random((30, 3)) < 0.5, rng.normal(size=(30, 3))
    target[:, 2], logits[:, 2] = False, -9
    found = MultiLabel().measure(torch.from_numpy(logits), torch.from_numpy(target).float())
    close(
        found,
        {
            "auc": metrics.roc_auc_score(target[:, :2], logits[:, :2], average="macro"),
            "map": metrics.average_precision_score(target[:, :2], logits[:, :2], average="macro"),
            "f1": metrics.f1_score(target, logits > 0, average="macro", zero_division=np.nan),
        },
    )


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("width", [1, 3])
def test_regression_is_scikit_learn_s_in_the_data_s_units(loss: Any, width: int) -> None:
    rng = np.random.default_rng(3)
    target = rng.normal(size=(70, width)) * 40 + 1000
    outputs = torch.from_numpy(rng.normal(size=target.shape))
    task = Regression(RegressionTask(loss=loss))
    prepared = task.prepare(torch.from_numpy(target))
    task.fit(prepared[:50])
    encoded = (prepared - prepared[:50].mean(0)) / prepared[:50].std(0, correction=0)
    assert torch.allclose(task.encode(prepared).double(), encoded, atol=1e-6)
    predicted = outputs.numpy() * np.array(task.units.deviation) + np.array(task.units.mean)
    close(
        task.measure(outputs, encoded),
        {
            "rmse": pytest.approx(metrics.root_mean_squared_error(target, predicted)),
            "mae": pytest.approx(metrics.mean_absolute_error(target, predicted)),
            "r2": pytest.approx(metrics.r2_score(target, predicted)),
        },
    )
    wanted = task.loss(outputs, encoded, 0.0)
    assert task.measure(outputs, encoded)["loss"] == pytest.approx(float(wanted))


def test_a_column_whose_targets_do_not_vary_has_no_r2() -> None:
    target = torch.tensor([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    assert scores.r2(target + 0.5, target) == pytest.approx(
        metrics.r2_score(target[:, 0], target[:, 0] + 0.5)
    )
    assert np.isnan(scores.r2(target[:, 1:], target[:, 1:]))


def test_columns_are_ranked_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    values, positive = torch.randn(40, 7).double(), torch.rand(40, 7) < 0.4
    whole = scores.macro_auc(values, positive), scores.mean_average_precision(values, positive)
    monkeypatch.setattr(scores, "ENTRIES", 100)
    assert whole == pytest.approx(
        (scores.macro_auc(values, positive), scores.mean_average_precision(values, positive))
    )


@pytest.mark.parametrize("task", [Classification, MultiLabel, Regression])
def test_the_manifest_s_metrics_are_the_task_s(task: type[LearningTask]) -> None:
    known = TASK_METRICS[task.__name__]
    assert tuple(known) == tuple(f"val_{name}" for name in task.metrics)
    assert {name: facts.goal for name, facts in known.items()} == {
        f"val_{name}": goal for name, goal in task.goals.items()
    }


def weights(count: Tensor) -> Any:
    from sklearn.utils import class_weight

    labels = np.repeat(np.arange(len(count)), count)
    return class_weight.compute_class_weight("balanced", classes=np.unique(labels), y=labels)


def test_balanced_weights_are_scikit_learn_s() -> None:
    from kinase.api.task import ClassificationTask

    count = torch.tensor([30, 7, 3])
    target = torch.repeat_interleave(torch.arange(3), count)
    output = torch.randn(40, 3)
    balanced = Classification(ClassificationTask(weighting="balanced"))
    balanced.fit(target)
    listed = Classification(ClassificationTask(weights=tuple(weights(count))))
    listed.fit(target)
    plain = torch.nn.functional.cross_entropy(output, target, reduction="none")
    each = torch.from_numpy(weights(count))[target]
    wanted = float((plain * each).sum() / each.sum())
    for task in (balanced, listed):
        assert float(task.loss(output, target, 0.0)) == pytest.approx(wanted, rel=1e-5)


def test_balanced_labels_weigh_the_same_there_and_not_there() -> None:
    target = (torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    target[:, 2] = 0  # never there: weighs as it is
    task = MultiLabel(MultiLabelTask(weighting="balanced"))
    task.fit(target)
    output = torch.zeros(200, 3, requires_grad=True)
    task.loss(output, target, 0.0).backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert output.grad.sum(0)[:2].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert float(task.loss(output.detach(), target, 0.1)) > 0
