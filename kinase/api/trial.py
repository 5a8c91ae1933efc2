"""Trial contract v1: the input and output of a trial.

Any program that reads a `TrialJob` and writes a `TrialResult` can be a trainer
(docs/trial-contract.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from kinase.api._base import Metric, Model, Name
from kinase.api.fidelity import Fidelity
from kinase.api.inheritance import Inheritance, Inherited
from kinase.api.objective import Goal
from kinase.api.root import Root, RootFiles
from kinase.api.slice import Slice
from kinase.api.space import Space
from kinase.api.supernet import MOST_ALSO, Derived, SupernetPlan
from kinase.api.task import Task, Training

Architecture = dict[str, Any]
"""A genotype: plain JSON data in the format of its search space."""

INFEASIBLE_EXIT = 42
"""Exit code of a trial that can never work."""
BAD_INPUT_EXIT = 2
"""Exit code if the job is invalid, or the data or the device is missing."""
UNAVAILABLE_EXIT = 75
"""Exit code if the store was unavailable for too long. Retried, not counted as a retry."""
CHECKPOINT_GONE_EXIT = 76
"""Exit code if the checkpoint holds fewer epochs than `TrialJob.done`. Nothing was trained or
charged."""
TERMINATED_EXIT = 143
"""Exit code after SIGTERM and a checkpoint. Retried, not counted as a retry."""
WORKER_LOST_EXIT = 77
"""Exit code of a worker that has lost another worker of its trial, or waited for it in vain.
Retried, not counted as a retry."""
MAX_WORKERS = 64
"""Maximum number of processes that train one trial together."""
Workers = Annotated[int, Field(ge=1, le=MAX_WORKERS)]
MAX_ATTEMPTS = 999
"""Maximum number of attempts at one stretch of a trial, for whatever reason they end."""


class CheckpointGone(Exception):
    """A trainer raises it if the checkpoint holds fewer epochs than `TrialJob.done`: the missing
    ones are not paid for. Nothing was trained."""


class Kind(StrEnum):
    """Purpose of a trial."""

    SEARCH = "Search"
    CONTROL = "Control"
    FINAL = "Final"
    BASELINE = "Baseline"
    SUPERNET = "Supernet"


class Outcome(StrEnum):
    """How a trial ended."""

    SUCCEEDED = "Succeeded"
    """The trial was trained and measured."""
    STOPPED = "Stopped"
    """The trial ended at a checkpoint before its last epoch: it was asked to, or paused at
    `TrialJob.until`. Its last value counts."""
    INFEASIBLE = "Infeasible"
    """The trial can never work: an invalid architecture, too little memory, or the time limit."""
    FAILED = "Failed"
    """The trial crashed more often than `maxRetries` allows."""


class Cost(Model):
    """Cost of a trial, including all attempts and the work lost with killed attempts."""

    epochs: Annotated[int, Field(ge=0)] = 0
    """Training epochs that have started."""
    samples: Annotated[int, Field(ge=0)] = 0
    """Training samples processed (forward and backward)."""
    device_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that a device (or a local slot) was in use, for training and validation. Those of
    several workers are added."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            epochs=self.epochs + other.epochs,
            samples=self.samples + other.samples,
            device_seconds=self.device_seconds + other.device_seconds,
        )

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            epochs=max(0, self.epochs - other.epochs),
            samples=max(0, self.samples - other.samples),
            device_seconds=max(0.0, self.device_seconds - other.device_seconds),
        )


ProxyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=64)]
"""Name of a zero-cost proxy."""
PROXY = "proxy_"
"""Prefix of the metric with a proxy's value."""


class Candidate(Model):
    """A further candidate that a job scores, with the fields in which it differs from the first.
    See `TrialJob` for what they mean."""

    trial: Annotated[int, Field(ge=0)]
    """Number of the trial in its experiment."""
    attempt: Annotated[int, Field(ge=1)] = 1
    """Number of the attempt, from 1."""
    kind: Kind = Kind.SEARCH
    """Purpose of the trial."""
    architecture: Architecture
    """The genotype."""
    seed: Annotated[int, Field(ge=0)]
    """Seed of the trial."""
    prefix: str
    """Path of the trial below the experiment's store."""

    @classmethod
    def of(cls, job: TrialJob) -> Candidate:
        """The candidate of a job."""
        return cls(**{name: getattr(job, name) for name in cls.model_fields})


class TrialJob(Model):
    """Input of a trial (contract v1): one JSON object. `until`, `done`, `measure`, `supernet`,
    `slice`, `also` and `workers` are left out of it where they have their defaults, so that a
    trainer that does not know them reads it."""

    version: Literal[1] = 1
    """Version of the contract."""
    experiment: Name
    """Name of the experiment."""
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial in its experiment."""
    attempt: Annotated[int, Field(ge=1)] = 1
    """Number of the attempt, from 1."""
    kind: Kind = Kind.SEARCH
    """Purpose of the trial. Only a `Final` trial can use the test split, and only if `test` is
    set."""
    task: Task
    """The learning task and its data."""
    training: Training
    """How to train the network."""
    space: Space
    """The search space of the architecture."""
    architecture: Architecture
    """The genotype."""
    fidelity: Fidelity
    """How much to spend on the trial."""
    seed: Annotated[int, Field(ge=0)]
    """Seed of weights, data order and augmentation."""
    prefix: str
    """Path of the trial below the experiment's store, such as `trials/00007`."""
    keep_weights: bool = False
    """Whether to store the trained weights with the result."""
    keep_checkpoint: bool = False
    """Whether to keep the last checkpoint once there is a result."""
    keep_optimizer: bool = False
    """Whether to store the optimizer's state with the weights."""
    inherit: Inheritance | None = None
    """Weights that the network inherits, or None to train it from scratch."""
    root: RootFiles | None = None
    """The network that the search starts from, if the space has one. A trial that inherits from no
    other trial uses its weights."""
    test: bool = False
    """Whether to evaluate the stored weights on the test split, without training."""
    until: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Epochs, of those in `fidelity`, after which the trial pauses with a checkpoint. With 0, the
    network is only built and measured. None: all of them."""
    done: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Epochs that the checkpoint must hold, because only the others are paid for."""
    measure: Annotated[tuple[ProxyName, ...], Field(max_length=32)] = ()
    """Zero-cost proxies to measure on the network with its initial weights, before any are
    inherited. Each is reported as a metric, `proxy_` and its name."""
    supernet: SupernetPlan | None = None
    """How to train the supernet of the space, whose architecture is empty; None for a trial of one
    architecture."""
    slice: Slice | None = None
    """The supernet whose weights the network takes. With `until` 0 it is scored with them, without
    training."""
    also: Annotated[tuple[Candidate, ...], Field(max_length=MOST_ALSO)] = ()
    """Further candidates, which the same process scores in turn after the first. Each leaves its
    own result below its own prefix. Only with `slice` and `until` 0."""
    workers: Workers = 1
    """Number of processes that train the network together. Each has this job, and its environment
    says which one it is. It does not change what is trained."""

    @model_validator(mode="after")
    def _in_order(self) -> TrialJob:
        if self.until is not None and self.until > self.fidelity.epochs:
            raise ValueError(
                f"until is {self.until}; it must be at most fidelity.epochs, {self.fidelity.epochs}"
            )
        if self.done > self.last_epoch:
            raise ValueError(
                f"done is {self.done}; it must be at most {self.last_epoch}, the epochs to train"
            )
        return self

    @model_validator(mode="after")
    def _scored(self) -> TrialJob:
        if self.also and (self.slice is None or self.until != 0):
            raise ValueError(
                "also is for candidates that are scored and not trained: it requires slice and "
                "until 0"
            )
        numbers = [self.trial, *(each.trial for each in self.also)]
        if len(set(numbers)) < len(numbers):
            twice = next(number for number in numbers if numbers.count(number) > 1)
            raise ValueError(f"also: trial {twice} is there twice")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        for name, default in _LEFT_OUT.items():
            if getattr(self, name) == default:
                document.pop(name, None)
        for name in ("training", "architecture"):  # of a job's space both are always None
            if document["space"].get(name) is None:
                document["space"].pop(name, None)
        return document

    @property
    def last_epoch(self) -> int:
        """Epochs after which this attempt ends."""
        return self.fidelity.epochs if self.until is None else self.until

    @property
    def members(self) -> tuple[TrialJob, ...]:
        """A job for each candidate: this one without `also`, and the others in order."""
        if not self.also:
            return (self,)
        first = self.model_copy(update={"also": ()})
        return (first, *(first.model_copy(update=dict(each)) for each in self.also))

    def with_also(self, others: Iterable[TrialJob]) -> TrialJob:
        """The same with further candidates, whose jobs differ in nothing else."""
        return self.model_copy(update={"also": (*self.also, *map(Candidate.of, others))})


_LEFT_OUT: dict[str, Any] = {
    "until": None,
    "done": 0,
    "measure": (),
    "supernet": None,
    "slice": None,
    "also": (),
    "workers": 1,
}
"""Fields of a job that are left out where they have these values."""


def _square(rows: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """A matrix with as many columns as rows."""
    if any(len(row) != len(rows) for row in rows):
        raise ValueError(f"the matrix has {len(rows)} rows; each must have as many numbers")
    return rows


Said = Annotated[str, Field(max_length=1000)]
"""One line for a person."""
MOST_CLASSES = 1000
"""Maximum number of classes that a trainer names."""


class ClassCount(Model):
    """Number of samples of a class in each split."""

    name: Annotated[str, Field(max_length=128)]
    """Name of the class."""
    train: Annotated[int, Field(ge=0)] = 0
    """Samples of the training split."""
    validation: Annotated[int, Field(ge=0)] = 0
    """Samples of the validation split."""
    test: Annotated[int, Field(ge=0)] = 0
    """Samples of the test split."""


class TaskInfo(Model):
    """The trainer's description of a task, made before any trial."""

    input: tuple[int, int, int]
    """(channels, height, width) of one sample at full fidelity."""
    outputs: Annotated[int, Field(ge=1)]
    """Width of the network's last layer: the number of classes."""
    train: Annotated[int, Field(ge=1)]
    """Samples of the training split."""
    validation: Annotated[int, Field(ge=1)]
    """Samples of the validation split."""
    test: Annotated[int, Field(ge=0)]
    """Samples of the test split."""
    metrics: tuple[str, ...]
    """Metrics measured on the validation split."""
    goals: Annotated[dict[Metric, Goal], Field(max_length=64)] = Field(default_factory=dict)
    """Direction of each metric. A metric without a direction needs a goal in the manifest."""
    classes: Annotated[tuple[ClassCount, ...], Field(max_length=MOST_CLASSES)] = ()
    """The classes or labels, in the order of the network's outputs."""
    several: bool = False
    """Whether a sample can have any number of the classes: they are labels."""
    targets: Said = ""
    """Summary of targets that are not classes, such as their number and range."""
    notes: Annotated[tuple[Said, ...], Field(max_length=32)] = ()
    """Remarks on how the data was read, such as skipped files or renumbered labels."""
    warnings: Annotated[tuple[Said, ...], Field(max_length=32)] = ()
    """Possible problems of the data, such as a class that is missing in a split, or imbalance."""
    device: str
    """Device of the trials, such as cpu or cuda."""
    facts: dict[str, str] = Field(default_factory=dict)
    """Facts for the report's protocol: versions, data, hardware."""
    data: dict[str, Annotated[str, Field(max_length=128)]] = Field(
        default_factory=dict, max_length=16
    )
    """Digests of the data by part, such as samples, test and files, to detect that the data has
    changed since the search started. A part without a digest is not compared."""
    root: Root | None = None
    """The network that the search starts from, if the job has a space with such a network."""
    supports: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=32)] = ()
    """Optional fields of a job that the trainer knows: `until`, with which goes `done`, `measure`,
    `supernet`, with which goes `slice`, `also`, and `workers`."""
    proxies: Annotated[tuple[ProxyName, ...], Field(max_length=256)] = ()
    """Zero-cost proxies that the trainer can measure. Without any, a search does not check the
    names in its manifest."""


MOST_CONFUSED = 200
"""Classes up to which a confusion matrix is kept."""
Confusion = Annotated[
    tuple[Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=MOST_CONFUSED)], ...],
    Field(max_length=MOST_CONFUSED),
    AfterValidator(_square),
]


def _measured(metrics: Any) -> Any:
    """Metrics without those that are not numbers, as some programs write them in JSON."""
    if not isinstance(metrics, dict):
        return metrics
    return {
        name: value
        for name, value in metrics.items()
        if not (isinstance(value, float) and not math.isfinite(value))
    }


Metrics = Annotated[dict[str, float], BeforeValidator(_measured)]
"""Metrics by name. One that is NaN or infinite is omitted."""


MOST_DERIVED = 1000
"""Architectures that a supernet's trial may name."""
Folder = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$")]
"""Name of a folder; empty: none."""


def epoch_folder(epochs: int) -> str:
    """The folder for the network that a trial has after so many epochs."""
    return f"epoch-{epochs}"


class Point(Model):
    """One epoch of a learning curve."""

    epoch: Annotated[int, Field(ge=1)]
    """Epochs completed, from 1."""
    metrics: Metrics
    """Metrics after the epoch. NaN and infinite values are omitted."""
    device_seconds: Annotated[float, Field(ge=0)]
    """Seconds of training since the trial's first epoch, including earlier attempts. Those of
    several workers are added."""


class TrialResult(Model):
    """Output of a trial (contract v1): `result.json` below the trial's prefix."""

    version: Literal[1] = 1
    """Version of the contract."""
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial."""
    attempt: Annotated[int, Field(ge=1)]
    """The attempt that wrote this."""
    outcome: Outcome
    """How the trial ended."""
    metrics: Metrics = Field(default_factory=dict)
    """Final metrics. A metric that is NaN or infinite is omitted and counts as the worst value."""
    cost: Cost = Cost()
    """What was spent."""
    curve: tuple[Point, ...] = ()
    """The learning curve."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """Error message for people to read."""
    inherited: Inherited | None = None
    """What the network has inherited, if inheritance was requested."""
    confusion: Confusion | None = None
    """Confusion matrix of the test split: samples by true class (rows) and predicted class
    (columns), in the order of the network's outputs. None if samples do not have one class."""
    kept_bytes: Annotated[int, Field(ge=0)] = 0
    """Size of the stored weights in bytes."""
    kept_in: Folder = ""
    """Folder below the trial's prefix with the stored network, such as `epoch-3`; empty: the prefix
    itself. A trial that pauses keeps each network in a separate folder, because a child may read an
    earlier one meanwhile."""
    derived: Annotated[tuple[Derived, ...], Field(max_length=MOST_DERIVED)] = ()
    """Of a supernet: the architectures that its choices have led to, best first."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """Facts for the report's protocol: versions, device, sizes of the splits."""


class TrialProgress(Model):
    """Cost of all attempts of a trial so far (contract v1): `progress.json` below the trial's
    prefix. It is written before and after each epoch, so that the controller can charge the work
    of a killed attempt."""

    model_config = {**Model.model_config, "extra": "ignore"}

    attempt: Annotated[int, Field(ge=0)] = 0
    """The attempt that wrote this, or 0 if none has started."""
    epochs_begun: Annotated[int, Field(ge=0)] = 0
    """Epochs started, including those of lost attempts."""
    epochs_done: Annotated[int, Field(ge=0)] = 0
    """Epochs completed in the checkpoint."""
    samples: Annotated[int, Field(ge=0)] = 0
    """Training samples processed. An epoch that started but did not end counts in full."""
    device_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Device seconds, including validation."""
    metrics: Metrics = Field(default_factory=dict)
    """Metrics after the last completed epoch."""

    @property
    def cost(self) -> Cost:
        """What was spent."""
        return Cost(
            epochs=self.epochs_begun, samples=self.samples, device_seconds=self.device_seconds
        )


class TaskJob(Model):
    """Asks the trainer to describe the task (contract v1). The answer, a `TaskInfo`, is stored at
    `key`."""

    version: Literal[1] = 1
    """Version of the contract."""
    describe: Literal[True] = True
    """Distinguishes this job from a trial's."""
    experiment: Name
    """Name of the experiment."""
    task: Task
    """The learning task and its data."""
    training: Training
    """How to train networks."""
    space: Space | None = None
    """The search space, if it starts from an existing network. The answer then has a `root`."""
    key: str = "trainer.json"
    """Path of the answer below the experiment's store."""


class Termination(Model):
    """Termination message of a trial (contract v1): a hint for people, kept by Kubernetes. The
    result in the store is authoritative."""

    model_config = {**Model.model_config, "extra": "ignore"}

    value: float | None = None
    """Value of the objective's metric."""
    epochs: Annotated[int, Field(ge=0)] | None = None
    """Epochs done."""
    paused: bool = False
    """Whether the trial was trained to the end of a stretch and can be trained further."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """Error message."""
