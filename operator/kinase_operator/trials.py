"""What follows for a trial from what is seen: a pure function.

The chain is short: a `NASTrial` names the attempt that is wanted, the attempt has one Job, the
Job one pod. What became of the pod is told in the status, once, and the experiment's controller
decides what comes next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from kinase.api import NASExperiment, Termination, TrialPhase, TrialReason
from kinase.api.status import MAX_MESSAGE, clip
from kinase.api.trial import (
    BAD_INPUT_EXIT,
    INFEASIBLE_EXIT,
    TERMINATED_EXIT,
    UNAVAILABLE_EXIT,
)
from kinase_kube import client as kube
from kinase_operator import manifests
from kinase_operator.actions import Action, Again, Create, Delete, TrialStatus
from kinase_operator.experiments import forbidden
from kinase_operator.settings import Settings
from kinase_operator.views import Job, Pod, Trial

GIVEN_UP = timedelta(seconds=60)
"""How long after its grace period a pod may fail to end before its node is taken for lost. Should
it live on, cut off, it writes what the next attempt writes: a training follows from its seed."""
STUCK = timedelta(seconds=3)
"""How long a pod may wait before its trial's status says what for."""
WAITING = ("ContainerCreating", "PodInitializing", "")
"""Reasons of a waiting container that are no trouble."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a decision about a trial rests on."""

    trial: Trial
    manifest: NASExperiment | None
    """The experiment that owns the trial, or None: it is gone, or another of the same name."""
    suspended: bool
    """Whether the experiment shall stand still."""
    refusal: str | None
    """Why the API server did not take the Job, when it was last tried, or the Job controller
    could not make its pod."""
    jobs: Sequence[Job]
    """Jobs that the trial owns, of all attempts."""
    pods: Sequence[Pod]
    """Pods of the trial, of all attempts, that of a Job that is gone included."""
    now: datetime


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended."""

    phase: TrialPhase
    reason: TrialReason
    message: str = ""
    pod: Pod | None = None


def plan(seen: Observed, settings: Settings) -> list[Action]:
    """What is to be done now. Doing it twice does no harm, and once it is done the next plan
    is empty until something changes."""
    trial = seen.trial
    if trial.deleting:
        return []  # what it owns goes with it
    if seen.manifest is None:
        return [Delete(kube.TRIAL, trial.name, trial.uid)]
    job = next((j for j in seen.jobs if j.name == trial.job_name), None)
    stray = [
        j
        for j in seen.jobs
        if j.owner == trial.uid
        and _attempt(j) < trial.attempt + trial.ended
        and _runs_on(j, seen.pods)
    ]
    if trial.ended:
        return [*_end(stray), *_age(seen)]
    if job is not None and job.owner != trial.uid:
        # left by a trial of the same name; its owner is gone, so it will go
        return [
            *_waiting(
                seen, "NameConflict", f"waits until the Job {job.name} of another object is gone"
            ),
            Again(1.0),
        ]
    pods = [p for p in seen.pods if p.job == trial.job_name and (not job or p.owner == job.uid)]
    running = any(not p.ended for p in seen.pods)
    stop = trial.stop or seen.suspended
    end = classify(job, pods, seen.manifest, seen.now)
    if end is None and stop:
        if job is not None or stray or running:
            return _end(stray if job is None else [*stray, job])
        end = End(TrialPhase.STOPPED, TrialReason.TERMINATED, "stopped")
    if end is not None:
        if stop and end.reason in (TrialReason.DISRUPTED, TrialReason.TERMINATED):
            end = End(TrialPhase.STOPPED, TrialReason.TERMINATED, "stopped", end.pod)
        return [_status(trial, _ended_fields(trial, end, seen.now))]
    if job is not None:
        return [*_end(stray), *_under_way(seen, job, pods, settings)]
    if stray or running:
        return _end(stray)  # two pods of a trial would write to the same place
    bad = forbidden(seen.manifest, settings)
    if bad is not None:
        return _waiting(seen, "Forbidden", bad)
    return [
        *_waiting(seen, "Refused", seen.refusal),
        Create(kube.JOB, manifests.trial_job(trial, seen.manifest, settings)),
    ]


def settled(pod: Pod, now: datetime) -> Pod:
    """The pod as a decision takes it: one whose node does not say that it ended, long after it
    was to be gone, has ended."""
    if pod.ended or pod.due is None or now < pod.due + GIVEN_UP:
        return pod
    why = pod.disrupted or f"the node {pod.node} does not answer"
    return replace(pod, phase="Failed", disrupted=why, exit_code=None)


def _attempt(job: Job) -> int:
    """The attempt that a Job was made for, by its name."""
    number = job.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _runs_on(job: Job, pods: Sequence[Pod]) -> bool:
    """Whether a pod of the Job runs or may run later. A pod's end is the Job's too, unless a
    queue has suspended it, which may let it begin anew."""
    mine = [p for p in pods if p.owner == job.uid]
    if any(not p.ended for p in mine):
        return True
    return not job.finished and (job.suspended or not mine)


def _end(jobs: Sequence[Job]) -> list[Action]:
    """Have the pods of Jobs end; each Job stays until its pod is gone."""
    return [
        Delete(kube.JOB, job.name, job.uid, "Foreground")
        for job in jobs
        if not job.finished and not job.deleting
    ]


def _age(seen: Observed) -> list[Action]:
    """After the end: removal by age."""
    assert seen.manifest is not None
    trial, keep = seen.trial, seen.manifest.spec.retention.trials
    if keep is None:
        return []
    ended = datetime.fromisoformat(trial.status["completionTime"])
    left = (ended + keep - seen.now).total_seconds()
    return [Again(left) if left > 0 else Delete(kube.TRIAL, trial.name, trial.uid)]


def classify(
    job: Job | None, pods: Sequence[Pod], manifest: NASExperiment, now: datetime
) -> End | None:
    """How the attempt ended, or None while it has not.

    A pod's own end is believed before its Job's condition, which follows about a second later.
    """
    if job is not None and job.failure is not None and job.failure[0] == "DeadlineExceeded":
        return _overtime(manifest)
    ended = [p for p in pods if p.ended]
    if ended:
        pod = min(ended, key=lambda p: (p.phase != "Succeeded", p.created or now, p.name))
        deleted = pod.deleting and pod.disrupted is None
        if deleted and manifest.spec.trial_template.time_limit is not None and _will_tell(job):
            return None  # whether it was the deadline that deleted it
        return _pod_end(pod)
    if job is None or pods:
        return None  # of a Job that has ended, the pod's end is about to be seen
    if job.complete:
        return End(TrialPhase.SUCCEEDED, TrialReason.COMPLETED)
    if job.failure is not None:  # the pod is gone: the Job's words are all there is
        reason, message = job.failure
        if reason == "PodFailurePolicy" and "DisruptionTarget" not in message:
            code = _code_in(message)
            if code is not None:
                return _exit(code, "", message)
        return End(TrialPhase.FAILED, TrialReason.DISRUPTED, message or reason)
    return None


def _will_tell(job: Job | None) -> bool:
    """Whether the Job, whose pod has ended, is about to say why."""
    return job is not None and not (job.finished or job.deleting or job.suspended)


def _overtime(manifest: NASExperiment) -> End:
    limit = manifest.spec.trial_template.time_limit
    text = f"it ran longer than trialTemplate.timeLimit, {limit}" if limit else "past its deadline"
    return End(TrialPhase.INFEASIBLE, TrialReason.DEADLINE_EXCEEDED, text)


def _code_in(message: str) -> int | None:
    """The exit code in the Job controller's message."""
    _, found, rest = message.partition("failed with exit code ")
    number = rest.split(" ", 1)[0]
    return int(number) if found and number.isdigit() else None


def _pod_end(pod: Pod) -> End:
    said = termination(pod.exit_message)
    message = said.message if said else _last_words(pod.exit_message)
    if pod.phase == "Succeeded":
        return End(TrialPhase.SUCCEEDED, TrialReason.COMPLETED, message, pod)
    if pod.exit_reason == "OOMKilled":
        text = "the container ran out of memory (trialTemplate.resources)"
        return End(TrialPhase.FAILED, TrialReason.OUT_OF_MEMORY, text, pod)
    if pod.exit_code is None or (
        pod.exit_code not in (INFEASIBLE_EXIT, BAD_INPUT_EXIT, UNAVAILABLE_EXIT)
        and (pod.disrupted is not None or pod.deleting)
    ):
        text = pod.disrupted or "the pod was deleted"
        return End(TrialPhase.FAILED, TrialReason.DISRUPTED, text, pod)
    end = _exit(pod.exit_code, message, message)
    return End(end.phase, end.reason, end.message, pod)


def _last_words(text: str) -> str:
    """The end of what a container printed: there an error says what it is."""
    whole = text.encode(errors="replace")
    return text if len(whole) <= MAX_MESSAGE else whole[-MAX_MESSAGE:].decode(errors="ignore")


def _exit(code: int, message: str, otherwise: str) -> End:
    """What an exit code of trial contract v1 says."""
    match code:
        case int(c) if c == INFEASIBLE_EXIT:
            return End(TrialPhase.INFEASIBLE, TrialReason.INFEASIBLE, message)
        case int(c) if c == BAD_INPUT_EXIT:
            return End(TrialPhase.FAILED, TrialReason.BAD_INPUT, message or otherwise)
        case int(c) if c == TERMINATED_EXIT:
            return End(TrialPhase.FAILED, TrialReason.TERMINATED, message)
        case int(c) if c == UNAVAILABLE_EXIT:
            return End(TrialPhase.FAILED, TrialReason.UNAVAILABLE, message or otherwise)
        case _:
            text = message or otherwise or f"exit code {code}"
            return End(TrialPhase.FAILED, TrialReason.CRASHED, text)


def termination(message: str) -> Termination | None:
    """A termination message that honours the contract; it is untrusted."""
    try:
        said = Termination.model_validate_json(message)
    except ValidationError:
        return None
    return said if (said.epochs or 0) < 2**63 else None  # more is no integer of the API's


def _under_way(seen: Observed, job: Job, pods: Sequence[Pod], settings: Settings) -> list[Action]:
    trial = seen.trial
    pod = min(pods, key=lambda p: (p.created or seen.now, p.name), default=None)
    if pod is not None and pod.phase == "Running" and pod.started is not None:
        wait = settings.running_after - (seen.now - pod.started).total_seconds()
        if 0 < wait <= settings.running_after:  # else the node's clock is ahead of ours
            return [Again(wait)]
        fields = {
            "phase": TrialPhase.RUNNING,
            "reason": None,
            "message": None,
            "node": pod.node,
            "pod": pod.name,
            "startTime": pod.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return _unless_there(trial, fields)
    reason, message = "", ""
    if pod is None:
        if job.suspended:
            reason, message = "Queued", "the Job is suspended: a queue holds it back"
        elif seen.refusal is not None:
            reason, message = "Refused", seen.refusal
    elif pod.waiting is not None and pod.waiting[0] not in WAITING:
        reason, message = pod.waiting
    elif pod.unschedulable is not None:
        reason, message = "Unschedulable", pod.unschedulable
    if not reason:
        told = trial.status.get("attempt") == trial.attempt and trial.status.get("reason")
        fields = {"phase": TrialPhase.PENDING, "reason": None, "message": None}
        return [_status(trial, fields)] if told else []  # it waits for that no more
    since = pod.created if pod is not None else job.created
    if since is not None and timedelta() <= seen.now - since < STUCK:
        return [Again((since + STUCK - seen.now).total_seconds() + 0.1)]
    return _waiting(seen, reason, message)


def _waiting(seen: Observed, reason: str, message: str | None) -> list[Action]:
    """Say what a trial waits for, if that is not said yet."""
    if message is None:
        return []
    fields = {"phase": TrialPhase.PENDING, "reason": reason, "message": clip(message)}
    return _unless_there(seen.trial, fields)


def _unless_there(trial: Trial, fields: dict[str, Any]) -> list[Action]:
    there = trial.status
    same = there.get("attempt") == trial.attempt and all(
        there.get(name) == value for name, value in fields.items()
    )
    return [] if same else [_status(trial, fields)]


_BLANK = dict.fromkeys(
    (
        "reason",
        "message",
        "exitCode",
        "node",
        "pod",
        "startTime",
        "completionTime",
        "value",
        "epochs",
    )
)


def _status(trial: Trial, fields: dict[str, Any]) -> TrialStatus:
    """Fields for a merge patch; those of an earlier attempt are taken away."""
    base = _BLANK if trial.status.get("attempt") not in (None, trial.attempt) else {}
    whole = {**base, **fields, "attempt": trial.attempt, "observedGeneration": trial.generation}
    return TrialStatus(trial.name, trial.uid, whole)


def _ended_fields(trial: Trial, end: End, now: datetime) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "phase": end.phase,
        "reason": end.reason,
        "message": clip(end.message) or None,
        "completionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    pod = end.pod
    if pod is not None:
        said = termination(pod.exit_message)
        fields |= {
            "exitCode": pod.exit_code,
            "node": pod.node,
            "pod": pod.name,
            "value": float(f"{said.value:.6g}") if said and said.value is not None else None,
            "epochs": said.epochs if said else None,
        }
        if pod.started is not None:
            fields["startTime"] = pod.started.strftime("%Y-%m-%dT%H:%M:%SZ")
        if pod.finished is not None:
            fields["completionTime"] = pod.finished.strftime("%Y-%m-%dT%H:%M:%SZ")
    return fields
