"""The path encoding of networks that have too many paths to list."""

from __future__ import annotations

from collections.abc import Iterable

KEPT = 256
"""Maximum number of paths to a node that are kept."""


def shortest(paths: Iterable[str]) -> list[str]:
    """The paths with the fewest operations, at most `KEPT` of them; of equal length the first in
    the alphabet. White et al. 2021, section 3.2, leave long paths out as well: a random
    architecture seldom has them.

    Args:
        paths: operations with `>` before each.
    """
    return sorted(set(paths), key=lambda path: (path.count(">"), path))[:KEPT]
