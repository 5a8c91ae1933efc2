"""Numbers and labels, from the archive to the exported network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from kinase.api.task import Task
from kinase.api.trial import TrialResult
from kinase.experiment.final_outputs import keep_final
from kinase.experiment.record import Record
from kinase.report import render
from kinase.report.gather import gather
from kinase.report.task import data_lines
from kinase.store.memory import MemoryStore
from kinase_trainer import load, trial
from kinase_trainer.data import open_splits, open_test
from kinase_trainer.errors import ConfigError
from kinase_trainer.export import export_network
from kinase_trainer.train import evaluate
from tests.trainer.helpers import CHAIN, job, search

FAST = {
    "batchSize": 16,
    "device": "cpu",
    "optimizer": {"type": "AdamW", "adamw": {"learningRate": 0.02}},
}


def archive(folder: Path, y: Any, x: Any = None) -> Task:
    rng = np.random.default_rng(0)
    x = rng.random((len(y), 6, 6)) if x is None else x
    np.savez(folder / "d.npz", x=x, y=y)
    open_splits.cache_clear()
    return Task(dataset="npz", path=str(folder / "d.npz"))


def own(task: Task, kind: str, **changes: Any) -> Any:
    document = {**task.model_dump(by_alias=True, mode="json"), "type": kind}
    return job(
        task=document, training=FAST, kind="Final", keepWeights=True, fidelity={"epochs": 4},
        **changes,
    )  # fmt: skip


def brightness(count: int = 160) -> tuple[Any, Any]:
    """Images, and the sums of their left and right halves in units far from 0 and 1."""
    rng = np.random.default_rng(1)
    x = rng.random((count, 6, 6)) * rng.random((count, 1, 6))
    return x, np.stack([x[..., :3].mean((1, 2)) * 1000 + 5000, x[..., 3:].mean((1, 2))], 1)


def test_numbers_are_learnt_and_come_out_in_their_units(tmp_path: Path) -> None:
    x, y = brightness()
    asked = own(archive(tmp_path, y, x), "Regression")
    info = trial.describe(asked.task, asked.training)
    assert (info.outputs, info.classes) == (2, ())
    assert info.metrics == ("val_rmse", "val_mae", "val_r2", "val_loss")
    assert "2 numbers a sample: 5032 to 5476" in data_lines(info)[1]
    store = MemoryStore()
    result = trial.run(asked, store)
    assert result.metrics["val_r2"] > 0.2
    tested = trial.run(asked.model_copy(update={"test": True}), store)
    assert tested.confusion is None
    # the loaded network speaks the data's units, and so does what is exported
    network, card = load(store.sub(asked.prefix))
    part, task = open_test(asked.task)
    assert task.units is not None
    with torch.no_grad():
        found = network(part.images.float())  # type: ignore[union-attr]
    wanted = part.targets * torch.tensor(task.units.deviation) + torch.tensor(task.units.mean)
    rmse = float((found - wanted).double().square().mean(0).sqrt().mean())
    assert rmse == pytest.approx(tested.metrics["test_rmse"], rel=1e-4)
    assert 4000 < float(found[:, 0].mean()) < 6000
    assert card["targetMean"] == pytest.approx(list(task.units.mean))
    written = export_network(store.sub(asked.prefix), tmp_path / "out", ("onnx", "safetensors"))
    session = onnxruntime.InferenceSession(str(written[0]))
    [given] = session.run(None, {"images": part.images.float().numpy()})  # type: ignore[union-attr]
    assert np.allclose(given, found.numpy(), rtol=1e-4)
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "Output: 2 numbers in the units of the data" in readme


def test_labels_are_learnt_and_counted(tmp_path: Path) -> None:
    x, y = brightness()
    y = (y > np.median(y, 0)).astype(np.uint8)
    asked = own(archive(tmp_path, y, x), "MultiLabel")
    info = trial.describe(asked.task, asked.training)
    assert (info.outputs, info.several) == (2, True)
    lines = data_lines(info)
    assert lines[1] == "2 labels: 0 (80), 1 (80)"
    assert lines[2].startswith("0 to 2 labels a sample, 1.00 on average")
    store = MemoryStore()
    assert trial.run(asked, store).metrics["val_auc"] > 0.6
    tested = trial.run(asked.model_copy(update={"test": True}), store)
    assert set(tested.metrics) == {"test_auc", "test_map", "test_f1", "test_loss"}
    assert tested.confusion is None


def test_the_winner_s_confusions_are_of_the_test_part() -> None:
    asked = job(
        kind="Final", keepWeights=True, fidelity={"epochs": 1, "dataFraction": 0.2}, training=FAST
    )
    store = MemoryStore()
    trial.run(asked, store)
    tested = trial.run(asked.model_copy(update={"test": True}), store)
    assert tested.confusion is not None
    matrix = np.array(tested.confusion)
    part, task = open_test(asked.task)
    assert np.array_equal(matrix.sum(1), np.bincount(part.targets.numpy()))
    assert matrix.trace() / matrix.sum() == pytest.approx(tested.metrics["test_accuracy"])
    network, _ = load(store.sub(asked.prefix))
    measured = evaluate(network, task, part, asked.training, torch.device("cpu"))
    assert measured["f1"] == tested.metrics["test_f1"]
    ragged = {**tested.model_dump(), "confusion": [[1, 2], [3]]}
    with pytest.raises(ValueError, match="the matrix has 2 rows"):
        TrialResult.model_validate(ragged)


def test_numbers_are_standardized_by_the_training_part_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "d.npz",
        x_train=rng.random((20, 4, 4)), y_train=np.arange(20.0),
        x_val=rng.random((5, 4, 4)), y_val=np.arange(5.0) + 1000,
        x_test=rng.random((5, 4, 4)), y_test=np.arange(5.0) - 1000,
    )  # fmt: skip
    task = Task(type="Regression", dataset="npz", path=str(tmp_path / "d.npz"))
    open_splits.cache_clear()
    splits = open_splits(task)
    assert splits.learning.units is not None
    assert splits.learning.units.mean == (9.5,)
    assert splits.train.targets.mean().item() == pytest.approx(0, abs=1e-6)
    assert splits.train.targets.std(correction=0).item() == pytest.approx(1)
    assert splits.validation.targets.min().item() > 100


LABELS = np.random.default_rng(5).random((40, 3)) < 0.4
LABELS[0] = True


@pytest.mark.parametrize(
    ("kind", "y", "said"),
    [
        ("Classification", np.linspace(0, 1, 40), "for quantities, set task.type: Regression"),
        ("Classification", LABELS, "set task.type: MultiLabel"),
        ("Classification", np.arange(40), "if the targets are quantities, set task.type: Regr"),
        ("MultiLabel", np.arange(40) % 3, "hold 2; task.type MultiLabel takes a row of zeros"),
        ("MultiLabel", np.linspace(0, 1, 40), "task.type MultiLabel takes a row of zeros and ones"),
        ("MultiLabel", np.ones((40, 2)), "each label is set in all training samples"),
        ("Regression", np.zeros((40, 2, 2)), r"takes one number a sample \(N,\), or a row"),
        ("Regression", np.full(40, 3.5), "the target is 3.5 in every training sample"),
        ("Regression", np.stack([np.arange(40), np.ones(40)], 1), "number 2 of 2 is 1 in every"),
        ("Regression", np.arange(40) * 1e300, "the targets reach 3.9e.301.*use another unit"),
        ("Regression", np.array(["a", "b"] * 20), "has classes .a, b, .*set task.type: Classif"),
    ],
)
def test_targets_of_another_task_are_refused(tmp_path: Path, kind: str, y: Any, said: str) -> None:
    task = archive(tmp_path, y).model_copy(update={"type": kind})
    with pytest.raises(ConfigError, match=said):
        open_splits(task)


def test_parts_with_another_number_of_targets_are_refused(tmp_path: Path) -> None:
    x, y = np.zeros((40, 4, 4), np.uint8), np.arange(40.0)
    np.savez(tmp_path / "two.npz", x_train=x, y_train=y, x_test=x, y_test=np.stack([y, y], 1))
    task = Task(dataset="npz", path=str(tmp_path / "two.npz"), type="Regression")
    with pytest.raises(
        ConfigError, match=r"\(40, 1\) in its training part and \(40, 2\) in its test"
    ):
        open_splits(task)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("Classification", {"classification": {"weights": [1, 2, 3]}}, "3 weights for 2 classes"),
        ("MultiLabel", {"multiLabel": {"weights": [1]}}, "1 weights for 3 labels"),
    ],
)
def test_weights_are_one_for_each(tmp_path: Path, kind: str, options: Any, said: str) -> None:
    y = LABELS if kind == "MultiLabel" else np.arange(40) % 2
    document = {**archive(tmp_path, y).model_dump(by_alias=True), "type": kind, **options}
    with pytest.raises(ConfigError, match=said):
        open_splits(Task.model_validate(document))


def test_whole_numbers_are_quantities_where_the_manifest_says_so(tmp_path: Path) -> None:
    task = archive(tmp_path, np.arange(40)).model_copy(update={"type": "Regression"})
    assert open_splits(task).outputs == 1


def test_balanced_weights_help_the_rare_class(tmp_path: Path) -> None:
    """Where the classes overlap, the rare one is answered more often."""
    rng = np.random.default_rng(0)
    y = np.array([0] * 180 + [1] * 20)
    x = np.clip(rng.normal(0.4 + 0.1 * y[:, None, None], 0.1, (200, 6, 6)), 0, 1)
    x[:, 1:] = x[:, :1]
    plain = own(archive(tmp_path, y, x), "Classification")
    weighed = own(
        archive(tmp_path, y, x).model_copy(
            update={"classification": Task.model_validate(
                {"classification": {"weighting": "balanced"}}
            ).classification}
        ),
        "Classification",
    )  # fmt: skip
    scores = []
    for each in (plain, weighed):
        open_splits.cache_clear()
        scores.append(trial.run(each, MemoryStore()).metrics["val_balanced_accuracy"])
    assert scores[1] > scores[0]


def test_the_winner_s_confusions_reach_the_journal_the_report_and_the_final_folder() -> None:
    loop = search(
        "confused",
        space=CHAIN,
        strategy={"type": "Random"},
        budget={"trials": 1},
        control={"share": 0},
        finalists={"count": 1},
        training={"epochs": 1, "device": "cpu"},
        objective={"metric": "val_f1"},
    )
    finished = loop.state.finished
    assert finished is not None
    assert finished.confusion is not None
    assert sum(map(sum, finished.confusion)) == loop.info.test
    again = Record(loop.experiment, loop.store, loop.info)
    again.replay()
    assert again.state.finished == finished
    assert 'id="confusion-matrix"' in render(gather(again))
    keep_final(loop.store, loop)
    kept = json.loads(loop.store.get("final/result.json"))
    assert kept["confusion"] == [list(row) for row in finished.confusion]
    assert kept["metrics"]["val_f1"] == again.state.trials[1].metrics["val_f1"]
