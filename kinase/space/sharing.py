"""How the networks of a space share weights: as options of choices, or as slices of tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from kinase.space.base import Frame, Space
from kinase.space.elastic import Elastic
from kinase.space.errors import Unshared
from kinase.space.supernet import Supernet

__all__ = ["Form", "Unshared", "shared", "surrounding"]

Form = Literal["choices", "slices", "any"]
"""`choices`: all options can run at once, so that choices can be learned by gradients. `slices`:
one network runs at a time. `any`: choices if the space has them, else slices."""


def shared(space: Space, frame: Frame, form: Form = "any") -> Supernet | Elastic:
    """What the networks of a space share.

    Args:
        space: the search space.
        frame: what surrounds the networks.
        form: how they are to share weights.

    Raises:
        Unshared: they do not; the message says why, and what to use.
        InfeasibleError: the networks do not exist at this input size.
    """
    choices = None
    if form != "slices":
        choices = space.supernet(replace(frame, searching=True))
        if choices is not None:
            return choices
    slices = space.elastic(surrounding(frame))
    if slices is None:
        raise Unshared(
            f"this search space has no supernet: {space.unshared}; use another estimation, or a "
            "space with a supernet (docs/search-spaces.md)"
        )
    if form == "choices":
        raise Unshared(
            "the networks of this search space share slices of tensors, so one network runs at a "
            "time and choices cannot be learned by gradients: use a strategy that samples, such as "
            "Evolution, or a space of cells"
        )
    return slices


def surrounding(frame: Frame) -> Frame:
    """The frame of networks that share slices: that of any other network."""
    return replace(frame, searching=False, partial=None)
