"""Trials with several workers: their pods on a real API server, and what is lost with one."""

from __future__ import annotations

from typing import Any

from tests.cluster import system
from tests.cluster.helpers import wait_for
from tests.cluster.system import Scene
from tests.cluster.test_failures import EPOCHS, TINY, attempts, charged, template

ONE: dict[str, Any] = {**TINY, "budget": {"trials": 2, "parallelism": 1}}
INDEX = "batch.kubernetes.io/job-completion-index"


def workers(scene: Scene, attempt: int = 1) -> dict[str, dict[str, Any]]:
    """The pods of the first trial's attempt that run, by worker."""
    return {
        pod["metadata"]["labels"][INDEX]: pod
        for pod in scene.running()
        if pod["metadata"]["name"].startswith(f"toy-00000-{attempt}-")
    }


def test_two_pods_train_a_trial_and_one_is_deleted_in_the_middle(scene: Scene) -> None:
    scene.create(**ONE, trialTemplate=template(workers=2))
    scene.hold(0, 2)
    scene.hold(0, 2, attempt=2)
    scene.begins(0, 2)
    pods = wait_for(lambda: found if len(found := workers(scene)) == 2 else None)
    assert pods is not None
    job = scene.get("toy-00000-1", "jobs")["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 2, 2)
    service = scene.get("toy-workers", "services")["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    for index, pod in pods.items():
        assert pod["spec"]["hostname"] == f"toy-00000-1-{index}"
        assert pod["spec"]["subdomain"] == "toy-workers"
    scene.cluster.api.delete(scene.path("pods", pods["1"]["metadata"]["name"]))

    def again() -> dict[str, Any] | None:
        status = scene.trial(0).get("status") or {}
        return status if status.get("attempt") == 2 else None

    status = wait_for(again, 60, message="the next attempt")
    assert status is not None
    assert status["lastAttempt"]["reason"] == "Disrupted"
    scene.let()
    assert charged(scene) - EPOCHS <= 1, "at most the epoch in which it was deleted is lost"
    assert attempts(scene)[0] == (0, 2, False), "it is not counted as a crash"
    assert {t["spec"].get("workers", 1) for t in system.trials(scene.cluster, scene.namespace)} == {
        1,  # the description of the task and the test
        2,
    }
    wait_for(lambda: not scene.running(), message="the other workers ended")


def test_more_workers_than_fit_wait_and_say_what_for(scene: Scene, alone: None) -> None:
    resources = {"limits": {"nvidia.com/gpu": 5}}  # the only node has eight
    scene.create(**ONE, trialTemplate=template(workers=2, resources=resources))
    scene.hold(0)  # the stand-in does not wait for the other worker
    status = scene.until_trial(0, "Unschedulable")
    assert status["phase"] == "Pending"
    assert status["message"].startswith("1 of 2 workers run: worker ")
    assert "Insufficient nvidia.com/gpu" in status["message"]
    told = scene.until("Progressing", "False", "TrialsPending")
    assert "1 of 2 workers run" in told
