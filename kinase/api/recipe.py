"""`spec.space.training`: what of the training is searched for together with the network."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Model, Rule

Scale = Literal["log", "linear"]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Share = Annotated[float, Field(ge=0, lt=1)]
Samples = Annotated[int, Field(ge=1, le=1_000_000)]
Padding = Annotated[int, Field(ge=0, le=512)]
Pixels = Annotated[int, Field(ge=0, le=4096)]
MOST = 32
"""Maximum number of values in a list."""
DROPPING = ("Cell", "Custom")
"""Types of space whose networks can have edges that `dropPath` drops."""


class Numbers(Model):
    """Numbers that a setting can have: those of a range, or those of a list."""

    min: float | None
    max: float | None
    scale: Scale
    values: tuple[float, ...] | None

    rules: ClassVar = (
        Rule(
            "has(self.values) ? !has(self.min) && !has(self.max) : has(self.min) && has(self.max)",
            "set either min and max, or values",
            ".values",
        ),
        Rule(
            "!has(self.min) || !has(self.max) || self.min < self.max",
            "min {self.min} must be below max {self.max}; for a fixed value, set it in "
            "spec.training and remove this field",
            ".min",
        ),
        Rule(
            "!has(self.min) || self.min > 0 || self.scale != 'log'",
            "min is {self.min}, which has no logarithm; set a min above 0, or scale: linear",
            ".min",
        ),
        Rule(
            "!has(self.values) || self.values.all(v, self.values.exists_one(w, w == v))",
            "values lists a number twice",
            ".values",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.values is not None:
            if self.min is not None or self.max is not None:
                raise ValueError("set either min and max, or values")
            if len(set(self.values)) < len(self.values):
                raise ValueError("values lists a number twice")
            return self
        if self.min is None or self.max is None:
            raise ValueError("set either min and max, or values")
        if self.min >= self.max:
            raise ValueError(
                f"min {self.min:g} must be below max {self.max:g}; for a fixed value, set it in "
                "spec.training and remove this field"
            )
        if self.min <= 0 and self.scale == "log":
            raise ValueError(
                f"min is {self.min:g}, which has no logarithm; set a min above 0, or scale: linear"
            )
        return self


class LearningRates(Numbers):
    """Learning rates: a range, or a list."""

    min: Positive | None = None
    """Lower end of the range."""
    max: Positive | None = None
    """Upper end of the range."""
    scale: Scale = "log"
    """Whether the numbers of a range are spread evenly, or their logarithms."""
    values: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=MOST)] | None = None
    """The numbers, in place of a range. They count as a choice without an order."""


class WeightDecays(Numbers):
    """Weight decays: a range, or a list."""

    min: NonNegative | None = None
    """Lower end of the range."""
    max: NonNegative | None = None
    """Upper end of the range."""
    scale: Scale = "log"
    """Whether the numbers of a range are spread evenly, or their logarithms."""
    values: Annotated[tuple[NonNegative, ...], Field(min_length=2, max_length=MOST)] | None = None
    """The numbers, in place of a range. They count as a choice without an order."""


class Shares(Numbers):
    """Numbers from 0 to below 1: a range, or a list."""

    min: Share | None = None
    """Lower end of the range."""
    max: Share | None = None
    """Upper end of the range."""
    scale: Scale = "linear"
    """Whether the numbers of a range are spread evenly, or their logarithms."""
    values: Annotated[tuple[Share, ...], Field(min_length=2, max_length=MOST)] | None = None
    """The numbers, in place of a range. They count as a choice without an order."""


class BatchSizes(Numbers):
    """Batch sizes: a range of integers, or a list."""

    min: Samples | None = None
    """Lower end of the range."""
    max: Samples | None = None
    """Upper end of the range."""
    scale: Scale = "log"
    """Whether the numbers of a range are spread evenly, or their logarithms."""
    values: Annotated[tuple[Samples, ...], Field(min_length=2, max_length=MOST)] | None = None
    """The numbers, in place of a range. They count as a choice without an order."""


class PixelCounts(Numbers):
    """Numbers of pixels: a range of integers, or a list."""

    min: Pixels | None = None
    """Lower end of the range."""
    max: Pixels | None = None
    """Upper end of the range."""
    scale: Scale = "linear"
    """Whether the numbers of a range are spread evenly, or their logarithms."""
    values: Annotated[tuple[Pixels, ...], Field(min_length=2, max_length=MOST)] | None = None
    """The numbers, in place of a range. They count as a choice without an order."""


class Paddings(Numbers):
    """Widths of a padding in pixels: a range of integers, or a list."""

    min: Padding | None = None
    """Lower end of the range."""
    max: Padding | None = None
    """Upper end of the range."""
    scale: Scale = "linear"
    """Whether the numbers of a range are spread evenly, or their logarithms."""
    values: Annotated[tuple[Padding, ...], Field(min_length=2, max_length=MOST)] | None = None
    """The numbers, in place of a range. They count as a choice without an order."""


class TrainingSpace(Model):
    """Settings of the training that are searched for. Each network is trained with its own; all
    other settings are those of `spec.training`. With the strategy BOHB and the estimation
    Hyperband, it is the joint search of Zela et al. 2018."""

    learning_rate: LearningRates | None = None
    """Peak learning rate of the optimizer."""
    weight_decay: WeightDecays | None = None
    """Weight decay of the optimizer."""
    momentum: Shares | None = None
    """Momentum of the optimizer. Only for SGD."""
    batch_size: BatchSizes | None = None
    """Samples in an optimizer step."""
    label_smoothing: Shares | None = None
    """Label smoothing. Not for Regression."""
    drop_path: Shares | None = None
    """Probability of dropping an edge of a cell. Only for the space types Cell and Custom."""
    crop: Paddings | None = None
    """Padding before a random crop (`training.augmentation.crop`)."""
    cutout: PixelCounts | None = None
    """Side of the square that is set to zero (`training.augmentation.cutout`)."""
    flip: bool = False
    """Whether to search over flipping on and off (`training.augmentation.flip`)."""

    rules: ClassVar = (
        Rule(
            "has(self.learningRate) || has(self.weightDecay) || has(self.momentum) || "
            "has(self.batchSize) || has(self.labelSmoothing) || has(self.dropPath) || "
            "has(self.crop) || has(self.cutout) || self.flip",
            "name at least one setting, such as learningRate",
        ),
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.flip and not self.ranges:
            raise ValueError("name at least one setting, such as learningRate")
        return self

    @property
    def ranges(self) -> dict[str, Numbers]:
        """The numbers of each setting that has any, by its name in a manifest."""
        return {
            str(field.alias): found
            for name, field in type(self).model_fields.items()
            if isinstance(found := getattr(self, name), Numbers)
        }
