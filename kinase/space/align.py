"""Align the layers of two chains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from kinase.space.layers import Layer


def align(
    parent: Sequence[Layer],
    child: Sequence[Layer],
    changes: Callable[[Layer, Layer], float],
    *,
    removable: Callable[[Layer], bool] = lambda layer: False,
    insertable: Callable[[Layer, int], bool] = lambda layer, place: False,
) -> dict[int, int] | None:
    """The alignment of two chains with the fewest changes, by dynamic programming (as the edit
    distance of Wagner & Fischer 1974). Of equally good alignments, the one that keeps the earliest
    layers is returned.

    Args:
        parent: one chain.
        child: the other.
        changes: number of changes from one layer to another; infinite if impossible.
        removable: whether a layer of `parent` can have no counterpart, which is one change.
        insertable: the same for a layer of `child`, at its position.

    Returns:
        Map the number of each kept layer of `parent` to its number in `child`; None if there is no
            alignment.
    """
    rows, columns = len(parent), len(child)
    cost = [[inf] * (columns + 1) for _ in range(rows + 1)]
    cost[rows][columns] = 0.0

    def kept(i: int, j: int) -> float:
        inside = i < rows and j < columns
        return cost[i + 1][j + 1] + changes(parent[i], child[j]) if inside else inf

    def removed(i: int, j: int) -> float:
        return 1 + cost[i + 1][j] if i < rows and removable(parent[i]) else inf

    def inserted(i: int, j: int) -> float:
        return 1 + cost[i][j + 1] if j < columns and insertable(child[j], j) else inf

    for i in range(rows, -1, -1):
        for j in range(columns, -1, -1):
            cost[i][j] = min(cost[i][j], kept(i, j), removed(i, j), inserted(i, j))
    if cost[0][0] == inf:
        return None
    found, i, j = dict[int, int](), 0, 0
    while i < rows or j < columns:
        if cost[i][j] == kept(i, j):
            found[i] = j
            i, j = i + 1, j + 1
        elif cost[i][j] == removed(i, j):
            i += 1
        else:
            j += 1
    return found
