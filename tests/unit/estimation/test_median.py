"""The median stopping rule, and that with another percentile."""

from __future__ import annotations

import math

import pytest

from kinase.api.trial import Outcome
from kinase.estimation import Promote, Sample, Stop
from tests.unit.estimation.helpers import Hand, estimator

COMPLETED = [
    (0.9, 0.6, 0.3, 0.2),  # running averages after 1, 2, 3 epochs: .9, .75, .6
    (0.8, 0.8, 0.2, 0.1),  # .8, .8, .6
    (0.7, 0.5, 0.6, 0.6),  # .7, .6, .6
    (1.0, 0.2, 0.3, 0.3),  # 1., .6, .5
]


def judged(*curve: float, kind: str = "MedianStopping", **options: object) -> bool:
    """Whether a trial with this curve is stopped after the four that are completed."""
    hand = Hand(estimator(kind, epochs=4, **{"completed": 4, **options}))
    hand.sample(6)
    for number, whole in enumerate(COMPLETED):
        hand.end(number, Outcome.SUCCEEDED, whole[-1], curve=whole)
    hand.end(5, Outcome.STOPPED, 0.0, curve=(0.0,))  # not completed
    hand.look(4, *curve)
    decision = hand.decide()
    assert isinstance(decision, Stop | Promote)
    assert decision.trial == 4
    return isinstance(decision, Stop)


def test_a_worked_example() -> None:
    """Medians of the running averages: .85 after one epoch, .675 after two, .6 after three."""
    assert not judged(0.85)
    assert judged(0.86)
    assert not judged(0.9, 0.675)
    assert judged(0.9, 0.676)
    assert not judged(0.6, 0.9, 0.9)  # its best counts
    assert judged(0.9, 0.61, 0.7)


def test_another_percentile() -> None:
    """A quarter of the way from the best: .6 and .6, .6, .75, .8: at .6; the third: .675."""
    for percentile, bar in ((25, 0.6), (50, 0.675), (75, 0.7625)):
        options = {"kind": "PercentileStopping", "percentile": percentile}
        assert not judged(0.9, bar, **options)
        assert judged(0.9, bar + 0.001, **options)


def test_before_its_grace_and_before_enough_are_completed_none_is_stopped() -> None:
    assert not judged(9.0, grace=2)
    assert judged(9.0, 9.0, grace=2)
    assert not judged(9.0, completed=5)


@pytest.mark.parametrize("worst", [math.inf])
def test_what_has_no_number_is_the_worst(worst: float) -> None:
    assert judged(worst)
    assert judged(worst, worst)
    assert not judged(worst, 0.6)


def test_epochs_that_were_not_measured_count_in_no_average() -> None:
    hand = Hand(estimator("MedianStopping", epochs=4, completed=1))
    hand.sample(2)
    hand.end(0, Outcome.SUCCEEDED, 0.5, curve=(math.inf, 0.5, math.inf, 0.5))
    hand.look(1, math.inf, 0.5)
    assert hand.obey(hand.decide()) == 1
    hand.history.rest(1, 3, (0.5,), (math.inf, 0.5, 0.6))
    assert isinstance(hand.decide(), Promote)


def test_a_trial_pauses_at_its_looks_and_is_granted_the_same_again() -> None:
    hand = Hand(estimator("MedianStopping", epochs=10, every=3))
    decision = hand.decide()
    assert isinstance(decision, Sample)
    assert [decision.grant.stop_after(done) for done in (0, 3, 6, 9)] == [3, 6, 9, 10]
    hand.obey(decision)
    hand.look(0, 0.3, 0.2, 0.1)
    assert hand.decide() == Promote(0, decision.grant)
