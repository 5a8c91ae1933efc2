"""Weights pass from pod to pod, whatever ends meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinase.api.trial import Kind
from tests.cluster import campaign, system
from tests.cluster.gate import Gate
from tests.cluster.helpers import wait_for
from tests.cluster.system import Scene

OUTAGE = 4.0
TRIALS = 5
"""Two to begin with, and three children."""


@pytest.fixture
def gate(scene: Scene) -> Iterator[Gate]:
    """What stands before the scene's S3 server."""
    gate = Gate(scene.bucket.endpoint)
    yield gate
    gate.shut()


def begins(scene: Scene, trial: int, epoch: int = 1) -> str:
    """Wait until a trial's epoch begins, however long those before it take; the pod."""
    wait_for(lambda: scene.trial(trial), 120, message=f"trial {trial} is asked")
    return scene.begins(trial, epoch)


@pytest.mark.soak
@pytest.mark.timeout(600)  # each pod imports torch, which a busy machine takes long for
def test_children_inherit_in_other_pods_through_kills_and_an_outage(
    scene: Scene, gate: Gate, tmp_path: Path
) -> None:
    storage = system.experiment(scene.namespace, scene.bucket)["spec"]["storage"]
    spec = campaign.spec(TRIALS, storage={**storage, "endpoint": gate.endpoint})
    body = scene.create(**spec)
    beside = campaign.Undisturbed({**body, "status": None}, tmp_path)
    killed = begins(scene, 2, epoch=2)
    scene.node.kill(scene.namespace, killed)
    assert scene.begins(2, epoch=4, attempt=2) != killed
    begins(scene, 3)
    scene.node.kill(scene.namespace, scene.controller())
    begins(scene, 4)
    gate.shut()
    time.sleep(OUTAGE)
    gate.let()
    scene.finished(timeout=300)

    store, whole = scene.store(), beside.wait(300)
    story = campaign.story(store)
    assert story == campaign.story(whole), "the lineage, the seeds, and every metric"
    assert not campaign.lost(store)
    children = [n for n, trial in story.items() if trial["asked"]["inherit"] is not None]
    assert children == [2, 3, 4]
    (again,) = scene.journal(kind="attempt")
    assert (again.trial, again.attempt, again.crash) == (2, 2, True)
    assert again.done >= 1, "it went on from its checkpoint"

    pods = {pod["metadata"]["labels"]["kinase.dev/trial"]: pod for pod in scene.pods()}
    left = campaign.results(store)
    for number in children:
        parent = story[number]["asked"]["inherit"]["ancestors"][0]["trial"]
        assert pods[str(number)]["metadata"]["uid"] != pods[str(parent)]["metadata"]["uid"]
        facts, kept = left[number].facts, left[parent].kept_bytes
        assert facts["bytesWritten"] > left[number].kept_bytes > 0
        if number != again.trial:
            assert facts["bytesRead"] > kept
    (final,) = [n for n, trial in story.items() if trial["asked"]["kind"] is Kind.FINAL]
    there = {key.split("/")[1] for key in store.list("trials/") if key.endswith(".safetensors")}
    assert there == {f"{final:05d}"}, "what no child needs any more is gone"
