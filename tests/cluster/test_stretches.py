"""Trials in stretches on a real API server: paused, promoted and killed in between."""

from __future__ import annotations

import contextlib
import json
import signal
from typing import Any

from kinase.api import NASExperiment, TaskInfo, TrialJob
from kinase.engine.tabular import TabularEngine
from kinase.experiment.entries import AnyEntry, Asked, Granted, Told
from kinase.experiment.journal import Journal
from kinase.experiment.loop import Loop
from kinase.store.memory import MemoryStore
from tests import pod_trainer
from tests.cluster import system
from tests.cluster.helpers import wait_for
from tests.cluster.lab.rest import ApiError
from tests.cluster.system import Scene

LADDER: dict[str, Any] = {
    "training": {"epochs": 9},
    "strategy": {"type": "Evolution", "evolution": {"population": 3, "sample": 2}},
    "estimation": {
        "type": "ASHA",
        "asha": {"eta": 3},
        "stopping": {"type": "Median", "every": 1, "median": {}, "after": 9},
    },
    "budget": {"trials": 10, "parallelism": 1},
    "control": {"share": 0},
    "finalists": {"count": 1},
}
"""Rungs of 1, 3 and 9 epochs; one trial after the other, so its course depends on scores alone.
Every trial rests after each epoch, and none is stopped."""

PROMOTED = 8
"""The trial that is the best at its rung when it rests there, so that its pod waits for its
promotion: in this course, at both rungs."""


def course(entries: list[AnyEntry]) -> list[tuple[Any, ...]]:
    """What was asked, granted and told, in order."""
    found: list[tuple[Any, ...]] = []
    for entry in entries:
        match entry:
            case Asked():
                found.append(("asked", entry.trial, entry.architecture, entry.grant))
            case Granted():
                found.append(("granted", entry.trial, entry.grant))
            case Told():
                found.append(("told", entry.trial, entry.outcome, entry.metrics))
    return found


def undisturbed(body: dict[str, Any], slots: int = 1) -> list[tuple[Any, ...]]:
    """The course of the same manifest without a cluster."""
    manifest = NASExperiment.model_validate({k: body[k] for k in body if k != "status"})
    info = TaskInfo.model_validate(pod_trainer.INFO)

    def score(job: TrialJob) -> dict[str, float]:
        final = pod_trainer.score(job.model_dump(mode="json", by_alias=True))
        epochs = job.fidelity.epochs
        share = (epochs if job.until is None else job.until) / epochs
        return {
            "val_accuracy": final["val_accuracy"] * share,
            "val_loss": final["val_loss"] + (1 - share),
        }

    store = MemoryStore()
    Loop(manifest, store, TabularEngine(score, info, slots), info, trainer_results=False).run()
    return course(list(Journal(store).replay()))


def test_a_ladder_through_kills_ends_as_one_that_was_not_disturbed(
    scene: Scene, alone: None
) -> None:
    env = [
        {"name": "FAKE_EPOCH_SECONDS", "value": "0.4"},
        {"name": "FAKE_HOLD_SECONDS", "value": "30"},
    ]
    scene.create(**LADDER, trialTemplate={"image": system.FAKE, "env": env})

    def promoted() -> Granted | None:
        return next(iter(scene.journal(kind="granted")), None)

    first = wait_for(promoted, 120, message="a trial is promoted")
    number, attempt = first.trial, first.attempt + 1
    scene.hold(number, epoch=3, attempt=attempt)
    # its pod, in the stretch that follows its checkpoint
    scene.node.kill(scene.namespace, scene.begins(number, epoch=2, attempt=first.attempt))
    # another attempt rests after epoch 2, and continues in its pod; there it is to rest again while
    # the controller does not answer, and both are killed
    pod = scene.begins(number, epoch=3, attempt=attempt)
    controller = scene.controller()
    scene.node.kill(scene.namespace, controller, signal.SIGSTOP)
    scene.let()
    wait_for(lambda: epochs_of(scene, number) == 3, 60, message="its result after epoch 3")
    with contextlib.suppress(ApiError, LookupError):  # it waits a while for an answer
        scene.node.kill(scene.namespace, pod)
    scene.node.kill(scene.namespace, controller)
    scene.operator.kill()
    scene.hold(PROMOTED, epoch=4)
    scene.operator.start()
    # a pod that waited at the end of two rungs, and was promoted at both, is killed together with
    # the controller in its first epoch of the third
    pod = scene.begins(PROMOTED, epoch=4)
    scene.node.kill(scene.namespace, pod)
    scene.node.kill(scene.namespace, scene.controller())
    item = scene.finished(timeout=240)
    entries = scene.journal()
    assert course(entries) == undisturbed(item)
    lost = [(e.trial, e.done) for e in entries if e.type == "attempt" and e.crash]
    assert lost == [(number, 1), (PROMOTED, 3)], "each went on from its checkpoint"
    [kept] = [
        e for e in entries if e.type == "granted" and (e.trial, e.attempt) == (number, attempt)
    ]
    assert kept.grant == first.grant, "the look after epoch 2, in the same pod"
    held = [
        e.grant.rung
        for e in entries
        if e.type == "granted" and (e.trial, e.attempt) == (PROMOTED, 1)
    ]
    assert held == [1, 1, 2], "two promotions and a look in one pod"
    begun = sum(entry.cost.epochs for entry in entries if entry.type == "told")
    assert item["status"]["cost"]["epochs"] == begun
    rungs = [entry.grant.rung for entry in entries if isinstance(entry, Granted)]
    assert rungs.count(1) >= 10 // 3
    assert rungs.count(2) >= 1


def epochs_of(scene: Scene, trial: int) -> int:
    """Length of the curve of a trial's latest result."""
    key = f"trials/{trial:05d}/result.json"
    store = scene.store(below=key)
    return len(json.loads(store.get(key))["curve"]) if store.exists(key) else 0
