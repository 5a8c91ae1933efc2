from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinase.report.control import expected_best, quantile_best

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
