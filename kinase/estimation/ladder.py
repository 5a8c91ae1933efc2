"""The grants of a scheduler's rungs, and what they cost."""

from __future__ import annotations

from kinase.api.fidelity import Fidelity, Grant
from kinase.api.ladder import Ladder
from kinase.estimation.base import Setting
from kinase.space import Frame, InfeasibleError, derive_rng

DRAWS = 30
"""Architectures of which one must be buildable at each rung."""


def ladder(options: Ladder, setting: Setting) -> tuple[Grant, ...]:
    """The grants of the rungs, from the least fidelity to the full one. Only the last is final.

    Raises:
        ValueError: there would be one rung, or one above the full fidelity, or the space does not
            have the axis, or builds no network at a rung.
    """
    full, axis = setting.full, options.axis
    last: float = 1
    if axis == "epochs":
        last = full.epochs
    elif axis == "resolution":
        last = full.resolution or min(setting.frame.input[1:])
    elif axis == "cells":
        if full.scale.cells is None:
            raise ValueError("axis cells requires a search space that has cells")
        last = full.scale.cells
    values = options.values(int(last))
    grants = []
    for rung, value in enumerate(values):
        final = rung == len(values) - 1
        fidelity = full if final else _at(axis, full, value)
        until = int(value) if axis == "epochs" else full.epochs
        if axis == "epochs" and options.horizon == "full":
            fidelity = full
        elif axis in ("resolution", "filters", "cells") and not final:
            _check_buildable(setting, fidelity, f"axis {axis} has a rung of {value:.6g}")
        grants.append(Grant(fidelity=fidelity, until=until, rung=rung, final=final))
    return tuple(grants)


def _at(axis: str, full: Fidelity, value: float) -> Fidelity:
    """The full fidelity with another value of the axis."""
    scale = full.scale
    match axis:
        case "epochs":
            return full.model_copy(update={"epochs": int(value)})
        case "data":
            return full.model_copy(update={"data_fraction": full.data_fraction * value})
        case "resolution":
            return full.model_copy(update={"resolution": int(value)})
        case "filters":
            factor = scale.filter_fraction * value
            scale = scale.model_copy(update={"filter_fraction": factor})
        case _:
            scale = scale.model_copy(update={"cells": int(value)})
    return full.model_copy(update={"scale": scale})


def _check_buildable(setting: Setting, fidelity: Fidelity, rung: str) -> None:
    """Refuse a rung at which no network of the space can be built. One that only some networks lack
    is their own infeasibility."""
    frame, space = setting.frame, setting.space
    channels, size = frame.input[0], fidelity.resolution
    shape = frame.input if size is None else (channels, size, size)
    reduced = Frame(shape, frame.outputs, fidelity.scale, frame.auxiliary)
    why = ""
    for draw in range(DRAWS):
        try:
            space.graph(space.sample(derive_rng(0, draw)), reduced).shapes()
        except InfeasibleError as error:
            why = str(error)
        else:
            return
    raise ValueError(
        f"{rung}, at which the search space builds no network ({why}); raise least, or list rungs "
        "that it can build"
    )


def in_bracket(grants: tuple[Grant, ...], bracket: int) -> tuple[Grant, ...]:
    """The same grants for the trials of a bracket."""
    return tuple(grant.model_copy(update={"bracket": bracket}) for grant in grants)


def goes_on(grant: Grant, following: Grant) -> bool:
    """Whether a trial that rests at the end of one grant continues its training with the other;
    else it trains from scratch."""
    return grant.fidelity == following.fidelity


def increment(grants: tuple[Grant, ...], rung: int) -> int:
    """Epochs that a promotion to a rung costs."""
    before, after = grants[rung - 1], grants[rung]
    return after.until - before.until if goes_on(before, after) else after.until
