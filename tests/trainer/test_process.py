"""Trial contract v1 as a process, with the command line and with a pod's environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kinase.api.trial import Outcome, Point, TaskInfo, TaskJob, Termination, TrialResult
from kinase.store import Store, StoreError, open_uri
from kinase.store.file import FileStore
from kinase_trainer import trial
from kinase_trainer.process import fit_threads, main
from kinase_trainer.push import Push
from kinase_trainer.train import Run
from tests.trainer.contract import PREFIX, curve, progress_of, result_of
from tests.trainer.helpers import job
from tests.trainer.pod import Forwarder, Pod, until
from tests.trainer.test_push import Controller

SLOW: dict[str, Any] = {"training": {"batchSize": 1, "device": "cpu"}}
"""An epoch takes about a second."""


@pytest.fixture(autouse=True)
def _handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("KINASE_") and not name.startswith("KINASE_TEST_"):
            monkeypatch.delenv(name)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def arguments(folder: Path, **changes: Any) -> list[str]:
    path = folder / "job.json"
    path.write_text(job(**changes).model_dump_json(by_alias=True))
    return ["--job", str(path), "--store", f"file://{folder}/store"]


def task_job(**changes: Any) -> TaskJob:
    return TaskJob.model_validate(
        {
            "experiment": "test",
            "task": {"dataset": "digits"},
            "training": {"device": "cpu"},
            **changes,
        }
    )


def result(folder: Path) -> TrialResult:
    return result_of(FileStore(folder / "store"))


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path, f"file://{tmp_path}/store")


@pytest.fixture
def store(pod: Pod) -> Store:
    return open_uri(pod.uri)


# -- how a trial ends ------------------------------------------------------------------


def test_a_trial_ends_with_its_result_and_0(tmp_path: Path) -> None:
    assert main(arguments(tmp_path)) == 0
    found = result(tmp_path)
    assert found.outcome is Outcome.SUCCEEDED
    expected = trial.run(job(), FileStore(tmp_path / "other"))
    assert found.metrics == expected.metrics


def test_a_trial_that_can_never_work_ends_with_42(tmp_path: Path) -> None:
    layers = [{"op": "maxpool", "kernel": 3, "stride": 2}] * 4
    assert main(arguments(tmp_path, architecture={"layers": layers})) == 42
    assert result(tmp_path).outcome is Outcome.INFEASIBLE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": {"dataset": "mnist", "path": "/nowhere"}}, "'/nowhere' does not exist"),
        ({"task": {"dataset": "digits", "type": "Divination"}}, "'Divination' is not known"),
        ({"prefix": "../elsewhere"}, "'../elsewhere/result.json' is not a key"),
        ({"kind": "Final", "test": True}, "model.json does not exist"),
        ({"test": True}, "the test part is for finalists"),
    ],
)
def test_what_is_not_there_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    assert main(arguments(tmp_path, **change)) == 2
    assert message in capsys.readouterr().err
    assert not FileStore(tmp_path / "store").exists(f"{PREFIX}/result.json")


def test_a_job_that_cannot_be_read_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(tmp_path)
    assert main([*given[:2], "--store", "ftp://x"]) == 2
    assert "'ftp://x'" in capsys.readouterr().err
    for text, message in (
        ('{"trial": -1}', "trial"),
        ('{"describe": false}', "describe"),
        ("{", "job.json"),
        ("[]", "job.json"),
        ("\ufffe", "job.json"),
    ):
        (tmp_path / "job.json").write_text(text)
        assert main(given) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "job.json").unlink()
    assert main(given) == 2


def test_a_command_line_that_cannot_be_read_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(tmp_path)
    assert main([]) == 2
    assert "--job" in capsys.readouterr().err
    assert main([*given, "--nonsense"]) == 2
    assert "usage: kinase_trainer" in capsys.readouterr().err
    for variable in ("KINASE_STORE_PATIENCE", "KINASE_GRACE_SECONDS"):
        for text in ("soon", "-1", "nan", "inf"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, text)
                assert main(given) == 2
            assert f"{variable} is '{text}'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("mat1 and mat2"), 1, "RuntimeError: mat1 and mat2"),
        (KeyError("weight"), 1, "KeyError: 'weight'"),
        (SystemExit(0), 1, "RuntimeError: sys.exit(0) was called"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_crash_is_told_with_its_last_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def broken(self: Run) -> int:
        if self.epoch == 2:
            raise error
        return real(self)

    real = Run.train_epoch
    monkeypatch.setattr(Run, "train_epoch", broken)
    pod = Pod(tmp_path, f"file://{tmp_path}/store")
    monkeypatch.setenv("KINASE_TERMINATION_LOG", str(pod.log))
    monkeypatch.setenv("KINASE_METRIC", "val_loss")
    assert main(arguments(tmp_path)) == code
    said = pod.termination
    assert (said.epochs, said.message) == (2, message)
    assert said.value is not None
    assert message in (err := capsys.readouterr().err)
    assert ("Traceback" in err) == (code == 1)


# -- a pod -----------------------------------------------------------------------------


def test_a_pod_needs_no_arguments(pod: Pod, store: Store) -> None:
    assert pod.run(job()) == 0
    found = result_of(store)
    assert curve(found) == curve(trial.run(job(), FileStore(pod.folder / "other")))
    said = pod.termination
    assert (said.value, said.epochs, said.message) == (found.metrics["val_accuracy"], 3, "")


def test_options_stand_above_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(tmp_path)
    monkeypatch.setenv("KINASE_JOB", "/nowhere/job.json")
    monkeypatch.setenv("KINASE_STORE", "ftp://nowhere")
    assert main(given) == 0
    monkeypatch.setenv("KINASE_JOB", given[1])
    monkeypatch.setenv("KINASE_STORE", given[3])
    assert main([]) == 0


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_task_is_described(pod: Pod, store: Store, device: str) -> None:
    assert pod.here(task_job(training={"device": device})) == 0
    info = TaskInfo.model_validate_json(store.get("trainer.json"))
    assert (info.input, info.outputs, info.train) == ((1, 8, 8), 10, 1079)
    assert list(store.list()) == ["trainer.json"]
    assert pod.termination.message == ""


def test_a_task_of_other_data_is_described(pod: Pod, store: Store) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    np.savez(pod.folder / "d.npz", x=rng.random((100, 6, 5)), y=np.arange(100) % 4)
    task = {"dataset": "npz", "path": str(pod.folder / "d.npz")}
    own = task_job(task=task, key="some/place.json")
    assert pod.here(own) == 0
    info = TaskInfo.model_validate_json(store.get("some/place.json"))
    assert info == trial.describe(own.task, own.training)
    assert (info.input, info.outputs) == ((1, 6, 5), 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": {"dataset": "mnist", "path": "/nowhere"}}, "'/nowhere' does not exist"),
        ({"task": {"dataset": "nonsense"}}, "'nonsense' is not known; known: cifar10"),
        ({"task": {"type": "Divination"}}, "'Divination' is not known"),
        ({"key": "../trainer.json"}, "is not a key"),
        ({"task": {"split": {"validation": 1e-4, "test": 0.2}}}, "leaves no validation"),
    ],
)
def test_a_task_that_is_not_there_ends_with_2(
    pod: Pod, store: Store, change: dict[str, Any], message: str
) -> None:
    assert pod.here(task_job(**change)) == 2
    assert message in pod.said
    assert message in pod.termination.message
    assert list(store.list()) == []


def test_what_cannot_work_is_told_in_the_termination_message(pod: Pod) -> None:
    layers = [{"op": "maxpool", "kernel": 3, "stride": 2}] * 4
    assert pod.here(job(architecture={"layers": layers})) == 42
    said = pod.termination
    assert (said.value, said.epochs) == (None, 0)
    assert "leaves nothing" in said.message


def test_a_job_is_tested_once(pod: Pod, store: Store) -> None:
    final = job(kind="Final", keepWeights=True)
    assert pod.here(final) == 0
    asked = final.model_copy(update={"test": True, "attempt": 2})
    assert pod.here(asked, KINASE_METRIC="test_accuracy") == 0
    measured = TrialResult.model_validate_json(store.get(f"{PREFIX}/test.json"))
    assert pod.termination.value == measured.metrics["test_accuracy"]
    assert pod.here(asked.model_copy(update={"attempt": 3})) == 0
    assert TrialResult.model_validate_json(store.get(f"{PREFIX}/test.json")) == measured


def test_threads_are_those_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpu.max"
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for text, threads in (
        ("max 100000", ""),
        ("800000 100000", "4"),
        ("50000 100000", "1"),
        ("250000 100000", "3"),
    ):
        monkeypatch.setenv("OMP_NUM_THREADS", "")
        path.write_text(text)
        fit_threads(path)
        assert os.environ["OMP_NUM_THREADS"] == threads
    path.write_text("100000 100000")
    fit_threads(path)
    assert os.environ["OMP_NUM_THREADS"] == "3"  # what is set stays
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    fit_threads(tmp_path / "none")
    assert os.environ["OMP_NUM_THREADS"] == ""


# -- once only -------------------------------------------------------------------------


def left(**changes: Any) -> str:
    document = {"trial": 7, "attempt": 1, "outcome": "Succeeded", "metrics": {"val_accuracy": 0.25}}
    return TrialResult.model_validate({**document, **changes}).model_dump_json(by_alias=True)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"attempt": 2}, 0),
        ({"outcome": "Infeasible", "message": "no memory"}, 42),
    ],
)
def test_a_result_that_is_there_is_not_made_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    code: int,
) -> None:
    monkeypatch.setattr(trial, "run", None)
    store = FileStore(tmp_path / "store")
    store.put(f"{PREFIX}/result.json", left(**changes).encode())
    assert main(arguments(tmp_path, attempt=2)) == code
    assert "nothing is trained" in capsys.readouterr().out
    assert list(store.list()) == [f"{PREFIX}/result.json"]


@pytest.mark.parametrize(
    "text",
    [
        left(trial=8),
        left(attempt=3),
        left(outcome="Stopped"),
        left(outcome="Failed"),
        left()[:-5],
        "",
        "{}",
        '{"version": 2}',
    ],
)
def test_a_foreign_or_damaged_result_is_none(tmp_path: Path, text: str) -> None:
    FileStore(tmp_path / "store").put(f"{PREFIX}/result.json", text.encode())
    assert main(arguments(tmp_path, attempt=2)) == 0
    found = result(tmp_path)
    assert (found.trial, found.attempt, found.cost.epochs) == (7, 2, 3)


def test_a_finished_trial_is_answered_without_torch(pod: Pod, store: Store) -> None:
    store.put(f"{PREFIX}/result.json", left().encode())
    watch = pod.folder / "sitecustomize.py"
    watch.write_text(
        "import sys\nclass No:\n  def find_spec(self, name, *_):\n"
        "    if name == 'torch': raise ImportError('torch was imported')\n"
        "sys.meta_path.insert(0, No())\n"
    )
    assert pod.run(job(), PYTHONPATH=str(pod.folder)) == 0
    assert pod.termination.value == 0.25
    assert pod.run(job(trial=8), PYTHONPATH=str(pod.folder)) == 1
    assert "torch was imported" in pod.termination.message


# -- a rest ----------------------------------------------------------------------------

RESTS: dict[str, Any] = {
    "fidelity": {"epochs": 3, "dataFraction": 0.1},
    "keepWeights": True,
    "training": {"device": "cpu", "epochs": 3},
}


def waiting_for(monkeypatch: pytest.MonkeyPatch, *answers: int | None) -> list[int]:
    """The epochs after which the process asks whether it continues."""
    asked: list[int] = []
    left = list(answers)

    def wait(self: Push, point: Point, asked_to_end: object) -> int | None:
        asked.append(point.epoch)
        return left.pop(0)

    monkeypatch.setattr(Push, "wait", wait)
    monkeypatch.setattr(Push, "__call__", lambda self, point: True)
    monkeypatch.setenv("KINASE_REPORT_URL", "http://127.0.0.1:9/points")
    return asked


def test_a_process_that_waits_at_its_rests_trains_the_bits_of_one_that_never_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FileStore(tmp_path / "other")
    trial.run(job(**RESTS), whole)
    asked = waiting_for(monkeypatch, 2, 3)
    monkeypatch.setenv("KINASE_TERMINATION_LOG", str(tmp_path / "said"))
    assert main(arguments(tmp_path, until=1, **RESTS)) == 0
    assert not Termination.model_validate_json((tmp_path / "said").read_bytes()).paused
    found, held = result(tmp_path), FileStore(tmp_path / "store")
    assert asked == [1, 2]
    assert (found.outcome, found.attempt, found.cost.epochs) == (Outcome.SUCCEEDED, 1, 3)
    key = f"{PREFIX}/weights.safetensors"
    assert held.get(key) == whole.get(key)


@pytest.mark.parametrize("answer", [None, 1, 4, 0])
def test_without_an_answer_that_can_be_it_rests(
    answer: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = waiting_for(monkeypatch, answer)
    monkeypatch.setenv("KINASE_TERMINATION_LOG", str(tmp_path / "said"))
    assert main(arguments(tmp_path, until=1, **RESTS)) == 0
    assert Termination.model_validate_json((tmp_path / "said").read_bytes()).paused
    assert asked == [1]
    found = result(tmp_path)
    assert (found.outcome, len(found.curve)) == (Outcome.STOPPED, 1)


# -- signals ---------------------------------------------------------------------------


def test_a_trial_asked_to_end_goes_on_in_another_process_as_if_nothing_had_been(
    pod: Pod, store: Store
) -> None:
    own = job(fidelity={"epochs": 400})
    with pod.start(own, KINASE_GRACE_SECONDS="30") as process:
        until(lambda: store.exists(f"{PREFIX}/checkpoint/last"))
        process.terminate()
        assert process.wait(30) == 143
    assert not store.exists(f"{PREFIX}/result.json")
    ledger = progress_of(store)
    done = ledger.epochs_done
    assert ledger.epochs_begun == done < 400
    said = pod.termination
    assert (said.epochs, said.value) == (done, ledger.metrics["val_accuracy"])
    assert "SIGTERM" in said.message
    short = job(fidelity={"epochs": 400}, attempt=2)
    resumed = trial.run(short, store, lambda point: point.epoch < done + 2)
    whole = trial.run(short, FileStore(pod.folder / "other"), lambda point: point.epoch < done + 2)
    assert curve(resumed) == curve(whole)
    assert resumed.cost.epochs == done + 2


@pytest.mark.slow
def test_an_epoch_longer_than_the_grace_period_is_not_waited_for(pod: Pod, store: Store) -> None:
    own = job(fidelity={"epochs": 4, "dataFraction": 0.3}, **SLOW)
    with pod.start(own, KINASE_GRACE_SECONDS="0.05") as process:
        until(lambda: progress_of(store).epochs_begun >= 3)
        process.terminate()
        assert process.wait(30) == 143
    ledger = progress_of(store)
    assert ledger.epochs_begun - 1 == ledger.epochs_done >= 2
    assert pod.termination.message.endswith(f"epochs done: {ledger.epochs_done}")
    assert pod.here(own.model_copy(update={"attempt": 2})) == 0
    resumed = result_of(store)
    assert resumed.cost.epochs == 5
    assert curve(resumed) == curve(trial.run(own, FileStore(pod.folder / "other")))


def test_the_first_epoch_is_waited_for_as_long_as_the_grace_period_allows(
    pod: Pod, store: Store
) -> None:
    own = job(fidelity={"epochs": 4}, **SLOW)
    with pod.start(own, KINASE_GRACE_SECONDS="0.4") as process:
        until(lambda: progress_of(store).epochs_begun >= 1)
        began = time.monotonic()
        process.terminate()
        assert process.wait(30) == 143
        assert time.monotonic() - began > 0.3
    assert progress_of(store).epochs_done == 0
    assert pod.termination.message.endswith("epochs done: 0")


def test_a_signal_before_the_training_ends_it_soon(pod: Pod, store: Store) -> None:
    os.mkfifo(pod.job)
    for wait in (0.0, 0.7):  # while the job is read, and while torch is imported
        with pod.start(None) as process:
            with pod.job.open("w") as fifo:
                if wait:
                    fifo.write(job().model_dump_json(by_alias=True))
                    fifo.close()
                time.sleep(wait)
                began = time.monotonic()
                process.terminate()
                assert process.wait(30) == 143
            assert time.monotonic() - began < 2
        assert pod.termination.message == "ended by SIGTERM before the training started"
        assert list(store.list()) == []


def test_a_signal_is_heeded_while_the_trainer_is_still_being_imported(pod: Pod) -> None:
    code = (
        "import os, runpy, signal, sys\n"
        "class Signal:\n"
        "  def find_spec(self, name, *_):\n"
        "    if name == 'kinase_trainer.process': os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Signal())\n"
        "runpy.run_module('kinase_trainer', run_name='__main__')\n"
    )
    process = subprocess.run([sys.executable, "-c", code], env=pod.environment)
    assert process.returncode == 143
    assert "before the training started" in pod.termination.message


# -- posting ---------------------------------------------------------------------------


@pytest.fixture
def controller() -> Iterator[Controller]:
    with Controller() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_points_are_posted_and_the_answer_stops_the_trial(
    pod: Pod, store: Store, controller: Controller
) -> None:
    line = {"KINASE_REPORT_URL": controller.url, "KINASE_REPORT_TOKEN": "t" * 32}
    controller.before = lambda _: setattr(
        controller,
        "answer",
        (200, b'{"continue": %s}' % [b"true", b"false"][len(controller.seen) > 1]),
    )
    assert pod.here(job(fidelity={"epochs": 6}), **line) == 0
    found = result_of(store)
    assert found.outcome is Outcome.STOPPED
    assert [body for _, _, body in controller.seen] == [
        {"attempt": 1, **point.model_dump(by_alias=True)} for point in found.curve
    ]
    assert progress_of(store).epochs_done == found.cost.epochs == 2
    # another attempt goes on from there
    controller.before = lambda _: None
    controller.answer = (401, b"")
    assert pod.here(job(fidelity={"epochs": 6}, attempt=2), **line) == 0
    whole = trial.run(job(fidelity={"epochs": 6}), FileStore(pod.folder / "other"))
    assert curve(result_of(store)) == curve(whole)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1/trials/7/points", "nonsense"])
def test_nobody_to_post_to_ends_nothing(pod: Pod, store: Store, url: str) -> None:
    assert pod.here(job(), KINASE_REPORT_URL=url) == 0
    assert result_of(store).outcome is Outcome.SUCCEEDED


# -- a store that is away --------------------------------------------------------------


HASTY = (
    sys.executable,
    "-c",
    "import runpy\n"
    "from kinase.store import s3\n"
    "s3.ATTEMPTS = 2\n"
    "runpy.run_module('kinase_trainer', run_name='__main__')\n",
)
"""A trainer whose requests are given up after two attempts: between five pass up to 15 seconds."""


@pytest.fixture
def network(s3: dict[str, str]) -> Iterator[Forwarder]:
    forwarder = Forwarder(s3["KINASE_STORE_ENDPOINT"])
    yield forwarder
    forwarder.cut()


@pytest.fixture
def s3_pod(tmp_path: Path, s3: dict[str, str], network: Forwarder) -> Pod:
    environment = {**s3, "KINASE_STORE_ENDPOINT": network.endpoint}
    return Pod(tmp_path, s3["KINASE_STORE"], environment, HASTY)


@pytest.fixture
def direct(s3: dict[str, str]) -> Store:
    """The pod's store, whatever the network does."""
    return open_uri(s3["KINASE_STORE"], s3["KINASE_STORE_ENDPOINT"], s3["KINASE_STORE_REGION"])


LONG: dict[str, Any] = {"fidelity": {"epochs": 30}}


@pytest.mark.slow
def test_an_outage_is_sat_out(s3_pod: Pod, direct: Store, network: Forwarder) -> None:
    with s3_pod.start(job(**LONG)) as process:
        until(lambda: direct.exists(f"{PREFIX}/checkpoint/last"))
        with network.away():
            until(lambda: "tried again for 300 s" in s3_pod.said)
            begun = progress_of(direct).epochs_begun
            time.sleep(1)
            assert progress_of(direct).epochs_begun == begun  # none that is not charged
        assert process.wait(120) == 0
    assert s3_pod.said.count("tried again") == s3_pod.said.count("can be used again") == 1
    found = result_of(direct)
    assert curve(found) == curve(trial.run(job(**LONG), FileStore(s3_pod.folder / "other")))
    assert found.cost.epochs == 30


@pytest.mark.slow
def test_patience_has_an_end_and_another_attempt_goes_on(
    s3_pod: Pod, direct: Store, network: Forwarder
) -> None:
    with s3_pod.start(job(**LONG), KINASE_STORE_PATIENCE="2") as process:
        until(lambda: direct.exists(f"{PREFIX}/checkpoint/last"))
        with network.away():
            assert process.wait(60) == 75
    assert "cannot be reached" in s3_pod.termination.message
    assert s3_pod.termination.epochs is not None
    assert s3_pod.here(job(attempt=2, **LONG)) == 0
    found = result_of(direct)
    assert curve(found) == curve(trial.run(job(**LONG), FileStore(s3_pod.folder / "other")))
    assert found.cost.epochs in (30, 31)


@pytest.mark.slow
def test_a_signal_ends_the_waiting(s3_pod: Pod, direct: Store, network: Forwarder) -> None:
    with s3_pod.start(job(**LONG)) as process:
        until(lambda: direct.exists(f"{PREFIX}/checkpoint/last"))
        with network.away():
            until(lambda: "tried again" in s3_pod.said)
            began = time.monotonic()
            process.terminate()
            assert process.wait(30) == 143
            assert time.monotonic() - began < 10, "the store's patience is five minutes"
    assert "SIGTERM" in s3_pod.termination.message


@pytest.mark.slow
def test_an_outage_after_a_signal_is_not_sat_out(
    s3_pod: Pod, direct: Store, network: Forwarder
) -> None:
    with s3_pod.start(job(fidelity={"epochs": 9, "dataFraction": 0.5}, **SLOW)) as process:
        until(lambda: progress_of(direct).epochs_begun >= 2)
        with network.away():
            process.terminate()
            assert process.wait(30) == 143
    ledger = progress_of(direct)
    assert ledger.epochs_begun - 1 == ledger.epochs_done >= 1


def test_a_store_that_is_away_from_the_beginning(
    s3_pod: Pod, network: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinase.store.s3.ATTEMPTS", 2)
    with network.away():
        for each in (task_job(), job()):
            assert s3_pod.here(each, KINASE_STORE_PATIENCE="0.2") == 75
            assert "cannot be reached" in s3_pod.termination.message
    assert s3_pod.here(task_job()) == 0


def test_a_store_that_refuses_is_an_error_for_a_person(s3_pod: Pod, direct: Store) -> None:
    for change, message in (
        ({"KINASE_STORE": "s3://no-such-bucket/a"}, "does not exist"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refuses the credentials"),
        ({"AWS_ACCESS_KEY_ID": ""}, "credentials"),
        ({"KINASE_STORE_ENDPOINT": "localhost:9000"}, "storage.endpoint"),
        ({"KINASE_STORE": "s3://"}, "not a URI of a store"),
    ):
        change.setdefault("AWS_EC2_METADATA_DISABLED", "true")
        assert s3_pod.here(job(), **change) == 2, change
        assert message in s3_pod.termination.message
    with pytest.raises(StoreError):
        direct.get(f"{PREFIX}/progress.json")
