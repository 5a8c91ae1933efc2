"""A trainer without torch that does what the data set's name says, for tests of an engine.

`ok` scores at once; `sleep` takes 0.05 s an epoch; `exit`, `raise`, `memory`, `signal` end the
first attempt of trial 1 so; with `-always` behind it, every attempt of trial 1.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

from kinase.api.task import Task, Training
from kinase.api.trial import Cost, Outcome, Point, TaskInfo, TrialJob, TrialResult
from kinase.store import NotFound, Store


def describe(task: Task, training: Training) -> TaskInfo:
    if task.dataset == "absent":
        raise FileNotFoundError("task.dataset 'absent' does not exist; known: ok")
    return TaskInfo(
        input=(1, 8, 8),
        outputs=10,
        train=100,
        validation=20,
        test=20,
        metrics=("val_accuracy", "val_loss"),
        device="cpu",
    )


def _misbehave(what: str) -> None:
    match what:
        case "exit":
            os._exit(3)
        case "raise":
            raise RuntimeError("the trainer is broken")
        case "memory":
            raise MemoryError
        case "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(60)


def run(job: TrialJob, store: Store, notify: Callable[[Point], bool]) -> TrialResult:
    what, _, always = job.task.dataset.partition("-")
    print(f"trial {job.trial} attempt {job.attempt}")
    place = f"{job.prefix}/progress.json"
    try:
        progress = json.loads(store.get(place))
    except NotFound:
        progress = {"epochsBegun": 0, "epochsDone": 0, "samples": 0, "deviceSeconds": 0.0}
    if job.test:
        return _result(job, progress, [], {"test_accuracy": 0.5})
    progress["attempt"] = job.attempt
    curve: list[Point] = []
    outcome = Outcome.SUCCEEDED
    while progress["epochsDone"] < job.fidelity.epochs:
        progress["epochsBegun"] += 1
        store.put(place, json.dumps(progress).encode())
        if what == "sleep":
            time.sleep(0.05)
        elif job.trial == 1 and (always or job.attempt == 1) and progress["epochsBegun"] > 1:
            _misbehave(what)
        progress["epochsDone"] += 1
        progress["samples"] += 100
        store.put(place, json.dumps(progress).encode())
        value = 0.1 * len(job.architecture["layers"]) + 0.01 * progress["epochsDone"]
        point = Point(
            epoch=progress["epochsDone"],
            metrics={"val_accuracy": value, "val_loss": 1 - value},
            device_seconds=progress["deviceSeconds"],
        )
        curve.append(point)
        if not notify(point) and progress["epochsDone"] < job.fidelity.epochs:
            outcome = Outcome.STOPPED
            break
    metrics = curve[-1].metrics if curve else {}
    return _result(job, progress, curve, metrics, outcome, store)


def _result(
    job: TrialJob,
    progress: dict[str, float],
    curve: list[Point],
    metrics: dict[str, float],
    outcome: Outcome = Outcome.SUCCEEDED,
    store: Store | None = None,
) -> TrialResult:
    result = TrialResult(
        trial=job.trial,
        attempt=job.attempt,
        outcome=outcome,
        metrics=metrics,
        curve=tuple(curve),
        cost=Cost(
            epochs=int(progress["epochsBegun"]),
            samples=int(progress["samples"]),
            device_seconds=progress["deviceSeconds"],
        ),
    )
    if store is not None:
        store.put(f"{job.prefix}/result.json", result.model_dump_json(by_alias=True).encode())
    return result
