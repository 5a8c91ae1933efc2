"""A trainer that knows the trial contract and nothing else of Kinase, on the cluster."""

from __future__ import annotations

import pytest

from kinase.api.status import ExperimentStatus
from kinase.api.trial import Outcome
from tests.cluster import system
from tests.cluster.system import Scene

SCRIPT = system.REPOSITORY / "tests/contract_trainer.sh"


def test_a_trainer_in_shell_that_knows_the_contract_alone_finds_a_network(scene: Scene) -> None:
    template = {
        "image": "lab/python",
        "command": ["/bin/sh", str(SCRIPT)],
        "env": [{"name": "EPOCH_SECONDS", "value": "0.2"}],
    }
    scene.create(
        task={"dataset": "anything"},
        budget={"trials": 4, "parallelism": 4},
        finalists={"count": 1},
        trialTemplate=template,
    )
    item = scene.finished()
    status = ExperimentStatus.model_validate(item["status"])
    assert status.winner is not None
    assert set(status.test) == {"test_accuracy"}
    assert status.cost is not None
    assert status.cost.epochs == 4 * 2 + 3
    told = scene.journal("toy", "told")
    assert {entry.outcome for entry in told} == {Outcome.SUCCEEDED}
    assert all(entry.metrics["val_accuracy"] == entry.curve[-1] for entry in told)
    trial = scene.trial(0)["status"]
    assert (trial["phase"], trial["exitCode"], trial["epochs"]) == ("Succeeded", 0, 2)
    [first] = [entry for entry in told if entry.trial == 0]
    assert trial["value"] == pytest.approx(first.metrics["val_accuracy"], rel=1e-5)
