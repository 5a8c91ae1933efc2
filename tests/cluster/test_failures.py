"""What Kinase does when something fails: docs/failure-modes.md, heading by heading."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinase.api import limits
from kinase.api.trial import Outcome
from kinase_operator import experiments, job_specs
from kinase_operator.actions import Delete, Emit, TrialStatus
from kinase_operator.drift import FIELDS, content
from kinase_operator.trials import plan as plan_trial
from kinase_operator.views import Job
from tests.cluster import system
from tests.cluster.beside import beside
from tests.cluster.gate import Gate
from tests.cluster.helpers import RESTRICTED, wait_for
from tests.cluster.lab.control_plane import ControlPlane
from tests.cluster.lab.node import Image, Node
from tests.cluster.lab.processes import Child
from tests.cluster.lab.rest import ApiError
from tests.cluster.system import Scene
from tests.unit.operator import samples
from tests.unit.operator.samples import at

PAGE = system.REPOSITORY / "docs/failure-modes.md"

TINY: dict[str, Any] = {
    "budget": {"trials": 2, "parallelism": 2},
    "control": {"share": 0},
    "finalists": {"count": 1},
}
"""Two trials at once, of two epochs each, and a finalist of three."""
EPOCHS = 2 * 2 + 3
"""Those of TINY, if none is lost."""
STARTED = samples.view({"startTime": at(-120)})
"""An experiment whose search has begun."""


def template(**fields: Any) -> dict[str, Any]:
    """A trial's template."""
    return {"image": system.FAKE, **fields}


def charged(scene: Scene, name: str = "toy") -> int:
    """Wait until an experiment has succeeded: what it was charged is what its trials have begun.
    The epochs."""
    item = scene.finished(name)
    store = scene.store(name)
    begun = [
        json.loads(store.get(key))["epochsBegun"]
        for key in store.list("trials/")
        if key.endswith("progress.json")
    ]
    epochs: int = item["status"]["cost"]["epochs"]
    assert epochs == sum(begun)
    assert len({e.trial for e in scene.journal(name, "told")}) == len(begun)
    return epochs


def attempts(scene: Scene, name: str = "toy") -> list[tuple[int, int, bool]]:
    """What was begun anew: trial, attempt, and whether a crash was counted."""
    return [(e.trial, e.attempt, e.crash) for e in scene.journal(name, "attempt")]


@contextlib.contextmanager
def image(node: Node, name: str, stands_for: Image | None) -> Iterator[None]:
    """The node's image for a while; None: it cannot be pulled."""
    before = system.images()[name]
    node.set_image(name, stands_for)
    try:
        yield
    finally:
        node.set_image(name, before)


# The page


def headings() -> list[tuple[str, str]]:
    """Headings of the page with what is said below each."""
    parts = re.split(r"^### (.+)\n", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_every_failure_of_the_page_has_its_test() -> None:
    assert len(headings()) > 20
    known = {name for name in globals() if name.startswith("test_")}
    named: set[str] = set()
    for heading, text in headings():
        for what in ("Seen", "Kinase", "You"):
            assert f"**{what}:**" in text, f"{heading!r} lacks {what}"
        tests = re.findall(r"`(test_\w+)`", text.partition("Test: ")[2])
        assert tests, f"{heading!r} names no test"
        assert set(tests) <= known, f"{heading!r} names a test that does not exist"
        named |= set(tests)
    rest = {"test_every_failure_of_the_page_has_its_test"}
    assert known - named == rest, "tests that no heading names"


# The controller does not start


def test_the_controllers_image_cannot_be_pulled(scene: Scene, alone: None) -> None:
    with image(scene.node, system.CONTROLLER, None):
        scene.create(**TINY)
        said = scene.until("Ready", "False", "ImageNotFound")
        assert system.CONTROLLER in said
        (event,) = wait_for(scene.events, message="an Event")
        assert (event["type"], event["reason"]) == ("Warning", "ImageNotFound")
        assert scene.get()["status"]["phase"] == "Pending"
    scene.until("Ready", "True", "ControllerRunning")


def test_a_controller_that_cannot_start_gets_the_image_that_is_set_now() -> None:
    settings = replace(samples.SETTINGS, controller_image="registry/new:1")
    body = job_specs.controller_job(STARTED, samples.MANIFEST, samples.SETTINGS)
    body["metadata"] |= {"uid": "job-uid", "resourceVersion": "30", "creationTimestamp": at(-60)}
    job = Job.of(body)
    for waiting in (None, ("ImagePullBackOff", "Back-off pulling image")):
        pods = [samples.pod("Pending", waiting=waiting)]
        seen = experiments.Observed(STARTED, samples.MANIFEST, {}, job, pods, None, samples.NOW)
        ends = [a.name for a in experiments.plan(seen, settings) if isinstance(a, Delete)]
        assert ends == (["toy-controller"] if waiting else [])


def test_the_controller_crashes_at_its_start(scene: Scene, alone: None) -> None:
    works = system.images()[system.CONTROLLER]
    broken = Image(env={**works.env, "KINASE_LOG_LEVEL": "NONE"})
    with image(scene.node, system.CONTROLLER, broken):
        scene.create(**TINY)
        said = scene.until("Ready", "False", "Crashing")
        assert "ValueError: Unknown level: 'NONE'" in said, "the last words of the process"
    scene.until("Ready", "True", "ControllerRunning")


def test_a_controller_that_is_killed_for_its_memory_says_so() -> None:
    job = job_specs.controller_job(STARTED, samples.MANIFEST, samples.SETTINGS)
    job["metadata"] |= {"uid": "job-uid", "resourceVersion": "30", "creationTimestamp": at(-60)}
    end = {"last_words": "told 12", "last_reason": "OOMKilled", "restarts": 6}
    for waiting in (("CrashLoopBackOff", "back-off 10s"), None):
        pods = [samples.pod(waiting=waiting, **end)]
        seen = experiments.Observed(
            STARTED, samples.MANIFEST, {}, Job.of(job), pods, None, samples.NOW
        )
        actions = experiments.plan(seen, samples.SETTINGS)
        (told,) = (a for a in actions if isinstance(a, Emit))
        assert (told.kind, told.reason) == ("Warning", "OutOfMemory")
        assert "limit (1Gi)" in told.message
        assert "told 12" not in told.message


@beside
def test_a_quota_leaves_no_room_for_the_controller(scene: Scene, folder: Path) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    scene.cluster.api.post(scene.path("resourcequotas"), quota)
    used = scene.path("resourcequotas", "none")
    wait_for(lambda: scene.cluster.api.get(used)["status"]["used"], message="the quota is known")
    scene.create(**TINY)
    said = scene.until("Ready", "False", "QuotaExceeded")
    assert "exceeded quota: none" in said
    scene.cluster.api.delete(used)
    scene.until("Ready", "True", "ControllerRunning")


def policy(scene: Scene, resource: str, experiment: str) -> str:
    """Let no such object of an experiment into the namespace; the path that ends it."""
    base, name = "/apis/admissionregistration.k8s.io/v1", f"{scene.namespace}-{experiment}"
    group = "batch" if resource == "jobs" else ""
    rule = {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": [resource],
    }
    label = f"object.metadata.?labels[?'kinase.dev/experiment'].orValue('') != '{experiment}'"
    rules = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": label, "message": "not here"}],
    }
    where = {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}}
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": where},
    }
    for kind, spec in (("policies", rules), ("policybindings", binding)):
        body = {"metadata": {"name": name}, "spec": spec}
        scene.cluster.api.post(f"{base}/validatingadmission{kind}", body)
    return f"{base}/validatingadmissionpolicybindings/{name}"


@beside
def test_admission_refuses_the_controller(scene: Scene, folder: Path) -> None:
    bindings = [policy(scene, "jobs", "one"), policy(scene, "pods", "two")]
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [{"name": "probe", "image": "probe", "securityContext": RESTRICTED}],
    }
    probes: dict[str, Any] = {
        "jobs": {"spec": {"template": {"spec": pod}}},
        "pods": {"spec": pod},
    }

    def refused(kind: str, experiment: str) -> bool:
        labels = {"kinase.dev/experiment": experiment}
        body = {"metadata": {"name": "probe", "labels": labels}, **probes[kind]}
        try:
            scene.cluster.api.post(f"{scene.path(kind)}?dryRun=All", body)
        except ApiError as problem:
            return "not here" in problem.message
        return False

    wait_for(lambda: refused("jobs", "one") and refused("pods", "two"), message="policies hold")
    for name in ("one", "two"):
        scene.create(name, **TINY)
    assert "not here" in scene.until("Ready", "False", "Refused", "one")
    assert "not here" in scene.until("Ready", "False", "PodRefused", "two")
    scene.events_of("Refused", name="one")
    scene.events_of("PodRefused", name="two")
    for name in ("one", "two"):
        assert [event["type"] for event in scene.events(name)] == ["Warning"]
    for binding in bindings:
        scene.cluster.api.delete(binding)
    for name in ("one", "two"):
        scene.until("Ready", "True", "ControllerRunning", name)


@beside
def test_a_name_is_taken_by_another_object(scene: Scene, folder: Path) -> None:
    ports = [{"port": 80}]
    service = {"metadata": {"name": "toy-controller"}, "spec": {"ports": ports}}
    scene.cluster.api.post(scene.path("services"), service)
    scene.create(**TINY)
    said = scene.until("Ready", "False", "NameConflict")
    assert "Service toy-controller" in said
    scene.cluster.api.delete(scene.path("services", "toy-controller"))
    scene.until("Ready", "True", "ControllerRunning")


@beside
def test_a_manifest_that_no_cluster_can_serve(scene: Scene, folder: Path) -> None:
    storage = system.experiment(scene.namespace, scene.bucket)["spec"]["storage"]
    scene.create(**TINY, storage={"uri": "file:///runs"})
    said = scene.until("Ready", "False", "Forbidden")
    assert "spec.storage.uri 'file:///runs' cannot be reached by every pod" in said
    scene.change(storage=storage)
    scene.until("Ready", "True", "ControllerRunning")


@beside
def test_the_credentials_secret_is_missing_or_lacks_a_key(scene: Scene, folder: Path) -> None:
    secret = scene.path("secrets", scene.bucket.secret)
    keys = scene.cluster.api.get(secret)["data"]
    scene.cluster.api.delete(secret)
    scene.create(**TINY)
    said = scene.until("Ready", "False", "ConfigMissing")
    assert f'secret "{scene.bucket.secret}" not found' in said
    body = {"metadata": {"name": scene.bucket.secret}, "data": {"OTHER": "eA=="}}
    scene.cluster.api.post(scene.path("secrets"), body)
    wait_for(lambda: "AWS_ACCESS_KEY_ID" in scene.said("Ready")[2], message="the key is missed")
    scene.cluster.api.patch(secret, {"data": keys})
    scene.until("Ready", "True", "ControllerRunning")


# The trainer does not start


@beside
def test_the_trainers_image_cannot_be_pulled(scene: Scene, folder: Path) -> None:
    scene.create(**TINY, trialTemplate={"image": "kinase/absent:test"})
    said = scene.until("Progressing", "False", "TaskPending")
    assert "kinase/absent:test" in said
    assert scene.until_trial("task", "ErrImagePull", "ImagePullBackOff")["phase"] == "Pending"
    scene.change(trialTemplate={"image": system.FAKE})
    assert charged(scene) == EPOCHS


@beside
def test_no_node_has_the_gpus(scene: Scene, folder: Path) -> None:
    sixteen = {"limits": {"nvidia.com/gpu": 16}}
    scene.create(**TINY, trialTemplate=template(resources=sixteen))
    said = scene.until("Progressing", "False", "TaskPending")
    assert "Insufficient nvidia.com/gpu" in said
    scene.until_trial("task", "Unschedulable")
    scene.change(trialTemplate=template(resources={"limits": {"nvidia.com/gpu": 1}}))
    assert charged(scene) == EPOCHS


ONE: dict[str, Any] = {**TINY, "budget": {"trials": 2, "parallelism": 1}}
INDEX = "batch.kubernetes.io/job-completion-index"


def workers(scene: Scene, attempt: int = 1) -> dict[str, dict[str, Any]]:
    """The pods of the first trial's attempt that run, by worker."""
    return {
        pod["metadata"]["labels"][INDEX]: pod
        for pod in scene.running()
        if pod["metadata"]["name"].startswith(f"toy-00000-{attempt}-")
    }


def test_not_all_workers_of_a_trial_fit(scene: Scene, alone: None) -> None:
    resources = {"limits": {"nvidia.com/gpu": 5}}  # the only node has eight
    scene.create(**ONE, trialTemplate=template(workers=2, resources=resources))
    scene.hold(0)  # the stand-in does not wait for the other worker
    status = scene.until_trial(0, "Unschedulable")
    assert status["phase"] == "Pending"
    assert status["message"].startswith("1 of 2 workers run: worker ")
    assert "Insufficient nvidia.com/gpu" in status["message"]
    told = scene.until("Progressing", "False", "TrialsPending")
    assert "1 of 2 workers run" in told


@beside
def test_the_trainer_cannot_serve_the_task(scene: Scene, folder: Path) -> None:
    scene.create(**TINY, task={"dataset": "absent"})
    said = scene.until("Progressing", "False", "TaskUnavailable")
    assert "task.dataset 'absent' does not exist" in said
    scene.change(task={"dataset": "ok"})
    assert charged(scene) == EPOCHS


@beside
def test_a_quota_leaves_no_room_for_trials(scene: Scene, folder: Path) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    scene.cluster.api.post(scene.path("resourcequotas"), quota)
    used = scene.path("resourcequotas", "few")
    wait_for(lambda: scene.cluster.api.get(used)["status"]["used"], message="the quota is known")
    scene.create(**TINY, trialTemplate=template(timeLimit="2s"))
    said = scene.until("Progressing", "False", "TaskPending")
    assert "exceeded quota: few" in said
    scene.until_trial("task", "Refused")
    scene.cluster.api.delete(used)
    assert charged(scene) == EPOCHS
    assert {e.outcome for e in scene.journal(kind="told")} == {Outcome.SUCCEEDED}
    task = scene.trial("task")
    assert task["spec"]["attempt"] == 1, "to wait for longer than the time limit is no failure"


@beside
def test_a_node_rejects_a_trials_pod(scene: Scene, folder: Path) -> None:
    words = "Pod was rejected: Allocate failed: no healthy devices present"
    scene.hold(1)
    scene.create(**TINY)
    pod = scene.begins(1)
    scene.node.reject(scene.namespace, "UnexpectedAdmissionError", words)
    scene.cluster.api.post(scene.path("pods", f"{pod}/eviction"), {"metadata": {"name": pod}})

    def waits() -> bool:
        """An attempt that follows two that were rejected."""
        seen.update(scene.trial(1).get("status") or {})
        return seen.get("reason") == "BackOff" and seen["attempt"] > 3

    seen: dict[str, Any] = {}
    wait_for(waits, 60, message="a third attempt after two rejections", every=0.1)
    status = seen
    assert (
        f"3 attempts in a row were lost, the last: Rejected: UnexpectedAdmissionError: {words}"
        in (status["message"])
    )
    assert status["lastAttempt"]["reason"] == "Rejected"
    assert (status["phase"], status["disruptions"]) == ("Pending", status["attempt"] - 1)
    scene.node.reject(scene.namespace)
    assert charged(scene) == EPOCHS, "what was rejected began no epoch"
    again = attempts(scene)
    assert {crash for *_, crash in again} == {False}
    assert len([1 for trial, *_ in again if trial == 1]) >= 3
    uid = scene.trial(1)["metadata"]["uid"]
    where = f"fieldSelector=involvedObject.uid%3D{uid}"
    told = scene.cluster.api.get(f"{scene.path('events')}?{where}")["items"]
    assert {"Disrupted", "Rejected"} >= {e["reason"] for e in told} >= {"Rejected"}
    counted = re.search(
        r'kinase_operator_attempts_total{reason="Rejected"} (\d+)', scene.operator.page("/metrics")
    )
    assert counted
    assert int(counted[1]) >= 2


@beside
def test_a_sidecar_runs_beside_the_trainer(scene: Scene, folder: Path) -> None:
    """As admission puts it there. Its status comes first, for they are sorted by name."""
    with system.injected(scene.cluster, scene.namespace, system.FAKE, "sleep", "1000"):
        scene.create(**TINY, task={"dataset": "infeasible"})
        scene.create("away", **TINY, task={"dataset": "unavailable"})
        scene.finished()
        assert charged(scene, "away") == EPOCHS + 1
    ends = {e.trial: e.outcome for e in scene.journal(kind="told")}
    assert ends == {0: Outcome.SUCCEEDED, 1: Outcome.INFEASIBLE, 2: Outcome.SUCCEEDED}
    assert attempts(scene, "away") == [(1, 2, False)]
    assert scene.until_trial(1, "Infeasible")["exitCode"] == 42
    assert scene.trial(1, "away")["status"]["lastAttempt"]["exitCode"] == 75

    def over() -> bool:
        pods = scene.pods()
        for pod in pods:
            found = [c["name"] for c in pod["status"]["containerStatuses"]]
            assert found == [system.SIDECAR, "kinase"]
        return {p["status"]["phase"] for p in pods} == {"Failed"} and not scene.pods("controller")

    wait_for(over, 30, message="no sidecar holds its pod", every=0.2)


# Parts of Kinase end


@beside
def test_the_controllers_process_is_killed(scene: Scene, folder: Path) -> None:
    scene.hold(1)
    scene.create(**TINY)
    scene.begins(1)
    scene.node.kill(scene.namespace, scene.controller())
    scene.let()
    assert charged(scene) == EPOCHS
    assert not attempts(scene), "trials run on meanwhile"
    (pod,) = scene.pods("controller")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1
    said = scene.events_of("Started", 2)
    assert said[0] == "the search starts"
    # as many as have ended until it is there again
    assert re.fullmatch(r"resuming after \d+ trials", said[1]), said
    assert len(said) == 2


@beside
def test_the_controllers_pod_is_deleted(scene: Scene, folder: Path) -> None:
    scene.hold(1)
    scene.create(**TINY)
    scene.begins(1)
    first = scene.controller()
    scene.cluster.api.delete(scene.path("pods", first))
    scene.let()
    assert charged(scene) == EPOCHS
    assert not attempts(scene)
    assert first not in [pod["metadata"]["name"] for pod in scene.pods("controller")]


def test_the_operator_is_killed(scene: Scene, alone: None) -> None:
    scene.hold(1)
    scene.create(**TINY)
    scene.begins(1)
    scene.operator.kill()
    scene.operator.start()
    scene.let()
    assert charged(scene) == EPOCHS
    assert not attempts(scene)


def test_trials_end_while_the_operator_is_down(scene: Scene, alone: None) -> None:
    scene.hold(1)
    scene.create(**TINY, retention={"pods": "1s"})
    scene.begins(1)
    scene.operator.kill()
    scene.let()
    try:
        jobs = {"kinase.dev/trial": "1"}
        wait_for(lambda: not scene.all("jobs", **jobs), message="the Job is gone by its age")
    finally:
        scene.operator.start()
    assert charged(scene) == EPOCHS
    assert not attempts(scene)


def test_two_operators_at_once(scene: Scene, alone: None, tmp_path: Path) -> None:
    second = system.Operator(scene.cluster, tmp_path).start()
    try:
        scene.create(**TINY)
        assert charged(scene) == EPOCHS
        assert not attempts(scene)
        wait_for(lambda: len(scene.events()) == 4, message="each Event once")
        for operator in (second, scene.operator):
            assert "Traceback" not in operator.log.read_text()
    finally:
        second.stop()


@contextlib.contextmanager
def controller_by_hand(scene: Scene, folder: Path, pod: str) -> Iterator[Child]:
    """Another controller of the experiment, as a pod that nobody asked for would be."""
    uid = scene.get()["metadata"]["uid"]
    account = scene.cluster.account_kubeconfig(
        folder / "kubeconfig", scene.namespace, "toy-controller"
    )
    secret = scene.cluster.api.get(scene.path("secrets", scene.bucket.secret))["data"]
    child = Child(
        [sys.executable, "-m", "kinase_controller"],
        folder / "log",
        {
            "KUBECONFIG": str(account),
            "KINASE_EXPERIMENT": "toy",
            "KINASE_EXPERIMENT_UID": uid,
            "KINASE_NAMESPACE": scene.namespace,
            "KINASE_POD": pod,
            "KINASE_POD_IP": "127.9.9.9",
            **{key: base64.b64decode(value).decode() for key, value in secret.items()},
        },
    )
    try:
        yield child
    finally:
        child.stop(0)


@beside
def test_two_controllers_at_once(scene: Scene, folder: Path) -> None:
    scene.hold(1)
    scene.create(**TINY)
    scene.begins(1)
    first = scene.controller()
    with controller_by_hand(scene, folder, "toy-controller-other") as other:
        waits = f"waiting for the lease, which {first} holds"
        wait_for(lambda: waits in other.said(), message="the second waits")
        lease = scene.path("leases", "toy-controller")
        scene.cluster.api.patch(lease, {"spec": {"holderIdentity": "toy-controller-other"}})
        gone = "another controller has taken over"
        wait_for(lambda: gone in scene.node.log(scene.namespace, first), message="the first ends")
        scene.let()
        assert charged(scene) == EPOCHS
        assert not attempts(scene)


@beside
def test_a_controllers_lease_is_left_by_a_node_that_is_gone(scene: Scene, folder: Path) -> None:
    uid = scene.create(**TINY, suspend=True)["metadata"]["uid"]
    owner = {
        "apiVersion": "kinase.dev/v1alpha1",
        "kind": "NASExperiment",
        "name": "toy",
        "uid": uid,
    }
    spec = {
        "holderIdentity": "toy-controller-lost",
        "leaseDurationSeconds": 15,
        "renewTime": "2100-01-01T00:00:00.000000Z",  # by a clock that is far ahead
    }
    lease = {"metadata": {"name": "toy-controller", "ownerReferences": [owner]}, "spec": spec}
    scene.cluster.api.post(scene.path("leases"), lease)
    scene.change(suspend=False)
    scene.until("Ready", "False", "ControllerStarting")
    assert charged(scene) == EPOCHS


def test_clocks_that_differ_hold_back_no_word() -> None:
    ahead = 3600.0
    running = samples.pod(started=ahead)
    (said,) = plan_trial(samples.seen(samples.trial(), samples.job(), running), samples.SETTINGS)
    assert isinstance(said, TrialStatus)
    assert said.fields["phase"] == "Running"
    waits = samples.pod("Pending", unschedulable="no node", created=ahead)
    (said,) = plan_trial(samples.seen(samples.trial(), samples.job(), waits), samples.SETTINGS)
    assert isinstance(said, TrialStatus)
    assert (said.fields["phase"], said.fields["reason"]) == ("Pending", "Unschedulable")


# Trials


@beside
def test_a_trials_process_is_killed(scene: Scene, folder: Path) -> None:
    scene.hold(1, epoch=2)
    scene.create(**TINY)
    scene.node.kill(scene.namespace, scene.begins(1, epoch=2))
    assert charged(scene) == EPOCHS + 1, "the second epoch of trial 1 twice"
    assert attempts(scene) == [(1, 2, True)]
    (again,) = scene.journal(kind="attempt")
    assert (again.begun, again.done) == (2, 1), "it went on from the checkpoint"


@beside
def test_a_trial_crashes_at_every_attempt(scene: Scene, folder: Path) -> None:
    scene.create(**TINY, task={"dataset": "exit-always"}, trialTemplate=template(maxRetries=1))
    charged(scene)
    assert attempts(scene) == [(1, 2, True)]
    told = next(e for e in scene.journal(kind="told") if e.trial == 1)
    assert (told.outcome, told.message) == (Outcome.FAILED, "the trainer exits (2 attempts)")
    assert scene.get()["status"]["trials"]["failed"] == 1
    status = scene.until_trial(1, "Crashed")
    assert (status["phase"], status["exitCode"]) == ("Failed", 3)


@beside
def test_a_trial_runs_out_of_memory(scene: Scene, folder: Path) -> None:
    for attempt in (1, 2):
        scene.hold(1, attempt=attempt, epoch=attempt)
    scene.create(**TINY)
    for attempt in (1, 2):
        pod = scene.begins(1, attempt=attempt, epoch=attempt)
        scene.node.oom(scene.namespace, pod)
    charged(scene)
    assert attempts(scene) == [(1, 2, True)]
    told = next(e for e in scene.journal(kind="told") if e.trial == 1)
    assert told.outcome is Outcome.INFEASIBLE
    assert "out of memory" in told.message
    scene.until_trial(1, "OutOfMemory")


@beside
def test_a_trial_takes_too_long(scene: Scene, folder: Path) -> None:
    limits = template(timeLimit="2s", gracePeriod="1s")
    scene.create(**TINY, task={"dataset": "hang-always"}, trialTemplate=limits)
    charged(scene)
    assert not attempts(scene)
    told = next(e for e in scene.journal(kind="told") if e.trial == 1)
    assert told.outcome is Outcome.INFEASIBLE
    assert "trialTemplate.timeLimit" in told.message
    scene.until_trial(1, "DeadlineExceeded")


@beside
def test_a_trial_is_evicted(scene: Scene, folder: Path) -> None:
    scene.hold(1)
    scene.create(**TINY)
    pod = scene.begins(1)
    scene.cluster.api.post(scene.path("pods", f"{pod}/eviction"), {"metadata": {"name": pod}})
    assert charged(scene) == EPOCHS, "it came to its checkpoint"
    assert attempts(scene) == [(1, 2, False)]


@beside
def test_a_node_is_lost(scene: Scene, folder: Path) -> None:
    other = Node(scene.cluster, folder, "node-2", labels={"lab": "lost"})
    other.start()
    taint = {"key": "lab", "value": "lost", "effect": "NoSchedule"}
    scene.cluster.api.patch("/api/v1/nodes/node-2", {"spec": {"taints": [taint]}})
    system.put_images(other)
    there = {"matchExpressions": [{"key": "lab", "operator": "In", "values": ["lost"]}]}
    prefer = [{"weight": 100, "preference": there}]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": prefer}}
    bear = [{**taint, "operator": "Equal"}]
    for number in (0, 1):
        scene.hold(number, epoch=2, node=other)
    scene.create(**TINY, trialTemplate=template(affinity=affinity, tolerations=bear))

    def began(number: int) -> bool:
        line = f"trial {number} attempt 1 epoch 2 begins"
        return any(line in Path(pod["log"]).read_text() for pod in other.pods())

    wait_for(lambda: began(0) and began(1), 120, message="both trials' second epochs")
    other.crash()
    other.remove()
    assert charged(scene) == EPOCHS + 2, "the second epochs of both trials twice"
    assert sorted(attempts(scene)) == [(0, 2, False), (1, 2, False)]


@beside
def test_a_worker_of_a_trial_is_lost(scene: Scene, folder: Path) -> None:
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


@beside
def test_a_trials_job_is_deleted(scene: Scene, folder: Path) -> None:
    scene.hold(1)
    scene.create(**TINY)
    scene.begins(1)
    body = {"propagationPolicy": "Background"}
    scene.cluster.api.delete(scene.path("jobs", "toy-00001-1"), body)
    assert charged(scene) == EPOCHS
    assert [crash for *_, crash in attempts(scene)] == [False]


@beside
def test_a_trials_resource_is_deleted(scene: Scene, folder: Path) -> None:
    scene.hold(1)
    scene.create(**TINY)
    scene.begins(1)
    before = scene.trial(1)["metadata"]["uid"]
    scene.cluster.api.delete(scene.path("nastrials", "toy-00001"))
    wait_for(lambda: scene.trial(1)["metadata"]["uid"] != before, message="it is made again")
    scene.let()
    assert charged(scene) == EPOCHS
    assert not [crash for *_, crash in attempts(scene) if crash]


@beside
def test_a_trial_ends_well_without_a_result_of_its_own(scene: Scene, folder: Path) -> None:
    bodies = {"missing": b"", "truncated": b'{"version": 1, "trial": 1, "att'}
    names = (*bodies, "foreign", "large")
    other = {
        "version": 1,
        "trial": 0,
        "attempt": 1,
        "outcome": "Succeeded",
        "metrics": {"val_accuracy": 1.0},
        "cost": {"epochs": 1, "samples": 1, "deviceSeconds": 1},
    }
    bodies["foreign"] = json.dumps(other).encode()
    bodies["large"] = json.dumps({**other, "trial": 1}).encode().ljust(limits.RESULT + 1)
    for name in names:
        scene.create(name, **TINY, task={"dataset": "silent"}, suspend=True)
    for name in names:
        uid = scene.get(name)["metadata"]["uid"]
        key = f"nas/{scene.namespace}/{uid}/trials/00001/result.json"
        if bodies[name]:
            scene.bucket.client.put_object(Bucket=scene.bucket.name, Key=key, Body=bodies[name])
        scene.change(name, suspend=False)
    for name in names:
        assert charged(scene, name) == EPOCHS + 1
        assert attempts(scene, name) == [(1, 2, True)]
        (again,) = scene.journal(name, "attempt")
        assert "left no valid result" in again.message
        assert ("is too large: 4,194,305 bytes" in again.message) == (name == "large")


def test_the_checkpoint_of_a_paused_trial_is_trained_again_if_it_is_gone(scene: Scene) -> None:
    # two candidates of one epoch, of which the first is trained on to two: it has the better score
    ladder = {"type": "SuccessiveHalving", "successiveHalving": {"eta": 2}}
    scene.hold(1)  # in the meantime the first one is paused
    scene.create(
        **TINY | {"budget": {"trials": 2, "parallelism": 1}},
        training={"epochs": 2},
        estimation=ladder,
    )
    scene.begins(1)
    folder = f"nas/{scene.namespace}/{scene.get()['metadata']['uid']}"
    kept = [key for key in scene.store().list("trials/00000/") if "/checkpoint/" in key]
    assert kept
    for key in kept:
        scene.bucket.client.delete_object(Bucket=scene.bucket.name, Key=f"{folder}/{key}")
    scene.let()
    # one epoch more than 2 + 1 + 2
    assert charged(scene) == 6
    assert attempts(scene) == [(0, 3, False)]
    (again,) = scene.journal(kind="attempt")
    assert "the checkpoint holds 0 of 1 epochs" in again.message
    told = {entry.trial: len(entry.curve) for entry in scene.journal(kind="told")}
    assert told[0] == 2


# What somebody takes away


KINDS = ("Service", "Role", "RoleBinding", "ServiceAccount", "NetworkPolicy")


def stated(item: dict[str, Any]) -> dict[str, Any]:
    """What an object says, but for other people's annotations."""
    labels = {k: v for k, v in item["metadata"]["labels"].items() if "kube" in k or "kinase" in k}
    owners = {"ownerReferences": item["metadata"].get("ownerReferences")}
    return {"labels": labels} | owners | {name: item[name] for name in FIELDS if name in item}


@beside
def test_what_an_experiment_needs_is_deleted_or_changed(scene: Scene, folder: Path) -> None:
    for number in (0, 1):
        scene.hold(number)
    scene.create(**TINY)
    scene.begins(0)
    children = {
        "services": "toy-controller",
        "roles": "toy-controller",
        "rolebindings": "toy-controller",
        "serviceaccounts": "toy-controller",
        "networkpolicies": "toy-trials",
    }
    before = {kind: scene.get(name, kind)["metadata"]["uid"] for kind, name in children.items()}
    meant = {kind: stated(scene.get(name, kind)) for kind, name in children.items()}
    # by this it is known what to take away once it is not wanted any more
    ours = content(scene.get("toy-controller", "serviceaccounts"))["ours"]
    assert ours == {
        "annotations": ["kinase.dev/spec-hash"],
        "labels": sorted(meant["serviceaccounts"]["labels"]),
    }
    secrets = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}
    port = {"name": "more", "port": 82, "targetPort": 22}
    edits: list[tuple[str, dict[str, Any]]] = [
        ("services", {"spec": {"ports": [{"name": "http", "port": 81, "targetPort": 81}, port]}}),
        ("services", {"spec": {"type": "NodePort", "selector": {"app": "other"}}}),
        ("roles", {"rules": [secrets]}),
        ("rolebindings", {"subjects": [{"kind": "User", "name": "eve"}]}),
        ("serviceaccounts", {"automountServiceAccountToken": True}),
        ("networkpolicies", {"spec": {"egress": [{}], "ingress": [{}]}}),
        ("networkpolicies", {"metadata": {"labels": {"app.kubernetes.io/component": None}}}),
        ("rolebindings", {"metadata": {"ownerReferences": None}}),
    ]
    for kind, edit in edits:
        scene.cluster.api.patch(scene.path(kind, children[kind]), edit)
    foreign = {"metadata": {"annotations": {"example.com/team": "vision"}}}
    scene.cluster.api.patch(scene.path("services", "toy-controller"), foreign)

    def corrected() -> bool:
        return meant == {kind: stated(scene.get(name, kind)) for kind, name in children.items()}

    wait_for(corrected, message="all are as they were")
    assert before == {kind: scene.get(n, kind)["metadata"]["uid"] for kind, n in children.items()}
    held = scene.get("toy-controller", "services")["metadata"]["annotations"]
    assert held["example.com/team"] == "vision"

    def said() -> bool:
        told = [e["message"] for e in scene.events() if e["reason"] == "Corrected"]
        return all(any(f" of {kind} toy-" in text for text in told) for kind in KINDS)

    wait_for(said, message="an Event for each")
    unseen = {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}, "rules": [secrets]}
    scene.cluster.api.patch(scene.path("roles", children["roles"]), unseen)
    wait_for(corrected, message="what lost the label by which it is watched, too")
    for kind, name in children.items():
        scene.cluster.api.delete(scene.path(kind, name))

    def again() -> bool:
        return all(
            scene.get(name, kind)["metadata"]["uid"] != before[kind]
            for kind, name in children.items()
        )

    wait_for(again, message="all are there again")
    scene.let()
    assert charged(scene) == EPOCHS


# The store


@contextlib.contextmanager
def a_gate(scene: Scene) -> Iterator[Gate]:
    """What stands before the scene's S3 server."""
    gate = Gate(scene.bucket.endpoint)
    try:
        yield gate
    finally:
        gate.shut()


def through(scene: Scene, gate: Gate) -> dict[str, Any]:
    """The storage of an experiment that reaches the bucket through the gate."""
    storage = system.experiment(scene.namespace, scene.bucket)["spec"]["storage"]
    return {**storage, "endpoint": gate.endpoint}


@beside
def test_the_store_is_out_of_reach_for_a_while(scene: Scene, folder: Path) -> None:
    with a_gate(scene) as gate:
        fake = system.images(KINASE_STORE_PATIENCE="1")[system.FAKE]
        scene.node.set_image("kinase/impatient:test", fake)
        impatient = {"image": "kinase/impatient:test"}
        scene.hold(1)
        scene.create(**TINY, storage=through(scene, gate), trialTemplate=impatient)
        scene.begins(1)
        gate.shut()
        scene.let()
        said = scene.until("Progressing", "False", "StoreUnavailable")
        assert gate.endpoint in said
        # the trial has a patience of its own; then it waits to be started again
        scene.until_trial(1, "Unavailable", "BackOff")
        scene.events_of("StoreUnavailable")
        gate.let()
        charged(scene)  # that it searches again is over too soon to be seen for certain
        assert not [crash for *_, crash in attempts(scene) if crash]


@beside
def test_the_bucket_is_not_there(scene: Scene, folder: Path) -> None:
    storage = system.experiment(scene.namespace, scene.bucket)["spec"]["storage"]
    bucket = f"{scene.bucket.name}-later"
    scene.create(**TINY, storage={**storage, "uri": f"s3://{bucket}/nas"})
    said = scene.until("Progressing", "False", "StoreRefused")
    assert f"s3://{bucket}" in said
    assert "create it, or correct storage.uri or storage.endpoint (NoSuchBucket" in said
    scene.bucket.client.create_bucket(Bucket=bucket)
    scene.finished()


@beside
def test_the_store_denies_access(scene: Scene, folder: Path) -> None:
    with a_gate(scene) as gate:
        gate.deny()
        scene.create(**TINY, storage=through(scene, gate))
        said = scene.until("Progressing", "False", "StoreRefused")
        assert "AccessDenied" in said
        gate.let()
        assert charged(scene) == EPOCHS


@beside
def test_the_place_in_the_store_is_another_experiments(scene: Scene, folder: Path) -> None:
    item = scene.create(**TINY, suspend=True)
    uid = item["metadata"]["uid"]
    document = {"name": "toy", "version": "1", "spec": {**item["spec"], "seed": 8}}
    place = {
        "Bucket": scene.bucket.name,
        "Key": f"nas/{scene.namespace}/{uid}/experiment.json",
    }
    begun = {**place, "Key": f"nas/{scene.namespace}/{uid}/journal/00000000.jsonl"}
    scene.bucket.client.put_object(**place, Body=json.dumps(document).encode())
    scene.bucket.client.put_object(**begun, Body=b"")  # of one that asked no trial it may be taken
    scene.change(suspend=False)
    said = scene.until("Progressing", "False", "StoreMismatch")
    assert "spec.seed is 8 there and 0 here" in said
    for each in (place, begun):
        scene.bucket.client.delete_object(**each)
    assert charged(scene) == EPOCHS


@beside
def test_the_journal_is_damaged(scene: Scene, folder: Path) -> None:
    scene.hold(1)
    scene.create(**TINY)
    scene.begins(1)
    scene.change(suspend=True)
    scene.until("Suspended", "True")
    uid = scene.get()["metadata"]["uid"]
    key = f"nas/{scene.namespace}/{uid}/journal/00000000.jsonl"
    place = {"Bucket": scene.bucket.name, "Key": key}
    kept = scene.bucket.client.get_object(**place)["Body"].read()
    scene.bucket.client.delete_object(**place)
    scene.change(suspend=False)
    said = scene.until("Progressing", "False", "StoreRefused")
    assert f"{key} is missing" in said
    scene.bucket.client.put_object(**place, Body=kept)
    assert charged(scene) == EPOCHS


# Too large


def test_a_job_is_too_large_for_etcd(scene: Scene, alone: None) -> None:
    values = [f"{number:063d}" for number in range(21_000)]
    there = {"matchExpressions": [{"key": "lab", "operator": "NotIn", "values": values}]}
    prefer = [{"weight": 1, "preference": there}]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": prefer}}
    # they are in the Job twice, and in the experiment once
    notes = {f"note-{number}": "x" * 4096 for number in range(32)}
    scene.create(**TINY, trialTemplate=template(affinity=affinity, annotations=notes))
    said = scene.until("Progressing", "False", "TaskPending", timeout=90)
    assert "too large" in said
    assert scene.until_trial("task", "Refused")["phase"] == "Pending"
    before = len(scene.operator.log.read_text().splitlines())
    time.sleep(3)
    after = len(scene.operator.log.read_text().splitlines())
    assert after - before < 10, "nothing is tried in haste"
    scene.change(trialTemplate={"image": system.FAKE, "affinity": None, "annotations": None})
    assert charged(scene) == EPOCHS


# The API server


def test_the_api_server_is_away_and_every_watch_is_cut(scene: Scene, alone: None) -> None:
    cluster = scene.cluster
    if not isinstance(cluster, ControlPlane):
        pytest.skip("only on a control plane that the test has started itself")
    scene.hold(1)
    scene.create(**TINY)
    scene.begins(1)
    cluster.stop_apiserver()
    scene.let()
    time.sleep(3)
    cluster.start_apiserver()
    assert charged(scene) == EPOCHS
    assert not attempts(scene)
    assert scene.operator.alive
