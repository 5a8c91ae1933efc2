"""The rank test against SciPy's and counting, its correction, and what it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from kinase.report.ranks import (
    Paired,
    corrected,
    holm,
    interval,
    needed,
    paired,
    signed_rank,
)


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
    assert [each.word for each in corrected([few])] == ["too few seeds to tell"]
    assert word(6, 1.0, 2 / 64) == "better"
    assert word(6, -1.0, 2 / 64) == "worse"
    assert word(6, 1.0, 4 / 64) == "no difference shown"
    assert [each.word for each in corrected([paired({1: 1.0}, {2: 1.0})])] == [few_seeds]
    assert (needed(1), needed(2), needed(4)) == (6, 7, 8)


few_seeds = "too few seeds to tell"


def word(pairs: int, effect: float, p: float) -> str:
    [found] = corrected([Paired(pairs, effect, None, p)])
    return found.word


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([6], ["better"]),
        ([6, 6], [few_seeds] * 2),  # 2 * 2 / 64 is above 0.05
        ([7, 7], ["better"] * 2),
        ([7, 7, 7, 7], [few_seeds] * 4),
        ([8] * 4, ["better"] * 4),
        ([7, 6], ["better"] * 2),  # the second is corrected for one comparison alone
        ([5, 9], [few_seeds, "better"]),
        ([6, 0], ["better", few_seeds]),  # without a pair nothing is tested
    ],
)
def test_too_few_seeds_heeds_the_number_of_groups(pairs: list[int], words: list[str]) -> None:
    """Every difference has one sign, so each group has the smallest p that it can have."""
    best = [paired(dict.fromkeys(range(n), 1.0), dict.fromkeys(range(n), 0.0)) for n in pairs]
    assert [each.word for each in corrected(best)] == words
    # a difference that is not there is not shown where seeds would do, else it is not asked
    none = [Paired(n, 0.1, None, 1.0) for n in pairs]
    shown = ["no difference shown" if w == "better" else w for w in words]
    assert [each.word for each in corrected(none)] == shown
