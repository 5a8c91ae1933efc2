"""Trainers that know the trial contract and nothing else of Kinase, or its helper, on the
cluster."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.status import ExperimentStatus
from kinase.api.trial import Outcome
from tests.cluster import system
from tests.cluster.system import Scene

SHELL = {
    "image": "lab/python",
    "command": ["/bin/sh", str(system.REPOSITORY / "tests/contract_trainer.sh")],
    "env": [{"name": "EPOCH_SECONDS", "value": "0.2"}],
}
PYTORCH = {
    "image": system.TRAINER,
    "command": ["python", str(system.REPOSITORY / "examples/own-trainer/train.py")],
}
"""The script of docs/own-trainer.md."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("template", "trials"), [(SHELL, 4), (PYTORCH, 1)], ids=["shell", "pytorch"]
)
def test_a_trainer_of_ones_own_finds_a_network(
    scene: Scene, template: dict[str, Any], trials: int
) -> None:
    scene.create(
        task={"dataset": "anything"},
        budget={"trials": trials, "parallelism": trials},
        finalists={"count": 1},
        trialTemplate=template,
    )
    item = scene.finished(timeout=500)  # a busy machine takes long to import torch in each pod
    status = ExperimentStatus.model_validate(item["status"])
    assert status.winner is not None
    assert set(status.test) == {"test_accuracy"}
    assert status.cost is not None
    assert status.cost.epochs == trials * 2 + 3
    told = scene.journal("toy", "told")
    assert {entry.outcome for entry in told} == {Outcome.SUCCEEDED}
    assert all(entry.metrics["val_accuracy"] == entry.curve[-1] for entry in told)
    trial = scene.trial(0)["status"]
    assert (trial["phase"], trial["exitCode"], trial["epochs"]) == ("Succeeded", 0, 2)
    [first] = [entry for entry in told if entry.trial == 0]
    assert trial["value"] == pytest.approx(first.metrics["val_accuracy"], rel=1e-5)
