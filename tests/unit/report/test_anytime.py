"""Numbers of a comparison, against what is worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinase.api.trial import Cost, Kind
from kinase.report.anytime import COSTS, Curve, band, common, curve, middle, quantile, reach
from tests.unit.report import samples


def line(*points: tuple[float, float], spent: float | None = None, sign: float = 1.0) -> Curve:
    """A curve by its (cost, value) at each improvement."""
    xs, ys = zip(*points, strict=True) if points else ((), ())
    return Curve(xs, ys, spent if spent is not None else (xs[-1] if xs else 0.0), sign)


def searched(*values: float | None, goal: str = "maximize", kind: Kind = Kind.SEARCH):
    """A search of trials with these values, of 12 epochs each; None failed after 3."""
    trials = tuple(samples.trial(n, kind, v) for n, v in enumerate(values))
    return samples.empty(trials=trials, goal=goal)


def test_a_step_at_each_improvement() -> None:
    found = curve(searched(0.5, 0.4, 0.7, 0.7, None), "epochs")
    assert (found.xs, found.ys, found.spent) == ((12, 36), (0.5, 0.7), 51)
    assert [found.at(cost) for cost in (11, 12, 35, 36, 1000)] == [None, 0.5, 0.5, 0.7, 0.7]
    assert [found.until(goal) for goal in (0.3, 0.5, 0.6, 0.7, 0.71)] == [12, 12, 36, 36, None]


def test_lower_is_better_when_minimizing() -> None:
    found = curve(searched(0.5, 0.6, 0.2, goal="minimize"), "trials")
    assert (found.xs, found.ys, found.spent, found.final) == ((1, 3), (0.5, 0.2), 3, 0.2)
    assert [found.until(goal) for goal in (0.6, 0.5, 0.3, 0.2, 0.1)] == [1, 1, 3, 3, None]


def test_only_what_the_search_tried_counts_in_the_order_in_which_it_ended() -> None:
    late = [replace(samples.trial(n, value=v), order=2 - n) for n, v in enumerate((0.9, 0.5, 0.6))]
    besides = [
        samples.trial(10 + n, kind, 1.0)
        for n, kind in enumerate((Kind.CONTROL, Kind.FINAL, Kind.BASELINE))
    ]
    under_way = replace(samples.trial(20, value=None), order=None, outcome=None)
    found = curve(samples.empty(trials=(*late, *besides, under_way)), "trials")
    assert (found.xs, found.ys, found.spent) == ((1, 3), (0.6, 0.9), 3)


@pytest.mark.parametrize("unit", COSTS)
def test_every_unit_is_charged(unit: str) -> None:
    cost = Cost(epochs=7, samples=70, device_seconds=0.5)
    data = samples.empty(trials=tuple(replace(samples.trial(n), cost=cost) for n in range(3)))
    each = {"epochs": 7, "sample passes": 70, "device seconds": 0.5, "trials": 1}[unit]
    assert curve(data, unit).spent == 3 * each


def test_steps_from_somewhere_on() -> None:
    found = line((10, 0.5), (30, 0.8), spent=40)
    assert found.steps() == ([10, 30, 40], [0.5, 0.8, 0.8])
    assert found.steps(20) == ([20, 30, 40], [0.5, 0.8, 0.8])
    assert found.steps(30) == ([30, 40], [0.8, 0.8])
    assert line().steps() == ([], [])


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=9), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], share: float) -> None:
    assert quantile(values, share) == pytest.approx(np.quantile(values, share), abs=1e-9)
    worst_first = quantile(values, share, -1.0)
    assert worst_first == pytest.approx(np.quantile(values, 1 - share), abs=1e-9)


def test_no_value_is_worse_than_any() -> None:
    assert middle([None, 0.5, 0.7]) == 0.5
    assert middle([None, 0.5, 0.7], -1.0) == 0.7
    assert middle([None, None, 0.7]) is None
    assert middle([None, 0.7]) is None  # between the two
    assert quantile([None, 0.5, 0.6, 0.7], 0.75) == pytest.approx(0.625)
    assert middle([]) is None


def test_band_of_three_runs() -> None:
    runs = [line((1, 0.1), (3, 0.3)), line((2, 0.2), spent=5), line((2, 0.4), spent=4)]
    assert common(runs) == 3
    assert band(runs) == [
        (2, pytest.approx(0.15), 0.2, pytest.approx(0.3)),  # of 0.1, 0.2, 0.4
        (3, pytest.approx(0.25), 0.3, pytest.approx(0.35)),  # of 0.3, 0.2, 0.4
    ]


def test_band_begins_where_enough_have_a_value() -> None:
    """Of values none, none, x the upper quartile lies between; of none, y, x the median is y."""
    runs = [line((1, 0.5), spent=9), line((2, 0.4), spent=9), line((5, 0.1), spent=9)]
    assert band(runs) == [
        (2, None, 0.4, pytest.approx(0.45)),
        (5, pytest.approx(0.25), 0.4, pytest.approx(0.45)),
        (9, pytest.approx(0.25), 0.4, pytest.approx(0.45)),
    ]


def test_band_turns_when_minimizing() -> None:
    runs = [line((1, v), sign=-1.0) for v in (0.1, 0.2, 0.3, 0.4, 0.5)]
    assert band(runs) == [(1, 0.4, 0.3, 0.2)]


def test_band_ends_with_the_shortest_run() -> None:
    runs = [line((1, 0.1), (90, 0.9), spent=100), line((1, 0.2), spent=10)]
    assert [at for at, *_ in band(runs)] == [1, 10]
    assert band(runs)[-1][2] == pytest.approx(0.15)


# What a search takes to be as good as another

RANDOM = [(0, line((10, 0.5), (80, 0.8), spent=100)), (1, line((50, 0.6), spent=200))]


def test_pairs_of_the_same_seed() -> None:
    ours = [(1, line((20, 0.59), (40, 0.7), spent=100)), (0, line((25, 0.9), spent=100))]
    found = reach(ours, RANDOM)
    assert found.paired
    # seed 1: 0.6 is reached at 40 of 200; seed 0: 0.8 at 25 of 100
    assert dict(zip(found.seeds, found.shares, strict=True)) == {1: 0.2, 0: 0.25}
    assert found.median == pytest.approx(0.225)


def test_the_reference_against_itself_is_where_its_best_was_found() -> None:
    found = reach(RANDOM, RANDOM)
    assert (found.seeds, found.shares) == ((0, 1), (0.8, 0.25))


def test_a_seed_without_its_pair_is_left_out() -> None:
    ours = [(0, line((25, 0.9))), (7, line((1, 0.9)))]
    found = reach(ours, RANDOM)
    assert (found.paired, found.seeds, found.shares) == (True, (0,), (0.25,))


def test_without_pairs_the_medians_are_held_against() -> None:
    """The median end is 0.7, the median cost 150."""
    ours = [(5, line((15, 0.69), (30, 0.71))), (6, line((45, 0.7))), (7, line((9, 0.5)))]
    found = reach(ours, RANDOM)
    assert (found.paired, found.seeds) == (False, (5, 6, 7))
    assert found.shares == (pytest.approx(0.2), pytest.approx(0.3), None)
    assert found.median == pytest.approx(0.3)


def test_the_same_seed_twice_is_paired_in_turn() -> None:
    reference = [(0, line((10, 0.5))), (0, line((20, 0.6)))]
    found = reach([(0, line((5, 0.5))), (0, line((5, 0.6))), (0, line((5, 0.7)))], reference)
    assert (found.seeds, found.shares) == ((0, 0), (0.5, 0.25))


def test_what_half_never_reach_has_no_median() -> None:
    ours = [(0, line((10, 0.9))), (1, line((10, 0.1)))]
    found = reach(ours, RANDOM)
    assert found.shares == (0.1, None)
    assert found.median is None
    assert reach([*ours, (0, line((40, 0.9)))], [*RANDOM, RANDOM[0]]).median == 0.4


def test_more_than_the_whole_cost_is_told() -> None:
    assert reach([(1, line((300, 0.6)))], RANDOM).shares == (1.5,)


def test_minimizing_reaches_downwards() -> None:
    theirs = [(0, line((10, 0.5), (100, 0.2), sign=-1.0))]
    ours = [(0, line((5, 0.3), (20, 0.1), sign=-1.0))]
    assert reach(ours, theirs).shares == (0.2,)


@pytest.mark.parametrize("reference", [[], [(0, line())], [(3, line())], [(0, line(spent=50))]])
def test_nothing_to_be_as_good_as(reference: list[tuple[int, Curve]]) -> None:
    found = reach([(0, line((1, 0.5)))], reference)
    assert (found.shares, found.median) == ((), None)


def test_a_value_that_is_not_finite_is_none() -> None:
    broken = replace(samples.trial(0), metrics={samples.METRIC: math.nan})
    assert curve(samples.empty(trials=(broken,)), "trials").final is None
