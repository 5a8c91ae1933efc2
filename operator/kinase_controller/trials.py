"""Trials as resources: desired state, observed state, and the loop's view of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from kinase.api import TrialPhase, TrialReason, names
from kinase.api.trial import Kind, TaskJob, TrialJob, TrialResult
from kinase.engine import Event, Finished, Lost
from kinase_kube.client import Object


@dataclass(frozen=True, slots=True)
class Seen:
    """The fields of a `NASTrial` that the controller uses."""

    name: str
    uid: str
    version: int
    number: int
    kind: str
    attempt: int
    stop: bool
    token: str | None
    deleting: bool
    phase: str
    reason: str
    message: str
    reported: int
    """Attempt that the status describes."""
    answer: str = ""
    """Key for the answer, if the trial asks to describe the task."""
    started: datetime | None = None
    """When the pod of that attempt started."""
    created: datetime | None = None
    """When the trial was created."""
    members: tuple[tuple[int, int], ...] = ()
    """Number and attempt of each candidate in its job, if there are several."""

    @classmethod
    def of(cls, item: Object) -> Seen:
        """From the API's object."""
        metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            number=int(spec["number"]),
            kind=str(spec["kind"]),
            attempt=int(spec.get("attempt", 1)),
            stop=bool(spec.get("stop")),
            token=spec.get("token"),
            deleting="deletionTimestamp" in metadata,
            phase=str(status.get("phase") or ""),
            reason=str(status.get("reason") or ""),
            message=str(status.get("message") or ""),
            reported=int(status.get("attempt") or 0),
            answer=_answer(spec["job"]) if spec["kind"] == "Task" else "",
            started=_time(status.get("startTime")),
            created=_time(metadata.get("creationTimestamp")),
            members=_members(spec["job"]),
        )

    @property
    def ended(self) -> bool:
        """Whether the desired attempt has ended."""
        known = self.phase in TrialPhase.__members__.values()
        return known and self.reported == self.attempt and TrialPhase(self.phase).ended

    @property
    def waits(self) -> bool:
        """Whether that attempt is waiting for a known reason."""
        return self.phase == TrialPhase.PENDING and bool(self.reason)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A desired attempt."""

    name: str
    number: int
    kind: str
    attempt: int
    job: TrialJob | TaskJob

    @classmethod
    def of(cls, experiment: str, job: TrialJob | TaskJob, attempt: int = 1) -> Wanted:
        """The desired attempt for a job of the loop."""
        if isinstance(job, TaskJob):
            return cls(names.task_name(experiment), 0, "Task", attempt, job)
        name = names.trial_name(experiment, job.trial, test=job.test)
        return cls(name, job.trial, "Test" if job.test else job.kind.value, job.attempt, job)

    @property
    def result(self) -> str:
        """Key of the trainer's answer, below the experiment's store."""
        return self.job.key if isinstance(self.job, TaskJob) else result_key(self.job)

    @property
    def members(self) -> tuple[TrialJob, ...]:
        """A job for each trial that the attempt serves: several candidates, or one trial."""
        return self.job.members if isinstance(self.job, TrialJob) else ()

    @property
    def candidates(self) -> int | None:
        """How many candidates the attempt scores, if there are several."""
        count = len(self.members)
        return count if count > 1 else None

    @property
    def workers(self) -> int:
        """Number of pods."""
        return self.job.workers if isinstance(self.job, TrialJob) else 1

    def body(self, experiment: str, uid: str, namespace: str, token: str) -> Object:
        """The resource, owned by its experiment."""
        return {
            "apiVersion": names.API_VERSION,
            "kind": "NASTrial",
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "labels": {
                    names.MANAGED_BY: names.MANAGER,
                    names.COMPONENT: "trial",
                    names.EXPERIMENT: experiment,
                    names.EXPERIMENT_UID: uid,
                    names.TRIAL: str(self.number),
                },
                "ownerReferences": [
                    {
                        "apiVersion": names.API_VERSION,
                        "kind": "NASExperiment",
                        "name": experiment,
                        "uid": uid,
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": {
                "experiment": experiment,
                "number": self.number,
                "kind": self.kind,
                "attempt": self.attempt,
                **({"workers": self.workers} if self.workers > 1 else {}),
                **({"candidates": self.candidates} if self.candidates else {}),
                "token": token,
                "job": self.document(),
            },
        }

    def document(self) -> str:
        """The job in the trainer's form."""
        return self.job.model_dump_json(by_alias=True, exclude_none=True)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def result_key(job: TrialJob) -> str:
    """Key of a trial's result, below the experiment's store."""
    return f"{job.prefix}/{'test' if job.test else 'result'}.json"


def _members(text: str) -> tuple[tuple[int, int], ...]:
    if '"also":' not in text:
        return ()
    try:
        members = TrialJob.model_validate_json(text).members
    except ValidationError:
        return ()
    return tuple((each.trial, each.attempt) for each in members)


def _answer(job: str) -> str:
    try:
        return TaskJob.model_validate_json(job).key
    except ValidationError:
        return ""


KINDS = tuple(Kind)
"""Kinds of trial that the loop counts; `Task` and `Test` are not among them."""


def lost(seen: Seen, why: str = "") -> Lost:
    """The loop's event for an attempt without a valid result, with the reason."""
    reason, text = seen.reason, seen.message or seen.reason
    match reason:
        case TrialReason.OUT_OF_MEMORY:
            return Lost(seen.number, text, out_of_memory=True)
        case TrialReason.DEADLINE_EXCEEDED | TrialReason.INFEASIBLE:
            return Lost(seen.number, text, permanent=True)
        case TrialReason.GIVEN_UP:
            return Lost(seen.number, text, crash=False, given_up=True)
        case TrialReason.CHECKPOINT_GONE:
            return Lost(seen.number, text, crash=False, checkpoint_gone=True)
        case (
            TrialReason.REJECTED
            | TrialReason.DISRUPTED
            | TrialReason.TERMINATED
            | TrialReason.UNAVAILABLE
        ):
            return Lost(seen.number, text, crash=False)
        case TrialReason.COMPLETED:
            text = why or "the trainer ended well, but left no valid result of this trial"
            return Lost(seen.number, text)
        case _:
            return Lost(seen.number, text)


def ends(seen: Seen, results: Sequence[tuple[TrialJob, TrialResult | str]]) -> list[Event]:
    """The loop's events for the candidates of an attempt that has ended, in their order.

    They are scored in turn, so the first one without a result is taken as the cause. The others had
    not begun, and nothing of what happened counts against them. Where the time ran out after some
    were scored, nothing counts against the first either.

    Args:
        seen: the attempt.
        results: the job of each candidate, and its result or why it has none.
    """
    found: list[Event] = []
    cause: int | None = None
    listed = seen.members or ((seen.number, seen.attempt),)
    several = len(results) > 1 or bool(seen.members)
    for job, result in results:
        number = job.trial
        if isinstance(result, TrialResult):
            found.append(Finished(number, result))
        elif several and (number, job.attempt) not in listed:
            # the NASTrial was created by an earlier process, with other candidates
            found.append(Lost(number, f"{seen.name} does not score it", crash=False))
        elif cause is None:
            cause, event = number, replace(lost(seen, result), trial=number)
            if event.permanent and any(isinstance(each, Finished) for each in found):
                event = Lost(number, event.message, crash=False)
            found.append(event)
        else:
            text = f"it was not scored, because {seen.name} ended with trial {cause}"
            found.append(Lost(number, text, crash=False))
    return found
