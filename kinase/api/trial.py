"""`NASTrial`, and trial contract v1: what goes into a trial and what comes out of it.

Any program that reads a `TrialJob` and writes a `TrialResult` can be a trainer
(docs/trial-contract.md).
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kinase.api._base import Metric, Model, Name, Rule
from kinase.api.estimation import Epochs, Fraction
from kinase.api.objective import Goal
from kinase.api.space import Space
from kinase.api.status import TrialStatus
from kinase.api.task import Task, Training

Architecture = dict[str, Any]
"""A genotype: plain JSON data, whose form its search space defines."""

INFEASIBLE_EXIT = 42
"""Exit code of a trial that can never work."""
BAD_INPUT_EXIT = 2
"""Exit code where the job cannot be read, or the data or the device is not there."""
UNAVAILABLE_EXIT = 75
"""Exit code where the store could not be reached for too long; tried again, not counted."""
TERMINATED_EXIT = 143
"""Exit code after SIGTERM, at a checkpoint; tried again, not counted."""


class Kind(StrEnum):
    """Why a trial is run."""

    SEARCH = "Search"
    CONTROL = "Control"
    FINAL = "Final"
    BASELINE = "Baseline"


class Outcome(StrEnum):
    """How a trial ended."""

    SUCCEEDED = "Succeeded"
    """It was trained and measured."""
    STOPPED = "Stopped"
    """It was ended before its last epoch, by the budget or the user; its last value counts."""
    INFEASIBLE = "Infeasible"
    """It can never work: a bad architecture, no memory for it, or the time limit."""
    FAILED = "Failed"
    """It crashed more often than `maxRetries` allows."""


class Scale(Model):
    """How large the network of an architecture is built."""

    cells: Annotated[int, Field(ge=1, le=200)] | None = None
    """Cells in the network; None where the space has none."""
    filters: Annotated[int, Field(ge=1, le=2048)] | None = None
    """Channels of the first cells; None where the architecture says its own widths."""
    filter_fraction: Fraction = 1.0
    """Factor on every channel count, rounded, at least 1 channel."""


class Fidelity(Model):
    """How much is spent on one trial."""

    epochs: Epochs
    """Training epochs."""
    data_fraction: Fraction = 1.0
    """Share of the training split."""
    resolution: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Input height and width in pixels; None is the data set's own."""
    scale: Scale = Scale()
    """Size of the network."""


class Cost(Model):
    """What a trial spent, all its attempts and what was lost with a killed one included."""

    epochs: Annotated[int, Field(ge=0)] = 0
    """Training epochs begun."""
    samples: Annotated[int, Field(ge=0)] = 0
    """Sample passes: training samples that went forward and backward."""
    device_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that a device (or a local slot) was held, training and validation."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            epochs=self.epochs + other.epochs,
            samples=self.samples + other.samples,
            device_seconds=self.device_seconds + other.device_seconds,
        )


class Ancestor(Model):
    """A trial of the search whose trained weights a child may begin with."""

    trial: Annotated[int, Field(ge=0)]
    """Number of the ancestor's trial."""
    prefix: str
    """Where it lies below the store of the experiment: `trials/00003`."""
    architecture: Architecture
    """Its genotype."""
    scale: Scale = Scale()
    """Size of its network."""
    morphisms: tuple[dict[str, Any], ...] | None = None
    """The morphisms, as plain data and in order, that make its network that of the next in the
    line: the ancestor before it in the list, or the child itself. None where there are none."""


class Inheritance(Model):
    """What a child may begin with."""

    ancestors: Annotated[tuple[Ancestor, ...], Field(min_length=1, max_length=8)]
    """The parent, its parent, and so on. The nearest whose weights are there and sound is taken."""
    matching: bool = True
    """Whether a child that no morphisms lead to takes the tensors of the same name and shape."""
    learning_rate_factor: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Factor on the learning rate of a child that has inherited."""
    optimizer: bool = False
    """Whether it inherits the optimiser's slots, too."""
    distil: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Of the epochs of its training the first, in which it learns from the outputs of the ancestor
    that morphisms lead from, and from no label: some of these morphisms are approximate."""


class Inherited(Model):
    """What a child did begin with."""

    trial: Annotated[int, Field(ge=0)] | None = None
    """The ancestor whose weights they are; None where there was none to be used."""
    root: bool = False
    """Whether they are those of the network that the search begins with."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the child's parameters that are the ancestor's; 1 where morphisms lead from it,
    since the child then begins as the ancestor's whole function, or as near it as they go."""
    morphisms: Annotated[int, Field(ge=0)] | None = None
    """How many morphisms lead from that ancestor to the child; None where tensors were matched by
    name and shape."""
    distilled: Annotated[int, Field(ge=0)] = 0
    """Epochs in which it has learnt from that ancestor's outputs, before it learnt from labels."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """Why nearer ancestors were passed over, or could not be learnt from."""


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, in hexadecimal digits."""


class RootFiles(Model):
    """The network that a search begins with, in the store of the experiment."""

    graph: Digest
    """Its graph lies at `root/<digest>.json`."""
    weights: Digest
    """Its weights lie at `root/<digest>.safetensors`."""


class Root(Model):
    """The network that a search begins with, as the trainer has made it for the task."""

    graph: dict[str, Any]
    """Its graph, as plain data: nodes and output."""
    weights: Digest
    """Digest of its weights, which the trainer has written."""

    @property
    def text(self) -> bytes:
        """The graph as the trainer has written it."""
        return json.dumps(self.graph, sort_keys=True, separators=(",", ":")).encode()

    @property
    def files(self) -> RootFiles:
        """What a trial is told of it."""
        return RootFiles(graph=hashlib.sha256(self.text).hexdigest(), weights=self.weights)


class TrialJob(Model):
    """Input of a trial (contract v1): one JSON object."""

    version: Literal[1] = 1
    """Version of the contract."""
    experiment: Name
    """Name of the experiment."""
    trial: Annotated[int, Field(ge=0)]
    """Number of the trial in its experiment."""
    attempt: Annotated[int, Field(ge=1)] = 1
    """Which attempt at this trial this is, from 1."""
    kind: Kind = Kind.SEARCH
    """Why the trial is run. Only a `Final` one may touch the test part, on request."""
    task: Task
    """What is learnt, and on which data."""
    training: Training
    """How the network is trained."""
    space: Space
    """The space that the architecture is of."""
    architecture: Architecture
    """The genotype."""
    fidelity: Fidelity
    """How much is spent."""
    seed: Annotated[int, Field(ge=0)]
    """Seed of weights, data order and augmentation."""
    prefix: str
    """Where the trial reads and writes below the store of the experiment: `trials/00007`."""
    keep_weights: bool = False
    """Whether the trained weights are written beside the result."""
    keep_checkpoint: bool = False
    """Whether the last checkpoint stays once there is a result."""
    keep_optimizer: bool = False
    """Whether the optimiser's slots are written beside the weights."""
    inherit: Inheritance | None = None
    """Weights that the network begins with; None where it begins anew."""
    root: RootFiles | None = None
    """The network that the space begins with, where it begins with one: its weights are those of a
    trial that inherits from no other."""
    test: bool = False
    """Whether the stored weights are scored on the test part; nothing is trained then."""


Said = Annotated[str, Field(max_length=1000)]
"""One line for a person."""
MOST_CLASSES = 1000
"""Classes that a trainer names; the others go without."""


class ClassCount(Model):
    """How many samples of a class each part holds."""

    name: Annotated[str, Field(max_length=128)]
    """Name of the class."""
    train: Annotated[int, Field(ge=0)] = 0
    """Samples of the training split."""
    validation: Annotated[int, Field(ge=0)] = 0
    """Samples of the validation split."""
    test: Annotated[int, Field(ge=0)] = 0
    """Samples of the test split."""


class TaskInfo(Model):
    """What the trainer says of a task before any trial: that its data is there, and its size."""

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
    """What is measured on the validation split."""
    goals: Annotated[dict[Metric, Goal], Field(max_length=64)] = Field(default_factory=dict)
    """Which way each metric is better; one that is left out must have its goal in the manifest."""
    classes: Annotated[tuple[ClassCount, ...], Field(max_length=MOST_CLASSES)] = ()
    """The classes in the order of the network's outputs, where there are any."""
    notes: Annotated[tuple[Said, ...], Field(max_length=32)] = ()
    """How the data was read, where that is not plain: files passed over, labels numbered again."""
    warnings: Annotated[tuple[Said, ...], Field(max_length=32)] = ()
    """What may be wrong with the data: a class that a part lacks, an imbalance."""
    device: str
    """Where trials run, such as cpu or cuda."""
    facts: dict[str, str] = Field(default_factory=dict)
    """What the report's protocol lists: versions, data, hardware."""
    data: dict[str, Annotated[str, Field(max_length=128)]] = Field(
        default_factory=dict, max_length=16
    )
    """Digests of the data by part, such as samples, test and files: by these a run notices that the
    data has changed since it began. A part that is left out is not compared."""
    root: Root | None = None
    """The network that the search begins with, where the job names a space that begins with one."""


class Point(Model):
    """One epoch of a learning curve."""

    epoch: Annotated[int, Field(ge=1)]
    """Epochs done, from 1."""
    metrics: dict[str, float]
    """Metrics after that epoch; a NaN is left out."""
    device_seconds: Annotated[float, Field(ge=0)]
    """Seconds since the trial's first epoch began, earlier attempts included."""


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
    metrics: dict[str, float] = Field(default_factory=dict)
    """Metrics at the end. A metric that is not a number is left out, and counts as worst."""
    cost: Cost = Cost()
    """What was spent."""
    curve: tuple[Point, ...] = ()
    """The learning curve."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """What went wrong, for a person."""
    inherited: Inherited | None = None
    """What the network began with, if it was to inherit."""
    kept_bytes: Annotated[int, Field(ge=0)] = 0
    """Size of what was kept of the network for its children."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What the report's protocol lists: versions, device, sizes of the splits."""


class TrialProgress(Model):
    """What all attempts of a trial have spent (contract v1): `progress.json` below the trial's
    prefix, written before an epoch begins and after it has ended, so that a controller can
    charge what a killed attempt burnt."""

    model_config = {**Model.model_config, "extra": "ignore"}

    attempt: Annotated[int, Field(ge=0)] = 0
    """The attempt that wrote this; 0 if none has begun."""
    epochs_begun: Annotated[int, Field(ge=0)] = 0
    """Epochs begun, those of lost attempts included."""
    epochs_done: Annotated[int, Field(ge=0)] = 0
    """Epochs that the checkpoint holds."""
    samples: Annotated[int, Field(ge=0)] = 0
    """Sample passes; an epoch that was begun and not ended counts whole."""
    device_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Seconds of the device, those of validation included."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Metrics after the last epoch done."""

    @property
    def cost(self) -> Cost:
        """What was spent."""
        return Cost(
            epochs=self.epochs_begun, samples=self.samples, device_seconds=self.device_seconds
        )


class TaskJob(Model):
    """Asks the trainer about the task (contract v1); the answer, a `TaskInfo`, goes to `key`."""

    version: Literal[1] = 1
    """Version of the contract."""
    describe: Literal[True] = True
    """Tells this job from a trial's."""
    experiment: Name
    """Name of the experiment."""
    task: Task
    """What is learnt, and on which data."""
    training: Training
    """How networks are trained."""
    space: Space | None = None
    """The space of the search, where it begins with a network that the trainer has: then the answer
    has a `root`."""
    key: str = "trainer.json"
    """Where the answer goes below the store of the experiment."""


class Termination(Model):
    """What a trial says in its termination message (contract v1): a hint for people, which
    Kubernetes keeps; the truth is in the store."""

    model_config = {**Model.model_config, "extra": "ignore"}

    value: float | None = None
    """Value of the objective's metric."""
    epochs: Annotated[int, Field(ge=0)] | None = None
    """Epochs done."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """What went wrong."""


class TrialSpec(Model):
    """Desired state of one trial."""

    experiment: Name
    """The experiment that owns the trial, in the same namespace."""
    number: Annotated[int, Field(ge=0, le=9_999_999)]
    """Number of the trial in its experiment."""
    kind: Literal["Task", "Search", "Control", "Final", "Baseline", "Test"]
    """Why it is run. `Task` asks the trainer about the task, `Test` tests the winner."""
    attempt: Annotated[int, Field(ge=1, le=999)] = 1
    """The attempt that is wanted; a retry raises it."""
    stop: bool = False
    """Whether the attempt shall end at its next checkpoint."""
    token: Annotated[str, Field(min_length=16, max_length=128)] | None = None
    """With which the trial posts its metrics to the experiment's controller, and nothing else."""
    job: Annotated[str, Field(min_length=2, max_length=200_000)]
    """What is run, as JSON text: a `TrialJob` or a `TaskJob` of trial contract v1. The trainer gets
    it letter by letter; as an object the API server would neither keep its numbers' spelling nor
    its order, and would do all it does to each of its fields."""

    rules: ClassVar = (
        *(
            Rule(
                f"self.{name} == oldSelf.{name}",
                f"{name} cannot change: it is what makes the trial this one",
                f".{name}",
                "Forbidden",
            )
            for name in ("experiment", "number", "kind")
        ),
        Rule(
            "self.attempt >= oldSelf.attempt",
            "attempt {self.attempt} is below {oldSelf.attempt}; it can only be raised",
            ".attempt",
        ),
        Rule(
            "self.stop || !oldSelf.stop || self.attempt > oldSelf.attempt",
            "stop cannot be taken back from attempt {self.attempt}; raise attempt",
            ".stop",
            "Forbidden",
        ),
    )


class NASTrial(Model):
    """One trial of an experiment, made by the experiment's controller."""

    api_version: Literal["kinase.dev/v1alpha1"]
    """API group and version."""
    kind: Literal["NASTrial"]
    """Kind of the object."""
    metadata: dict[str, Any]
    """Kubernetes metadata."""
    spec: TrialSpec
    """Desired state."""
    status: TrialStatus | None = None
    """Observed state."""
