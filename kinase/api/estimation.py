"""`spec.estimation`: performance estimation, the third of the three pillars."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kinase.api._base import Custom, Model, Union

Epochs = Annotated[int, Field(ge=1, le=100_000)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class FullEstimation(Model):
    """Train every candidate as `spec.training` says."""


class LowerFidelityEstimation(Model):
    """Train every candidate on less than the full fidelity; the finalists get it whole."""

    epochs: Epochs | None = None
    """Epochs of a candidate's training. Default: those of `spec.training`."""
    data_fraction: Fraction = 1.0
    """Share of the training split that a candidate sees, a fixed subset by the split's seed."""
    resolution: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Input height and width in pixels. Default: the task's."""
    filter_fraction: Fraction = 1.0
    """Factor on every channel count, rounded, at least 1 channel."""
    cells: Annotated[int, Field(ge=1, le=200)] | None = None
    """Cells in the network (space type Cell only). Default: `space.cell.search.cells`."""


class MorphismEstimation(Model):
    """Begin a child with its parent's trained weights, as the same function where the child can
    be reached by network morphisms; it is then trained for a few epochs. A candidate without a
    parent is trained as `spec.training` says."""

    epochs_per_child: Epochs | None = None
    """Epochs of a child's training. Default: a third of those of `spec.training`, rounded up."""
    fallback: Literal["matching", "scratch"] = "matching"
    """What becomes of a child that no morphisms reach, one that is smaller for example. `matching`:
    it takes every tensor of the same name and shape, and is trained as any child. `scratch`: it is
    trained anew, as `spec.training` says."""
    approximate: bool = False
    """Whether a smaller child that only approximate morphisms reach (Elsken et al. 2019) inherits
    by these: layers taken out, separable, or with fewer filters, smaller windows, a skip less."""
    distil_epochs: Annotated[int, Field(ge=0, le=100_000)] = 5
    """Epochs in which such a child learns from its parent's outputs, before it learns from labels
    for `epochsPerChild` epochs. They are charged besides."""
    rule: Literal["zero", "replicate"] = "zero"
    """What the units of a wider layer are: drawn ones, whose outgoing weights are zero (Elsken et
    al. 2017), or copies, whose outgoing weights are divided (Chen et al. 2016)."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Deviation of the noise on copied units, relative to the tensor's, so that the copies part
    ways. 0 keeps a child exactly its parent's function."""
    learning_rate_factor: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Factor on the learning rate of a child that inherits."""
    optimizer_state: Literal["fresh", "inherit"] = "fresh"
    """Whether the optimiser's momentum or moments are inherited with the weights."""


class Estimation(Union):
    """Performance estimation: how to score a candidate cheaply."""

    type: Literal["Full", "LowerFidelity", "Morphism", "Custom"] = "Full"
    """Which of the structs below is set."""
    full: FullEstimation | None = None
    """Full training."""
    lower_fidelity: LowerFidelityEstimation | None = None
    """Fewer epochs, less data, smaller inputs or smaller networks."""
    morphism: MorphismEstimation | None = None
    """Weights by inheritance from the parent."""
    custom: Custom | None = None
    """An estimator of another package (entry point group `kinase.estimators`)."""
