from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from kinase.strategy.pareto import (
    crowding_distance,
    hypervolume,
    non_dominated_sort,
    pareto_front,
)


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_ranks_follow_the_definition(objectives: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [tuple(map(float, row)) for row in rng.integers(0, 6, (40, objectives))]
    ranks = non_dominated_sort(points)
    for i, point in enumerate(points):
        above = [ranks[j] for j, other in enumerate(points) if dominates(other, point)]
        assert ranks[i] == (max(above) + 1 if above else 0)
    assert pareto_front(points) == [i for i, rank in enumerate(ranks) if rank == 0]


def test_a_point_without_a_value_is_behind_all_others() -> None:
    points = [(math.inf, 0.0), (9.0, 9.0), (1.0, 1.0)]
    assert non_dominated_sort(points) == [2, 1, 0]
    assert pareto_front(points) == [2]


def test_nothing_has_an_empty_front() -> None:
    assert non_dominated_sort([]) == []
    assert pareto_front([]) == []
    assert crowding_distance([]) == []


def test_crowding_distance_by_hand() -> None:
    # Deb et al. 2002, section III-B: the sides of the cuboid, scaled by each objective's range
    points = [(0.0, 4.0), (1.0, 2.0), (2.0, 1.0), (4.0, 0.0)]
    assert crowding_distance(points) == [math.inf, 2 / 4 + 3 / 4, 3 / 4 + 2 / 4, math.inf]


def test_hypervolume_is_the_share_of_dominated_points() -> None:
    points = [(0.2, 0.7), (0.5, 0.4), (0.9, 0.1), (0.6, 0.6)]
    grid = (np.arange(400) + 0.5) / 400
    covered = sum(
        any(p[0] <= x and p[1] <= y for p in points) for x, y in itertools.product(grid, grid)
    )
    assert hypervolume(points, (1.0, 1.0)) == pytest.approx(covered / 400**2, abs=1e-3)


def test_hypervolume_is_for_two_objectives() -> None:
    with pytest.raises(ValueError, match="two objectives"):
        hypervolume([(1.0, 2.0, 3.0)], (4.0, 4.0, 4.0))
