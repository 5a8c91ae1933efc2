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


def union(points: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """The volume of a union of boxes, by inclusion and exclusion."""
    whole = 0.0
    for count in range(1, len(points) + 1):
        for some in itertools.combinations(points, count):
            corner = [max(column) for column in zip(*some, strict=True)]
            sides = [max(0.0, r - c) for c, r in zip(corner, reference, strict=True)]
            whole += (-1) ** (count + 1) * math.prod(sides)
    return whole


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(4))
def test_hypervolume_is_exact(objectives: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # some beyond the reference, some equal in an objective or in all
    points = [tuple(map(float, row)) for row in rng.integers(0, 7, (8, objectives))]
    reference = (5.5,) * objectives
    assert hypervolume(points, reference) == pytest.approx(union(points, reference), abs=1e-9)


def test_hypervolume_of_a_sphere_comes_near_its_own() -> None:
    # the part of the unit cube outside of an eighth of the unit ball
    angles = [(i + 0.5) / 14 * math.pi / 2 for i in range(14)]
    points = [
        (1 - math.cos(a) * math.cos(b), 1 - math.cos(a) * math.sin(b), 1 - math.sin(a))
        for a in angles
        for b in angles
    ]
    assert hypervolume(points, (1.0, 1.0, 1.0)) == pytest.approx(math.pi / 6, rel=0.12)


def test_points_and_reference_must_have_as_many_objectives() -> None:
    with pytest.raises(ValueError, match="reference has 2 objectives"):
        hypervolume([(1.0, 2.0, 3.0)], (4.0, 4.0))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_nothing_inside_the_reference_has_no_volume(size: int) -> None:
    assert hypervolume([], (1.0,) * size) == 0
    assert hypervolume([(2.0,) * size], (1.0,) * size) == 0
