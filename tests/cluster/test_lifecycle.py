"""An experiment from its making to its removal, on a real API server."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kinase.api import NASExperiment, TaskInfo, TrialJob
from kinase.api.status import MAX_STATUS
from kinase.engine.tabular import TabularEngine
from kinase.experiment.loop import Loop
from kinase.report.task import samples_text
from kinase.store.memory import MemoryStore
from tests import pod_trainer
from tests.cluster import system
from tests.cluster.beside import beside
from tests.cluster.fixtures import a_bucket, a_namespace
from tests.cluster.helpers import COLLECTED, wait_for
from tests.cluster.lab import binaries
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import Node
from tests.cluster.lab.rest import ApiError
from tests.cluster.lab.s3 import S3Server
from tests.cluster.system import Scene

IN_A_ROW: dict[str, Any] = {
    "strategy": {"type": "Evolution", "evolution": {"population": 3, "sample": 2}},
    "budget": {"trials": 6, "parallelism": 1},
    "finalists": {"count": 1},
}
"""A search of one trial after the other: what it proposes depends on nothing but the scores."""


def slow(seconds: float, **template: Any) -> dict[str, Any]:
    """A template whose trials take so long for an epoch."""
    env = [{"name": "FAKE_EPOCH_SECONDS", "value": str(seconds)}]
    return {"image": system.FAKE, "env": env, **template}


def on_this_machine(body: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What the same manifest gives without a cluster: see `searched`."""
    manifest = NASExperiment.model_validate({k: body[k] for k in body if k != "status"})
    info = TaskInfo.model_validate(pod_trainer.INFO)

    def score(job: TrialJob) -> dict[str, float]:
        return pod_trainer.score(job.model_dump(mode="json", by_alias=True))

    engine = TabularEngine(score, info)
    loop = Loop(manifest, MemoryStore(), engine, info, trainer_results=False)
    return [
        (t.number, t.kind, t.architecture, t.parents, t.seed, t.outcome, t.metrics)
        for t in loop.run().told
    ]


def searched(scene: Scene, name: str = "toy") -> list[tuple[Any, ...]]:
    """Every trial in the order of its end: what it was, and what came of it."""
    entries = scene.journal(name)
    asked = {entry.trial: entry for entry in entries if entry.type == "asked"}
    return [
        (
            told.trial,
            asked[told.trial].kind,
            asked[told.trial].architecture,
            asked[told.trial].parents,
            asked[told.trial].seed,
            told.outcome,
            told.metrics,
        )
        for told in entries
        if told.type == "told"
    ]


def missing(scene: Scene, name: str = "toy") -> bool:
    """Whether the API server has no experiment of this name."""
    try:
        scene.get(name)
    except ApiError as problem:
        return problem.status == 404
    return False


def gone(scene: Scene, name: str = "toy", *, lease: bool = True) -> bool:
    """Whether nothing is left of an experiment but its Events; `lease` looks for that, too.

    Raises:
        LookupError: names what is left, for the message of a test that waits.
    """
    kinds = ["nastrials", "jobs", "pods", "services", "roles", "rolebindings", "networkpolicies"]
    label = {"kinase.dev/experiment": name}
    left = [kind for kind in (*kinds, "serviceaccounts") if scene.all(kind, **label)]
    if lease and scene.cluster.api.get(scene.path("leases"))["items"]:
        left.append("leases")
    if not missing(scene, name):
        left.append("the experiment")
    if left:
        raise LookupError(f"still there: {', '.join(left)}")
    return True


# A whole run that nobody disturbs


@dataclass(frozen=True)
class Run:
    """A finished experiment, and what was seen of it."""

    scene: Scene
    item: dict[str, Any]
    waited: str
    """What `kubectl wait` said."""


@pytest.fixture(scope="module")
def run(
    kinase: system.Operator, cluster: Cluster, node: Node, s3_server: S3Server
) -> Iterator[Run]:
    """An experiment of one trial after the other with two objectives."""
    with a_namespace(cluster) as namespace:
        bucket = a_bucket(cluster, namespace, s3_server)
        scene = Scene(cluster, node, kinase, namespace, bucket)
        scene.create(**IN_A_ROW, objective={"also": [{"metric": "params"}]})
        wait = [str(binaries.get("kubectl")), f"--kubeconfig={cluster.kubeconfig}", "wait"]
        wait += ["-n", namespace, "nasx/toy", "--for=condition=Succeeded", "--timeout=120s"]
        waited = subprocess.run(wait, capture_output=True, text=True, timeout=150)
        yield Run(scene, scene.get(), waited.stdout + waited.stderr)


def test_kubectl_waits_for_the_end(run: Run) -> None:
    assert run.waited == "nasexperiment.kinase.dev/toy condition met\n"
    assert run.item["status"]["phase"] == "Succeeded"


def test_the_cluster_searches_as_one_machine_does(run: Run) -> None:
    assert searched(run.scene) == on_this_machine(run.item)


def test_every_epoch_is_charged(run: Run) -> None:
    assert run.item["status"]["cost"]["epochs"] == 6 * 2 + 3


def test_kubectl_shows_what_matters(run: Run) -> None:
    lines = run.scene.cluster.kubectl("get", "nasx", "-n", run.scene.namespace).splitlines()
    assert " ".join(lines[0].split()) == "NAME PHASE TRIALS RUNNING BEST BUDGET LEFT AGE"
    best = run.item["status"]["best"]["value"]
    assert lines[1].split()[:6] == ["toy", "Succeeded", "6/6", "0", str(best), "0"]
    lines = run.scene.cluster.kubectl("get", "nast", "-n", run.scene.namespace).splitlines()
    assert " ".join(lines[0].split()) == "NAME PHASE REASON ATTEMPT VALUE EPOCHS NODE AGE"
    first = run.scene.trial(0)["status"]["value"]
    shown = ["toy-00000", "Succeeded", "Completed", "1", str(first), "2", "node-1"]
    assert lines[1].split()[:7] == shown
    assert [line.split()[0] for line in lines[1:]] == [
        *(f"toy-{n:05d}" for n in range(7)),
        "toy-00006-test",
        "toy-task",
    ]


def test_the_status_is_small(run: Run) -> None:
    assert len(json.dumps(run.item["status"])) < MAX_STATUS
    assert len(json.dumps(run.item)) < 2 * MAX_STATUS
    assert run.item["status"]["front"]


def test_events_tell_the_turns_of_a_search_and_no_more(run: Run) -> None:
    (pod,) = run.scene.pods("controller")
    wanted = [
        ("Normal", "ControllerRunning", f"pod {pod['metadata']['name']} runs the search"),
        ("Normal", "DataRead", samples_text(TaskInfo.model_validate(pod_trainer.INFO))),
        ("Normal", "Started", "the search starts"),
        ("Normal", "Succeeded", "6 trials were run"),
    ]
    wait_for(lambda: len(run.scene.events()) >= len(wanted), message="the last Event")
    found = [(e["type"], e["reason"], e["message"]) for e in run.scene.events()]
    # two programs tell the first three, and within one second none is the earlier
    assert (sorted(found[:3]), found[3:]) == (wanted[:3], wanted[3:])


def test_conditions_at_the_end(run: Run) -> None:
    run.scene.until("Ready", "True", "Finished")
    found = run.scene.get()["status"]["conditions"]
    assert {c["type"]: (c["status"], c["reason"]) for c in found} == {
        "Ready": ("True", "Finished"),
        "Progressing": ("False", "Finished"),
        "Suspended": ("False", "NotSuspended"),
        "Succeeded": ("True", "Succeeded"),
        "Failed": ("False", "Succeeded"),
    }


# Suspension


@beside
def test_one_that_is_suspended_before_it_starts(scene: Scene, folder: Path) -> None:
    scene.create(suspend=True, budget={"trials": 1}, finalists={"count": 1})
    scene.until("Suspended", "True", "Suspended")
    scene.until("Ready", "True", "Suspended")
    assert scene.get()["status"]["phase"] == "Suspended"
    assert not scene.all("jobs")
    scene.change(suspend=False)
    item = scene.finished()
    assert system.condition(item, "Suspended")["status"] == "False"


def test_one_that_is_suspended_in_the_middle_ends_as_if_it_had_not_been(
    scene: Scene, alone: None
) -> None:
    for trial in (2, 6):  # 6 is the finalist
        scene.hold(trial)
    scene.create(**IN_A_ROW)
    scene.begins(2)
    scene.change(suspend=True)
    scene.until("Suspended", "True", timeout=30)
    assert not scene.running("trial")
    wait_for(lambda: not scene.pods("controller"), message="the controller is gone")
    assert not scene.all("jobs", **{"app.kubernetes.io/component": "controller"})
    scene.until("Ready", "True", "Suspended")
    held = scene.get()
    assert held["status"]["phase"] == "Suspended"
    assert held["status"]["trials"]["running"] == 0
    assert scene.trial(2)["status"]["phase"] == "Stopped"
    scene.change(suspend=False)
    scene.begins(6)
    scene.change(suspend=True)
    scene.until("Suspended", "True", timeout=30)
    scene.change(suspend=False)
    item = scene.finished()
    assert searched(scene) == on_this_machine(item)
    assert item["status"]["cost"]["epochs"] == 6 * 2 + 3
    # another attempt that never started may be between the two
    again = {(e.trial, e.done, e.crash) for e in scene.journal(kind="attempt")}
    assert again == {(2, 1, False), (6, 1, False)}


def test_one_whose_controller_cannot_run_is_suspended_too(scene: Scene, alone: None) -> None:
    scene.hold(0)
    scene.create(**IN_A_ROW)
    scene.begins(0)
    image = system.images()[system.CONTROLLER]
    scene.node.set_image(system.CONTROLLER, None)
    try:
        scene.node.kill(scene.namespace, scene.controller(), signal.SIGTERM)
        scene.until("Ready", "False", "ImageNotFound")
        scene.change(suspend=True)
        scene.until("Suspended", "True", timeout=30)
        assert scene.get()["status"]["phase"] == "Suspended"
        wait_for(lambda: not scene.running("trial"), message="no trial runs")
    finally:
        scene.node.set_image(system.CONTROLLER, image)
    scene.change(suspend=False)
    item = scene.finished()
    assert system.condition(item, "Suspended")["status"] == "False"
    assert searched(scene) == on_this_machine(item)


# Edits


def test_parallelism_goes_up_and_down_while_it_runs(scene: Scene, alone: None) -> None:
    budget = {"trials": 60, "parallelism": 1}
    scene.create(budget=budget, trialTemplate=slow(1.0), control={"share": 0})
    scene.begins(0)
    scene.change(budget={**budget, "parallelism": 4})
    wait_for(lambda: len(scene.running()) == 4, message="four at once")
    scene.change(budget={**budget, "parallelism": 2})
    seen: list[int] = []

    def settled() -> bool:
        seen.append(len(scene.running()))
        return len(seen) > 20 and max(seen[-20:]) <= 2 and 2 in seen[-20:]

    wait_for(settled, 30, message="two at once", every=0.1)


@beside
def test_a_budget_that_is_raised_while_it_runs(scene: Scene, folder: Path) -> None:
    small = {"trials": 2, "parallelism": 2}
    scene.hold(1)
    scene.create(budget=small, finalists={"count": 1})
    scene.begins(1)
    scene.change(budget={**small, "trials": 4})
    scene.let()
    item = scene.finished()
    assert item["status"]["progress"] == "4/4"
    assert item["status"]["cost"]["epochs"] == 4 * 2 + 3


@beside
def test_what_cannot_change_while_it_runs_is_refused_with_the_reason(
    scene: Scene, folder: Path
) -> None:
    scene.hold(0)
    scene.create()
    scene.begins(0)
    with pytest.raises(ApiError) as refusal:
        scene.change(space={"type": "Chain", "chain": {"maxDepth": 5}})
    assert "spec.space cannot change: the experiment has started" in refusal.value.message
    with pytest.raises(ApiError) as refusal:
        scene.change(budget={"trials": 4})
    assert (
        "spec.budget.trials 4 is invalid: the experiment has started, and a limit can only be "
        "raised or removed; it was 8" in refusal.value.message
    )
    scene.change(retention={"trials": "1h"})


# What stays, and for how long


@beside
def test_what_has_ended_goes_by_its_age(scene: Scene, folder: Path) -> None:
    ages = {"pods": "1s"}
    budget = {"trials": 3, "parallelism": 1}
    scene.create(budget=budget, finalists={"count": 1}, retention=ages)
    item = scene.finished()
    assert item["status"]["cost"]["epochs"] == 3 * 2 + 3
    wait_for(lambda: not scene.pods(), message="pods have gone")
    assert len(scene.all("nastrials")) == 3 + 3, "the task, the finalist and its test"
    scene.change(retention={**ages, "trials": "1s"})
    wait_for(lambda: not scene.all("nastrials"), message="trials have gone")
    assert not missing(scene)
    scene.change(retention={**ages, "trials": "1s", "experiment": "1s"})
    wait_for(lambda: missing(scene), message="the experiment has gone")


# Removal


@beside
def test_deletion_frees_everything(scene: Scene, folder: Path) -> None:
    scene.hold(1)
    scene.create()
    scene.begins(1)
    scene.cluster.api.delete(scene.path(name="toy"))
    wait_for(lambda: gone(scene), COLLECTED, message="nothing is left")


def test_deletion_while_the_operator_is_down(scene: Scene, alone: None) -> None:
    scene.hold(1)
    scene.create()
    scene.begins(1)
    scene.operator.kill()
    try:
        scene.cluster.api.delete(scene.path(name="toy"))
        wait_for(lambda: gone(scene), COLLECTED, message="nothing is left")
    finally:
        scene.operator.start()
    time.sleep(1)
    assert gone(scene), "and nothing comes back"


@pytest.mark.parametrize("down", [False, True], ids=["operator up", "operator down"])
def test_what_a_deletion_orphans_is_removed(scene: Scene, alone: None, down: bool) -> None:
    scene.hold(1)
    scene.create()
    scene.begins(1)
    if down:
        scene.operator.kill()
    try:
        scene.cluster.kubectl("delete", "nasx/toy", "-n", scene.namespace, "--cascade=orphan")
    finally:
        if down:
            scene.operator.start()
    wait_for(lambda: gone(scene, lease=False), COLLECTED, message="nothing is left")


@beside
def test_one_that_is_deleted_and_made_anew_under_its_name(scene: Scene, folder: Path) -> None:
    small: dict[str, Any] = {"budget": {"trials": 2, "parallelism": 2}, "finalists": {"count": 1}}
    scene.hold(1)
    first = scene.create(**small, trialTemplate=slow(3.0))
    scene.begins(1)
    scene.cluster.api.delete(scene.path(name="toy"))
    second = scene.create(**small, seed=7)
    scene.let()
    item = scene.finished()
    assert first["metadata"]["uid"] != second["metadata"]["uid"] == item["metadata"]["uid"]
    assert item["status"]["cost"]["epochs"] == 2 * 2 + 3
    owners = {t["metadata"]["ownerReferences"][0]["uid"] for t in scene.all("nastrials")}
    assert owners == {item["metadata"]["uid"]}


@beside
def test_a_namespace_that_is_deleted_is_left_in_peace(scene: Scene, folder: Path) -> None:
    scene.hold(1)
    scene.create()
    scene.begins(1)
    before = len(scene.operator.log.read_text().splitlines())
    path = f"/api/v1/namespaces/{scene.namespace}"
    scene.cluster.api.delete(path)

    def left() -> bool:
        try:
            scene.cluster.api.get(path)
        except ApiError as problem:
            return problem.status == 404
        return False

    wait_for(left, 60, message="the namespace is gone")
    log = scene.operator.log.read_text().splitlines()[before:]
    mine = [line for line in log if scene.namespace in line]
    assert len(mine) < 10, mine
    assert not [line for line in log if "Traceback" in line]


def test_a_raised_limit_has_a_finished_search_go_on(scene: Scene) -> None:
    budget = {"trials": 2, "parallelism": 1}
    scene.create(**{**IN_A_ROW, "budget": budget})
    first = scene.finished()
    scene.change(budget={"trials": 4})

    def over() -> dict[str, Any] | None:
        item = scene.get()
        again = item["status"]["progress"] == "4/4" and item["status"].get("completionTime")
        return item if again else None

    item = wait_for(over, 60, message="the second end")
    assert item["status"]["phase"] == "Succeeded"
    assert item["status"]["trials"]["total"] == 4
    assert item["status"]["startTime"] == first["status"]["startTime"]
    kinds = [entry.type for entry in scene.journal()]
    assert kinds.count("reopened") == 1
    assert kinds.count("finished") == 2
    finals = sum(e.type == "asked" and e.kind == "Final" for e in scene.journal())
    assert item["status"]["cost"]["epochs"] == 4 * 2 + finals * 3
