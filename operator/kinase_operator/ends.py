"""How an attempt ended, from its pods and its Job: pure functions.

The exit code of the trainer's container decides. Other containers in the pod, such as an injected
sidecar, can have ended differently, or still be running.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from kinase.api import NASExperiment, Termination, TrialPhase, TrialReason
from kinase.api.status import MAX_MESSAGE
from kinase.api.trial import (
    BAD_INPUT_EXIT,
    CHECKPOINT_GONE_EXIT,
    INFEASIBLE_EXIT,
    TERMINATED_EXIT,
    UNAVAILABLE_EXIT,
    WORKER_LOST_EXIT,
)
from kinase_operator.views import Job, Pod

DEADLINE = "DeadlineExceeded"
"""Reason of a pod or a Job that exceeded its deadline."""
LONGEST = 2**31 - 1
"""Most seconds that a pod's deadline may say."""
SETTLE = timedelta(seconds=15)
"""How long a worker's end that names another worker waits for the end of that one."""
SAYING = (
    INFEASIBLE_EXIT,
    BAD_INPUT_EXIT,
    UNAVAILABLE_EXIT,
    CHECKPOINT_GONE_EXIT,
    WORKER_LOST_EXIT,
)
"""Exit codes by which a trainer says why it ended, whatever befell its pod."""


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended."""

    phase: TrialPhase
    reason: TrialReason
    message: str = ""
    pod: Pod | None = None


def allowed(pod: Pod, limit: timedelta | None) -> int | None:
    """Deadline of a pod in seconds, so that its trainer has `limit`; None if there is no limit or
    the trainer has not started.

    The node counts from when it accepted the pod, so the time until the trainer started, for
    example to pull the image, is added. Both times are by the node's clock, which alone enforces
    the deadline.
    """
    if limit is None or pod.started is None:
        return None
    before = pod.started - (pod.accepted or pod.started)
    # both are whole seconds: add one, so that the trainer never has less
    return min(LONGEST, math.ceil((before + limit).total_seconds()) + 1)


def classify(
    job: Job | None,
    pods: Sequence[Pod],
    manifest: NASExperiment,
    now: datetime,
    workers: int = 1,
) -> End | None:
    """How the attempt ended, or None if it has not.

    The end of the pod takes precedence over the Job's condition, which follows about a second
    later.
    """
    template = manifest.spec.trial_template
    late = job is not None and job.failure is not None and job.failure[0] == DEADLINE
    pod = decisive(pods, workers, now)
    if pod is not None:
        deleted = pod.deleting and pod.disrupted is None
        by_job = template.managed_by is not None and template.time_limit is not None
        if deleted and by_job and _will_tell(job):
            return None  # whether the Job's deadline deleted it
        if late and _before_deadline(pod, job, template.time_limit):
            late, pod = False, replace(pod, deleting=False)  # the deadline came after its end
        return _pod_end(pod, template.time_limit, late)
    if job is None or any(not p.ended for p in pods) or (pods and not job.finished):
        return None  # the Job has ended, so the end of its pod is about to be observed
    if job.complete:
        return End(TrialPhase.SUCCEEDED, TrialReason.COMPLETED)
    if late:
        return _overtime(template.time_limit)
    if job.failure is not None:  # the pod is deleted: only the Job's condition is left
        reason, message = job.failure
        if reason == "PodFailurePolicy" and "DisruptionTarget" not in message:
            code = _code_in(message)
            if code is not None:
                return _exit(code, "", message)
        return End(TrialPhase.FAILED, TrialReason.DISRUPTED, message or reason)
    return None


def decisive(pods: Sequence[Pod], workers: int, now: datetime) -> Pod | None:
    """The pod whose end is that of the attempt; None while there is none.

    Of several workers the first has the result. Otherwise the first one that was lost ends the
    attempt. Its end is followed by those of the others, which have lost it or are deleted by their
    Job: the cause is looked for among what has ended.
    """
    ended = [p for p in pods if p.ended]
    if workers == 1:
        key = lambda p: (not _ended_well(p), p.created or now, p.name)  # noqa: E731
        return min(ended, key=key, default=None)
    for each in ended:
        if each.index == 0 and _ended_well(each):
            return each
    lost = [p for p in ended if not _ended_well(p)]
    pod = min(lost, key=lambda p: (_follows(p), p.finished or now, p.index), default=None)
    if pod is None or pod.exit_code != WORKER_LOST_EXIT or len(ended) == len(pods):
        return pod
    return None if now - (pod.finished or now) < SETTLE else pod


def _follows(pod: Pod) -> int:
    """How likely the end of a worker follows that of another one; 0 if it has a separate cause."""
    if pod.exit_code == WORKER_LOST_EXIT:
        return 3
    if pod.disrupted is not None or pod.reason == DEADLINE:
        return 0
    if pod.deleting:
        return 1
    return 2 if pod.exit_code == TERMINATED_EXIT else 0


def _will_tell(job: Job | None) -> bool:
    """Whether the Job, whose pod has ended, is about to report the reason."""
    return job is not None and not (job.finished or job.deleting or job.suspended)


def _before_deadline(pod: Pod, job: Job | None, limit: timedelta | None) -> bool:
    """Whether the trainer had already ended when its Job's deadline passed: the Job enforces it by
    deleting the pod."""
    if not pod.deleting:
        return pod.exit_code is not None
    if pod.finished is None or limit is None or job is None or job.started is None:
        return False
    return pod.finished < job.started + limit


def _overtime(limit: timedelta | None, pod: Pod | None = None) -> End:
    text = f"it ran longer than trialTemplate.timeLimit, {limit}" if limit else "past its deadline"
    return End(TrialPhase.INFEASIBLE, TrialReason.DEADLINE_EXCEEDED, text, pod)


def _code_in(message: str) -> int | None:
    """The exit code in the Job controller's message."""
    _, found, rest = message.partition("failed with exit code ")
    number = rest.split(" ", 1)[0]
    return int(number) if found and number.isdigit() else None


def _ended_well(pod: Pod) -> bool:
    """Whether the trainer succeeded or, if that is unknown, whether the whole pod did."""
    return pod.exit_code == 0 or (pod.exit_code is None and pod.phase == "Succeeded")


def _pod_end(pod: Pod, limit: timedelta | None, late: bool) -> End:
    """How a pod's trainer ended; `late` is true if its Job's deadline ended it."""
    said = termination(pod.exit_message)
    message = said.message if said else _last_words(pod.exit_message)
    removed = pod.disrupted is not None or pod.deleting
    if _ended_well(pod) and not (pod.phase == "Failed" and removed):
        phase = TrialPhase.PAUSED if said and said.paused else TrialPhase.SUCCEEDED
        return End(phase, TrialReason.COMPLETED, message, pod)
    if pod.exit_reason == "OOMKilled":
        text = "the container ran out of memory (trialTemplate.resources)"
        return End(TrialPhase.FAILED, TrialReason.OUT_OF_MEMORY, text, pod)
    if pod.exit_code not in SAYING:
        if pod.started is not None and (late or _time_was_up(pod)):
            return _overtime(limit, pod)
        if removed or pod.exit_code is None:
            return _lost(pod, removed)
    assert pod.exit_code is not None
    end = _exit(pod.exit_code, message, message)
    return End(end.phase, end.reason, end.message, pod)


def _time_was_up(pod: Pod) -> bool:
    """Whether the deadline ended the trainer, and not only a sidecar that was still running."""
    if pod.reason != DEADLINE:
        return False
    if pod.finished is None or pod.accepted is None or pod.deadline is None:
        return True
    return pod.finished >= pod.accepted + timedelta(seconds=pod.deadline - 1)


def _lost(pod: Pod, removed: bool) -> End:
    """The end of a pod that has no information about its trial."""
    words = ": ".join(dict.fromkeys(filter(None, (pod.reason, pod.disrupted or pod.message))))
    if removed or pod.started is not None:
        text = words or ("the pod was deleted" if removed else "the pod ended without a message")
        return End(TrialPhase.FAILED, TrialReason.DISRUPTED, text, pod)
    text = words or "the pod failed before its trainer started"
    return End(TrialPhase.FAILED, TrialReason.REJECTED, text, pod)


def _last_words(text: str) -> str:
    """The end of a container's output, where the error message is."""
    whole = text.encode(errors="replace")
    return text if len(whole) <= MAX_MESSAGE else whole[-MAX_MESSAGE:].decode(errors="ignore")


def _exit(code: int, message: str, otherwise: str) -> End:
    """The meaning of an exit code of trial contract v1."""
    match code:
        case int(c) if c == INFEASIBLE_EXIT:
            return End(TrialPhase.INFEASIBLE, TrialReason.INFEASIBLE, message)
        case int(c) if c == BAD_INPUT_EXIT:
            return End(TrialPhase.FAILED, TrialReason.BAD_INPUT, message or otherwise)
        case int(c) if c == TERMINATED_EXIT:
            return End(TrialPhase.FAILED, TrialReason.TERMINATED, message)
        case int(c) if c == UNAVAILABLE_EXIT:
            return End(TrialPhase.FAILED, TrialReason.UNAVAILABLE, message or otherwise)
        case int(c) if c == WORKER_LOST_EXIT:
            return End(TrialPhase.FAILED, TrialReason.DISRUPTED, message or otherwise)
        case int(c) if c == CHECKPOINT_GONE_EXIT:
            return End(TrialPhase.FAILED, TrialReason.CHECKPOINT_GONE, message or otherwise)
        case _:
            text = message or otherwise or f"exit code {code}"
            return End(TrialPhase.FAILED, TrialReason.CRASHED, text)


def termination(message: str) -> Termination | None:
    """A termination message of the contract's form; it is untrusted."""
    try:
        said = Termination.model_validate_json(message)
    except ValidationError:
        return None
    return said if (said.epochs or 0) < 2**63 else None  # the API's maximum
