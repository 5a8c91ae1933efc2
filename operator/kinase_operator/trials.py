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
"""How long after its grace period a pod may fail to end before its node is taken for lost. Should
it live on, cut off, it writes what the next attempt writes: a training follows from its seed."""
STUCK = timedelta(seconds=3)
"""How long a pod may wait before its trial's status says what for."""
BACK_OFF = "BackOff"
"""Reason of a trial that waits because attempts before were lost."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a decision about a trial rests on."""

    trial: Trial
    manifest: NASExperiment | None
    """The experiment that owns the trial, or None: it is gone, or another of the same name."""
    suspended: bool
    """Whether the experiment is to be suspended."""
    refusal: str | None
    """Why the API server did not take the Job, when it was last tried, or the Job controller
    could not make its pod."""
    jobs: Sequence[Job]
    """Jobs that the trial owns, of all attempts."""
    pods: Sequence[Pod]
    """Pods of the trial, of all attempts, that of a Job that is gone included."""
    now: datetime


def plan(seen: Observed, settings: Settings) -> list[Action]:
    """What is to be done now. Doing it twice does no harm, and once it is done the next plan
    is empty until something changes."""
    trial = seen.trial
    if trial.deleting:
        return []  # what it owns goes with it
    if seen.manifest is None:
        return [Delete(kube.TRIAL, trial.name, trial.uid)]
    return [*_cut(seen), *_next(seen, seen.manifest, settings)]


def _cut(seen: Observed) -> list[Action]:
    """Have pods end in which a sidecar lives on after the end of the trainer was told: they hold
    their node's devices. A deadline, unlike a deletion, leaves the logs."""
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
    end = classify(job, pods, manifest, seen.now)
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
        return _end(stray)  # two pods of a trial would write to the same place
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
    """Wait before an attempt that follows others that were lost, and say for what."""
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
    queue has suspended it, which may start it again."""
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


def _under_way(
    seen: Observed, job: Job, pods: Sequence[Pod], manifest: NASExperiment, settings: Settings
) -> list[Action]:
    trial = seen.trial
    pod = min(pods, key=lambda p: (p.created or seen.now, p.name), default=None)
    if pod is not None and pod.started is not None:
        limit = manifest.spec.trial_template.time_limit
        shorten = _limited(pod, limit)
        wait = settings.running_after - (seen.now - pod.started).total_seconds()
        if 0 < wait <= settings.running_after:  # else the node's clock is ahead of ours
            soon = limit is not None and limit.total_seconds() <= 2 * settings.running_after
            return [*(shorten if soon else []), Again(wait)]
        fields = {
            "phase": TrialPhase.RUNNING,
            "reason": None,
            "message": None,
            "node": pod.node,
            "pod": pod.name,
            "startTime": pod.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return [*shorten, *_unless_there(trial, fields)]
    reason, message = "", ""
    if pod is None:
        if job.suspended:
            reason, message = "Queued", "the Job is suspended: a queue holds it back"
        elif seen.refusal is not None:
            reason, message = "Refused", seen.refusal
    elif pod.waiting is not None and pod.waiting[0] not in NO_TROUBLE:
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


def _limited(pod: Pod, limit: timedelta | None) -> list[Action]:
    """Give a pod whose trainer runs its deadline, which its node keeps also while no operator runs.
    What has not begun, for want of a node, an image or a place, has none."""
    seconds = allowed(pod, limit)
    if seconds is None or (pod.deadline is not None and pod.deadline <= seconds):
        return []
    return [Shorten(pod.name, pod.uid, seconds)]


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


_KEPT = ("reason", "message", "exitCode", "node", "completionTime")
"""What is kept of an attempt when the next begins."""


def _status(trial: Trial, fields: dict[str, Any]) -> TrialStatus:
    """Fields for a merge patch; those of an earlier attempt are taken away."""
    base = _BLANK if trial.status.get("attempt") not in (None, trial.attempt) else {}
    if base:
        kept = {name: trial.status.get(name) for name in _KEPT}
        base = {**base, "lastAttempt": {**kept, "number": trial.status["attempt"]}}
    whole = {**base, **fields, "attempt": trial.attempt, "observedGeneration": trial.generation}
    return TrialStatus(trial.name, trial.uid, whole)


def _tell_end(
    seen: Observed, end: End, manifest: NASExperiment, settings: Settings
) -> list[Action]:
    """Tell an attempt's end; of one that was lost also when the next may begin."""
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
