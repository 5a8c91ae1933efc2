"""The plan for a trial, from the observed state: a pure function.

A `NASTrial` names the desired attempt, the attempt has one Job, and the Job a pod for each worker,
mostly one. The outcome of the attempt is written once to the status, and the experiment's
controller decides what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from kinase.api import NASExperiment, TrialPhase, TrialReason
from kinase.api.status import clip
from kinase_kube import client as kube
from kinase_operator import backoff, job_specs
from kinase_operator.actions import (
    Action,
    Again,
    Create,
    Delete,
    Emit,
    Shorten,
    TrialStatus,
)
from kinase_operator.ends import End, allowed, classify, termination
from kinase_operator.experiments import forbidden
from kinase_operator.settings import Settings
from kinase_operator.views import NO_TROUBLE, Job, Pod, Trial, parse_time

GIVEN_UP = timedelta(seconds=60)
"""Seconds after its grace period within which a pod must end; otherwise its node counts as lost. If
the pod still runs, it writes the same as the next attempt, because a training is determined by its
seed."""
STUCK = timedelta(seconds=3)
"""Seconds that a pod can wait before its trial's status reports why."""
TIDY = timedelta(seconds=30)
"""How long the Job of an attempt that has ended may take to delete the pods of other workers."""
BACK_OFF = "BackOff"
"""Reason of a trial that waits after disrupted attempts."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The observed state for a decision about a trial."""

    trial: Trial
    manifest: NASExperiment | None
    """The experiment that owns the trial, or None if it is deleted or replaced by another of its
    name."""
    suspended: bool
    """Whether the experiment's `spec.suspend` is true."""
    refusal: str | None
    """Why the API server rejected the Job at the last attempt, or why the Job controller could not
    create its pod."""
    jobs: Sequence[Job]
    """Jobs of all attempts of the trial."""
    pods: Sequence[Pod]
    """Pods of all attempts of the trial, including those of deleted Jobs."""
    now: datetime


def plan(seen: Observed, settings: Settings) -> list[Action]:
    """The actions to take now. Repeating them is harmless. After they are done, the next plan is
    empty until something changes."""
    trial = seen.trial
    if trial.deleting:
        return []  # its children are deleted with it
    if seen.manifest is None:
        return [Delete(kube.TRIAL, trial.name, trial.uid)]
    return [*_cut(seen), *_next(seen, seen.manifest, settings)]


def _cut(seen: Observed) -> list[Action]:
    """End pods in which a sidecar still runs after the trainer's end was recorded, because they
    hold their node's devices. Unlike a deletion, a deadline keeps the logs."""
    trial = seen.trial
    return [
        Shorten(pod.name, pod.uid, 1)
        for pod in seen.pods
        if pod.lingers and pod.deadline != 1 and (trial.ended or pod.job != trial.job_name)
    ]


def _next(seen: Observed, manifest: NASExperiment, settings: Settings) -> list[Action]:
    trial = seen.trial
    job = next((j for j in seen.jobs if j.name == trial.job_name), None)
    stray = [
        j
        for j in seen.jobs
        if j.owner == trial.uid
        and _attempt(j) < trial.attempt + trial.ended
        and _runs_on(j, seen.pods)
    ]
    if trial.ended:
        return [*_tidy(seen, stray), *_age(seen)]
    if job is not None and job.owner != trial.uid:
        # of an earlier trial of the same name; it will be deleted after its owner
        return [
            *_waiting(
                seen, "NameConflict", f"waits until the Job {job.name} of another object is gone"
            ),
            Again(1.0),
        ]
    pods = [p for p in seen.pods if p.job == trial.job_name and (not job or p.owner == job.uid)]
    running = any(not p.ended for p in seen.pods)
    stop = trial.stop or seen.suspended
    end = classify(job, pods, manifest, seen.now, trial.workers)
    if end is None and stop:
        if job is not None or stray or running:
            return _end(stray if job is None else [*stray, job])
        end = End(TrialPhase.STOPPED, TrialReason.TERMINATED, "stopped")
    if end is not None:
        if stop and end.reason in (TrialReason.DISRUPTED, TrialReason.TERMINATED):
            end = End(TrialPhase.STOPPED, TrialReason.TERMINATED, "stopped", end.pod)
        return _tell_end(seen, end, manifest, settings)
    if job is not None:
        return [*_end(stray), *_under_way(seen, job, pods, manifest, settings)]
    if stray or running:
        return _end(stray)  # two pods of a trial would write to the same path
    bad = forbidden(manifest, settings)
    if bad is not None:
        return _waiting(seen, "Forbidden", bad)
    if held := _held(seen):
        return held
    return [
        *_waiting(seen, "Refused", seen.refusal),
        Create(kube.JOB, job_specs.trial_job(trial, manifest, settings)),
    ]


def _held(seen: Observed) -> list[Action]:
    """Wait before an attempt that follows disrupted ones, and report why."""
    trial, status = seen.trial, seen.trial.status
    until = parse_time(status.get("retryTime"))
    if until is None or until <= seen.now:
        return []
    before = status if status.get("attempt") != trial.attempt else status.get("lastAttempt") or {}
    why = ": ".join(filter(None, (before.get("reason"), before.get("message"))))
    text = f"starts again at {until:%H:%M:%S} UTC: {_lost(status.get('disruptions', 1))}: {why}"
    left = (until - seen.now).total_seconds()
    return [*_waiting(seen, BACK_OFF, text), Again(left)]


def _lost(count: int) -> str:
    return f"{count} attempts in a row were lost, the last" if count > 1 else "an attempt was lost"


def settled(pod: Pod, now: datetime) -> Pod:
    """The pod for a decision. If it should have ended long ago but its node does not report it, it
    counts as ended."""
    if pod.ended or pod.due is None or now < pod.due + GIVEN_UP:
        return pod
    why = pod.disrupted or f"the node {pod.node} does not answer"
    return replace(pod, phase="Failed", disrupted=why, exit_code=None)


def _attempt(job: Job) -> int:
    """The attempt of a Job, from its name."""
    number = job.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _runs_on(job: Job, pods: Sequence[Pod]) -> bool:
    """Whether a pod of the Job runs or can run later. A Job ends with its pod, unless a queue has
    suspended it and can start it again."""
    mine = [p for p in pods if p.owner == job.uid]
    if any(not p.ended for p in mine):
        return True
    return not job.finished and (job.suspended or not mine)


def _end(jobs: Sequence[Job]) -> list[Action]:
    """End the pods of Jobs; each Job stays until its pod is deleted."""
    return [
        Delete(kube.JOB, job.name, job.uid, "Foreground")
        for job in jobs
        if not job.finished and not job.deleting
    ]


def _tidy(seen: Observed, jobs: Sequence[Job]) -> list[Action]:
    """End what still runs after the end of the latest attempt. With several workers its Job deletes
    the pods of the others: to delete the Job would lose the log of the first one."""
    trial = seen.trial
    own = [j for j in jobs if j.name == trial.job_name and trial.workers > 1 and not j.finished]
    left = TIDY - (seen.now - datetime.fromisoformat(trial.status["completionTime"]))
    if not own or left <= timedelta():
        return _end(jobs)
    return [*_end([j for j in jobs if j not in own]), Again(left.total_seconds())]


def _age(seen: Observed) -> list[Action]:
    """Deletion by age, after the end."""
    assert seen.manifest is not None
    trial, keep = seen.trial, seen.manifest.spec.retention.trials
    if keep is None:
        return []
    ended = datetime.fromisoformat(trial.status["completionTime"])
    left = (ended + keep - seen.now).total_seconds()
    return [Again(left) if left > 0 else Delete(kube.TRIAL, trial.name, trial.uid)]


def _under_way(
    seen: Observed, job: Job, pods: Sequence[Pod], manifest: NASExperiment, settings: Settings
) -> list[Action]:
    trial = seen.trial
    workers = sorted(pods, key=lambda p: (p.index, p.created or seen.now, p.name))
    limit = manifest.spec.trial_template.time_limit
    ended = [p for p in workers if p.ended]
    if ended and trial.workers > 1:  # see `decisive`; it may have none to blame yet
        return [Again(1.0)]
    started = [p.started for p in workers if p.started is not None]
    if len(started) >= trial.workers:
        pod, began = workers[0], max(started)
        shorten = [action for each in workers for action in _limited(each, limit, began)]
        wait = settings.running_after - (seen.now - began).total_seconds()
        if 0 < wait <= settings.running_after:  # otherwise the node's clock is ahead of ours
            soon = limit is not None and limit.total_seconds() <= 2 * settings.running_after
            return [*(shorten if soon else []), Again(wait)]
        fields = {
            "phase": TrialPhase.RUNNING,
            "reason": None,
            "message": None,
            "node": pod.node,
            "pod": pod.name,
            "startTime": began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return [*shorten, *_unless_there(trial, fields)]
    reason, message, since = _holds_back(seen, job, workers)
    if not reason:
        told = trial.status.get("attempt") == trial.attempt and trial.status.get("reason")
        fields = {"phase": TrialPhase.PENDING, "reason": None, "message": None}
        return [_status(trial, fields)] if told else []  # it no longer waits for that
    if since is not None and timedelta() <= seen.now - since < STUCK:
        return [Again((since + STUCK - seen.now).total_seconds() + 0.1)]
    if trial.workers > 1 and workers:
        count = sum(p.started is not None for p in workers)
        message = f"{count} of {trial.workers} workers run: {message}"
    return _waiting(seen, reason, message)


def _holds_back(seen: Observed, job: Job, pods: Sequence[Pod]) -> tuple[str, str, datetime | None]:
    """Why not all pods of a Job run: a reason, a message, and since when; an empty reason if there
    is nothing to report."""
    several = seen.trial.workers > 1
    for pod in pods:
        name = f"worker {pod.index}: " if several else ""
        if pod.waiting is not None and pod.waiting[0] not in NO_TROUBLE:
            return pod.waiting[0], name + pod.waiting[1], pod.created
        if pod.unschedulable is not None and pod.started is None:
            return "Unschedulable", name + pod.unschedulable, pod.created
    if len(pods) < seen.trial.workers:
        if job.suspended:
            return "Queued", "the Job is suspended: a queue holds it back", job.created
        if seen.refusal is not None:
            return "Refused", seen.refusal, job.created
    return "", "", None


def _limited(pod: Pod, limit: timedelta | None, began: datetime) -> list[Action]:
    """Set the deadline of a pod once its trainer runs, and those of all workers, at `began`. Its
    node enforces it even if no operator runs. A pod that waits for a node or an image has no
    deadline yet."""
    if limit is not None and pod.started is not None:
        limit += began - pod.started
    seconds = allowed(pod, limit)
    if seconds is None or (pod.deadline is not None and pod.deadline <= seconds):
        return []
    return [Shorten(pod.name, pod.uid, seconds)]


def _waiting(seen: Observed, reason: str, message: str | None) -> list[Action]:
    """Report what a trial waits for, if the status does not have it yet."""
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


_KEPT = ("reason", "message", "exitCode", "node", "completionTime")
"""Record of an attempt when the next one starts."""


def _status(trial: Trial, fields: dict[str, Any]) -> TrialStatus:
    """Fields for a merge patch, which also removes those of an earlier attempt."""
    base = _BLANK if trial.status.get("attempt") not in (None, trial.attempt) else {}
    if base:
        kept = {name: trial.status.get(name) for name in _KEPT}
        base = {**base, "lastAttempt": {**kept, "number": trial.status["attempt"]}}
    whole = {**base, **fields, "attempt": trial.attempt, "observedGeneration": trial.generation}
    return TrialStatus(trial.name, trial.uid, whole)


def _tell_end(
    seen: Observed, end: End, manifest: NASExperiment, settings: Settings
) -> list[Action]:
    """Record an attempt's end and, for a disrupted one, when the next attempt can start."""
    trial, now, pod = seen.trial, seen.now, end.pod
    began = pod is None or pod.started is not None
    ran = (pod.finished or now) - pod.started if pod is not None and pod.started else None
    stopped = end.phase is TrialPhase.STOPPED
    before = int(trial.status.get("disruptions") or 0)
    losses = 0 if stopped else backoff.in_a_row(before, end.reason, ran)
    fields = _ended_fields(trial, end, now)
    fields |= {name: None for name in ("disruptions", "retryTime") if name in trial.status}
    if not losses:
        return [_status(trial, fields)]
    most = manifest.spec.trial_template.max_disruptions
    where = f" on {pod.node}" if pod is not None and pod.node else ""
    text = f"attempt {trial.attempt}{where}: {end.message or end.reason}"
    fields["disruptions"] = losses
    if losses > most:
        why = ": ".join(filter(None, (end.reason, end.message)))
        said = f"more than trialTemplate.maxDisruptions, {most}: {_lost(losses)}: {why}"
        fields |= {"reason": TrialReason.GIVEN_UP, "message": clip(said)}
        return [_status(trial, fields), Emit("Warning", TrialReason.GIVEN_UP, said)]
    seconds = backoff.wait(
        losses,
        trial.name,
        began=began,
        first=settings.backoff_first,
        most=settings.backoff_most,
    )
    if seconds:
        fields["retryTime"] = (now + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        text += f"; starts again in {seconds:.0f} s"
    return [_status(trial, fields), Emit("Warning", end.reason, text)]


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
