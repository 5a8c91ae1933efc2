"""A cluster in memory: an API server, the controllers that the operator relies on, and a kubelet.

What is modelled follows Kubernetes 1.37: resource versions, preconditions (none on the UID in a
status, as the real server has it), graceful and foreground deletion, finalizers, garbage
collection by owner, server-side apply of a status, Jobs with a pod failure policy, a deadline and
a time to live, and pods that end as their fate says. Everything acts after a random delay, in
virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from kinase.api import names
from kinase.api.status import ExperimentStatus, TrialStatus
from kinase_kube import client as kube
from kinase_kube.client import (
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Object,
    Resource,
)
from tests.unit.kube.virtual import now
from tests.unit.operator.samples import merged

Key = tuple[str, str, str]
"""Plural, namespace, name."""

OVERTIME = "DeadlineExceeded"
"""Why a node ends a pod."""
REJECTED = "UnexpectedAdmissionError"
"""Why a node does not take a pod."""
BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
FOREGROUND = "foregroundDeletion"
TRACKING = "batch.kubernetes.io/job-tracking"
KUBELET = "model/kubelet"
"""Keeps a pod until its container has ended, as graceful deletion does."""


def clock() -> datetime:
    """The cluster's time."""
    return BEGIN + timedelta(seconds=now())


def stamp() -> str:
    """The cluster's time as Kubernetes writes it: to the second."""
    return clock().strftime("%Y-%m-%dT%H:%M:%SZ")


def clone(value: Any) -> Any:
    """A copy of JSON data."""
    if isinstance(value, dict):
        return {key: clone(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [clone(part) for part in value]
    return value


def deleting(item: Object) -> bool:
    return "deletionTimestamp" in item["metadata"]


def ended(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def trains(pod: Object) -> bool:
    """Whether our container runs in it."""
    containers = pod["status"].get("containerStatuses") or [{}]
    return pod["status"]["phase"] == "Running" and "running" in containers[0].get("state", {})


def since(moment: str, seconds: float) -> datetime:
    return datetime.fromisoformat(moment) + timedelta(seconds=seconds)


def condition(item: Object, kind: str) -> Object | None:
    found = item.get("status", {}).get("conditions", ())
    return next((c for c in found if c["type"] == kind and c["status"] == "True"), None)


def finished(job: Object) -> bool:
    return bool(condition(job, "Complete") or condition(job, "Failed"))


def attempt_over(trial: Object) -> int:
    """The attempt whose end the status tells, or 0."""
    status = trial.get("status", {})
    return int(status["attempt"]) if status.get("completionTime") else 0


@dataclass(frozen=True)
class Fate:
    """What becomes of a pod."""

    seconds: float
    exit: int = 0
    reason: str = ""
    """OOMKilled, or `Evicted`, or `REJECTED`, or why it waits before it begins."""
    wait: float = 0.0
    """Seconds that it waits for the reason."""
    sidecar: bool = False
    """Whether a container beside it lives on after its end."""


@dataclass
class Cluster:
    """Objects, their history, and what acts on them."""

    rng: random.Random
    fate: Callable[[Object], Fate]
    program: Callable[[Cluster, Object], Any]
    """What an experiment's controller does in its pod: a coroutine that returns an exit code."""
    objects: dict[Key, Object] = field(default_factory=dict)
    revision: int = 1000
    log: dict[str, list[tuple[int, str, Object]]] = field(default_factory=dict)
    """By plural: every event with its revision."""
    quota: str = ""
    """What a quota lets in no more of: jobs (of trials), or pods."""
    terminating: bool = False
    """Whether the namespace goes, so that nothing can be made in it."""
    down: bool = False
    """Whether the API server answers nobody."""
    injected: bool = False
    """Whether a sidecar that never ends is put beside every controller."""
    seen: Callable[[str, Object | None, Object | None], None] = lambda plural, old, new: None
    """Called after every change."""

    def __post_init__(self) -> None:
        self._uids = 0
        self._keys: dict[str, Key] = {}
        self._pending: set[Any] = set()
        self._grown: asyncio.Event = asyncio.Event()
        self._managed: dict[Key, dict[str, dict[tuple[str, str], Any]]] = {}
        self._programs: dict[str, asyncio.Task[None]] = {}

    # -- objects -------------------------------------------------------------------------

    def all(self, resource: Resource, **labels: str) -> Iterator[Object]:
        for key, item in list(self.objects.items()):
            if key[0] == resource.plural:
                have = item["metadata"].get("labels") or {}
                if all(have.get(k) == v for k, v in labels.items()):
                    yield item

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource.plural, namespace, name))

    def owned(self, uid: str) -> list[Object]:
        return [
            item
            for item in self.objects.values()
            if any(o["uid"] == uid for o in item["metadata"].get("ownerReferences") or ())
        ]

    async def grown(self) -> None:
        """Wait for the next change."""
        await self._grown.wait()

    def _commit(self, key: Key, old: Object | None, new: Object | None, event: Object) -> Object:
        self.revision += 1
        event["metadata"]["resourceVersion"] = str(self.revision)
        kind = "DELETED" if new is None else "MODIFIED" if old else "ADDED"
        if new is None:
            del self.objects[key]
            del self._keys[event["metadata"]["uid"]]
            self._managed.pop(key, None)
        else:
            self.objects[key] = event
            self._keys[event["metadata"]["uid"]] = key
        self.log.setdefault(key[0], []).append((self.revision, kind, event))
        self._grown.set()
        self._grown = asyncio.Event()
        self.seen(key[0], old, new)
        self._wake(key, event, new is None)
        return event

    def create(self, resource: Resource, body: Object) -> Object:
        new = clone(body)
        metadata = new["metadata"]
        key = (resource.plural, metadata["namespace"], metadata["name"])
        if key in self.objects:
            raise Conflict(409, "AlreadyExists", f'{resource.plural} "{key[2]}" already exists')
        if self.terminating:
            text = f'{resource.plural} "{key[2]}" is forbidden: unable to create new content in '
            text += f"namespace {key[1]} because it is being terminated"
            raise Forbidden(403, "Forbidden", text)
        if self.quota == "jobs" and resource == kube.JOB and "-controller" not in key[2]:
            raise Forbidden(403, "Forbidden", f'jobs "{key[2]}" is forbidden: exceeded quota: q')
        self._uids += 1
        metadata |= {
            "uid": f"uid-{self._uids}",
            "creationTimestamp": stamp(),
            "generation": 1,
        }
        new.setdefault("status", {})
        return self._commit(key, None, new, new)

    def update(self, item: Object, change: Callable[[Object], None]) -> Object | None:
        """Change an object, if it is still there; it goes if the last finalizer went."""
        key = self._keys.get(item["metadata"]["uid"])
        if key is None:
            return None
        old = self.objects[key]
        new = clone(old)
        change(new)
        if new == old:
            return old
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        if deleting(new) and not new["metadata"].get("finalizers"):
            self._commit(key, old, None, new)
            return None
        return self._commit(key, old, new, new)

    def delete(self, key: Key, uid: str | None = None, policy: str = "Background") -> None:
        item = self.objects.get(key)
        if item is None:
            raise NotFound(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        if uid is not None and item["metadata"]["uid"] != uid:
            raise Conflict(409, "Conflict", "the UID in the precondition does not match")

        def change(new: Object) -> None:
            metadata = new["metadata"]
            if not deleting(new):
                metadata["deletionTimestamp"] = stamp()
            if policy == "Foreground" and FOREGROUND not in metadata.get("finalizers", ()):
                metadata["finalizers"] = [*metadata.get("finalizers", ()), FOREGROUND]

        self.update(item, change)

    def drop_finalizers(self, item: Object, *gone: str) -> None:
        def change(new: Object) -> None:
            kept = [f for f in new["metadata"].get("finalizers", ()) if f not in gone]
            new["metadata"]["finalizers"] = kept

        self.update(item, change)

    # -- patches -------------------------------------------------------------------------

    def merge(self, key: Key, body: Object, subresource: str) -> Object:
        item = self._checked(key, body)
        metadata = body.get("metadata", {})
        if (
            not subresource
            and metadata.get("uid", item["metadata"]["uid"]) != (item["metadata"]["uid"])
        ):
            raise Invalid(422, "Invalid", "metadata.uid: Invalid value: field is immutable")

        def change(new: Object) -> None:
            for part, value in body.items():
                if part == "metadata":
                    for field in {"labels", "annotations", "ownerReferences"} & set(value):
                        new[part][field] = merged(new[part].get(field), value[field])
                elif (part == "status") == (subresource == "status"):
                    new[part] = merged(new.get(part), value)
            _validate(key[0], new, item)

        return self.update(item, change) or item

    def apply_status(self, key: Key, body: Object, manager: str) -> Object:
        """Server-side apply with force, of top-level fields and of conditions by their type."""
        item = self._checked(key, body)
        managed = self._managed.setdefault(key, {})
        wanted = {("field", k): v for k, v in body["status"].items() if k != "conditions"}
        wanted |= {("condition", c["type"]): c for c in body["status"].get("conditions", ())}
        before = managed.get(manager, {})
        for other, fields in managed.items():
            if other != manager:
                for path in [p for p in fields if p in wanted and fields[p] != wanted[p]]:
                    del fields[path]
        held = {path for other, fields in managed.items() if other != manager for path in fields}
        lost = set(before) - set(wanted) - held
        managed[manager] = clone(wanted)

        def change(new: Object) -> None:
            status = new.setdefault("status", {})
            conditions = {c["type"]: c for c in status.get("conditions", ())}
            for (what, name), value in wanted.items():
                (status if what == "field" else conditions)[name] = clone(value)
            for what, name in lost:
                (status if what == "field" else conditions).pop(name, None)
            status["conditions"] = list(conditions.values())
            _validate(key[0], new, item)

        return self.update(item, change) or item

    def _checked(self, key: Key, body: Object) -> Object:
        item = self.objects.get(key)
        if item is None:
            raise NotFound(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        version = body.get("metadata", {}).get("resourceVersion")
        if version is not None and version != item["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "the object has been modified")
        return item

    # -- what acts by itself -------------------------------------------------------------

    def later(self, low: float, high: float, act: Callable[..., None], *what: Any) -> None:
        """Do something after a while, once however often it is asked for."""
        task = (act.__name__, what)
        if task in self._pending:
            return
        self._pending.add(task)

        def go() -> None:
            self._pending.discard(task)
            act(*what)

        asyncio.get_running_loop().call_later(self.rng.uniform(low, high), go)

    def _wake(self, key: Key, item: Object, gone: bool) -> None:
        if key[0] == "jobs":
            self.later(0.02, 0.6, self._sync_job, key[1], key[2])
        elif key[0] == "pods":
            owner = item["metadata"]["labels"]["batch.kubernetes.io/job-name"]
            self.later(0.02, 0.6, self._sync_job, key[1], owner)
            if not gone:
                self.later(0.02, 1.0, self._sync_pod, key[1], key[2])
        if gone or deleting(item) or "ownerReferences" in item["metadata"]:
            self.later(0.1, 1.5, self._collect)

    def _collect(self) -> None:
        """The garbage collector."""
        by_uid = {item["metadata"]["uid"]: item for item in self.objects.values()}
        for key, item in list(self.objects.items()):
            owners = item["metadata"].get("ownerReferences") or ()
            alive = [by_uid[o["uid"]] for o in owners if o["uid"] in by_uid]
            if not owners or key not in self.objects or deleting(item):
                continue
            if not alive:
                self.delete(key)
            elif all(FOREGROUND in o["metadata"].get("finalizers", ()) for o in alive):
                policy = "Foreground" if self.owned(item["metadata"]["uid"]) else "Background"
                self.delete(key, policy=policy)
        for item in list(self.objects.values()):
            waits = FOREGROUND in item["metadata"].get("finalizers", ())
            if waits and not self.owned(item["metadata"]["uid"]):
                self.drop_finalizers(item, FOREGROUND)
        for pod in list(self.all(kube.POD)):
            uid = pod["metadata"]["ownerReferences"][0]["uid"]
            if uid not in by_uid:  # the Job controller lets go of orphans
                self.drop_finalizers(pod, TRACKING)

    def _sync_job(self, namespace: str, name: str) -> None:
        """The Job controller."""
        job = self.find(kube.JOB, namespace, name)
        if job is None:
            self.later(0.1, 1.0, self._collect)
            return
        uid, spec = job["metadata"]["uid"], job["spec"]
        pods = [p for p in self.all(kube.POD) if p["metadata"]["ownerReferences"][0]["uid"] == uid]
        active = [p for p in pods if not ended(p)]
        if deleting(job) or finished(job):
            for pod in pods:
                if deleting(job) or ended(pod):
                    self.drop_finalizers(pod, TRACKING)
            if finished(job) and not deleting(job):
                keep = spec.get("ttlSecondsAfterFinished")
                if keep is not None:
                    self.later(keep, keep + 1, self._expire, namespace, name, uid)
            return
        if spec.get("suspend"):
            for pod in active:
                self.drop_finalizers(pod, TRACKING)
                self._delete_pod(pod)
            self.update(job, lambda new: new["status"].pop("startTime", None) and None)
            return
        if "startTime" not in job["status"]:
            self.update(job, lambda new: new["status"].update(startTime=stamp()))
            return
        started = datetime.fromisoformat(job["status"]["startTime"])
        limit = spec.get("activeDeadlineSeconds")
        target = condition(job, "FailureTarget") or condition(job, "SuccessCriteriaMet")
        if target is not None:
            for pod in active:
                self._delete_pod(pod)
            if not active:
                failed = target["type"] == "FailureTarget"
                self._conclude(job, "Failed" if failed else "Complete", target)
        elif any(p["status"]["phase"] == "Failed" for p in pods):
            self._conclude(job, "FailureTarget", self._why(job, pods))
        elif limit is not None and clock() - started >= timedelta(seconds=limit):
            message = "Job was active longer than specified deadline"
            for pod in active:
                self._delete_pod(pod)
            self._conclude(job, "FailureTarget", {"reason": "DeadlineExceeded", "message": message})
        elif any(p["status"]["phase"] == "Succeeded" for p in pods):
            message = "Reached expected number of succeeded pods"
            self._conclude(
                job, "SuccessCriteriaMet", {"reason": "CompletionsReached", "message": message}
            )
        elif not pods:
            if self.quota == "pods":
                self._refuse_pod(job)
                self.later(1, 3, self._sync_job, namespace, name)
            else:
                self._make_pod(job)
        if limit is not None:
            left = (started + timedelta(seconds=limit) - clock()).total_seconds()
            if left > 0:
                self.later(left, left + 0.1, self._time_is_up, namespace, name)

    def _time_is_up(self, namespace: str, name: str) -> None:
        self._sync_job(namespace, name)

    def _conclude(self, job: Object, kind: str, why: Object) -> None:
        def change(new: Object) -> None:
            told = {"type": kind, "status": "True", "reason": why["reason"]}
            conditions = [*new["status"].get("conditions", ()), {**told, "message": why["message"]}]
            new["status"]["conditions"] = conditions

        self.update(job, change)

    def _why(self, job: Object, pods: list[Object]) -> Object:
        """What the pod failure policy says of a failed pod."""
        for pod in pods:
            where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            if condition(pod, "DisruptionTarget"):
                text = (
                    f"Pod {where} has condition DisruptionTarget matching FailJob rule at index 0"
                )
                return {"reason": "PodFailurePolicy", "message": text}
            for status in pod["status"].get("containerStatuses", ()):
                code = status["state"].get("terminated", {}).get("exitCode", 0)
                if code and "podFailurePolicy" in job["spec"]:
                    text = f"Container kinase for pod {where} failed with exit code {code}"
                    text += " matching FailJob rule at index 1"
                    return {"reason": "PodFailurePolicy", "message": text}
        text = "Job has reached the specified backoff limit"
        return {"reason": "BackoffLimitExceeded", "message": text}

    def _expire(self, namespace: str, name: str, uid: str) -> None:
        """The TTL controller."""
        job = self.find(kube.JOB, namespace, name)
        if job is not None and job["metadata"]["uid"] == uid:
            self.delete(("jobs", namespace, name))

    def _make_pod(self, job: Object) -> None:
        metadata, template = job["metadata"], clone(job["spec"]["template"])
        labels = {**template["metadata"].get("labels", {})}
        labels["batch.kubernetes.io/job-name"] = metadata["name"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"]}
        owner |= {"uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}
        self.create(
            kube.POD,
            {
                "metadata": {
                    "name": f"{metadata['name']}-{self._uids:05d}",
                    "namespace": metadata["namespace"],
                    "labels": labels,
                    "ownerReferences": [owner],
                    "finalizers": [TRACKING, KUBELET],
                },
                "spec": template["spec"],
                "status": {"phase": "Pending"},
            },
        )

    def _refuse_pod(self, job: Object) -> None:
        metadata = job["metadata"]
        event = {
            "metadata": {
                "name": f"{metadata['name']}.{self._uids}",
                "namespace": metadata["namespace"],
            },
            "involvedObject": {"uid": metadata["uid"]},
            "reason": "FailedCreate",
            "message": f'pods "{metadata["name"]}-x" is forbidden: exceeded quota: q',
            "lastTimestamp": stamp(),
        }
        self.create(kube.EVENT, event)

    def _delete_pod(self, pod: Object) -> None:
        metadata = pod["metadata"]
        if not deleting(pod):
            self.delete(("pods", metadata["namespace"], metadata["name"]), metadata["uid"])

    # -- the kubelet ---------------------------------------------------------------------

    def _sync_pod(self, namespace: str, name: str) -> None:
        pod = self.find(kube.POD, namespace, name)
        if pod is None or ended(pod):
            return
        is_controller = pod["metadata"]["labels"][names.COMPONENT] == "controller"
        if deleting(pod):
            task = self._programs.get(pod["metadata"]["uid"])
            if task is not None:
                task.cancel()
            if pod["status"]["phase"] == "Running":
                code = 143 if self.rng.random() < 0.8 else 137
                self.later(0.1, 6, self._kill, namespace, name, code)
            else:
                self._end(namespace, name, None, "")
        elif pod["status"]["phase"] == "Pending":
            fate = Fate(0) if is_controller else self.fate(pod)
            if fate.reason == REJECTED:
                self._end(namespace, name, None, REJECTED)
                return
            waited = (
                clock() - datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
            ).seconds
            if waited < fate.wait:
                self._hold(pod, fate)
                self.later(1, 2, self._sync_pod, namespace, name)
                return
            self._begin(pod)
            if is_controller:
                self._run(pod)
            else:
                self.later(
                    fate.seconds,
                    fate.seconds,
                    self._end,
                    namespace,
                    name,
                    fate.exit,
                    fate.reason,
                    fate.sidecar,
                )
        elif (limit := pod["spec"].get("activeDeadlineSeconds")) is not None:
            left = (since(pod["status"]["startTime"], limit) - clock()).total_seconds()
            if left > 0:
                self.later(left, left + 0.5, self._pod_time_is_up, namespace, name)
            else:
                self.later(0.1, 3, self._end, namespace, name, 143, OVERTIME)

    def _pod_time_is_up(self, namespace: str, name: str) -> None:
        self._sync_pod(namespace, name)

    def _hold(self, pod: Object, fate: Fate) -> None:
        def change(new: Object) -> None:
            if fate.reason == "Unschedulable":
                told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                new["status"]["conditions"] = [{**told, "message": "0/3 nodes are available"}]
            else:
                state = {"waiting": {"reason": fate.reason, "message": "it waits"}}
                new["status"]["containerStatuses"] = [{"name": "kinase", "state": state}]

        self.update(pod, change)

    def _begin(self, pod: Object) -> None:
        def change(new: Object) -> None:
            new["spec"]["nodeName"] = "node-1"
            new["status"]["phase"] = "Running"
            new["status"].setdefault("startTime", stamp())
            state = {"running": {"startedAt": stamp()}}
            restarts = (new["status"].get("containerStatuses") or [{}])[0].get("restartCount", -1)
            status = {"name": "kinase", "state": state, "restartCount": restarts + 1}
            new["status"]["containerStatuses"] = [status]
            new["status"]["conditions"] = []

        self.update(pod, change)

    def _run(self, pod: Object) -> None:
        """Run a controller's program, again and again until it ends well or its pod goes."""

        async def run() -> None:
            metadata = pod["metadata"]
            where = metadata["namespace"], metadata["name"]
            code = 1
            while code:
                code = await self.program(self, pod)
                if code:
                    await asyncio.sleep(self.rng.uniform(0.5, 3))
                    if (again := self.find(kube.POD, *where)) is not None:
                        self._begin(again)
            self._end(*where, 0, "", self.injected)

        self._programs[pod["metadata"]["uid"]] = asyncio.create_task(run())

    def stop_programs(self) -> None:
        for task in self._programs.values():
            task.cancel()

    def _kill(self, namespace: str, name: str, code: int) -> None:
        self._end(namespace, name, code, "")

    def _end(
        self, namespace: str, name: str, code: int | None, reason: str, lives_on: bool = False
    ) -> None:
        """End the pod's container, and the pod, unless a sidecar lives on in it."""
        pod = self.find(kube.POD, namespace, name)
        if pod is None or ended(pod) or (lives_on and not trains(pod)):
            return
        evicted = reason == "Evicted"

        def change(new: Object) -> None:
            status = new["status"]
            if code is not None and trains(new):
                begun = status["containerStatuses"][0]["state"]["running"]["startedAt"]
                end = {"exitCode": code, "startedAt": begun, "finishedAt": stamp()}
                end |= {"reason": "OOMKilled" if reason == "OOMKilled" else "Error"}
                status["containerStatuses"][0]["state"] = {"terminated": end}
            if lives_on:
                return
            status["phase"] = "Succeeded" if code == 0 and not evicted else "Failed"
            if reason in (REJECTED, OVERTIME):
                status |= {"reason": reason, "message": "by the node"}
            if evicted:
                self.disrupt(new)
            kept = [f for f in new["metadata"]["finalizers"] if f != KUBELET]
            new["metadata"]["finalizers"] = kept

        self.update(pod, change)

    @staticmethod
    def disrupt(pod: Object) -> None:
        told = {"type": "DisruptionTarget", "status": "True", "message": "evicted"}
        pod["status"]["conditions"] = [*pod["status"].get("conditions", ()), told]


def _validate(plural: str, new: Object, old: Object) -> None:
    """What a CRD's schema and rules refuse."""
    models = {"nastrials": TrialStatus, "nasexperiments": ExperimentStatus}
    if plural not in models:
        return
    try:
        models[plural].model_validate(new.get("status") or {})
    except ValidationError as error:
        raise Invalid(422, "Invalid", str(error)) from error
    if plural == "nastrials" and new["spec"]["attempt"] < old["spec"]["attempt"]:
        raise Invalid(422, "Invalid", "attempt can only be raised")


# -- a client of it, with faults -----------------------------------------------------------


@dataclass
class Faults:
    """How likely each thing goes wrong at each request or event; and how long things take."""

    latency: float = 0.02
    staleness: float = 0.05
    refuse: float = 0.0
    """The request never reaches the server."""
    lose: float = 0.0
    """It takes effect, and the reply is lost."""
    zombie: float = 0.0
    """It takes effect only seconds later, though the client has given up."""
    crash: float = 0.0
    """The operator dies, before or after the effect."""
    cut: float = 0.0
    """A stream breaks, ends, or falls silent."""
    expire: float = 0.0
    """A version is too old: 410."""
    repeat: float = 0.0
    """An event comes again, or an older one of the same object does."""
    stall: float = 0.0
    """An event comes many seconds late, and those after it."""


class Crash(BaseException):
    """The operator's process ends here."""


class FakeClient:
    """The methods of `kinase_kube.client.Client`, on a cluster in memory."""

    def __init__(
        self, cluster: Cluster, faults: Faults, rng: random.Random, crash: Callable[[], None]
    ) -> None:
        self.cluster, self.faults, self.rng, self._crash = cluster, faults, rng, crash
        self.writes: list[tuple[float, str, str, str]] = []
        """Time, verb, plural, name of every write that took effect."""

    def _chance(self, probability: float) -> bool:
        return probability > 0 and self.rng.random() < probability

    async def _die(self) -> None:
        self._crash()
        await asyncio.Event().wait()

    async def _request(self, verb: str, plural: str, name: str, effect: Callable[[], Any]) -> Any:
        faults = self.faults
        await asyncio.sleep(self.rng.uniform(0, faults.latency))
        if self.cluster.down or self._chance(faults.refuse):
            await asyncio.sleep(self.rng.uniform(0, 1))
            raise kube.Unavailable(503, "ServiceUnavailable", "try later")
        write = verb != "get"
        if write and self._chance(faults.zombie):
            loop = asyncio.get_running_loop()
            loop.call_later(self.rng.uniform(0.5, 8), self._quietly, effect)
            raise kube.Unavailable(0, "TimeoutError", "no reply")
        if write and self._chance(faults.crash):
            await self._die()
        result = effect()
        if write:
            self.writes.append((now(), verb, plural, name))
        if write and self._chance(faults.crash):
            await self._die()
        await asyncio.sleep(self.rng.uniform(0, faults.latency))
        if self._chance(faults.lose):
            raise kube.Unavailable(0, "ConnectionResetError", "the reply is lost")
        return result

    @staticmethod
    def _quietly(effect: Callable[[], Any]) -> None:
        with contextlib.suppress(ApiError):
            effect()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        def effect() -> Object:
            item = self.cluster.find(resource, namespace, name)
            if item is None:
                raise NotFound(404, "NotFound", f'{resource.plural} "{name}" not found')
            return item

        found: Object = await self._request("get", resource.plural, name, effect)
        return found

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        keep: Callable[[Object], Any] = lambda item: item,
        **params: Any,
    ) -> tuple[list[Any], str]:
        def effect() -> tuple[list[Any], str]:
            items = [i for i in self.cluster.all(resource) if _matches(i, namespace, params)]
            return [keep(i) for i in items], str(self.cluster.revision)

        found: tuple[list[Any], str]
        found = await self._request("get", resource.plural, "", effect)
        return found

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        name = body["metadata"]["name"]
        made: Object = await self._request(
            "create", resource.plural, name, lambda: self.cluster.create(resource, body)
        )
        return made

    async def merge(
        self, resource: Resource, namespace: str, name: str, body: Object, subresource: str = ""
    ) -> Object:
        key = (resource.plural, namespace, name)
        changed: Object = await self._request(
            "merge", resource.plural, name, lambda: self.cluster.merge(key, body, subresource)
        )
        return changed

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Object,
        *,
        manager: str,
        subresource: str = "",
    ) -> Object:
        assert subresource == "status"
        key = (resource.plural, namespace, name)
        changed: Object = await self._request(
            "apply", resource.plural, name, lambda: self.cluster.apply_status(key, body, manager)
        )
        return changed

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        policy: str = "Background",
    ) -> None:
        key = (resource.plural, namespace, name)
        await self._request(
            "delete", resource.plural, name, lambda: self.cluster.delete(key, uid, policy)
        )

    async def watch(
        self, resource: Resource, namespace: str | None, version: str, **params: Any
    ) -> Any:
        faults, events = self.faults, self.cluster.log.setdefault(resource.plural, [])
        await self._request("get", resource.plural, "", lambda: None)
        if self._chance(faults.expire):
            raise Gone(410, "Expired", "too old resource version")
        place = next((i for i, event in enumerate(events) if event[0] > int(version)), len(events))
        while True:
            while place < len(events):
                _, kind, item = events[place]
                place += 1
                if not _matches(item, namespace, params):
                    continue
                await asyncio.sleep(self.rng.uniform(0, faults.staleness))
                if self._chance(faults.stall):
                    await asyncio.sleep(self.rng.uniform(1, 20))
                yield kind, item
                if self._chance(faults.repeat):
                    yield kind, item
                    uid = item["metadata"]["uid"]
                    same = [e for e in events[:place] if e[2]["metadata"]["uid"] == uid]
                    yield self.rng.choice(same)[1:]
                if self._chance(faults.cut):
                    await self._cut()
                    return
                if self._chance(faults.expire):
                    raise Gone(410, "Expired", "too old resource version")
            if events and self._chance(faults.repeat):
                yield "BOOKMARK", {"metadata": {"resourceVersion": str(events[-1][0])}}
            if place == len(events):
                await self.cluster.grown()
            if self.cluster.down:
                raise kube.Unavailable(0, "ClientPayloadError", "the stream broke")

    async def _cut(self) -> None:
        how = self.rng.randrange(3)
        if how == 0:
            await asyncio.sleep(30)  # silent, then taken for dead
        if how < 2:
            raise kube.Unavailable(0, "ClientPayloadError", "the stream broke")


def _matches(item: Object, namespace: str | None, params: dict[str, Any]) -> bool:
    if namespace is not None and item["metadata"].get("namespace") != namespace:
        return False
    labels = item["metadata"].get("labels") or {}
    if selector := params.get("labelSelector"):
        name, _, value = selector.partition("=")
        if labels.get(name) != value:
            return False
    if selector := params.get("fieldSelector"):
        for part in selector.split(","):
            path, _, value = part.partition("=")
            found: Any = item
            for step in path.split("."):
                found = (found or {}).get(step)
            if found != value:
                return False
    return True
