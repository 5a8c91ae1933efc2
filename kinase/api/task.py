"""`spec.task` and `spec.training`: what is learnt, on which data, and how."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from kinase.api._base import Model, Rule, Union

Positive = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Share = Annotated[float, Field(gt=0, lt=1)]

PUBLISHED = ("mnist", "fashion-mnist", "cifar10", "cifar100", "svhn")
"""Data sets that lie in a folder, in the layout of their authors or torchvision's."""
DATASETS = ("digits", *PUBLISHED, "npz", "folder")
"""The data sets of our own trainer. They take no `datasetOptions`."""
TASKS = ("Classification",)
"""The tasks of our own trainer. They take no `typeOptions`."""
MAX_OPTIONS = 64 * 1024
"""Most characters of options, as JSON."""


def _small(options: dict[str, Any]) -> dict[str, Any]:
    """Options that are plain data of a bounded size."""
    try:
        size = len(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"options are plain data, as JSON writes it: {error}") from None
    if size > MAX_OPTIONS:
        raise ValueError(f"the options are {size} characters of JSON; use at most {MAX_OPTIONS}")
    return options


Options = Annotated[dict[str, Any], Field(max_length=64), AfterValidator(_small)]


class Split(Model):
    """How samples are divided. A data set's own test part, where it has one, is the test part."""

    validation: Share = 0.2
    """Share of the training samples held out to score candidates."""
    test: Share = 0.2
    """Share held out for the final test, where the data set brings no test part of its own."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of the division, apart from the experiment's: runs stay comparable."""

    rules: ClassVar = (
        Rule(
            "self.validation + self.test < 1.0",
            "validation {self.validation} and test {self.test} leave nothing to train on; "
            "their sum must be below 1",
            ".validation",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation} and test {self.test} leave nothing to train on; "
                "their sum must be below 1"
            )
        return self


class FolderImages(Model):
    """How the images of a `folder` become squares of `resolution` pixels."""

    fit: Literal["pad", "crop", "stretch"] = "pad"
    """An image that is not square: `pad` scales its longer side and fills the rest with the
    background; `crop` cuts its centre out and scales it; `stretch` scales both sides."""
    background: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$", max_length=7)] = "#ffffff"
    """Colour behind transparent pixels and of padding, as red, green and blue in hexadecimal."""


class ArrayImages(Model):
    """How the arrays of an `npz` archive are read."""

    channels: Literal["auto", "first", "last"] = "auto"
    """Order of the axes of four: `first` is (N, C, H, W), `last` is (N, H, W, C). `auto` goes by
    the sizes, and refuses what can be read both ways."""


class Task(Model):
    """What is learnt, and on which data."""

    type: Annotated[str, Field(min_length=1, max_length=128)] = "Classification"
    """Kind of task: Classification, or the entry point of another package
    (group `kinase.tasks`)."""
    type_options: Options | None = None
    """Plain data for a task of another package, which its constructor takes."""
    dataset: Annotated[str, Field(min_length=1, max_length=128)] = "digits"
    """Data set: digits (embedded), mnist, fashion-mnist, cifar10, cifar100, svhn, npz, folder,
    or the entry point of another package (group `kinase.datasets`)."""
    dataset_options: Options | None = None
    """Plain data for a data set of another package, which reads it from the task."""
    folder: FolderImages | None = None
    """Only where dataset is folder: how its images become squares."""
    npz: ArrayImages | None = None
    """Only where dataset is npz: how its arrays are read."""
    path: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Folder (or file, for npz) that holds the data. Not needed for digits."""
    download: bool = False
    """Whether a torchvision data set may be downloaded into `path` when it is not there."""
    resolution: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Input height and width in pixels. Default: the data set's own. A folder needs it."""
    split: Split = Split()
    """Training, validation and test parts."""

    rules: ClassVar = (
        Rule(
            "!has(self.folder) || self.dataset == 'folder'",
            "dataset is {self.dataset}, so folder must not be set; "
            "remove it, or set dataset: folder",
            ".folder",
        ),
        Rule(
            "!has(self.npz) || self.dataset == 'npz'",
            "dataset is {self.dataset}, so npz must not be set; remove it, or set dataset: npz",
            ".npz",
        ),
        Rule(
            "!(self.dataset in ['folder', 'npz']) || has(self.path)",
            "dataset is {self.dataset}, so path must be set, to the folder or the .npz file of "
            "your data",
            ".path",
            "Required",
        ),
        Rule(
            "self.dataset != 'folder' || has(self.resolution)",
            "dataset is folder, so resolution must be set: the height and width in pixels to which "
            "its images are scaled",
            ".resolution",
            "Required",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.folder is not None and self.dataset != "folder":
            raise ValueError(
                f"dataset is {self.dataset}, so folder must not be set; "
                "remove it, or set dataset: folder"
            )
        if self.npz is not None and self.dataset != "npz":
            raise ValueError(
                f"dataset is {self.dataset}, so npz must not be set; remove it, or set dataset: npz"
            )
        if self.dataset in ("folder", "npz") and self.path is None:
            raise ValueError(
                f"dataset is {self.dataset}, so path must be set, to the folder or the .npz file "
                "of your data"
            )
        if self.dataset == "folder" and self.resolution is None:
            raise ValueError(
                "dataset is folder, so resolution must be set: the height and width in pixels to "
                "which its images are scaled"
            )
        # no rules of the CRD: CEL does not see a field whose values may be anything
        if self.dataset_options is not None and self.dataset in DATASETS:
            raise ValueError(
                f"dataset is {self.dataset}, which takes no datasetOptions; "
                "they are for a data set of another package"
            )
        if self.type_options is not None and self.type in TASKS:
            raise ValueError(
                f"type is {self.type}, which takes no typeOptions; "
                "they are for a task of another package"
            )
        return self

    def __hash__(self) -> int:
        """By the fields that can be hashed: options are plain data, which cannot."""
        return hash((self.type, self.dataset, self.path, self.resolution, self.split))


Decay = Literal["weights", "all"]


class SGD(Model):
    """Stochastic gradient descent with momentum."""

    learning_rate: Positive = 0.1
    """Learning rate after the warm-up."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum."""
    nesterov: bool = True
    """Whether the momentum is Nesterov's."""
    weight_decay: NonNegative = 5e-4
    """L2 penalty on what `decay` says."""
    decay: Decay | None = None
    """What the penalty is on. `weights`: the matrices and filters of layers; biases, normalisation,
    class tokens, position embeddings and scales are exempt. `all`: every parameter, as in the code
    of Liu et al. 2019 (DARTS). Default: weights."""


class AdamW(Model):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    learning_rate: Positive = 1e-3
    """Learning rate after the warm-up."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    """Decay rates of the two moment estimates."""
    weight_decay: NonNegative = 0.01
    """Decoupled decay of what `decay` says."""
    decay: Decay | None = None
    """What decays. `weights`: the matrices and filters of layers; biases, normalisation, class
    tokens, position embeddings and scales are exempt. `all`: every parameter. Default: weights."""


class Optimizer(Union):
    """The optimiser of the weights."""

    type: Literal["SGD", "AdamW"] = "SGD"
    """Which of the structs below is set."""
    sgd: SGD | None = Field(default=None, alias="sgd")
    """Stochastic gradient descent."""
    adamw: AdamW | None = Field(default=None, alias="adamw")
    """AdamW."""

    @classmethod
    def members(cls) -> dict[str, str]:
        """Map each type to its struct's field."""
        return {"SGD": "sgd", "AdamW": "adamw"}


class Augmentation(Model):
    """Random changes of a training image. Nothing is changed at validation or test."""

    crop: Annotated[int, Field(ge=0, le=512)] = 0
    """Zero padding in pixels before a random crop to the input size; 0 is off."""
    flip: bool = False
    """Whether an image is mirrored left to right with probability 1/2."""
    cutout: Annotated[int, Field(ge=0, le=4096)] = 0
    """Side in pixels of a zeroed square (DeVries & Taylor 2017); 0 is off."""


class Training(Model):
    """How a network is trained. These are the values of full fidelity."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Epochs of a full training."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    """Samples in a step."""
    optimizer: Optimizer = Optimizer(type="SGD")
    """Optimiser of the weights."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate over the training: a half cosine to zero, or constant."""
    warmup_epochs: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    """Epochs over which the learning rate rises linearly, to `learningRate` in the last step. A
    shorter training (a lower fidelity, a child that inherits) warms up for the same share of its
    epochs. Above `epochs` the rate never reaches `learningRate`, which is warned of."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a label's weight that is spread over all classes."""
    clip_norm: NonNegative = 0.0
    """Largest norm of the gradient; 0 is off."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Number format of the forward and backward pass. `auto` is bfloat16 where the device
    is a GPU that has it, else float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train. `auto` takes a GPU where there is one."""
    augmentation: Augmentation = Augmentation()
    """Random changes of a training image."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping a cell's edge at the last epoch; it rises linearly from zero."""
    auxiliary: NonNegative = 0.0
    """Weight of the auxiliary head's loss, for finalists of a Cell space; 0 builds no head."""

    def at_rate(self, factor: float) -> Self:
        """The same with another learning rate."""
        if factor == 1:
            return self
        kind, member = self.optimizer.members()[self.optimizer.type], self.optimizer.member
        rate = member.model_copy(update={"learning_rate": member.learning_rate * factor})
        optimizer = self.optimizer.model_copy(update={kind: rate})
        return self.model_copy(update={"optimizer": optimizer})
