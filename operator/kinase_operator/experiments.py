"""The plan for an experiment, from the observed state: a pure function.

The operator keeps an experiment's controller running while there is something to do, and reports in
the condition `Ready` what prevents it from running. The controller runs the search itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from kinase.api import NASExperiment, names
from kinase.api.pod import unrestricted
from kinase.api.status import ConditionType, Phase, clip
from kinase.api.storage import is_shared
from kinase_kube import client as kube
from kinase_operator import drift, job_specs
from kinase_operator.actions import (
    Action,
    Again,
    Correct,
    Create,
    Delete,
    Emit,
    ExperimentStatus,
)
from kinase_operator.children import wanted_children
from kinase_operator.settings import Settings
from kinase_operator.storage import record
from kinase_operator.views import Child, Experiment, Job, Object, Pod

STARTING = timedelta(seconds=3)
"""Seconds that a controller can take to start before the condition reports why it does not."""
TROUBLE = {
    "ErrImagePull": "ImageNotFound",
    "ImagePullBackOff": "ImageNotFound",
    "InvalidImageName": "ImageNotFound",
    "ErrImageNeverPull": "ImageNotFound",
    "CreateContainerConfigError": "ConfigMissing",
    "CreateContainerError": "CannotStart",
    "RunContainerError": "CannotStart",
    "CrashLoopBackOff": "Crashing",
}
"""Reasons of the condition, by why the controller's container waits."""
_RESOURCES = {
    resource.kind: resource
    for resource in (
        kube.SERVICE_ACCOUNT,
        kube.ROLE,
        kube.ROLE_BINDING,
        kube.SERVICE,
        kube.NETWORK_POLICY,
    )
}


@dataclass(frozen=True, slots=True)
class Observed:
    """The observed state for a decision about an experiment."""

    experiment: Experiment
    manifest: NASExperiment | str
    """The manifest, or why it is invalid."""
    children: Mapping[tuple[str, str], Child]
    """ServiceAccount, Role, ..., by kind and name, whoever owns them."""
    job: Job | None
    """The controller's Job, whoever owns it."""
    pods: Sequence[Pod]
    """Pods of that Job."""
    refusal: tuple[str, str] | None
    """Reason and message of the API server if it rejected a child at the last attempt, or of the
    Job controller if it could not create the pod."""
    now: datetime
    busy: bool = False
    """Whether any pod of its trials has not ended; only set while `spec.suspend` is true."""


def parse(view: Experiment) -> NASExperiment | str:
    """The manifest of an object that passed the schema, or why it is invalid nevertheless."""
    document = {
        "apiVersion": names.API_VERSION,
        "kind": "NASExperiment",
        "metadata": {"name": view.name, "namespace": view.namespace, "uid": view.uid},
        "spec": view.spec,
    }
    try:
        return NASExperiment.model_validate(document)
    except ValidationError as error:
        return "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'spec'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors(include_url=False)[:5]
        )


def forbidden(manifest: NASExperiment, settings: Settings) -> str | None:
    """Why a manifest cannot run on a cluster, or not with these settings."""
    storage = manifest.spec.storage
    if not is_shared(storage.uri):
        return (
            f"spec.storage.uri {storage.uri!r} cannot be reached by every pod; use s3://BUCKET/"
            "PREFIX, with storage.endpoint for a server other than AWS; the administrator can set "
            "a default for all experiments (KINASE_STORE_URI)"
        )
    found = unrestricted(manifest.spec.trial_template)
    if found and not settings.allow_unrestricted:
        shown = "; ".join(f"spec.trialTemplate.{field}: {what}" for field, what in found)
        return (
            f"{shown}: breaks Pod Security 'restricted', which this operator keeps to; remove it, "
            "or have the administrator allow it (KINASE_ALLOW_UNRESTRICTED)"
        )
    # the controller's token must not be shown to whomever a manifest names, nor be one for the API
    # server: that would hand out the controller's rights
    default = settings.store
    for field, given, own, key in (
        (
            "tokenAudience",
            storage.token_audience,
            default and default.token_audience,
            "KINASE_STORE_AUDIENCE",
        ),
        ("stsEndpoint", storage.sts_endpoint, default and default.sts_endpoint, "KINASE_STORE_STS"),
    ):
        if given is not None and given != own:
            return (
                f"spec.storage.{field} {given!r} is not the administrator's ({own or 'not set'}), "
                "who alone says whom the controller's token is for; remove it, or have it set "
                f"({key})"
            )
    for field, name in (
        ("trialTemplate", manifest.spec.trial_template.service_account_name),
        ("controller", manifest.spec.controller.service_account_name),
    ):
        if name is not None and not settings.allows_account(manifest.metadata.namespace, name):
            return (
                f"spec.{field}.serviceAccountName: pods may not run as {name!r} in the namespace "
                f"{manifest.metadata.namespace}; remove it, or have the administrator allow it "
                "(serviceAccounts.allowed in the chart, KINASE_SERVICE_ACCOUNTS)"
            )
    return None


def plan(seen: Observed, settings: Settings) -> list[Action]:
    """The actions to take now. Repeating them is harmless. After they are done, the next plan is
    empty until something changes."""
    view = seen.experiment
    if view.deleting:
        return []  # it owns everything, so everything is deleted with it
    if isinstance(seen.manifest, str):
        return _ready(seen, False, "InvalidSpec", seen.manifest)
    if view.finished:
        return _after(seen, seen.manifest)
    bad = forbidden(seen.manifest, settings)
    if bad is not None:
        return _ready(seen, False, "Forbidden", bad)
    foreign = _foreign(seen)
    if foreign is not None:
        text = f"waits until {foreign} of another owner is gone; if it stays, delete it or choose "
        left = orphans(seen.job, seen.children, view.uid)
        return [*left, *_ready(seen, False, "NameConflict", text + "another name"), Again(1.0)]
    if view.suspend:
        return _suspended(seen)
    actions: list[Action] = []
    for resource, body in wanted_children(view, seen.manifest, settings):
        there = seen.children.get((resource.kind, body["metadata"]["name"]))
        actions += [Create(resource, body)] if there is None else _corrected(resource, body, there)
    wanted = job_specs.controller_job(view, seen.manifest, settings)
    digest = wanted["metadata"]["annotations"][names.SPEC_HASH]
    if seen.job is None:
        actions.append(Create(kube.JOB, wanted))
    elif not seen.job.deleting and (
        # it ended for a suspension that is over, or gave up; or it cannot know that a manifest
        # was corrected before the search started, or that settings were corrected so
        # that it can start: the next reconciliation creates it again
        seen.job.finished
        or seen.job.owner is None  # somebody removed its owner
        or _through(seen)
        or (seen.job.digest != digest and (not view.started or _stuck(seen)))
        or _another_account(seen, seen.job, wanted)
    ):
        actions.append(Delete(kube.JOB, seen.job.name, seen.job.uid))
    return [*actions, *_controller(seen, settings)]


def _corrected(resource: kube.Resource, body: Object, there: Child) -> list[Action]:
    """Actions that restore a child's desired state, with an Event if somebody else changed it."""
    found = there.content
    fields = drift.changed(drift.content(body), found)
    if not fields:
        return []
    actions: list[Action] = []
    if "roleRef" in fields:  # the next reconciliation creates the binding again
        actions.append(Delete(resource, there.name, there.uid))
    else:
        patch = drift.correction(body, found)
        actions.append(Correct(resource, there.name, there.uid, there.version, patch))
    if drift.by_hand(body, found):
        text = f"somebody changed {', '.join(fields)} of {resource.kind} {there.name}; it is again "
        text += "what the experiment needs"
        actions.append(Emit("Warning", "Corrected", text, f"{there.uid} {there.version}"))
    return actions


def _through(seen: Observed) -> bool:
    """Whether the controller has ended but a sidecar keeps its pod running."""
    # a pod of the previous Job may still exist; ignore it
    return any(p.lingers and seen.job is not None and p.owner == seen.job.uid for p in seen.pods)


def _stuck(seen: Observed) -> bool:
    """Whether the controller's container cannot start with its current spec."""
    return any(p.waiting is not None and p.waiting[0] in TROUBLE for p in seen.pods)


def _another_account(seen: Observed, job: Job, wanted: Object) -> bool:
    """Whether the Job's pods use another ServiceAccount than the one with the permissions: the name
    has changed, or the account was recreated, and a pod's token is only valid for the account that
    it was issued for."""
    name = wanted["spec"]["template"]["spec"]["serviceAccountName"]
    if job.account and job.account != name:
        return True
    account = seen.children.get((kube.SERVICE_ACCOUNT.kind, name))
    if account is None or account.created is None or job.created is None:
        return False
    return job.created < account.created


def _foreign(seen: Observed) -> str | None:
    """The name of a child that is taken by an object with another owner."""
    uid = seen.experiment.uid
    if seen.job is not None and not _is_of(seen.job, uid):
        return f"Job {seen.job.name}"
    for (kind, name), child in seen.children.items():
        if not _is_of(child, uid):
            return f"{kind} {name}"
    return None


def _is_of(item: Job | Child, uid: str) -> bool:
    """Whether it belongs to the experiment with this UID, even if its owner reference was
    removed."""
    if item.owner is None:
        return item.labels.get(names.EXPERIMENT_UID) == uid
    return item.owner == uid


def orphans(
    job: Job | None, children: Mapping[tuple[str, str], Child], uid: str | None = None
) -> list[Action]:
    """Delete the children of an experiment that was deleted with `--cascade=orphan`, which nothing
    else would delete. `uid` is that of the experiment that now has the name."""
    found: list[tuple[kube.Resource, Job | Child]] = []
    if job is not None and not job.deleting:
        found.append((kube.JOB, job))
    found += [(_RESOURCES[kind], child) for (kind, _), child in children.items()]
    return [
        Delete(resource, item.name, item.uid)
        for resource, item in found
        if item.owner is None and item.labels.get(names.EXPERIMENT_UID) not in (None, uid)
    ]


def _after(seen: Observed, manifest: NASExperiment) -> list[Action]:
    """A finished experiment needs no children, and can be deleted by age."""
    view = seen.experiment
    actions = _ready(seen, True, "Finished", "the experiment is finished")
    if seen.job is not None and not seen.job.deleting and _through(seen):
        # a sidecar would keep the pod forever, and after a deadline the Job would create another
        actions = [*actions, Delete(kube.JOB, seen.job.name, seen.job.uid)]
    keep, ended = manifest.spec.retention.experiment, view.status.get("completionTime")
    if keep is not None and ended:
        left = (datetime.fromisoformat(ended) + keep - seen.now).total_seconds()
        if left > 0:
            return [*actions, Again(left)]
        return [Delete(kube.EXPERIMENT, view.name, view.uid)]
    return actions


def _suspended(seen: Observed) -> list[Action]:
    job, pods = seen.job, seen.pods
    if job is not None and not job.deleting:
        idle = job.finished or not any(p.ready and not p.ended for p in pods)
        if idle:  # a working controller waits for its trials' checkpoints and then ends
            return [
                Delete(kube.JOB, job.name, job.uid),
                *_ready(seen, True, "Suspended", "spec.suspend is true"),
            ]
        return _ready(seen, True, "Suspending", "running trials go to a checkpoint")
    return [*_ready(seen, True, "Suspended", "spec.suspend is true"), *_say_suspended(seen)]


def _say_suspended(seen: Observed) -> list[Action]:
    """Report that it is suspended if the controller could not, for example because its pod could
    not start. Before its first start, `_ready` reports it."""
    view = seen.experiment
    said = (view.condition(ConditionType.SUSPENDED) or {}).get("status") == "True"
    if not view.started or (said and view.status.get("phase") == Phase.SUSPENDED):
        return []
    if seen.busy:
        return [Again(1.0)]
    now = seen.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    text = "spec.suspend is true; no trial runs"
    conditions = [
        _condition(view, ConditionType.PROGRESSING, "False", "Suspended", text, now),
        _condition(view, ConditionType.SUSPENDED, "True", "Suspended", text, now),
    ]
    fields = {"phase": Phase.SUSPENDED, "conditions": conditions}
    return [ExperimentStatus(fields, for_controller=True)]


def _controller(seen: Observed, settings: Settings) -> list[Action]:
    """Report whether the controller runs, and if not, why."""
    if seen.refusal is not None and not any(p.ready for p in seen.pods):
        return _ready(seen, False, *seen.refusal)
    pod = max(
        (p for p in seen.pods if not p.ended and not p.deleting),
        key=lambda p: (p.ready, p.created or seen.now, p.name),
        default=None,
    )
    if pod is not None and pod.ready:
        return _ready(seen, True, "ControllerRunning", f"pod {pod.name} runs the search")
    since = pod.created if pod is not None else seen.job.created if seen.job is not None else None
    young = since is not None and timedelta() <= seen.now - since < STARTING
    if since is not None and young and not (pod and pod.restarts):
        return [
            *_ready(seen, False, "ControllerStarting", "the controller starts"),
            Again((since + STARTING - seen.now).total_seconds() + 0.1),
        ]
    reason, message = "ControllerStarting", "the controller starts"
    if pod is not None:
        if pod.waiting is not None and pod.waiting[0] in TROUBLE:
            reason, message = TROUBLE[pod.waiting[0]], ": ".join(filter(None, pod.waiting))
            if reason == "Crashing" and pod.out_of_memory:
                reason, message = "OutOfMemory", _too_little(settings, pod)
            elif reason == "Crashing" and pod.last_words:
                message = pod.last_words
        elif pod.unschedulable is not None:
            reason, message = "Unschedulable", pod.unschedulable
        elif pod.out_of_memory:
            reason, message = "OutOfMemory", _too_little(settings, pod)
        elif pod.restarts and pod.last_words:
            reason, message = "Crashing", pod.last_words
    return _ready(seen, False, reason, message)


def _too_little(settings: Settings, pod: Pod) -> str:
    """Message for a controller that ran out of memory, which its output does not explain."""
    limit = (settings.controller_resources.get("limits") or {}).get("memory", "not set")
    return (
        f"the controller was killed for using more memory than its limit ({limit}); pod {pod.name} "
        "shows how often. The administrator can raise it (controller.resources in the chart, "
        "KINASE_CONTROLLER_RESOURCES)"
    )


def _ready(seen: Observed, ready: bool, reason: str, message: str) -> list[Action]:
    """The operator's part of the status, if it is not set yet, with an Event if the reason is
    new."""
    view = seen.experiment
    now = seen.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    status = "True" if ready else "False"
    wanted = [_condition(view, ConditionType.READY, status, reason, message, now)]
    fields: Object = {"observedGeneration": view.generation}
    if place := record(seen.manifest, view):
        fields["storage"] = place
    if not view.started:
        # before the first start of the controller, nobody else sets the phase
        fields["phase"] = Phase.SUSPENDED if view.suspend else Phase.PENDING
        wanted.append(
            _condition(
                view,
                ConditionType.SUSPENDED,
                "True" if view.suspend else "False",
                "Suspended" if view.suspend else "NotSuspended",
                "spec.suspend is true" if view.suspend else "",
                now,
            )
        )
    fields["conditions"] = wanted
    if _holds(view, fields):
        return []
    actions: list[Action] = [ExperimentStatus(fields)]
    before = view.condition(ConditionType.READY)
    if (before or {}).get("reason") != reason and reason not in ("ControllerStarting", "Finished"):
        actions.append(Emit("Normal" if ready else "Warning", reason, message))
    return actions


def _condition(
    view: Experiment, kind: str, status: str, reason: str, message: str, now: str
) -> Object:
    before = view.condition(kind)
    same = before is not None and before.get("status") == status
    return {
        "type": str(kind),
        "status": status,
        "reason": reason,
        "message": clip(message),
        "lastTransitionTime": before["lastTransitionTime"] if same and before else now,
        "observedGeneration": view.generation,
    }


def _holds(view: Experiment, fields: dict[str, Any]) -> bool:
    """Whether the status already has these fields."""
    for name, value in fields.items():
        if name == "conditions":
            for condition in value:
                if view.condition(condition["type"]) != condition:
                    return False
        elif view.status.get(name) != value:
            return False
    return True
