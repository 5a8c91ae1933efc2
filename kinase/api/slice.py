"""The part of a supernet that a trial takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kinase.api._base import Model
from kinase.api.fidelity import Scale


class Slice(Model):
    """The part of a supernet that a candidate is scored with, or that a finalist begins with, in a
    trial's job."""

    prefix: Annotated[str, Field(max_length=200)]
    """Path of the supernet's trial below the experiment's store."""
    scale: Scale = Scale()
    """Size of the supernet."""
    recalibrate: Annotated[int, Field(ge=0, le=1_000_000)] = 2000
    """Training images from which the statistics of batch normalizations are computed again, where
    the network is scored without training. 0 keeps those of the supernet."""
