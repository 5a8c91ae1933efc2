"""What a worker says of a trainer's end, without a process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kinase.api.trial import CheckpointGone, TrialJob
from kinase.engine import worker
from kinase.engine.base import Lost
from kinase.store.memory import MemoryStore

JOB = TrialJob.model_validate(
    {
        "experiment": "toy", "trial": 3, "task": {}, "training": {}, "space": {"type": "Chain"},
        "architecture": {}, "fidelity": {"epochs": 5}, "seed": 1, "prefix": "trials/00003",
        "until": 3, "done": 2,
    }
)  # fmt: skip


def said(error: Exception) -> tuple[Any, ...]:
    """What the engine is sent where a trainer raises an error."""

    def run(*_: object) -> None:
        raise error

    sent: list[tuple[Any, ...]] = []
    connection: Any = SimpleNamespace(send=sent.append, poll=lambda: False)
    worker._run(connection, SimpleNamespace(run=run), MemoryStore(), JOB)
    [answer] = sent
    return answer


def test_a_checkpoint_that_is_gone_is_no_crash() -> None:
    kind, trial, message, fields = said(CheckpointGone("the checkpoint is gone"))
    lost = Lost(trial, message, **fields)
    assert (kind, trial, message) == ("lost", 3, "the checkpoint is gone")
    assert (lost.checkpoint_gone, lost.crash, lost.permanent) == (True, False, False)


def test_any_other_error_is_one() -> None:
    assert said(RuntimeError("broken")) == ("error", 3, "RuntimeError: broken", False)
