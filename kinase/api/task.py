"""`spec.task` and `spec.training`: the learning task, its data, and the training."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic.alias_generators import to_camel

from kinase.api._base import Model, Rule, Union

Positive = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Share = Annotated[float, Field(gt=0, lt=1)]

PUBLISHED = ("mnist", "fashion-mnist", "cifar10", "cifar100", "svhn")
"""Data sets in a folder, in the layout of their authors or of torchvision."""
DATASETS = ("digits", *PUBLISHED, "npz", "folder")
"""The data sets of Kinase's trainer. They take no `datasetOptions`."""
TASKS = {
    "Classification": "classification",
    "MultiLabel": "multi_label",
    "Regression": "regression",
}
"""The tasks of Kinase's trainer, with the field of their options. They take no `typeOptions`."""
OUTPUTS = {"Classification": "logits", "MultiLabel": "logits", "Regression": "predictions"}
"""What a network of each of them gives, in code and in exported files."""
MAX_OPTIONS = 64 * 1024
"""Maximum number of characters of options, as JSON."""


def output_name(task: str) -> str:
    """What a network of a task gives, in one word."""
    return OUTPUTS.get(task, "outputs")


def _small(options: dict[str, Any]) -> dict[str, Any]:
    """Options that are plain data of a bounded size."""
    try:
        size = len(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"options must be plain JSON data: {error}") from None
    if size > MAX_OPTIONS:
        raise ValueError(f"the options are {size} characters of JSON; use at most {MAX_OPTIONS}")
    return options


Options = Annotated[dict[str, Any], Field(max_length=64), AfterValidator(_small)]


class Split(Model):
    """How to split the samples. If the data set has its own test split, that split is used."""

    validation: Share = 0.2
    """Share of the training samples held out for validation."""
    test: Share = 0.2
    """Share held out for the final test, if the data set has no test split."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of the split. It is separate from `spec.seed` so that runs stay comparable."""

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
    """How to read the images of a `folder`."""

    labels: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """CSV file in the folder that lists the targets: a header line, then a file and its targets on
    each line. Default: each subfolder is a class."""

    fit: Literal["pad", "crop", "stretch"] = "pad"
    """What to do with images that are not square. `pad`: scale the longer side and fill the rest
    with the background. `crop`: scale the shorter side and cut out the centre. `stretch`: scale
    both sides."""
    background: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$", max_length=7)] = "#ffffff"
    """Colour of padding and behind transparent pixels, in hexadecimal RGB."""


class ArrayImages(Model):
    """How to read the arrays of an `npz` archive."""

    channels: Literal["auto", "first", "last"] = "auto"
    """Position of the channel axis: `first` is (N, C, H, W), `last` is (N, H, W, C). `auto` decides
    by the sizes and rejects ambiguous shapes."""


Weights = Annotated[tuple[Positive, ...], Field(min_length=1, max_length=1000)]
_WEIGHTS = (
    Rule(
        "!has(self.weights) || self.weighting == 'equal'",
        "weighting is {self.weighting}, so weights must not be set; remove one of them",
        ".weights",
    ),
)


class _Weighted(Model):
    """What tasks with classes or labels share: their weights in the loss."""

    rules: ClassVar = _WEIGHTS

    @model_validator(mode="after")
    def _one_weighting(self) -> Self:
        weighting: str = getattr(self, "weighting", "equal")
        if getattr(self, "weights", None) is not None and weighting != "equal":
            raise ValueError(
                f"weighting is {weighting}, so weights must not be set; remove one of them"
            )
        return self


class ClassificationTask(_Weighted):
    """Options of classification."""

    weighting: Literal["equal", "balanced"] = "equal"
    """Weights of the classes in the loss. `equal`: every sample has the same weight. `balanced`:
    every class has the same total weight, so samples of rare classes count more. Metrics are never
    weighted."""
    weights: Weights | None = None
    """Weight of each class in the loss, in the order of the classes. Replaces `weighting`."""


class MultiLabelTask(_Weighted):
    """Options of a task with several labels per sample."""

    weighting: Literal["equal", "balanced"] = "equal"
    """Weight in the loss of the samples that have a label. `equal`: the same weight as samples
    without it. `balanced`: samples with and without it have the same total weight."""
    weights: Weights | None = None
    """Weight in the loss of the samples that have a label, for each label. Replaces `weighting`."""
    threshold: Share = 0.5
    """Probability at which a label counts as predicted, for the metric f1."""


class RegressionTask(Model):
    """Options of regression."""

    loss: Literal["mse", "mae", "huber"] = "mse"
    """Loss on standardized targets: mean squared error, mean absolute error, or the Huber loss with
    a threshold of one standard deviation (Huber 1964)."""


class Task(Model):
    """What is learned, and on which data."""

    type: Annotated[str, Field(min_length=1, max_length=128)] = "Classification"
    """Kind of task: Classification (one class per sample), MultiLabel (any number of labels per
    sample), Regression (numbers), or the entry point of another package (group `kinase.tasks`)."""
    classification: ClassificationTask | None = None
    """Options of the task Classification."""
    multi_label: MultiLabelTask | None = None
    """Options of the task MultiLabel."""
    regression: RegressionTask | None = None
    """Options of the task Regression."""
    type_options: Options | None = None
    """Options for a task of another package, passed to its constructor."""
    dataset: Annotated[str, Field(min_length=1, max_length=128)] = "digits"
    """Data set: digits (embedded), mnist, fashion-mnist, cifar10, cifar100, svhn, npz, folder,
    or the entry point of another package (group `kinase.datasets`)."""
    dataset_options: Options | None = None
    """Options for a data set of another package."""
    folder: FolderImages | None = None
    """Options of the data set `folder`."""
    npz: ArrayImages | None = None
    """Options of the data set `npz`."""
    path: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Folder (for npz: file) that holds the data. Not needed for digits."""
    download: bool = False
    """Whether to download a torchvision data set into `path` if it is missing."""
    resolution: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Input height and width in pixels. Required for folder. Default: the data set's own size."""
    split: Split = Split()
    """Training, validation and test splits."""

    rules: ClassVar = (
        *(
            Rule(
                f"!has(self.{to_camel(field)}) || self.type == '{kind}'",
                f"type is {{self.type}}, so {to_camel(field)} must not be set; "
                f"remove it, or set type: {kind}",
                f".{to_camel(field)}",
            )
            for kind, field in TASKS.items()
        ),
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
        for kind, field in TASKS.items():
            if getattr(self, field) is not None and self.type != kind:
                raise ValueError(
                    f"type is {self.type}, so {to_camel(field)} must not be set; "
                    f"remove it, or set type: {kind}"
                )
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

    @property
    def options(self) -> Model | dict[str, Any] | None:
        """Options for the task's constructor: the struct of a built-in task, or `typeOptions`."""
        field = TASKS.get(self.type)
        found: Model | None = getattr(self, field) if field else None
        return self.type_options if found is None else found

    def __hash__(self) -> int:
        """Hash the fields that can be hashed; options are plain data, which cannot."""
        return hash((self.type, self.dataset, self.path, self.resolution, self.split))


Decay = Literal["weights", "all"]


class SGD(Model):
    """Stochastic gradient descent with momentum."""

    learning_rate: Positive = 0.1
    """Peak learning rate, reached at the end of the warm-up."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum."""
    nesterov: bool = True
    """Whether to use Nesterov momentum."""
    weight_decay: NonNegative = 5e-4
    """L2 penalty, applied to the parameters selected by `decay`."""
    decay: Decay | None = None
    """Parameters that the penalty applies to. `weights`: matrices and filters of layers, but not
    biases, normalization, class tokens, position embeddings and scales. `all`: every parameter, as
    in the code of Liu et al. 2019 (DARTS). Default: weights."""


class AdamW(Model):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    learning_rate: Positive = 1e-3
    """Peak learning rate, reached at the end of the warm-up."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    """Decay rates of the two moment estimates."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay, applied to the parameters selected by `decay`."""
    decay: Decay | None = None
    """Parameters that decay. `weights`: matrices and filters of layers, but not biases,
    normalization, class tokens, position embeddings and scales. `all`: every parameter. Default:
    weights."""


class Optimizer(Union):
    """The optimizer of the weights."""

    type: Literal["SGD", "AdamW"] = "SGD"
    """Type of the optimizer. The field of the same name holds its options."""
    sgd: SGD | None = Field(default=None, alias="sgd")
    """Stochastic gradient descent."""
    adamw: AdamW | None = Field(default=None, alias="adamw")
    """AdamW."""

    @classmethod
    def members(cls) -> dict[str, str]:
        """Map each type to its struct's field."""
        return {"SGD": "sgd", "AdamW": "adamw"}


class Augmentation(Model):
    """Random augmentation of training images. Validation and test images are not changed."""

    crop: Annotated[int, Field(ge=0, le=512)] = 0
    """Zero padding in pixels before a random crop to the input size. 0 disables it."""
    flip: bool = False
    """Whether to flip an image horizontally with probability 1/2."""
    cutout: Annotated[int, Field(ge=0, le=4096)] = 0
    """Side in pixels of a square that is set to zero (DeVries & Taylor 2017). 0 disables it."""


class Training(Model):
    """How to train a network at full fidelity."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Training epochs at full fidelity."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    """Samples in an optimizer step."""
    optimizer: Optimizer = Optimizer(type="SGD")
    """Optimizer of the weights."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate schedule after the warm-up: cosine annealing to zero, or constant."""
    warmup_epochs: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    """Epochs over which the learning rate rises linearly, to `learningRate` in the last step. A
    shorter training (a lower fidelity, a child that inherits) warms up for the same share of its
    epochs. Above `epochs` the rate never reaches `learningRate`, which is warned of."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing: share of a label's weight that is spread over all classes. For MultiLabel,
    the share by which 0 and 1 move towards 1/2. Not for Regression."""
    clip_norm: NonNegative = 0.0
    """Maximum norm of the gradient. 0 disables clipping."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Floating-point format of the forward and backward pass. `auto` uses bfloat16 on GPUs that
    support it, else float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on. `auto` uses a GPU if one is available."""
    augmentation: Augmentation = Augmentation()
    """Random augmentation of training images."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping an edge of a cell. It rises linearly from zero to this value at the
    last epoch."""
    auxiliary: NonNegative = 0.0
    """Weight of the auxiliary head's loss, for finalists of a Cell space. 0 disables the head."""

    def at_rate(self, factor: float) -> Self:
        """A copy with another learning rate."""
        if factor == 1:
            return self
        return self._optimized(learning_rate=self.optimizer.member.learning_rate * factor)

    def set_to(self, values: Mapping[str, float | bool]) -> Self:
        """A copy with other values of some settings, by their names in `space.training`."""
        if not values:
            return self
        named = {_SNAKE.sub(r"_\1", name).lower(): value for name, value in values.items()}
        own = {name: v for name, v in named.items() if name in Training.model_fields}
        found = self._optimized(**{n: v for n, v in named.items() if n in _OPTIMIZED})
        augmentation = self.augmentation.model_copy(
            update={name: value for name, value in named.items() if name in _AUGMENTED}
        )
        return found.model_copy(update={**own, "augmentation": augmentation})

    def _optimized(self, **values: float) -> Self:
        kind, member = self.optimizer.members()[self.optimizer.type], self.optimizer.member
        optimizer = self.optimizer.model_copy(update={kind: member.model_copy(update=values)})
        return self.model_copy(update={"optimizer": optimizer})


_SNAKE = re.compile("([A-Z])")
_AUGMENTED = frozenset(Augmentation.model_fields)
_OPTIMIZED = frozenset({*SGD.model_fields, *AdamW.model_fields})
