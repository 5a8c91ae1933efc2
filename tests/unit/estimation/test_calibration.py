"""How far a rule can be trusted, on histories for which the right answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kinase.estimation.calibration import Calibration, Forecasted, reliability, wilson


@pytest.mark.parametrize(
    ("share", "count", "ends"),
    [
        (0.0, 10, (0.0, 1.95996398**2 / (10 + 1.95996398**2))),
        (1.0, 10, (10 / (10 + 1.95996398**2), 1.0)),
        (0.5, 4, (0.15003899, 0.84996101)),  # the roots of (s - p)^2 = z^2 p (1 - p) / n
        (0.3, 0, (0.0, 1.0)),
    ],
)
def test_the_interval_is_wilsons(share: float, count: int, ends: tuple[float, float]) -> None:
    assert wilson(share, count) == pytest.approx(ends, abs=1e-7)


def test_its_ends_are_where_the_share_is_just_likely_enough() -> None:
    for share, count in [(0.1, 20), (0.37, 100), (0.9, 7)]:
        for p in wilson(share, count):
            assert abs(share - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / count))


def test_the_share_is_that_of_the_spared() -> None:
    found = Calibration(stopped=57, spared=8, won=2)
    assert found.share == 0.25
    assert found.interval == wilson(0.25, 8)
    nobody = Calibration(3, 0, 0)
    assert (nobody.share, nobody.interval) == (None, None)


def test_the_estimate_is_right_on_average_and_its_interval_covers() -> None:
    """Of 400 trials that are to be stopped 3 would have won; a fifth, drawn, is spared."""
    rng = np.random.default_rng(0)
    shares, covered = [], 0
    for _ in range(300):
        spared = rng.random(400) < 0.2
        found = Calibration(int((~spared).sum()), int(spared.sum()), int(spared[:30].sum()))
        assert found.share is not None
        assert found.interval is not None
        shares.append(found.share)
        covered += found.interval[0] <= 30 / 400 <= found.interval[1]
    assert np.mean(shares) == pytest.approx(30 / 400, abs=0.003)
    assert covered / 300 > 0.93


def test_looks_are_grouped_by_their_probability_and_a_trial_counts_once() -> None:
    looks = [
        Forecasted(0, 0.01, False),
        Forecasted(0, 0.03, False),
        Forecasted(1, 0.02, True),
        Forecasted(2, 0.3, True),
        Forecasted(2, 0.9, True),
        Forecasted(3, 1.0, False),
    ]
    low, middle, high = reliability(looks, 0.05)
    assert (low.low, low.high, low.trials) == (0.0, 0.05, 2)
    assert (low.predicted, low.reached) == pytest.approx((0.02, 0.5))
    assert (middle.low, middle.high, middle.reached) == (0.25, 0.5, 1.0)
    assert (high.low, high.high, high.trials) == (0.75, 1.0, 2)
    assert (high.predicted, high.reached) == pytest.approx((0.95, 0.5))
    assert low.interval == wilson(0.5, 2)
    assert [each.high for each in reliability([Forecasted(0, 0.4, True)], 0.3)] == [0.5]


def test_the_spared_stand_for_the_stopped() -> None:
    """Half of the trials in a group would be stopped at a later look, and never reach the bar; a
    quarter of these is spared. The others reach it."""
    spared = [Forecasted(n, 0.6, False, weight=4.0) for n in range(10)]
    whole = [Forecasted(100 + n, 0.6, True) for n in range(40)]
    [group] = reliability([*spared, *whole], 0.05)
    assert group.reached == pytest.approx(0.5)
    assert group.interval == wilson(0.5, 80**2 / (10 * 16 + 40))
