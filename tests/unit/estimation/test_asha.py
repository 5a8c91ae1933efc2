"""ASHA and asynchronous Hyperband: who is promoted, when, and where candidates begin."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from kinase.api.trial import Outcome
from kinase.estimation import Decision, End, Left, Promote, Sample, Stop, Wait
from kinase.estimation.testing import Session, some_curve, some_ending
from kinase.history import History
from tests.unit.estimation.helpers import FREE, Hand, estimator, promoted, rungs, stopped


def nine(**options: object) -> Hand:
    """Nine candidates that are under way, over 1, 3, 9 and 27 epochs."""
    hand = Hand(estimator("ASHA", eta=3, **options))
    assert rungs(hand.estimator.ladder) == [1, 3, 9, 27]
    hand.sample(9)
    return hand


def test_nine_results_at_once_give_three_promotions() -> None:
    hand = nine()
    for number in range(9):
        hand.rest(number, (number * 4 % 9) / 10)
    decisions = hand.flow()
    assert promoted(decisions) == [0, 7, 5]
    assert len(decisions) == 3
    assert hand.decide() == Sample(hand.estimator.ladder[0])


def test_who_is_promoted_is_among_the_best_of_its_rung() -> None:
    """One by one; so more than n/eta are promoted, as early ones later leave the best third."""
    scores = np.random.default_rng(0).random(243)
    hand = Hand(estimator("ASHA", eta=3, epochs=3))
    count = 0
    for number, score in enumerate(scores):
        decisions = hand.flow()
        for decision in decisions:
            assert isinstance(decision, Promote)
            there = [t.number for t in hand.history.at(0)]
            assert decision.trial in there[: len(there) // 3]
            count += 1
            hand.end(decision.trial, Outcome.SUCCEEDED, 0.5)
        hand.sample()
        hand.rest(number, float(score))
    assert 81 < count < 110


def test_the_highest_rung_goes_first() -> None:
    hand = nine()
    for number in range(9):
        hand.rest(number, number / 10)
    hand.flow()
    hand.sample(9)
    for number in range(9, 18):
        hand.rest(number, number / 10 - 2)
    for number in range(3):
        hand.rest(number, number / 10)
    assert promoted(hand.flow()) == [0, 9, 10, 11, 12, 13, 14]


def test_a_rung_needs_eta_results() -> None:
    hand = nine()
    hand.rest(0, 0.0)
    hand.rest(1, 0.1)
    assert hand.flow() == []
    hand.end(2, Outcome.FAILED)
    assert promoted(hand.flow()) == [0]


def test_a_tie_goes_to_the_first() -> None:
    hand = nine()
    for number in (5, 4, 7):
        hand.rest(number, 0.5)
    assert promoted(hand.flow()) == [4]


def test_nothing_without_a_finite_value_is_promoted() -> None:
    hand = nine()
    for number in range(9):
        hand.rest(number, math.inf)
    assert hand.flow() == []


def test_an_infeasible_trial_is_no_result() -> None:
    hand = nine()
    hand.rest(0, 0.0)
    hand.rest(1, 0.1)
    hand.end(2, Outcome.INFEASIBLE)
    assert hand.flow() == []


def test_one_that_was_stopped_keeps_its_place() -> None:
    """A rule had predicted that it is the best; it cannot go on, and no other takes its place."""
    hand = nine()
    hand.rest(0, 0.2)
    hand.rest(1, 0.1)
    hand.end(2, Outcome.STOPPED, 0.0)
    assert hand.flow() == []


@pytest.mark.parametrize(("score", "wanted"), [("best", 1), ("last", 0)])
def test_the_score_is_the_best_so_far_or_the_last(score: str, wanted: int) -> None:
    hand = Hand(estimator("ASHA", eta=2, score=score, rungs=[3], epochs=6))
    hand.sample(2)
    hand.rest(0, 0.4, 0.6, 0.5, 0.4)
    hand.rest(1, 0.5, 0.3, 0.4, 0.5)
    assert promoted(hand.flow()) == [wanted]


def test_what_diverges_within_a_rung_is_the_worst_whatever_it_was_before() -> None:
    hand = Hand(estimator("ASHA", eta=2, rungs=[3], epochs=6))
    hand.sample(2)
    hand.rest(0, math.inf, 0.1, 0.1, math.inf)
    hand.rest(1, 0.5, 0.5, 0.5, 0.5)
    assert promoted(hand.flow()) == [1]


def test_the_bar_is_the_last_that_would_be_promoted() -> None:
    hand = nine()
    for number in range(8):
        hand.rest(number, number / 10)
    running = hand.history.by_number[8]
    assert hand.estimator.bar(running, hand.history) == 0.1
    assert hand.estimator.bar(running, History()) == math.inf


def test_a_promotion_that_is_not_paid_for_is_passed_over() -> None:
    hand = nine()
    for number in range(9):
        hand.rest(number, number / 10)

    def decide(left: Left) -> Decision:
        while isinstance(decision := hand.decide(left), Stop):
            hand.obey(decision)
        return decision

    assert isinstance(decide(Left(2, None)), Promote)
    assert isinstance(decide(Left(1, None)), Sample)
    assert decide(Left(1, 0)) == End("no trial is left to begin, and none to promote")
    assert decide(Left(0, None)) == End(
        "the budget that is left (0 of its epochs) pays for no further trial"
    )


def test_what_can_never_be_promoted_is_stopped_the_worst_first() -> None:
    """Of 12 trials at most 4 get to the second rung: a checkpoint of another is of no use."""
    hand = nine()
    for number in range(9):
        hand.rest(number, number / 10)
    left = Left(None, 3)
    assert stopped([hand.decide(left)]) == [8]
    while isinstance(decision := hand.decide(left), Stop):
        hand.obey(decision)
    assert [t.number for t in hand.history.resting()] == [0, 1, 2, 3]
    assert isinstance(hand.decide(FREE), Promote), "without a limit any may yet be promoted"
    hand.sample()
    hand.obey(hand.decide())
    assert hand.decide(Left(0, None)) == Wait()


@pytest.mark.parametrize("slots", [1, 64])
def test_the_budget_is_spent_to_the_last_epoch(slots: int) -> None:
    for epochs in (5, 100, 333):
        session = Session(estimator("ASHA", epochs=81), some_curve, slots=slots, epochs=epochs)
        assert session.run().spent == epochs


# -- asynchronous Hyperband ------------------------------------------------------------


@pytest.mark.parametrize(
    ("convention", "wanted"), [("paper", (27, 12, 6, 4)), ("table", (27, 9, 6, 4))]
)
def test_brackets_are_drawn_in_proportion_to_their_sizes(
    convention: str, wanted: tuple[int, ...]
) -> None:
    hand = Hand(estimator("AsyncHyperband", eta=3, brackets=convention))
    hand.sample(3000)
    drawn = Counter(trial.grant.bracket for trial in hand.history.asked)
    for bracket, size in enumerate(wanted):
        share = size / sum(wanted)
        assert abs(drawn[bracket] / 3000 - share) < 4 * math.sqrt(share * (1 - share) / 3000)
    assert all(t.grant.rung == t.grant.bracket for t in hand.history.asked)
    again = Hand(estimator("AsyncHyperband", eta=3, brackets=convention))
    again.sample(50)
    assert [t.grant.bracket for t in again.history.asked] == [
        t.grant.bracket for t in hand.history.asked[:50]
    ]


def test_brackets_are_halved_apart() -> None:
    session = Session(
        estimator("AsyncHyperband", eta=3), ending=some_ending, slots=5, epochs=2000
    ).run()
    for trial in session.history.asked:
        assert set(trial.rungs) <= set(range(trial.grant.bracket, 4))
    promotions = [args for kind, args in session.events if kind == "grant"]
    assert {args[1].bracket for args in promotions} == {0, 1, 2}


def test_the_last_epochs_go_to_brackets_that_they_pay_for() -> None:
    hand = Hand(estimator("AsyncHyperband", eta=3))
    firsts = set()
    for _ in range(200):
        decision = hand.decide(Left(4, None))
        assert isinstance(decision, Sample)
        firsts.add(decision.grant.until)
        hand.obey(decision)
    assert firsts == {1, 3}
    assert hand.decide(Left(0, None)) == Wait()
    assert hand.decide(FREE) != Wait()
