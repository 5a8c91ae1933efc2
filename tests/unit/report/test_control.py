from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinase.api.trial import Kind
from kinase.report.control import compare, expected_best, quantile_best
from tests.unit.report import samples
from tests.unit.report.samples import METRIC

values = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=7)


@given(values=values, data=st.data())
def test_best_of_k_equals_counting_every_draw(values: list[float], data: st.DataObject) -> None:
    draws = data.draw(st.integers(1, len(values)))
    best = [max(drawn) for drawn in combinations(values, draws)]
    assert expected_best(values, draws) == pytest.approx(sum(best) / len(best), abs=1e-12)
    for share in (0.1, 0.5, 0.9):
        reached = [b for b in sorted(best) if sum(x <= b for x in best) / len(best) >= share - 1e-9]
        assert quantile_best(values, draws, share) == reached[0]


@pytest.mark.parametrize("draws", [1, 2, 700, 1999, 2000])
def test_stays_exact_where_binomial_coefficients_overflow_a_float(draws: int) -> None:
    values = [i / 7 for i in range(2000)]
    whole = math.comb(2000, draws)
    exact = sum(Fraction(math.comb(i, draws - 1), whole) * i for i in range(2000)) / 7
    assert expected_best(values, draws) == pytest.approx(float(exact), rel=1e-11)


@pytest.mark.parametrize("draws", [0, 4])
def test_impossible_draws_are_refused(draws: int) -> None:
    with pytest.raises(ValueError, match="between 1 and all 3 values"):
        expected_best([1.0, 2.0, 3.0], draws)


def _race(search: list[float | None], control: list[float | None], goal: str = "maximize"):
    trials = [samples.trial(n, Kind.SEARCH, v) for n, v in enumerate(search)]
    trials += [samples.trial(100 + n, Kind.CONTROL, v) for n, v in enumerate(control)]
    return samples.empty(trials=tuple(trials), goal=goal)


def test_compares_after_as_many_trials() -> None:
    found = compare(_race([0.5, 0.6, 0.9, 0.95], [0.7, 0.4]))
    assert found is not None
    assert (found.trials, found.search, found.control) == (2, 0.6, 0.7)
    assert found.gain == pytest.approx(-0.1)
    assert "after all 4 0.9500" in found.text
    assert "worse" in found.text


def test_a_failed_trial_is_a_trial() -> None:
    found = compare(_race([None, 0.6, 0.9], [0.7, None]))
    assert found is not None
    assert (found.trials, found.search) == (2, 0.6)


def test_control_that_is_ahead_counts_only_as_many() -> None:
    found = compare(_race([0.5], [0.4, 0.9]))
    assert found is not None
    assert (found.trials, found.control) == (1, 0.4)


def test_lower_is_better_when_minimising() -> None:
    found = compare(_race([0.3, 0.1], [0.2, 0.4], goal="minimize"))
    assert found is not None
    assert (found.search, found.control) == (0.1, 0.2)
    assert found.gain == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("search", "control"), [([], []), ([0.5], []), ([], [0.5]), ([0.5], [None]), ([None], [0.5])]
)
def test_nothing_to_compare(search: list[float | None], control: list[float | None]) -> None:
    assert compare(_race(search, control)) is None


def test_an_infinite_value_is_none() -> None:
    data = _race([0.5], [0.4])
    broken = replace(data.trials[0], metrics={METRIC: math.inf})
    assert compare(replace(data, trials=(broken, *data.trials[1:]))) is None
