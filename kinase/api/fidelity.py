"""How much is spent on a trial: its fidelity, and the part of it that is granted at once."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from kinase.api._base import Model
from kinase.api.estimation import Epochs, Fraction


class Scale(Model):
    """Size of the network that is built from an architecture."""

    cells: Annotated[int, Field(ge=1, le=200)] | None = None
    """Cells in the network, or None if the space has no cells."""
    filters: Annotated[int, Field(ge=1, le=2048)] | None = None
    """Channels of the first cells, or None if the architecture gives its own widths."""
    filter_fraction: Fraction = 1.0
    """Factor applied to every channel count, rounded, with at least 1 channel."""


class Fidelity(Model):
    """How much to spend on one trial."""

    epochs: Epochs
    """Training epochs."""
    data_fraction: Fraction = 1.0
    """Share of the training split."""
    resolution: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Input height and width in pixels, or None for the data set's own."""
    scale: Scale = Scale()
    """Size of the network."""


class Grant(Model):
    """What one stretch of a trial pays for. At its end the trial ends if the grant is `final`; else
    it rests: it holds no slot, keeps its checkpoint, and its value counts."""

    fidelity: Fidelity
    """Fidelity of the training. Its `epochs` is the horizon of the learning-rate schedule."""
    until: Annotated[int, Field(ge=0, le=100_000)]
    """Epochs of the training after which it pauses, at most `fidelity.epochs`. With 0, the network
    is built and measured without training. Default: `fidelity.epochs`."""
    rung: Annotated[int, Field(ge=-1, le=1000)] = 0
    """Place on a scheduler's ladder, from 0, or -1 in a pool before the ladder."""
    bracket: Annotated[int, Field(ge=-1)] = 0
    """Which of a scheduler's brackets the trial belongs to, or -1 for children on a separate
    ladder."""
    every: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Number of epochs after which the trial rests to be looked at, again and again, or 0."""
    final: bool = True
    """Whether the trial ends at `until`."""

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, data: Any) -> Any:
        """Without `until`, all epochs of the fidelity."""
        if isinstance(data, dict) and data.get("until") is None:
            found = data.get("fidelity")
            epochs = found.epochs if isinstance(found, Fidelity) else (found or {}).get("epochs")
            return {**data, "until": epochs}
        return data

    @model_validator(mode="after")
    def _within(self) -> Grant:
        if self.until > self.fidelity.epochs:
            raise ValueError(
                f"until is {self.until}; it must be at most fidelity.epochs, {self.fidelity.epochs}"
            )
        return self

    def stop_after(self, done: int) -> int:
        """Epochs at which a stretch that begins after `done` epochs ends: the next look, or
        `until`."""
        if not self.every:
            return self.until
        return min(self.until, (done // self.every + 1) * self.every)
