"""Children that start as their parent's trained function."""

from __future__ import annotations

import json

from kinase.api.trial import Architecture
from kinase.history import History
from kinase.morphism.bridge import bridge
from kinase.space import Frame, InfeasibleError, Rng, Space

ATTEMPTS = 200
"""Number of mutations drawn before a parent counts as having no new child."""
DRAWS = 64
"""Number of architectures drawn to choose a small initial one."""
AGAIN = 32
"""Number of repeated rejected draws after which a parent counts as having no new child."""


class _Bridges:
    """Whether morphisms exist between two architectures; results are cached."""

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
        """Whether it is known that no morphisms exist."""
        return not self._known.get(self._pair(parent, child), True)

    @staticmethod
    def _pair(parent: Architecture, child: Architecture) -> tuple[str, str]:
        return json.dumps(parent, sort_keys=True), json.dumps(child, sort_keys=True)


def grow(space: Space, parent: Architecture, frame: Frame, rng: Rng) -> Architecture | None:
    """A random edit that network morphisms can make, or None if none was found."""
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
    """A sequence of such edits to an architecture that has not been tried. Morphisms must also
    exist directly from the parent, because the child inherits in one step.

    If a parent cannot grow further, fewer edits are made. None if there is no new architecture.
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
    """A new architecture that can grow, from the smallest quarter of a random sample. The very
    smallest network of a space would be useless."""
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
