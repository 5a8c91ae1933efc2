"""The `status` of an experiment and of a trial.

A status stays small, whatever a trainer or a node reports: the models truncate what is too long.
The largest status of an experiment is below `MAX_STATUS`.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kinase.api._base import METRIC, Keyed, Metric, Model

MAX_STATUS = 36 * 1024
"""Bytes of an experiment's status, as JSON."""
MAX_FRONT = 24
"""Maximum number of points of the Pareto front in a status. The report has all points."""
MAX_RUNGS = 12
"""Maximum number of rungs in a status: the first and the highest. The report has all rungs."""
MAX_ARCHITECTURE = 2048
"""Bytes of an architecture in a status; a larger one is in the store only."""
MAX_METRICS = 12
"""Metrics of a trial in a status."""
MAX_MESSAGE = 1024
"""Bytes of a message in a status."""


def clip(text: Any) -> Any:
    """Truncate a text to `MAX_MESSAGE` bytes, ending in an ellipsis."""
    if not isinstance(text, str) or len(text.encode(errors="replace")) <= MAX_MESSAGE:
        return text
    return text.encode(errors="replace")[: MAX_MESSAGE - 3].decode(errors="ignore") + "…"


def _few(metrics: Any) -> Any:
    if not isinstance(metrics, dict):
        return metrics
    named = (pair for pair in metrics.items() if re.fullmatch(METRIC, pair[0]))
    return dict(islice(named, MAX_METRICS))


def _small(architecture: Any) -> Any:
    size = len(json.dumps(architecture, separators=(",", ":")))
    return architecture if size <= MAX_ARCHITECTURE else None


Time = Annotated[datetime, Field(json_schema_extra={"format": "date-time"})]
Text = Annotated[str, BeforeValidator(clip), Field(max_length=MAX_MESSAGE)]
"""Truncated by the models."""
Uri = Annotated[str, Field(max_length=1280)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Metrics = Annotated[dict[Metric, float], BeforeValidator(_few), Field(max_length=MAX_METRICS)]


class Status(Model):
    """Base of a status. Unknown fields are ignored, since objects may come from other versions."""

    model_config = {**Model.model_config, "extra": "ignore"}


class Phase(StrEnum):
    """Phase of an experiment in one word. The conditions are more precise."""

    PENDING = "Pending"
    """The controller has not started yet."""
    SEARCHING = "Searching"
    """The search is running trials."""
    FINALISTS = "Finalists"
    """The best candidates are being trained at full fidelity."""
    SUSPENDED = "Suspended"
    """The experiment is paused."""
    SUCCEEDED = "Succeeded"
    """The experiment has finished with a trained and tested network."""
    FAILED = "Failed"
    """The experiment has ended without a network."""


class ConditionType(StrEnum):
    """Conditions of an experiment."""

    READY = "Ready"
    """The operator has done its part: the controller is running, or is not needed."""
    PROGRESSING = "Progressing"
    """The search is making progress."""
    SUSPENDED = "Suspended"
    """The experiment is paused, and every trial that was running has written a checkpoint."""
    SUCCEEDED = "Succeeded"
    """The experiment has finished with a network."""
    FAILED = "Failed"
    """The experiment has ended without a network."""


class Condition(Status):
    """A condition, as in other Kubernetes objects."""

    type: Annotated[str, Field(min_length=1, max_length=64)]
    """Type of the condition."""
    status: Literal["True", "False", "Unknown"]
    """Status of the condition."""
    reason: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    """Reason for the last transition, one word for programs."""
    message: Text = ""
    """Reason for people to read."""
    last_transition_time: Time
    """When the status of the condition last changed."""
    observed_generation: Count | None = None
    """Generation of the spec that the condition was set for."""


class TrialCounts(Status):
    """Numbers of trials of the search and its control, by state."""

    total: Count = 0
    """Trials created so far."""
    running: Count = 0
    """Trials in progress, including finalists and baselines. Trials that wait for a node or for a
    retry are not counted."""
    paused: Count = 0
    """Trials that have a value and wait to be trained further. They hold no slot and no GPU."""
    succeeded: Count = 0
    """Trials that were trained and measured."""
    stopped: Count = 0
    """Trials that ended before their last epoch. Their last value counts."""
    infeasible: Count = 0
    """Trials that can never work."""
    failed: Count = 0
    """Trials that crashed too often."""
    control: Count = 0
    """Trials of the random control, among all of these."""


class Incumbent(Status):
    """The best trial of a group."""

    trial: Count
    """Number of the trial."""
    value: float
    """Value of the objective's metric."""
    metrics: Metrics = Field(default_factory=dict)
    """Metrics of the trial."""
    rung: Annotated[int, Field(ge=-1, le=1000)] | None = None
    """The rung at whose end it has this value, if trials are trained in several rungs. A trial of a
    higher rung is better than one of a lower rung, whatever their values."""
    architecture: Annotated[dict[str, Any] | None, BeforeValidator(_small)] = None
    """The genotype, unless it is too large for a status."""


class RungStatus(Status):
    """Trials of the search and its control at one rung."""

    rung: Annotated[int, Field(ge=-1, le=1000)]
    """Place on the ladder, from 0; -1 for trials that are measured before they are trained."""
    until: Count
    """Epochs after which a trial pauses or ends here."""
    reached: Count = 0
    """Trials that reached the end of the rung."""
    running: Count = 0
    """Trials that are on their way to it."""
    paused: Count = 0
    """Trials that are paused at its end."""
    promoted: Count = 0
    """Trials that continued to a higher rung."""
    stopped: Count = 0
    """Trials that were stopped in it or at its end. Those that were paused when the search ended
    are not counted."""
    epochs: Count = 0
    """Training epochs spent in it."""


class StoppingStatus(Status):
    """The rule that stops trials by their learning curves, and how far it can be trusted."""

    stopped: Count = 0
    """Trials that the rule stopped."""
    spared: Count = 0
    """Trials that it would have stopped, and that were trained on and have a result."""
    won: Count = 0
    """Those of the spared that became the best trial. `won` of `spared` estimates the share of the
    stopped trials that would have become the best."""


class FrontPoint(Status):
    """A trial of the Pareto front."""

    trial: Count
    """Number of the trial."""
    values: Annotated[dict[Metric, float], Field(max_length=5)]
    """Values of the objectives."""


class LimitStatus(Status):
    """A limit of the budget and how much of it is used."""

    name: Annotated[str, Field(max_length=32)]
    """Field of `spec.budget`."""
    spent: float
    """Amount spent or reserved for running trials, in the unit of the field (duration: seconds)."""
    left: float
    """Amount left."""
    total: float
    """The limit."""


class StorageStatus(Status):
    """The storage that the operator chose, in the format of `spec.storage`."""

    uri: Uri
    """Prefix of everything the experiment writes."""
    endpoint: Uri | None = None
    """URL of an S3-compatible server."""
    region: Annotated[str, Field(max_length=64)] | None = None
    """Region of the bucket."""
    credentials_secret: Annotated[str, Field(max_length=253)] | None = None
    """Secret with the credentials, in the experiment's namespace."""
    role_arn: Annotated[str, Field(max_length=2048)] | None = None
    """IAM role that the pods assume with a token of their ServiceAccount."""
    token_audience: Annotated[str, Field(max_length=253)] | None = None
    """Audience of that token."""
    sts_endpoint: Uri | None = None
    """URL of the service that exchanges the token for credentials."""
    ca_config_map: Annotated[str, Field(max_length=253)] | None = None
    """ConfigMap with the CA certificates, in the experiment's namespace."""


class CostStatus(Status):
    """Total cost, including killed attempts."""

    epochs: Count = 0
    """Training epochs that have started."""
    samples: Count = 0
    """Training samples processed."""
    device_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Device seconds."""


class WeightsStatus(Status):
    """Size of the weights that trials store for their children."""

    written: Count = 0
    """Bytes written by all finished trials."""
    kept: Count = 0
    """Bytes in the storage now. `spec.storage.weights` decides which weights are kept."""


class ExperimentStatus(Status):
    """Observed state of an experiment. The operator writes `observedGeneration` and the condition
    `Ready`; the experiment's controller writes everything else."""

    observed_generation: Count | None = None
    """Generation of the spec that the operator has processed."""
    phase: Phase | None = None
    """Phase of the experiment in one word."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8), Keyed("type")] = ()
    """Conditions: Ready, Progressing, Suspended, Succeeded, Failed."""
    start_time: Time | None = None
    """When the controller first started."""
    completion_time: Time | None = None
    """When the experiment ended."""
    progress: Annotated[str, Field(max_length=64)] | None = None
    """Finished and planned trials, such as 120/300, for the printed column."""
    trials: TrialCounts | None = None
    """Numbers of trials by state."""
    estimation: Annotated[str, Field(max_length=64)] | None = None
    """Type of the estimation, also where `spec.estimation.type` is `Auto`."""
    rungs: Annotated[tuple[RungStatus, ...], Field(max_length=MAX_RUNGS)] = ()
    """How trials stand at each rung, if they are trained in several rungs."""
    stopping: StoppingStatus | None = None
    """What the rule did that stops trials, if there is one."""
    best: Incumbent | None = None
    """Best trial of the search so far, of the highest rung that one has reached."""
    control: Incumbent | None = None
    """Best trial of the random control so far."""
    winner: Incumbent | None = None
    """The best finalist."""
    test: Metrics = Field(default_factory=dict)
    """Metrics of the winner on the test split, measured once."""
    front: Annotated[tuple[FrontPoint, ...], Field(max_length=MAX_FRONT)] = ()
    """The Pareto front, if there are several objectives."""
    budget: Annotated[tuple[LimitStatus, ...], Field(max_length=8)] = ()
    """Limits of the budget and how much of them is used."""
    budget_left: Annotated[str, Field(max_length=128)] | None = None
    """Remaining budget, for the printed column."""
    cost: CostStatus | None = None
    """Total cost."""
    weights: WeightsStatus | None = None
    """Size of the stored weights, if children inherit weights."""
    storage: StorageStatus | None = None
    """The storage in use, if the manifest leaves it to the cluster's default. It does not change
    after the search has started."""
    report: Uri | None = None
    """URI of the report."""
    model: Uri | None = None
    """URI of the trained network."""


class TrialPhase(StrEnum):
    """Phase of a trial's attempt."""

    PENDING = "Pending"
    """The pod has not started yet."""
    RUNNING = "Running"
    """The pod is running."""
    SUCCEEDED = "Succeeded"
    """The pod has succeeded, and the result is in the store."""
    PAUSED = "Paused"
    """The pod has succeeded, and the trial waits for the decision whether it is trained further. A
    trial that is never promoted keeps this phase."""
    INFEASIBLE = "Infeasible"
    """The trial can never work."""
    STOPPED = "Stopped"
    """The attempt was stopped at a checkpoint, as requested."""
    FAILED = "Failed"
    """The attempt has failed; see `reason`."""

    @property
    def ended(self) -> bool:
        """Whether the attempt has ended."""
        return self not in (TrialPhase.PENDING, TrialPhase.RUNNING)


class TrialReason(StrEnum):
    """Reason for the phase of an attempt."""

    COMPLETED = "Completed"
    """Exit code 0, at the end or at a pause."""
    INFEASIBLE = "Infeasible"
    """Exit code 42."""
    BAD_INPUT = "BadInput"
    """Exit code 2: the job is invalid, or the data or the device is missing."""
    TERMINATED = "Terminated"
    """Exit code 143: the trainer wrote a checkpoint after SIGTERM."""
    UNAVAILABLE = "Unavailable"
    """Exit code 75: the store was unavailable for too long."""
    CHECKPOINT_GONE = "CheckpointGone"
    """Exit code 76: the checkpoint holds fewer epochs than were paid for."""
    CRASHED = "Crashed"
    """Any other exit code."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The container was killed because it ran out of memory."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """The attempt ran longer than `trialTemplate.timeLimit`."""
    REJECTED = "Rejected"
    """The node rejected the pod, or the pod failed before the trainer started."""
    GIVEN_UP = "GivenUp"
    """More attempts in a row were disrupted than `trialTemplate.maxDisruptions` allows."""
    DISRUPTED = "Disrupted"
    """The pod was evicted, preempted or deleted, or its node was lost."""


class LastAttempt(Status):
    """Outcome of an earlier attempt."""

    number: Count
    """Number of the attempt."""
    reason: Annotated[str, Field(max_length=128)] | None = None
    """Reason in one word."""
    message: Text | None = None
    """Reason for people to read."""
    exit_code: int | None = None
    """Exit code of the attempt."""
    node: Annotated[str, Field(max_length=253)] | None = None
    """Node of the pod."""
    completion_time: Time | None = None
    """When the attempt ended."""


class TrialStatus(Status):
    """Observed state of a trial, written by the operator."""

    observed_generation: Count | None = None
    """Generation of the spec that the operator has processed."""
    phase: TrialPhase | None = None
    """Phase of the attempt."""
    attempt: Count | None = None
    """Number of the current attempt."""
    reason: Annotated[str, Field(max_length=128)] | None = None
    """Reason in one word."""
    message: Text | None = None
    """Reason for people to read."""
    exit_code: int | None = None
    """Exit code of the attempt."""
    node: Annotated[str, Field(max_length=253)] | None = None
    """Node of the pod."""
    pod: Annotated[str, Field(max_length=253)] | None = None
    """Name of the pod."""
    start_time: Time | None = None
    """When the attempt's pod started."""
    completion_time: Time | None = None
    """When the attempt ended."""
    disruptions: Count | None = None
    """Number of disrupted attempts in a row. An attempt that runs for 10 minutes resets the
    count."""
    retry_time: Time | None = None
    """Earliest start of the next attempt."""
    last_attempt: LastAttempt | None = None
    """Outcome of the previous attempt."""
    value: float | None = None
    """Value of the objective's metric, as reported by the trainer."""
    epochs: Count | None = None
    """Epochs completed."""
