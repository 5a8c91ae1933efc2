"""What the cluster says of an experiment and of a trial: their `status`.

A status stays small, whatever a trainer or a node says: what is too long is cut by the models.
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

MAX_STATUS = 32 * 1024
"""Bytes of an experiment's status, as JSON."""
MAX_FRONT = 24
"""Points of a Pareto front that a status holds; the report has all."""
MAX_ARCHITECTURE = 2048
"""Bytes of an architecture in a status; a larger one is in the store only."""
MAX_METRICS = 12
"""Metrics of a trial in a status."""
MAX_MESSAGE = 1024
"""Bytes of a message in a status."""


def clip(text: Any) -> Any:
    """A text that a status holds: what is longer than `MAX_MESSAGE` bytes ends in an ellipsis."""
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
"""Cut by the models."""
Uri = Annotated[str, Field(max_length=1280)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Metrics = Annotated[dict[Metric, float], BeforeValidator(_few), Field(max_length=MAX_METRICS)]


class Status(Model):
    """A status is read from objects of other versions too: an unknown field is passed over."""

    model_config = {**Model.model_config, "extra": "ignore"}


class Phase(StrEnum):
    """Where an experiment is, in one word; the conditions say it exactly."""

    PENDING = "Pending"
    """Its controller has not begun."""
    SEARCHING = "Searching"
    """Trials of the search run."""
    FINALISTS = "Finalists"
    """The best candidates are trained at full fidelity."""
    SUSPENDED = "Suspended"
    """It stands still."""
    SUCCEEDED = "Succeeded"
    """There is a trained and tested network."""
    FAILED = "Failed"
    """It ended without a network."""


class ConditionType(StrEnum):
    """Conditions of an experiment."""

    READY = "Ready"
    """The operator has done its part: the controller runs, or none is needed."""
    PROGRESSING = "Progressing"
    """The search goes on."""
    SUSPENDED = "Suspended"
    """It stands still, with every running trial at a checkpoint."""
    SUCCEEDED = "Succeeded"
    """It is finished, with a network."""
    FAILED = "Failed"
    """It is finished, without a network."""


class Condition(Status):
    """A condition as Kubernetes writes one."""

    type: Annotated[str, Field(min_length=1, max_length=64)]
    """What is said of."""
    status: Literal["True", "False", "Unknown"]
    """Whether it is so."""
    reason: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    """Why, in one word for programs."""
    message: Text = ""
    """Why, for a person."""
    last_transition_time: Time
    """When `status` last changed."""
    observed_generation: Count | None = None
    """Generation of the object that this was said of."""


class TrialCounts(Status):
    """Trials of the search and its control, by where they are."""

    total: Count = 0
    """Asked so far."""
    running: Count = 0
    """Under way, finalists and baselines included."""
    succeeded: Count = 0
    """Trained and measured."""
    stopped: Count = 0
    """Ended before their last epoch; the last value counts."""
    infeasible: Count = 0
    """Could never work."""
    failed: Count = 0
    """Crashed too often."""
    control: Count = 0
    """Those of all these that are the random control's."""


class Incumbent(Status):
    """A trial that stands out."""

    trial: Count
    """Number of the trial."""
    value: float
    """Value of the objective's metric."""
    metrics: Metrics = Field(default_factory=dict)
    """What was measured or counted."""
    architecture: Annotated[dict[str, Any] | None, BeforeValidator(_small)] = None
    """The genotype, where it is not too large for a status."""


class FrontPoint(Status):
    """A trial of the Pareto front."""

    trial: Count
    """Number of the trial."""
    values: Annotated[dict[Metric, float], Field(max_length=5)]
    """The objectives' metrics."""


class LimitStatus(Status):
    """A limit of the budget and how far it is used."""

    name: Annotated[str, Field(max_length=32)]
    """Field of `spec.budget`."""
    spent: float
    """What is spent or promised to trials under way, in the field's unit (duration: seconds)."""
    left: float
    """What is left."""
    total: float
    """The limit."""


class StorageStatus(Status):
    """A place that the operator chose, as `spec.storage` would name it."""

    uri: Uri
    """Prefix of everything the experiment writes."""
    endpoint: Uri | None = None
    """URL of an S3-compatible server."""
    region: Annotated[str, Field(max_length=64)] | None = None
    """Region of the bucket."""
    credentials_secret: Annotated[str, Field(max_length=253)] | None = None
    """Secret with the credentials, in the experiment's namespace."""
    role_arn: Annotated[str, Field(max_length=2048)] | None = None
    """Role that the pods take by a token of their ServiceAccount."""
    token_audience: Annotated[str, Field(max_length=253)] | None = None
    """Audience of that token."""
    sts_endpoint: Uri | None = None
    """URL of the service that gives credentials for that token."""
    ca_config_map: Annotated[str, Field(max_length=253)] | None = None
    """ConfigMap with the authorities' certificates, in the experiment's namespace."""


class CostStatus(Status):
    """What was spent, killed attempts included."""

    epochs: Count = 0
    """Training epochs begun."""
    samples: Count = 0
    """Sample passes."""
    device_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Seconds of devices."""


class WeightsStatus(Status):
    """What trials have kept of their networks for their children."""

    written: Count = 0
    """Bytes, of all trials that have ended."""
    kept: Count = 0
    """Bytes that are in the storage now; `storage.weights` says which stay."""


class ExperimentStatus(Status):
    """Where an experiment is. Written by the operator (`observedGeneration`, condition `Ready`)
    and by the experiment's controller (the rest)."""

    observed_generation: Count | None = None
    """Generation of the spec that the operator has acted on."""
    phase: Phase | None = None
    """Where it is, in one word."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8), Keyed("type")] = ()
    """Ready, Progressing, Suspended, Succeeded, Failed."""
    start_time: Time | None = None
    """When the controller first began."""
    completion_time: Time | None = None
    """When it finished."""
    progress: Annotated[str, Field(max_length=64)] | None = None
    """Trials ended and to come, for the column: 120/300."""
    trials: TrialCounts | None = None
    """Counts of trials."""
    best: Incumbent | None = None
    """The search's best trial so far."""
    control: Incumbent | None = None
    """The random control's best trial so far."""
    winner: Incumbent | None = None
    """The finalist that won."""
    test: Metrics = Field(default_factory=dict)
    """What the winner measured on the test part, once."""
    front: Annotated[tuple[FrontPoint, ...], Field(max_length=MAX_FRONT)] = ()
    """The Pareto front, where there are several objectives."""
    budget: Annotated[tuple[LimitStatus, ...], Field(max_length=8)] = ()
    """The limits and how far they are used."""
    budget_left: Annotated[str, Field(max_length=128)] | None = None
    """What is left, for the column."""
    cost: CostStatus | None = None
    """What was spent."""
    weights: WeightsStatus | None = None
    """What was kept for children, where children inherit weights."""
    storage: StorageStatus | None = None
    """Where everything is kept, where the manifest leaves that to the cluster. It stays as it is
    once the search has begun."""
    report: Uri | None = None
    """Where the report lies."""
    model: Uri | None = None
    """Where the trained network lies."""


class TrialPhase(StrEnum):
    """Where a trial's attempt is."""

    PENDING = "Pending"
    """Its pod has not begun."""
    RUNNING = "Running"
    """Its pod runs."""
    SUCCEEDED = "Succeeded"
    """Its pod ended well: the result is in the store."""
    INFEASIBLE = "Infeasible"
    """It can never work."""
    STOPPED = "Stopped"
    """It was ended at a checkpoint, as was asked."""
    FAILED = "Failed"
    """The attempt came to nothing; `reason` says how."""

    @property
    def ended(self) -> bool:
        """Whether the attempt is over."""
        return self not in (TrialPhase.PENDING, TrialPhase.RUNNING)


class TrialReason(StrEnum):
    """Why an attempt is where it is."""

    COMPLETED = "Completed"
    """Exit code 0."""
    INFEASIBLE = "Infeasible"
    """Exit code 42."""
    BAD_INPUT = "BadInput"
    """Exit code 2: the job cannot be read, or the data or device is not there."""
    TERMINATED = "Terminated"
    """Exit code 143: it reached a checkpoint after SIGTERM."""
    UNAVAILABLE = "Unavailable"
    """Exit code 75: the store could not be reached for too long."""
    CRASHED = "Crashed"
    """Any other exit code."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The kernel ended it for lack of memory."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """It ran longer than `trialTemplate.timeLimit`."""
    REJECTED = "Rejected"
    """Its node did not take the pod, or the pod failed before the trainer began."""
    GIVEN_UP = "GivenUp"
    """More attempts in a row were lost for no fault of its own than
    `trialTemplate.maxDisruptions` allows."""
    DISRUPTED = "Disrupted"
    """Its pod was evicted, preempted or deleted, or its node was lost."""


class LastAttempt(Status):
    """How an attempt ended that another has followed."""

    number: Count
    """Its number."""
    reason: Annotated[str, Field(max_length=128)] | None = None
    """Why it ended, in one word."""
    message: Text | None = None
    """Why it ended, for a person."""
    exit_code: int | None = None
    """Its exit code."""
    node: Annotated[str, Field(max_length=253)] | None = None
    """Where it ran."""
    completion_time: Time | None = None
    """When it ended."""


class TrialStatus(Status):
    """Where a trial is. Written by the operator."""

    observed_generation: Count | None = None
    """Generation of the spec that this was said of."""
    phase: TrialPhase | None = None
    """Where the attempt is."""
    attempt: Count | None = None
    """The attempt that this is said of."""
    reason: Annotated[str, Field(max_length=128)] | None = None
    """Why, in one word."""
    message: Text | None = None
    """Why, for a person."""
    exit_code: int | None = None
    """Exit code of the attempt."""
    node: Annotated[str, Field(max_length=253)] | None = None
    """Where it runs or ran."""
    pod: Annotated[str, Field(max_length=253)] | None = None
    """Its pod."""
    start_time: Time | None = None
    """When the attempt's pod began."""
    completion_time: Time | None = None
    """When it ended."""
    disruptions: Count | None = None
    """Attempts in a row that were lost for no fault of the trial's own, up to the last that ended.
    One that ran for 10 minutes begins the count again."""
    retry_time: Time | None = None
    """The next attempt begins no sooner."""
    last_attempt: LastAttempt | None = None
    """How the attempt before this one ended."""
    value: float | None = None
    """Value of the objective's metric, as the trainer says."""
    epochs: Count | None = None
    """Epochs done."""
