"""The rank test against SciPy's and counting, its correction, and what it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from kinase.report.ranks import Paired, holm, interval, needed, paired, signed_rank


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pairs", [1, 4, 9, 14])
def test_p_is_scipys(seed: int, pairs: int) -> None:
    differences = np.random.default_rng(seed).normal(0.4, 1, pairs).tolist()
    assert signed_rank(differences) == pytest.approx(wilcoxon(differences, mode="exact").pvalue)


def test_ties_and_zeros_are_counted_exactly() -> None:
    assert signed_rank([1.0, 1.0, 1.0]) == 2 / 8
    assert signed_rank([1.0, -1.0, 0.0]) == 1.0
    assert signed_rank([0.0, 0.0]) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_is_what_the_test_does_not_reject(seed: int) -> None:
    differences = np.random.default_rng(seed).normal(1, 1, 9).tolist()
    ends = interval(differences)
    assert ends is not None
    for end, outward in zip(ends, (-1, 1), strict=True):
        assert signed_rank([d - end - outward * 1e-6 for d in differences]) <= 0.05
        assert signed_rank([d - end + outward * 1e-6 for d in differences]) > 0.05
    assert interval(differences[:5]) is None  # 2 / 2^5 is above 0.05


def test_holm_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, 0.06, 0.06]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_words() -> None:
    few = paired({s: 1.0 + s for s in range(5)}, dict.fromkeys(range(5), 0.0))
    assert (few.pairs, few.p, few.interval) == (5, 2 / 32, None)
    assert Paired(5, 1.0, None, 2 / 32, 2 / 32).word == "too few seeds to tell"
    assert Paired(6, 1.0, None, 2 / 64, 2 / 64).word == "better"
    assert Paired(6, -1.0, None, 2 / 64, 2 / 64).word == "worse"
    assert Paired(6, 1.0, None, 2 / 64, 4 / 64).word == "no difference shown"
    assert paired({1: 1.0}, {2: 1.0}).word == "too few seeds to tell"
    assert (needed(1), needed(2), needed(4)) == (6, 7, 8)
