"""Pareto ranking: non-dominated sorting and crowding distance (Deb et al. 2002, section III).

Points are tuples of losses. A point with an infinite value is dominated by every finite point.
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
    """Whether a point is not worse than another in any objective, and better in at least one."""
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
    """Indices of the non-dominated points, in the given order, including all equal points."""
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

    The extremes of an objective are infinitely far apart; an objective in which all points are
    equal is ignored.
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
    """Volume dominated by the points, up to the reference point (Zitzler & Thiele 1998).

    Exact, by slices along the last objective (While, Hingston, Barone & Huband 2006, "A Faster
    Algorithm for Calculating Hypervolume", HSO), for fronts of some hundred points and few
    objectives.

    Raises:
        ValueError: the number of objectives of a point and of the reference differ.
    """
    size = len(reference)
    if any(len(point) != size for point in points):
        raise ValueError(f"the reference has {size} objectives, and each point must have as many")
    inside = [
        tuple(map(float, point))
        for point in points
        if all(x < edge for x, edge in zip(point, reference, strict=True))
    ]
    if not inside:
        return 0.0
    front = [inside[i] for i in pareto_front(inside)]
    return _volume(sorted(set(front), key=lambda point: point[::-1]), tuple(map(float, reference)))


def _volume(front: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """Of points in the order of their last objective."""
    if len(reference) == 1:
        return max((reference[0] - point[0] for point in front), default=0.0)
    if len(reference) == 2:
        area, edge = 0.0, reference[0]
        for x, y in front:
            if x < edge:
                area += (edge - x) * (reference[1] - y)
                edge = x
        return area
    volume = 0.0
    slab: list[tuple[float, ...]] = []
    ends = [point[-1] for point in front[1:]] + [reference[-1]]
    for point, end in zip(front, ends, strict=True):
        slab.append(point[:-1])
        if end > point[-1]:
            slab = [slab[i] for i in pareto_front(slab)]
            ordered = sorted(set(slab), key=lambda each: each[::-1])
            volume += (end - point[-1]) * _volume(ordered, reference[:-1])
    return volume
