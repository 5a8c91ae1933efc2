"""The trainer without torch that the cluster's tests and benchmarks run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kinase.api.trial import Outcome, TrialResult
from kinase.experiment.final_outputs import FINAL
from kinase.store import Store, open_uri
from tests import pod_trainer
from tests.trainer.contract import (
    PREFIX,
    TASK,
    TrainerContract,
    curve,
    progress_of,
    result_of,
    trial_job,
)
from tests.trainer.pod import Pod, until
from tests.unit.experiment.helpers import INFO

PROGRAM = Path(pod_trainer.__file__)


class TestPodTrainer(TrainerContract):
    command = (sys.executable, str(PROGRAM))
    slow = {"FAKE_EPOCH_SECONDS": "0.5"}
    quick = {"FAKE_POST": "1"}


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path, f"file://{tmp_path}/store", {}, (sys.executable, str(PROGRAM)))


@pytest.fixture
def store(pod: Pod) -> Store:
    return open_uri(pod.uri)


def document(**changes: Any) -> dict[str, Any]:
    return trial_job(**changes).model_dump(by_alias=True, mode="json")


def test_its_metrics_are_a_function_of_the_job(pod: Pod, store: Store) -> None:
    assert pod.run(trial_job()) == 0
    assert result_of(store).metrics == pod_trainer.score(document())
    scores = [
        pod_trainer.score(document(**change))["val_accuracy"]
        for change in ({}, {"seed": 2}, {"epochs": 4}, {"attempt": 5}, {"kind": "Control"})
    ]
    assert len(set(scores)) == 3
    assert scores[0] == scores[3] == scores[4]
    [layer, *_] = trial_job().architecture["layers"]
    turned = {"layers": [dict(reversed(layer.items()))]}
    assert pod_trainer.score(document(architecture=turned)) == pod_trainer.score(
        document(architecture={"layers": [layer]})
    )


def test_the_task_is_the_one_of_the_other_tests(pod: Pod, store: Store) -> None:
    from kinase.api.trial import TaskInfo

    assert pod.run(TASK) == 0
    assert TaskInfo.model_validate_json(store.get("trainer.json")) == INFO


def test_a_kept_network_is_one_that_a_run_copies(pod: Pod, store: Store) -> None:
    assert pod.run(trial_job(kind="Final", test=True)) == 2
    assert pod.run(trial_job(kind="Final", keepWeights=True)) == 0
    assert all(store.exists(f"{PREFIX}/{name}") for name in FINAL)


def test_samples_are_those_of_the_fraction(pod: Pod, store: Store) -> None:
    from tests.trainer.helpers import job

    assert pod.run(job(fidelity={"epochs": 2, "dataFraction": 0.25})) == 0
    assert result_of(store).cost.samples == 500


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("exit", 3, "the trainer exits"),
        ("raise", 1, "RuntimeError: the trainer is broken"),
        ("signal", -9, None),
        ("memory", -9, None),
        ("silent", 0, ""),
        ("bad", 2, "Bad: the data has gone"),
        ("unavailable", 75, "the store is away, it is said"),
    ],
)
def test_a_first_attempt_goes_wrong(
    pod: Pod, store: Store, fault: str, code: int, message: str | None
) -> None:
    own = trial_job()
    whose = {"FAKE_FAULT": fault, "FAKE_FAULT_TRIAL": "7", "FAKE_MEMORY_MIB": "32"}
    assert pod.run(own, **whose) == code
    assert (pod.termination.message if pod.log.exists() else None) == message
    assert not store.exists(f"{PREFIX}/result.json")
    assert (progress_of(store).epochs_begun, progress_of(store).epochs_done) == (2, 1)
    assert pod.run(own.model_copy(update={"attempt": 2}), **whose) == 0
    found = result_of(store)
    assert found.metrics == pod_trainer.score(own.model_dump(by_alias=True, mode="json"))
    assert found.cost.epochs == 4


def test_every_attempt_goes_wrong(pod: Pod, store: Store) -> None:
    own = trial_job(trial=1, task={"dataset": "exit-always"})
    for attempt in (1, 2, 3):
        assert pod.run(own.model_copy(update={"attempt": attempt})) == 3
    assert (progress_of(store).epochs_begun, progress_of(store).epochs_done) == (4, 1)
    assert pod.run(trial_job(trial=2, task={"dataset": "exit-always"})) == 0


def test_a_trial_that_can_never_work(pod: Pod, store: Store) -> None:
    for _ in range(2):
        assert pod.run(trial_job(), FAKE_FAULT="infeasible", FAKE_FAULT_TRIAL="all") == 42
    assert result_of(store).outcome is Outcome.INFEASIBLE
    assert result_of(store).cost.epochs == 2


def test_a_hang_is_deaf(pod: Pod, store: Store) -> None:
    with pod.start(trial_job(), FAKE_FAULT="hang", FAKE_FAULT_TRIAL="7") as process:
        until(lambda: progress_of(store).epochs_begun == 2)
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()


def test_data_that_is_not_there(pod: Pod) -> None:
    assert (
        pod.run(TASK.model_copy(update={"task": trial_job(task={"dataset": "absent"}).task})) == 2
    )
    assert "'absent' does not exist" in pod.termination.message


def test_a_long_epoch_is_not_waited_for(pod: Pod, store: Store) -> None:
    slow = {"FAKE_EPOCH_SECONDS": "30", "KINASE_GRACE_SECONDS": "2"}
    with pod.start(trial_job(), **slow) as process:
        until(lambda: progress_of(store).epochs_begun == 1)
        process.terminate()
        assert process.wait(5) == 143
    assert pod.run(trial_job(attempt=2)) == 0
    whole = TrialResult.model_validate_json(store.get(f"{PREFIX}/result.json"))
    assert whole.cost.epochs == 4
    assert curve(whole)[1] == pod_trainer.score(document())


@pytest.mark.parametrize("signalled", [False, True])
def test_an_epoch_that_is_held_lasts_until_it_is_let_go_or_a_signal_comes(
    pod: Pod, store: Store, signalled: bool
) -> None:
    held = pod.folder / "held" / pod.folder.name / "toy-00007-1-2"
    held.parent.mkdir(parents=True)
    held.touch()
    environment = {"LAB_NODE": f"{pod.folder}:1", "HOSTNAME": "toy-00007-1-abcde"}
    with pod.start(trial_job(epochs=3), **environment) as process:
        until(lambda: progress_of(store).epochs_begun == 2)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        if signalled:
            process.terminate()
        else:
            held.unlink()
        assert process.wait(60) == (143 if signalled else 0)
    progress = progress_of(store)
    assert (progress.epochs_begun, progress.epochs_done) == ((2, 2) if signalled else (3, 2))


def test_it_imports_nothing_but_python_s_own() -> None:
    code = f"import runpy, sys; runpy.run_path({str(PROGRAM)!r}); print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
    ).stdout
    names = {name.partition(".")[0] for name in said.split()}
    assert not names - set(sys.stdlib_module_names) - {"__main__", "sitecustomize"}
