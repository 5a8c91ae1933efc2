"""Architectures that have not been tried."""

from __future__ import annotations

from collections.abc import Sequence

from kinase.api.trial import Architecture
from kinase.history import History
from kinase.space import ArchitectureError, Rng, Space
from kinase.strategy.base import Proposal

ATTEMPTS = 200
"""Number of draws before the space counts as nearly exhausted and is enumerated."""


def sample_fresh(space: Space, history: History, rng: Rng) -> Architecture | None:
    """Draw an architecture whose key has not been tried.

    Rejection sampling; after many rejections, a draw from the rest of an enumeration. A space that
    cannot be enumerated and yields nothing new counts as exhausted.
    """
    for _ in range(ATTEMPTS):
        architecture = space.sample(rng)
        if space.key(architecture) not in history.by_key:
            return architecture
    try:
        left = [a for a in space.enumerate() if space.key(a) not in history.by_key]
    except NotImplementedError:
        return None
    return left[int(rng.integers(len(left)))] if left else None


def random_fresh(space: Space, history: History, rng: Rng) -> Proposal | None:
    """Propose such an architecture."""
    architecture = sample_fresh(space, history, rng)
    return None if architecture is None else Proposal(architecture)


def check_start(space: Space, start: Sequence[Architecture]) -> None:
    """Check the start architectures of a search.

    Raises:
        ArchitectureError: one of them is not in the space; the message says which.
    """
    for index, architecture in enumerate(start):
        try:
            space.validate(space.resolve(architecture))
        except ArchitectureError as error:
            raise ArchitectureError(f"start[{index}]: {error}") from error


def start_fresh(
    space: Space, start: Sequence[Architecture], history: History, rng: Rng
) -> Proposal | None:
    """Propose the first of these that has not been tried, then random ones."""
    for architecture in map(space.resolve, start):
        if space.key(architecture) not in history.by_key:
            return Proposal(architecture, (), "start")
    return random_fresh(space, history, rng)


def mutate_fresh(
    space: Space, parent: Architecture, history: History, rng: Rng, attempts: int = 50
) -> Architecture | None:
    """Mutate until the key is new: one edit, or several if all neighbours have been tried."""
    child = parent
    for attempt in range(attempts):
        child = space.mutate(parent if attempt < attempts // 2 else child, rng)
        if space.key(child) not in history.by_key:
            return child
    return None
