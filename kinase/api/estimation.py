"""`spec.estimation`: performance estimation, the third of the three pillars."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kinase.api._base import Custom, Model, Union

Epochs = Annotated[int, Field(ge=1, le=100_000)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class FullEstimation(Model):
    """Train every candidate as configured in `spec.training`."""


class LowerFidelityEstimation(Model):
    """Train every candidate at a lower fidelity. Finalists are trained at full fidelity."""

    epochs: Epochs | None = None
    """Training epochs of a candidate. Default: `spec.training.epochs`."""
    data_fraction: Fraction = 1.0
    """Share of the training split to train on: a fixed subset chosen by the split's seed."""
    resolution: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Input height and width in pixels. Default: the task's."""
    filter_fraction: Fraction = 1.0
    """Factor applied to every channel count, rounded, with at least 1 channel."""
    cells: Annotated[int, Field(ge=1, le=200)] | None = None
    """Number of cells in the network (space type Cell only). Default: `space.cell.search.cells`."""


class MorphismEstimation(Model):
    """Start a child from its parent's trained weights and train it for a few epochs. If network
    morphisms produce the child, it starts as the same function as its parent. A candidate without
    a parent is trained as configured in `spec.training`."""

    epochs_per_child: Epochs | None = None
    """Training epochs of a child. Default: a third of `spec.training.epochs`, rounded up."""
    fallback: Literal["matching", "scratch"] = "matching"
    """What to do when no morphism produces the child, for example because it is smaller.
    `matching`: copy every tensor of the same name and shape, and train it like any child.
    `scratch`: train it from scratch, as configured in `spec.training`."""
    approximate: bool = False
    """Whether a child that only approximate morphisms produce (Elsken et al. 2019) inherits through
    them: layers removed, made separable, or given fewer filters, smaller windows or fewer skips."""
    distil_epochs: Annotated[int, Field(ge=0, le=100_000)] = 5
    """Epochs in which such a child is distilled from its parent's outputs, before it is trained on
    labels for `epochsPerChild` epochs. They are charged in addition."""
    rule: Literal["zero", "replicate"] = "zero"
    """How to initialize the new units of a wider layer. `zero`: draw them and set their outgoing
    weights to zero (Elsken et al. 2017). `replicate`: copy existing units and divide their outgoing
    weights (Chen et al. 2016)."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Standard deviation of the noise added to copied units, relative to the tensor's, so that
    copies diverge. With 0, a child is exactly its parent's function."""
    learning_rate_factor: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Factor applied to the learning rate of a child that inherits weights."""
    optimizer_state: Literal["fresh", "inherit"] = "fresh"
    """Whether a child inherits the optimizer's momentum or moments with the weights."""


class Estimation(Union):
    """Performance estimation: how to score a candidate cheaply."""

    type: Literal["Full", "LowerFidelity", "Morphism", "Custom"] = "Full"
    """Type of the estimation. The field of the same name holds its options."""
    full: FullEstimation | None = None
    """Full training."""
    lower_fidelity: LowerFidelityEstimation | None = None
    """Fewer epochs, less data, smaller inputs or smaller networks."""
    morphism: MorphismEstimation | None = None
    """Weights inherited from the parent."""
    custom: Custom | None = None
    """An estimator from another package (entry point group `kinase.estimators`)."""
