"""The processes of a trial with several workers: `python -m kinase_trainer`, as pods run it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kinase.api import NASExperiment
from kinase.api.trial import WORKER_LOST_EXIT, TrialResult
from kinase.experiment.local import run
from kinase.store import open_uri
from kinase_trainer.ledger import read_ledger
from tests.trainer.helpers import CHAIN, job

EPOCHS = 30


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


@contextmanager
def workers(
    folder: Path, ranks: tuple[int, ...], size: int = 2, *, join: float = 60, **changes: Any
) -> Iterator[list[subprocess.Popen[str]]]:
    """The processes of some workers of a trial, whose store is below the folder."""
    file = folder / "job.json"
    asked = job(workers=size, **changes)
    file.write_text(asked.model_dump_json(by_alias=True))
    port, found = free_port(), []
    for rank in ranks:
        environment = {
            **os.environ,
            "KINASE_JOB": str(file),
            "KINASE_STORE": f"file://{folder}/store",
            "KINASE_TERMINATION_LOG": str(folder / f"said-{rank}"),
            "KINASE_RANK": str(rank),
            "KINASE_WORLD": str(size),
            "KINASE_RENDEZVOUS": f"127.0.0.1:{port}",
            "KINASE_JOIN_SECONDS": str(join),
            "OMP_NUM_THREADS": "1",
        }
        found.append(
            subprocess.Popen(
                [sys.executable, "-m", "kinase_trainer"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        yield found
    finally:
        for each in found:
            each.kill()
            each.communicate()


def said(folder: Path, rank: int) -> str:
    """The termination message of a worker."""
    text: str = json.loads((folder / f"said-{rank}").read_text())["message"]
    return text


def until_epoch(process: subprocess.Popen[str], epoch: int) -> None:
    """Wait until worker 0 begins an epoch."""
    assert process.stdout is not None
    for line in process.stdout:
        if f"epoch {epoch} begins" in line:
            return
    raise AssertionError(f"it ended before epoch {epoch}")


def test_a_killed_worker_ends_the_trial_and_the_next_attempt_continues(tmp_path: Path) -> None:
    """At most the epoch that ran is lost, and it is charged once more."""
    epochs = {
        "training": {"epochs": EPOCHS, "device": "cpu", "batchSize": 16},
        "fidelity": {"epochs": EPOCHS, "dataFraction": 0.2},
    }
    store = open_uri(f"file://{tmp_path}/store")
    with workers(tmp_path, (0, 1), **epochs) as (first, second):
        until_epoch(first, 3)
        second.kill()
        assert first.wait(60) == WORKER_LOST_EXIT
    assert "worker 0 lost its connection" in said(tmp_path, 0)
    before = read_ledger(store, "trials/00007")
    assert before.epochs_begun - before.epochs_done <= 1
    with workers(tmp_path, (0, 1), attempt=2, **epochs) as both:
        assert [each.wait(120) for each in both] == [0, 0]
    result = TrialResult.model_validate_json(store.get("trials/00007/result.json"))
    assert [point.epoch for point in result.curve] == list(range(1, EPOCHS + 1))
    lost = result.cost.epochs - EPOCHS
    assert lost == before.epochs_begun - before.epochs_done
    assert result.facts["workers"] == 2


def test_sigterm_to_any_worker_ends_all_after_the_epoch(tmp_path: Path) -> None:
    long = {"training": {"epochs": 5000, "device": "cpu"}, "fidelity": {"epochs": 5000}}
    with workers(tmp_path, (0, 1), **long) as (first, second):
        until_epoch(first, 2)
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 143
        assert first.wait(60) == 143
    ledger = read_ledger(open_uri(f"file://{tmp_path}/store"), "trials/00007")
    assert ledger.epochs_begun == ledger.epochs_done >= 2, "nothing is lost"
    assert "ended by SIGTERM" in said(tmp_path, 0)


@pytest.mark.slow
def test_a_search_on_this_machine_with_two_workers_a_trial(tmp_path: Path) -> None:
    experiment = NASExperiment.model_validate(
        {
            "apiVersion": "kinase.dev/v1alpha1",
            "kind": "NASExperiment",
            "metadata": {"name": "pair"},
            "spec": {
                "task": {"dataset": "digits"},
                "space": CHAIN,
                "strategy": {"type": "Random"},
                "training": {"epochs": 1, "device": "cpu"},
                "estimation": {"type": "Full"},
                "budget": {"trials": 1},
                "control": {"share": 0},
                "finalists": {"count": 1},
                "trialTemplate": {"workers": 2},
                "storage": {"uri": f"file://{tmp_path}/runs"},
            },
        }
    )
    loop = run(experiment)
    assert loop.state.finished is not None
    assert loop.state.finished.test is not None
    for each in loop.state.trials.values():
        text = loop.store.get(f"{each.prefix}/result.json")
        assert TrialResult.model_validate_json(text).facts["workers"] == 2
        assert each.cost.epochs == 1
