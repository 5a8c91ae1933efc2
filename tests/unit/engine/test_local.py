"""The local engine with real worker processes and a trainer that misbehaves on request."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kinase.api import Kind, NASExperiment, Outcome
from kinase.api.storage import Storage
from kinase.api.task import Task, Training
from kinase.api.trial import TrialJob
from kinase.engine import EngineError, local, worker
from kinase.experiment import identity, lock
from kinase.experiment.identity import MismatchError
from kinase.experiment.local import run, set_aside
from kinase.experiment.lock import BusyError
from kinase.experiment.loop import Loop
from kinase.store import open_store
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import experiment

TRAINER = "tests.fake_trainer"


def manifest(tmp_path: Path, dataset: str = "ok", **spec: Any) -> NASExperiment:
    base: dict[str, Any] = {
        "task": {"dataset": dataset},
        "budget": {"trials": 6},
        "finalists": {"count": 1},
        "storage": {"uri": f"file://{tmp_path}/runs"},
    }
    return experiment(**{**base, **spec})


def tells(loop: Loop) -> list[int]:
    entries = list(type(loop.journal)(loop.store).replay())
    return sorted(entry.trial for entry in entries if entry.type == "told")


def test_a_whole_run(tmp_path: Path) -> None:
    spec = manifest(tmp_path, budget={"trials": 6, "parallelism": 2})
    loop = run(spec, trainer=TRAINER)
    assert loop.state.finished is not None
    assert loop.state.finished.test == {"test_accuracy": 0.5}
    assert tells(loop) == list(range(7))
    assert loop.state.spent.epochs == 6 * 2 + 4
    log = tmp_path / "runs/default/toy/local/worker-0.log"
    assert "trial 0 attempt 1" in log.read_text()


def test_the_same_command_again_does_nothing_twice(tmp_path: Path) -> None:
    first = run(manifest(tmp_path), trainer=TRAINER)
    again = run(manifest(tmp_path), trainer=TRAINER)
    assert again.state.finished == first.state.finished
    assert again.journal.length == first.journal.length


@pytest.mark.parametrize("how", ["exit", "raise", "signal", "memory"])
def test_a_crash_is_tried_again_and_charged(tmp_path: Path, how: str) -> None:
    loop = run(manifest(tmp_path, how), trainer=TRAINER)
    trial = loop.state.trials[1]
    assert trial.outcome is Outcome.SUCCEEDED
    assert trial.attempt == 2
    assert trial.cost.epochs == 3  # two, and the one that was lost in the middle
    assert loop.state.spent.epochs == 6 * 2 + 4 + 1
    assert tells(loop) == list(range(7))


@pytest.mark.parametrize(
    ("how", "outcome", "attempts", "message"),
    [
        ("exit-always", Outcome.FAILED, 3, r"exited with code 3 \(3 attempts\)"),
        ("raise-always", Outcome.FAILED, 3, r"the trainer is broken"),
        ("signal-always", Outcome.FAILED, 3, r"killed by signal 9"),
        ("memory-always", Outcome.INFEASIBLE, 2, r"out of memory"),
    ],
)
def test_what_always_crashes_is_given_up_and_the_search_goes_on(
    tmp_path: Path, how: str, outcome: Outcome, attempts: int, message: str
) -> None:
    loop = run(manifest(tmp_path, how), trainer=TRAINER)
    trial = loop.state.trials[1]
    assert (trial.outcome, trial.attempt) == (outcome, attempts)
    assert pytest.importorskip("re").search(message, trial.message)
    assert trial.cost.epochs == 1 + attempts
    assert tells(loop) == list(range(7))
    assert loop.state.finished is not None
    assert loop.state.finished.winner is not None


def test_a_trial_beyond_its_time_limit_is_infeasible(tmp_path: Path) -> None:
    spec = manifest(tmp_path, "hang", trialTemplate={"timeLimit": "1s"})
    loop = run(spec, trainer=TRAINER)
    assert loop.state.trials[1].outcome is Outcome.INFEASIBLE
    assert "trialTemplate.timeLimit" in loop.state.trials[1].message
    assert loop.state.finished is not None


def test_data_that_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="'absent' does not exist"):
        run(manifest(tmp_path, "absent"), trainer=TRAINER)
    assert not list((tmp_path / "runs/default/toy").glob("journal/*"))


def test_another_manifest_of_the_same_name_is_refused(tmp_path: Path) -> None:
    run(manifest(tmp_path), trainer=TRAINER)
    other = manifest(tmp_path, seed=5, budget={"trials": 9})
    with pytest.raises(MismatchError, match=r"spec\.seed is 0 there and 5 here"):
        run(other, trainer=TRAINER)


def test_the_duration_stops_running_trials_at_a_checkpoint(tmp_path: Path) -> None:
    spec = manifest(
        tmp_path,
        "sleep",
        budget={"duration": "1s", "parallelism": 2},
        estimation={"type": "Full"},
        training={"epochs": 200},
        finalists={"count": 1, "epochs": 200},
    )
    spec = spec.model_copy(
        update={
            "spec": spec.spec.model_copy(
                update={"finalists": spec.spec.finalists.model_copy(update={"epochs": 2})}
            )
        }
    )
    loop = run(spec, trainer=TRAINER)
    assert loop.state.ended == "the duration is over"
    searched = [t for t in loop.state.told if t.kind in (Kind.SEARCH, Kind.CONTROL)]
    assert {t.outcome for t in searched} == {Outcome.STOPPED}
    assert all(0 < len(t.curve) < 200 for t in searched)


def command(tmp_path: Path, spec: NASExperiment) -> list[str]:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(spec.model_dump(mode="json", by_alias=True, exclude_unset=True)))
    return [sys.executable, "-m", "kinase.cli", "run", str(file), "--trainer", TRAINER]


def wait_for(path: Path, count: int) -> None:
    """Wait until a journal has so many entries."""
    deadline = time.monotonic() + 60
    while sum(len(p.read_text().splitlines()) for p in path.glob("[0-9]*.jsonl")) < count:
        assert time.monotonic() < deadline, "the run did not begin"
        time.sleep(0.02)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_everything_and_the_same_command_goes_on(
    tmp_path: Path, sign: signal.Signals
) -> None:
    spec = manifest(tmp_path, "sleep", training={"epochs": 20}, budget={"trials": 8})
    process = subprocess.Popen(command(tmp_path, spec), stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "runs/default/toy/journal", 4)
    process.send_signal(sign)
    assert process.wait(30) == 130
    loop = run(spec, trainer=TRAINER)
    assert tells(loop) == list(range(9))
    assert all(t.cost.epochs == t.fidelity.epochs for t in loop.state.told)


def test_ctrl_c_twice_ends_at_once_and_the_same_command_goes_on(tmp_path: Path) -> None:
    spec = manifest(tmp_path, "hang", training={"epochs": 20}, budget={"trials": 4})
    process = subprocess.Popen(command(tmp_path, spec), stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "runs/default/toy/journal", 3)  # trial 1 hangs for a minute
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 130
    assert (
        "stopped immediately; resume from the last checkpoints with the same command; 00:" in error
    )
    loop = run(spec, trainer=TRAINER)  # the first attempt alone hangs
    assert tells(loop) == list(range(5))
    assert loop.state.trials[1].cost.epochs == 3


def test_a_second_process_is_told_who_runs_it(tmp_path: Path) -> None:
    spec = manifest(tmp_path, "sleep", training={"epochs": 40}, budget={"trials": 8})
    process = subprocess.Popen(command(tmp_path, spec), stderr=subprocess.PIPE, text=True)
    try:
        wait_for(tmp_path / "runs/default/toy/journal", 1)
        with pytest.raises(BusyError, match=f"process {process.pid} already runs"):
            run(spec, trainer=TRAINER)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_second_process_leaves_the_record_of_one_that_has_asked_for_no_trial(
    tmp_path: Path,
) -> None:
    spec, other = manifest(tmp_path), manifest(tmp_path, seed=5)
    store = open_store(spec.spec.storage).sub(spec.directory)
    with lock.exclusive(lock.scratch(store)):
        identity.claim(store, spec)
        with pytest.raises(BusyError):
            run(other, trainer=TRAINER)
        assert identity.recorded(store)["spec"]["seed"] == spec.spec.seed


def test_a_trainer_that_calls_exit_is_named() -> None:
    sent: list[Any] = []
    connection: Any = SimpleNamespace(send=sent.append, poll=lambda: False)
    trainer = SimpleNamespace(describe=lambda *_: sys.exit(0), run=lambda *_: sys.exit("bye"))
    task, training = Task(dataset="digits"), Training(epochs=1)
    said = task.model_dump_json(), training.model_dump_json()
    worker._describe_task(connection, trainer, MemoryStore(), *said, None)
    worker._run(connection, trainer, MemoryStore(), TrialJob.model_construct(trial=3))
    assert sent == [
        ("error", None, "it calls sys.exit(0)", False),
        ("error", 3, "it calls sys.exit('bye')", False),
    ]


def test_a_fresh_start_leaves_a_folder_that_holds_no_run(tmp_path: Path) -> None:
    spec = manifest(tmp_path)
    own = tmp_path / "runs" / spec.directory / "thesis.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert set_aside(spec) is None
    assert own.read_text() == "mine"


def test_workers_die_with_a_killed_run(tmp_path: Path) -> None:
    spec = manifest(
        tmp_path,
        "sleep",
        budget={"trials": 6, "parallelism": 2},
        training={"epochs": 1000},
        estimation={"type": "Full"},
    )
    process = subprocess.Popen(command(tmp_path, spec), stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "runs/default/toy/journal", 2)
    children = [
        int(pid)
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]
    assert len(children) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and any(_alive(pid) for pid in children):
        time.sleep(0.02)
    assert not [pid for pid in children if _alive(pid)]


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_workers_share_what_they_read_from_afar() -> None:
    far, near = Storage(uri="s3://bucket/a"), Storage(uri="file://runs")
    assert worker._cache(far, "/scratch")["KINASE_CACHE_DIR"] == "/scratch/cache"
    assert worker._cache(near, "/scratch") == worker._cache(far, None) == {}


def worker_of(script: str) -> local._Worker:
    """A process that leads a group, in the place of a worker."""
    process = subprocess.Popen(
        ["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE, text=False
    )
    return local._Worker(process, Pipe()[0], 0)


def test_what_a_dead_worker_has_started_ends_before_its_number_is_free() -> None:
    each = worker_of("sleep 60 & echo $!; exit 3")
    assert each.process.stdout is not None
    child = int(each.process.stdout.readline())
    assert local._death(each) == "the worker process exited with code 3"
    deadline = time.monotonic() + 5
    while _alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("waitid", [True, False])
def test_a_worker_that_hangs_after_its_connection_is_not_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, waitid: bool
) -> None:
    if not waitid:
        if shutil.which("ps") is None:
            pytest.skip("no ps")
        monkeypatch.delattr(os, "waitid", raising=False)
    monkeypatch.setattr(local, "END_SECONDS", 0.2)
    monkeypatch.setattr(local, "oom_kills", lambda: 1)
    monkeypatch.setattr(local.LocalEngine, "_replace", lambda *_: None)
    engine = object.__new__(local.LocalEngine)
    hangs, ends = worker_of("exec sleep 60"), worker_of("kill -9 $$")
    for each in (hangs, ends):
        each.job = SimpleNamespace(trial=7)  # type: ignore[assignment]
    lost = engine._bury(hangs)
    assert lost.message == "the worker process closed its connection and did not end"
    assert not lost.out_of_memory
    assert engine._bury(ends).out_of_memory


def test_a_process_whose_status_was_taken_is_never_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    each = worker_of("exit 0")
    each.process.wait()
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("another process may be meant"))
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("another process may be meant"))
    local._kill(each)
