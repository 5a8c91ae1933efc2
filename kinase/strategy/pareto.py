"""Pareto ranking: non-dominated sorting and crowding distance (Deb et al. 2002, section III).

Points are tuples of values to minimise. A point with an infinite value is dominated by every
point that is finite, whatever its other values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = Sequence[Sequence[float]]


def _matrix(points: Points) -> NDArray[np.float64]:
    matrix: NDArray[np.float64] = np.array(points, dtype=np.float64)
    if matrix.size and np.isnan(matrix).any():
        raise ValueError("a point holds a value that is not a number")
    if matrix.size:
        matrix[np.isinf(matrix).any(axis=1), :] = np.inf
    return matrix


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether a point is nowhere worse than another, and somewhere better."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def non_dominated_sort(points: Points) -> list[int]:
    """Rank of each point: 0 for the Pareto front, 1 for the front without it, and so on.

    Equal points have equal ranks. Runs in O(M N²) for N points of M objectives.
    """
    matrix = _matrix(points)
    if not len(matrix):
        return []
    no_worse = (matrix[:, None, :] <= matrix[None, :, :]).all(axis=2)
    better = (matrix[:, None, :] < matrix[None, :, :]).any(axis=2)
    dominates: NDArray[np.bool_] = np.logical_and(no_worse, better)
    ranks = np.full(len(matrix), -1)
    rank = 0
    while (ranks < 0).any():
        rest = ranks < 0
        dominated = dominates[rest].any(axis=0)
        ranks[rest & ~dominated] = rank
        rank += 1
    return [int(r) for r in ranks]


def pareto_front(points: Points) -> list[int]:
    """Indices of the points that none dominates, in the order given. Equal points all count."""
    matrix = _matrix(points)
    if not len(matrix):
        return []
    order = np.lexsort(matrix.T[::-1])
    front: list[int] = []
    kept = np.empty((0, matrix.shape[1]))
    for index in order:
        point = matrix[index]
        dominated = ((kept <= point).all(axis=1) & (kept < point).any(axis=1)).any()
        if not dominated:
            front.append(int(index))
            kept = np.vstack([kept, point])
    return sorted(front)


def crowding_distance(points: Points) -> list[float]:
    """Crowding distance of each point among the given ones, which form one front.

    The extremes of an objective are infinitely far apart; an objective in which all points
    agree counts for nothing.
    """
    matrix = _matrix(points)
    distance = np.zeros(len(matrix))
    for column in matrix.T if len(matrix) else ():
        order = np.argsort(column, kind="stable")
        values = column[order]
        spread = values[-1] - values[0]
        if not np.isfinite(spread) or spread == 0:
            continue
        distance[order[0]] = distance[order[-1]] = math.inf
        distance[order[1:-1]] += (values[2:] - values[:-2]) / spread
    return [float(d) for d in distance]


def hypervolume(points: Points, reference: Sequence[float]) -> float:
    """Area dominated by points of two objectives, up to the reference point (Zitzler & Thiele
    1998).

    Raises:
        ValueError: the points are not two-dimensional.
    """
    if len(reference) != 2 or any(len(point) != 2 for point in points):
        raise ValueError("hypervolume is for two objectives")
    area, edge = 0.0, reference[1]
    for x, y in sorted((float(p[0]), float(p[1])) for p in points):
        if x < reference[0] and y < edge:
            area += (reference[0] - x) * (edge - y)
            edge = y
    return area
