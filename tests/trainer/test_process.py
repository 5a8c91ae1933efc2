"""Trial contract v1 as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kinase.api.trial import Outcome, TrialResult
from kinase.store.file import FileStore
from kinase_trainer import trial
from kinase_trainer.__main__ import main
from tests.trainer.helpers import job

PREFIX = "trials/00007"


@pytest.fixture(autouse=True)
def _handler() -> Any:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def arguments(folder: Path, **changes: Any) -> list[str]:
    path = folder / "job.json"
    path.write_text(job(**changes).model_dump_json(by_alias=True))
    return ["--job", str(path), "--store", f"file://{folder}/store"]


def result(folder: Path) -> TrialResult:
    raw = FileStore(folder / "store").get(f"{PREFIX}/result.json")
    return TrialResult.model_validate_json(raw)


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
        ({"task": {"dataset": "mnist", "path": "/nowhere"}}, "'/nowhere' is not there"),
        ({"task": {"dataset": "digits", "type": "Divination"}}, "'Divination' is not known"),
    ],
)
def test_data_that_is_not_there_ends_with_2(
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
    (tmp_path / "job.json").write_text('{"trial": -1}')
    assert main(given) == 2
    assert "trial" in capsys.readouterr().err
    (tmp_path / "job.json").unlink()
    assert main(given) == 2


def test_a_trial_asked_to_end_goes_on_in_another_process_as_if_nothing_had_been(
    tmp_path: Path,
) -> None:
    given = arguments(tmp_path, fidelity={"epochs": 400})
    store = FileStore(tmp_path / "store")
    with subprocess.Popen(
        [sys.executable, "-m", "kinase_trainer", *given],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 60
        while not store.exists(f"{PREFIX}/checkpoint/last"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
        assert process.wait(30) == 143
    assert not store.exists(f"{PREFIX}/result.json")
    ledger = trial.Meter(store, PREFIX, 1)._ledger
    done = ledger.epochs_done
    assert ledger.epochs_begun == done < 400
    short = job(fidelity={"epochs": 400}, attempt=2)
    resumed = trial.run(short, store, lambda point: point.epoch < done + 2)
    whole = trial.run(short, FileStore(tmp_path / "other"), lambda point: point.epoch < done + 2)
    assert [p.metrics for p in resumed.curve] == [p.metrics for p in whole.curve]
    assert resumed.cost.epochs == done + 2


def test_a_signal_in_the_last_epoch_leaves_the_result(tmp_path: Path) -> None:
    from kinase.api.trial import Point
    from kinase_trainer.__main__ import Terminated, Terminator

    terminator = Terminator()
    point = Point(epoch=2, metrics={}, device_seconds=0)
    assert terminator.notify(3, point)
    terminator.handle(signal.SIGTERM, None)
    with pytest.raises(Terminated):
        terminator.notify(3, point)
    assert terminator.notify(2, point)
