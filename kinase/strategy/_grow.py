"""Children that begin as the function that their parent has learned."""

from __future__ import annotations

from kinase.api.trial import Architecture
from kinase.morphism.bridge import bridge
from kinase.space import Frame, Rng, Space
from kinase.strategy.base import History

ATTEMPTS = 64
"""Mutations drawn before a parent is taken to have no child that is new."""


def grow(space: Space, parent: Architecture, frame: Frame, rng: Rng) -> Architecture | None:
    """One random edit to which network morphisms lead, or None: none was drawn."""
    for _ in range(ATTEMPTS):
        child = space.mutate(parent, rng)
        if bridge(space, parent, child, frame) is not None:
            return child
    return None


def grow_fresh(
    space: Space,
    parent: Architecture,
    frame: Frame,
    history: History,
    rng: Rng,
    edits: int = 1,
    attempts: int = 16,
) -> Architecture | None:
    """So many such edits, one on top of the other, to an architecture that was not asked before.

    Where a parent can grow no further, fewer edits are made; None: there is nothing new to be had.
    """
    for _ in range(attempts):
        child = parent
        for _ in range(edits):
            grown = grow(space, child, frame, rng)
            if grown is None:
                break
            child = grown
        if space.key(child) not in history.by_key:
            return child
    return None
