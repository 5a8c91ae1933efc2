"""Children that begin as the function that their parent has learned."""

from __future__ import annotations

import json

from kinase.api.trial import Architecture
from kinase.history import History
from kinase.morphism.bridge import bridge
from kinase.space import Frame, InfeasibleError, Rng, Space

ATTEMPTS = 200
"""Mutations drawn before a parent is taken to have no child that is new."""
DRAWS = 64
"""Architectures drawn for a small one to begin with."""
AGAIN = 32
"""Mutations drawn that were refused before, after which the same is taken for granted."""


class _Bridges:
    """Whether morphisms lead from one architecture to another; found out once."""

    def __init__(self, space: Space, frame: Frame) -> None:
        self._space, self._frame = space, frame
        self._known: dict[tuple[str, str], bool] = {}

    def lead(self, parent: Architecture, child: Architecture) -> bool:
        pair = self._pair(parent, child)
        if pair not in self._known:
            found = bridge(self._space, parent, child, self._frame)
            self._known[pair] = found is not None
        return self._known[pair]

    def refused(self, parent: Architecture, child: Architecture) -> bool:
        """Whether it is known that none lead there."""
        return not self._known.get(self._pair(parent, child), True)

    @staticmethod
    def _pair(parent: Architecture, child: Architecture) -> tuple[str, str]:
        return json.dumps(parent, sort_keys=True), json.dumps(child, sort_keys=True)


def grow(space: Space, parent: Architecture, frame: Frame, rng: Rng) -> Architecture | None:
    """One random edit to which network morphisms lead, or None: none was drawn."""
    return _grow(space, parent, parent, _Bridges(space, frame), rng)


def _grow(
    space: Space, root: Architecture, parent: Architecture, bridges: _Bridges, rng: Rng
) -> Architecture | None:
    again = 0
    for _ in range(ATTEMPTS):
        child = space.mutate(parent, rng)
        again += bridges.refused(parent, child)
        if again > AGAIN:
            return None
        if bridges.lead(parent, child) and bridges.lead(root, child):
            return child
    return None


def grow_fresh(
    space: Space,
    parent: Architecture,
    frame: Frame,
    history: History,
    rng: Rng,
    edits: int = 1,
    attempts: int = 8,
) -> Architecture | None:
    """So many such edits, one on top of the other, to an architecture that was not asked before,
    and to which morphisms also lead from the parent in one go, as the child will inherit.

    Where a parent can grow no further, fewer edits are made; None: there is nothing new.
    """
    bridges = _Bridges(space, frame)
    for _ in range(attempts):
        child = parent
        for _ in range(edits):
            grown = _grow(space, parent, child, bridges, rng)
            if grown is None:
                break
            child = grown
        if child is parent:
            return None
        if space.key(child) not in history.by_key:
            return child
    return None


def sample_small(space: Space, frame: Frame, history: History, rng: Rng) -> Architecture | None:
    """One of the smaller quarter of some drawn at random that is new and can grow. The very
    smallest network of a space would be of no use."""
    found: dict[str, tuple[int, Architecture]] = {}
    for _ in range(DRAWS):
        architecture = space.sample(rng)
        key = space.key(architecture)
        if key in history.by_key or key in found:
            continue
        try:
            found[key] = (space.graph(architecture, frame).params(), architecture)
        except InfeasibleError:
            continue
    ranked = sorted(found.values(), key=lambda each: each[0])
    smaller = ranked[: -(-len(ranked) // 4)]
    for index in rng.permutation(len(smaller)):
        architecture = smaller[int(index)][1]
        if grow(space, architecture, frame, rng) is not None:
            return architecture
    return None
