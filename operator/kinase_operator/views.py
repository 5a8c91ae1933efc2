"""The operator's views of watched objects: only the fields that decisions need."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kinase.api import changes, names
from kinase.api.budget import Budget
from kinase_operator import drift

Object = dict[str, Any]


def parse_time(text: str | None) -> datetime | None:
    """A Kubernetes time."""
    return datetime.fromisoformat(text) if text else None


NO_TROUBLE = ("ContainerCreating", "PodInitializing", "")
"""Reasons of a waiting container that are normal."""
_LABELS = (
    names.COMPONENT,
    names.EXPERIMENT,
    names.EXPERIMENT_UID,
    names.TRIAL,
    names.JOB_TRIAL,
    names.ATTEMPT,
)


def _labels(metadata: Object) -> dict[str, str]:
    """The labels that identify an object's owner; equal strings share memory."""
    found = metadata.get("labels") or {}
    return {name: sys.intern(found[name]) for name in _LABELS if name in found}


def _interned(fields: Object) -> Object:
    """Fields whose names share memory between all objects."""
    return {sys.intern(name): value for name, value in fields.items()}


def _owner(metadata: Object) -> str | None:
    """UID of the object that controls this one."""
    owners = metadata.get("ownerReferences") or ()
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), None)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A `NASExperiment`."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    deleting: bool
    spec: Object
    status: Object

    @classmethod
    def of(cls, item: Object) -> Experiment:
        """Read the API's object."""
        metadata = item["metadata"]
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            generation=int(metadata.get("generation", 0)),
            deleting="deletionTimestamp" in metadata,
            spec=item.get("spec") or {},
            status=item.get("status") or {},
        )

    @property
    def suspend(self) -> bool:
        """Whether `spec.suspend` is true."""
        return bool(self.spec.get("suspend"))

    @property
    def started(self) -> bool:
        """Whether its controller has ever started."""
        return bool(self.status.get("startTime"))

    @property
    def finished(self) -> bool:
        """Whether its controller has nothing left to do."""
        return bool(self.status.get("completionTime")) and not self.raised

    @property
    def raised(self) -> bool:
        """Whether a limit of the budget was raised or removed compared with the status. The
        controller then decides whether a finished search resumes."""
        told = self.status.get("budget")
        if not told:
            return False
        try:
            before = {limit["name"]: float(limit["total"]) for limit in told}
            now = Budget.model_validate(self.spec.get("budget")).limits
            return bool(changes.raised(before, now))
        except (KeyError, TypeError, ValueError):  # of another version
            return False

    def condition(self, kind: str) -> Object | None:
        """The condition with this type."""
        found = self.status.get("conditions") or ()
        return next((c for c in found if c.get("type") == kind), None)


@dataclass(frozen=True, slots=True)
class Trial:
    """A `NASTrial`."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    deleting: bool
    experiment: str
    experiment_uid: str
    number: int
    kind: str
    attempt: int
    stop: bool
    status: Object
    created: datetime | None
    body: Object | None
    """`token` and `job`; dropped once the attempt has ended, because they are large."""
    workers: int = 1

    @classmethod
    def of(cls, item: Object) -> Trial:
        """Read the API's object."""
        metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
        attempt = int(spec.get("attempt", 1))
        ended = status.get("attempt") == attempt and status.get("completionTime")
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            generation=int(metadata.get("generation", 0)),
            deleting="deletionTimestamp" in metadata,
            experiment=str(spec["experiment"]),
            experiment_uid=_owner(metadata) or "",
            number=int(spec["number"]),
            kind=str(spec["kind"]),
            attempt=attempt,
            stop=bool(spec.get("stop")),
            status=_interned(status),
            created=parse_time(metadata.get("creationTimestamp")),
            body=None if ended else {"token": spec.get("token"), "job": spec["job"]},
            workers=int(spec.get("workers", 1)),
        )

    @property
    def ended(self) -> bool:
        """Whether the status has the end of the desired attempt."""
        return self.status.get("attempt") == self.attempt and bool(
            self.status.get("completionTime")
        )

    @property
    def job_name(self) -> str:
        """Name of the Job of the desired attempt."""
        return names.attempt_name(self.name, self.attempt)


@dataclass(frozen=True, slots=True)
class Job:
    """A Job of Kinase."""

    name: str
    uid: str
    version: int
    owner: str | None
    labels: dict[str, str]
    deleting: bool
    suspended: bool
    created: datetime | None
    started: datetime | None
    complete: bool
    failure: tuple[str, str] | None
    """Reason and message of the condition `Failed` or `FailureTarget`."""
    digest: str = ""
    """Digest of its desired state."""
    account: str = ""
    """ServiceAccount of its pods."""

    @classmethod
    def of(cls, item: Object) -> Job:
        """Read the API's object."""
        metadata, status = item["metadata"], item.get("status") or {}
        pod = item["spec"].get("template", {}).get("spec", {})
        true = {c["type"]: c for c in status.get("conditions") or () if c["status"] == "True"}
        failed = true.get("Failed") or true.get("FailureTarget")
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            owner=_owner(metadata),
            labels=_labels(metadata),
            deleting="deletionTimestamp" in metadata,
            suspended=bool(item["spec"].get("suspend")),
            created=parse_time(metadata.get("creationTimestamp")),
            started=parse_time(status.get("startTime")),
            complete="Complete" in true or "SuccessCriteriaMet" in true,
            failure=(failed.get("reason", ""), failed.get("message", "")) if failed else None,
            digest=(metadata.get("annotations") or {}).get(names.SPEC_HASH, ""),
            account=sys.intern(pod.get("serviceAccountName", "")),
        )

    @property
    def finished(self) -> bool:
        """Whether no more pods will run for it."""
        return self.complete or self.failure is not None


def _state(container: Object, kind: str) -> Object:
    found: Object = container.get("state", {}).get(kind) or {}
    return found


def _waiting(ours: Object, status: Object) -> tuple[str, str] | None:
    """Why the main container waits: its own problem, or that of an init container."""
    waits = _state(ours, "waiting")
    found = waits.get("reason", ""), waits.get("message", "")
    if found[0] in NO_TROUBLE:
        for other in status.get("initContainerStatuses") or ():
            trouble = _state(other, "waiting")
            if trouble.get("reason", "") not in NO_TROUBLE:
                text = f"container {other['name']}: {trouble.get('message', '')}"
                return trouble["reason"], text
    return found if waits else None


def _failed_init(spec: Object, status: Object) -> str:
    """The failed init container. Native sidecars, which are stopped after the main container, do
    not count."""
    sidecars = {
        each["name"]
        for each in spec.get("initContainers") or ()
        if each.get("restartPolicy") == "Always"
    }
    for other in status.get("initContainerStatuses") or ():
        if other["name"] in sidecars:
            continue
        if code := _state(other, "terminated").get("exitCode"):
            said = _state(other, "terminated").get("message", "")
            return f"the init container {other['name']} ended with exit code {code}" + (
                f": {said}" if said else ""
            )
    return ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of Kinase."""

    name: str
    uid: str
    version: int
    owner: str | None
    job: str
    labels: dict[str, str]
    phase: str
    deleting: bool
    due: datetime | None
    """When the grace period of a pod that is being deleted ends."""
    node: str | None
    created: datetime | None
    disrupted: str | None
    """Message of the condition `DisruptionTarget`."""
    unschedulable: str | None
    """Message of the scheduler."""
    waiting: tuple[str, str] | None
    """Reason and message of a container that cannot start."""
    exit_code: int | None
    exit_reason: str
    exit_message: str
    started: datetime | None
    finished: datetime | None
    over: bool
    """Whether the container has ended. Others in the pod may still run."""
    ready: bool
    restarts: int
    last_words: str
    """Termination message of the container's previous run."""
    reason: str
    """Why the node ended or rejected it, in one word."""
    message: str
    """The same for people."""
    accepted: datetime | None
    """When its node accepted it, by the node's clock."""
    deadline: int | None
    """Deadline in seconds, counted from `accepted`."""
    out_of_memory: bool = False
    """Whether the container's last run was killed because of its memory."""
    index: int = 0
    """Number of the worker, of a trial with several."""

    @classmethod
    def of(cls, item: Object) -> Pod:
        """Read the API's object. Only the main container counts, whatever its position."""
        metadata, status, spec = item["metadata"], item.get("status") or {}, item["spec"]
        labels = metadata.get("labels") or {}
        conditions = {c["type"]: c for c in status.get("conditions") or ()}
        scheduled = conditions.get("PodScheduled", {})
        disruption = conditions.get("DisruptionTarget", {})
        containers = status.get("containerStatuses") or ()
        ours: Object = next((c for c in containers if c["name"] == names.CONTAINER), {})
        state, last = ours.get("state", {}), ours.get("lastState", {}).get("terminated", {})
        ended = state.get("terminated") or {}
        begun = (state.get("running") or ended).get("startedAt")
        policy = spec.get("restartPolicy", "Always")
        for_good = policy == "Never" or (policy == "OnFailure" and ended.get("exitCode") == 0)
        reason, message = status.get("reason", ""), status.get("message", "")
        cannot = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            owner=_owner(metadata),
            job=labels.get("batch.kubernetes.io/job-name", ""),
            labels=_labels(metadata),
            phase=status.get("phase", "Pending"),
            deleting="deletionTimestamp" in metadata,
            due=parse_time(metadata.get("deletionTimestamp")),
            node=spec.get("nodeName"),
            created=parse_time(metadata.get("creationTimestamp")),
            disrupted=disruption.get("message", "") if disruption.get("status") == "True" else None,
            unschedulable=scheduled.get("message", "") if cannot else None,
            waiting=None if begun else _waiting(ours, status),
            exit_code=ended.get("exitCode"),
            exit_reason=ended.get("reason", ""),
            exit_message=ended.get("message", ""),
            started=parse_time(begun),
            finished=parse_time(ended.get("finishedAt")),
            over=bool(ended) and for_good,
            ready=conditions.get("Ready", {}).get("status") == "True",
            restarts=int(ours.get("restartCount", 0)),
            last_words=last.get("message", ""),
            out_of_memory=(ended or last).get("reason") == "OOMKilled",
            reason=reason,
            message=message or _failed_init(spec, status),
            accepted=parse_time(status.get("startTime")),
            deadline=spec.get("activeDeadlineSeconds"),
            index=int(labels.get(names.INDEX) or 0),
        )

    @property
    def ended(self) -> bool:
        """Whether the main container is not running, and will not run."""
        return self.over or self.phase in ("Succeeded", "Failed")

    @property
    def lingers(self) -> bool:
        """Whether other containers still run in it after the main container has ended."""
        return self.over and self.phase not in ("Succeeded", "Failed") and not self.deleting


@dataclass(frozen=True, slots=True)
class Child:
    """Any other object of Kinase: its existence, its owner, and its content."""

    name: str
    uid: str
    version: int
    owner: str | None
    labels: dict[str, str]
    held: str
    """The compared content (`drift.content`) as JSON, which is small."""
    created: datetime | None = None

    @property
    def content(self) -> Object:
        """The compared content."""
        found: Object = json.loads(self.held)
        return found

    @classmethod
    def of(cls, item: Object) -> Child:
        """Read the API's object."""
        metadata = item["metadata"]
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            owner=_owner(metadata),
            labels=_labels(metadata),
            held=json.dumps(drift.content(item), sort_keys=True),
            created=parse_time(metadata.get("creationTimestamp")),
        )
