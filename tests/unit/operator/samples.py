"""Objects as the API server has them, and what the operator sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kinase.api import NASExperiment, names
from kinase_operator import experiments, trials
from kinase_operator.actions import Action
from kinase_operator.settings import Settings
from kinase_operator.views import Experiment, Job, Object, Pod, Trial

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SETTINGS = Settings()
JOB_UID = "job-uid"


def at(seconds: float) -> str:
    """A time as Kubernetes writes it, so many seconds from NOW."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(old: Any, new: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(new, dict):
        return new
    base = old if isinstance(old, dict) else {}
    changed = {key: merged(base.get(key), value) for key, value in new.items() if value is not None}
    return {k: v for k, v in {**base, **changed}.items() if new.get(k, 0) is not None}


def spec(**changes: Any) -> Object:
    base: Object = {
        "space": {"type": "Chain", "chain": {"maxDepth": 4, "widths": [4, 8]}},
        "strategy": {"type": "Random"},
        "training": {"epochs": 4},
        "budget": {"trials": 20},
        "storage": {"uri": "s3://bucket/runs"},
    }
    return {**base, **changes}


def experiment(status: Object | None = None, *, deleting: bool = False, **changes: Any) -> Object:
    metadata = {
        "name": "toy",
        "namespace": "ns",
        "uid": "exp-uid",
        "resourceVersion": "10",
        "generation": 1,
        **({"deletionTimestamp": at(0)} if deleting else {}),
    }
    return {"metadata": metadata, "spec": spec(**changes), "status": status or {}}


def view(status: Object | None = None, **changes: Any) -> Experiment:
    return Experiment.of(experiment(status, **changes))


def manifest(**changes: Any) -> NASExperiment:
    found = experiments.parse(view(**changes))
    assert isinstance(found, NASExperiment), found
    return found


MANIFEST = manifest()


def owner(uid: str) -> list[Object]:
    return [{"uid": uid, "controller": True, "kind": "Any", "name": "any", "apiVersion": "v1"}]


def trial_object(status: Object | None = None, **changes: Any) -> Object:
    metadata = {
        "name": "toy-00007",
        "namespace": "ns",
        "uid": "trial-uid",
        "resourceVersion": "20",
        "generation": 1,
        "ownerReferences": owner("exp-uid"),
        **({"deletionTimestamp": at(0)} if changes.pop("deleting", False) else {}),
    }
    base = {"experiment": "toy", "number": 7, "kind": "Search", "attempt": 1, "job": '{"seed":3}'}
    return {"metadata": metadata, "spec": {**base, **changes}, "status": status or {}}


def trial(status: Object | None = None, **changes: Any) -> Trial:
    return Trial.of(trial_object(status, **changes))


def job(
    *conditions: tuple[str, str, str],
    name: str = "toy-00007-1",
    uid: str = JOB_UID,
    of: str = "trial-uid",
    created: float = -60,
    started: float | None = -60,
    suspended: bool = False,
    deleting: bool = False,
    **annotations: str,
) -> Job:
    metadata = {
        "name": name,
        "uid": uid,
        "resourceVersion": "30",
        "ownerReferences": owner(of),
        "creationTimestamp": at(created),
        "annotations": annotations,
        **({"deletionTimestamp": at(0)} if deleting else {}),
    }
    status = {
        "conditions": [
            {"type": kind, "status": "True", "reason": reason, "message": message}
            for kind, reason, message in conditions
        ],
        **({"startTime": at(started)} if started is not None else {}),
    }
    return Job.of({"metadata": metadata, "spec": {"suspend": suspended}, "status": status})


COMPLETE = ("Complete", "CompletionsReached", "Reached expected number of succeeded pods")


def failed(reason: str, message: str = "", kind: str = "Failed") -> tuple[str, str, str]:
    return kind, reason, message


def pod(
    phase: str = "Running",
    *,
    exit: int | None = None,
    reason: str = "",
    said: str = "",
    name: str = "toy-00007-1-abcde",
    of: str = JOB_UID,
    job: str = "toy-00007-1",
    created: float = -50,
    started: float | None = -40,
    finished: float = -1,
    deleting: bool = False,
    disrupted: str | None = None,
    unschedulable: str | None = None,
    waiting: tuple[str, str] | None = None,
    ready: bool = False,
    restarts: int = 0,
    last_words: str = "",
    last_reason: str = "Error",
    node_says: tuple[str, str] = ("", ""),
    accepted: float | None = None,
    deadline: int | None = None,
    sidecar: Object | None = None,
    inits: Sequence[Object] = (),
    policy: str = "Never",
    worker: int | None = None,
) -> Pod:
    conditions = []
    if disrupted is not None:
        conditions.append({"type": "DisruptionTarget", "status": "True", "message": disrupted})
    if unschedulable is not None:
        conditions.append(
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": unschedulable,
            }
        )
    if ready:
        conditions.append({"type": "Ready", "status": "True"})
    state: Object = {}
    if waiting is not None:
        state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
    elif exit is not None:
        end = {"exitCode": exit, "reason": reason, "message": said, "finishedAt": at(finished)}
        state = {"terminated": {**end, "startedAt": at(started if started is not None else -40)}}
    elif phase == "Running" and started is not None:
        state = {"running": {"startedAt": at(started)}}
    last = (
        {"terminated": {"exitCode": 1, "message": last_words, "reason": last_reason}}
        if last_words
        else {}
    )
    metadata = {
        "name": name,
        "uid": f"{name}-uid",
        "resourceVersion": "40",
        "creationTimestamp": at(created),
        "labels": {
            "batch.kubernetes.io/job-name": job,
            names.EXPERIMENT_UID: "exp-uid",
            **({} if worker is None else {names.INDEX: str(worker)}),
        },
        "ownerReferences": owner(of),
        **({"deletionTimestamp": at(0)} if deleting else {}),
    }
    ours = {"name": "kinase", "state": state, "lastState": last, "restartCount": restarts}
    # the kubelet sorts them by name
    statuses = [{"name": "istio-proxy", "state": sidecar, "restartCount": 0}] if sidecar else []
    statuses += [ours] if state or restarts else []
    status: Object = {
        "phase": phase,
        "conditions": conditions,
        "reason": node_says[0],
        "message": node_says[1],
        "containerStatuses": statuses,
        "initContainerStatuses": list(inits),
    }
    if accepted is not None:
        status["startTime"] = at(accepted)
    spec: Object = {"nodeName": "node-1", "restartPolicy": policy}
    if deadline is not None:
        spec["activeDeadlineSeconds"] = deadline
    return Pod.of({"metadata": metadata, "spec": spec, "status": status})


LIVES: Object = {"running": {"startedAt": at(-40)}}
"""State of a sidecar that lives on."""


def seen(
    trial: Trial,
    jobs: Job | Sequence[Job] | None = None,
    pods: Pod | Sequence[Pod] = (),
    *,
    manifest: NASExperiment | None = MANIFEST,
    suspended: bool = False,
    refusal: str | None = None,
    later: float = 0.0,
) -> trials.Observed:
    return trials.Observed(
        trial=trial,
        manifest=manifest,
        suspended=suspended,
        refusal=refusal,
        jobs=[] if jobs is None else [jobs] if isinstance(jobs, Job) else jobs,
        pods=[pods] if isinstance(pods, Pod) else pods,
        now=NOW + timedelta(seconds=later),
    )


def kinds(actions: Sequence[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]
