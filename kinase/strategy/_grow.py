"""Children that start as their parent's trained function."""

from __future__ import annotations

import json
from collections.abc import Iterator

from kinase.api.trial import Architecture
from kinase.history import History
from kinase.morphism import KINDS
from kinase.morphism.bridge import bridge
from kinase.space import ArchitectureError, Frame, InfeasibleError, Rng, Space

ATTEMPTS = 200
"""Number of mutations drawn before a parent counts as having no new child."""
DRAWS = 64
"""Number of architectures drawn to choose a small initial one."""
KNOWN = 20_000
"""Number of pairs of architectures of which it is remembered whether morphisms exist."""
AGAIN = 32
"""Number of repeated rejected draws after which a parent counts as having no new child."""


class Bridges:
    """Whether exact morphisms exist between two architectures; results are cached."""

    def __init__(self, space: Space, frame: Frame) -> None:
        """Nothing is known yet."""
        self.space, self.frame = space, frame
        self._known: dict[tuple[str, str], bool] = {}

    def lead(self, parent: Architecture, child: Architecture) -> bool:
        """Whether morphisms lead from one to the other."""
        pair = self._pair(parent, child)
        if pair not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            found = bridge(self.space, parent, child, self.frame)
            self._known[pair] = found is not None
        return self._known[pair]

    def exists(self, architecture: Architecture) -> bool:
        """Whether a network can be built."""
        try:
            self.space.graph(architecture, self.frame)
        except InfeasibleError:
            return False
        return True

    def contains(self, architecture: Architecture) -> bool:
        """Whether an architecture is in the space."""
        try:
            self.space.validate(architecture)
        except ArchitectureError:
            return False
        return True

    @staticmethod
    def _pair(parent: Architecture, child: Architecture) -> tuple[str, str]:
        return json.dumps(parent, sort_keys=True), json.dumps(child, sort_keys=True)


def grow(space: Space, parent: Architecture, frame: Frame, rng: Rng) -> Architecture | None:
    """A random edit that exact morphisms can make, or None if none was found."""
    return next(_grown(parent, parent, Bridges(space, frame), rng), None)


def _grown(
    root: Architecture, parent: Architecture, bridges: Bridges, rng: Rng
) -> Iterator[Architecture]:
    """Edits of an architecture that exact morphisms can make, also from the root, in random order.

    They are mutations, as the space draws them. Where no more are found and the space lists its
    moves, the rest of those follows, so that none is left out.

    The draws do not depend on what an earlier call found out, so a search that continues from its
    journal draws the same.
    """
    space, again = bridges.space, 0
    refused: set[str] = set()
    for _ in range(ATTEMPTS):
        child = space.mutate(parent, rng)
        key = space.key(child)
        again += key in refused
        if again > AGAIN:
            break
        if not bridges.lead(parent, child):
            refused.add(key)
        elif bridges.lead(root, child):
            yield child
    listed = space.moves(parent)
    exact = [edits for name, edits in listed.items() if name not in KINDS or KINDS[name].exact]
    moves = [child for edits in exact for child in edits]
    for index in rng.permutation(len(moves)):
        child = moves[int(index)]
        if not bridges.contains(child):
            continue
        if bridges.lead(parent, child) and bridges.lead(root, child):
            yield child


def grow_fresh(
    bridges: Bridges,
    parent: Architecture,
    history: History,
    rng: Rng,
    edits: int = 1,
    attempts: int = 8,
) -> Architecture | None:
    """A sequence of such edits to an architecture that has not been tried. Morphisms must also
    exist directly from the parent, because the child inherits in one step.

    If a parent cannot grow further, fewer edits are made. None if there is no new architecture.
    """
    space = bridges.space
    for _ in range(attempts):
        child = parent
        for _ in range(edits):
            grown = next(_grown(parent, child, bridges, rng), None)
            if grown is None:
                break
            child = grown
        if child is parent:
            return None
        if space.key(child) not in history.by_key:
            return child
    for child in _grown(parent, parent, bridges, rng):
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
