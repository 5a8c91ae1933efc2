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


class Estimation(Union):
    """Performance estimation: how to score a candidate cheaply."""

    type: Literal["Full", "LowerFidelity", "Custom"] = "Full"
    """Which of the structs below is set."""
    full: FullEstimation | None = None
    """Full training."""
    lower_fidelity: LowerFidelityEstimation | None = None
    """Fewer epochs, less data, smaller inputs or smaller networks."""
    custom: Custom | None = None
    """An estimator of another package (entry point group `kinase.estimators`)."""
