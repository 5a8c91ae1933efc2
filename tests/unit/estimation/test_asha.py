"""ASHA and asynchronous Hyperband: who is promoted, when, and where candidates begin."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from kinase.api.fidelity import Grant
from kinase.api.trial import Outcome
from kinase.estimation import Decision, End, Left, Promote, Sample, Stop, Wait
from kinase.estimation.asha import ASHA
from kinase.estimation.testing import Session, some_curve, some_ending
from kinase.history import History
from tests.unit.estimation.helpers import FREE, Hand, estimator, promoted, rungs, stopped


def nine(**options: object) -> Hand:
    """Nine candidates that are under way, over 1, 3, 9 and 27 epochs."""
    hand = Hand(estimator("ASHA", eta=3, **options))
    assert rungs(hand.estimator.ladder) == [1, 3, 9, 27]
    hand.sample(9)
    return hand


@pytest.mark.parametrize("promote", ["soon", "delayed"])
def test_nine_results_at_once_give_three_promotions(promote: str) -> None:
    hand = nine(promote=promote)
    for number in range(9):
        hand.rest(number, (number * 4 % 9) / 10)
    decisions = hand.flow()
    assert promoted(decisions) == [0, 7, 5]
    assert len(decisions) == 3
    assert hand.decide() == Sample(hand.estimator.ladder[0])


def one_by_one(promote: str) -> list[int]:
    """Promotions after each of 243 results, each of which is decided on before the next. Who is
    promoted is among the best third at that moment."""
    hand = Hand(estimator("ASHA", eta=3, epochs=3, promote=promote))
    counts = [0]
    for number, score in enumerate(np.random.default_rng(0).random(243)):
        hand.sample()
        hand.rest(number, float(score))
        decisions = hand.flow()
        for trial in promoted(decisions):
            there = [t.number for t in hand.history.at(0)]
            assert trial in there[: len(there) // 3]
            hand.end(trial, Outcome.SUCCEEDED, 0.5)
        counts.append(counts[-1] + len(decisions))
    return counts


def test_soon_promotions_are_more_than_a_third() -> None:
    """For early ones later leave the best third."""
    assert 81 < one_by_one("soon")[-1] < 110


def test_delayed_promotions_are_at_most_a_third() -> None:
    counts = one_by_one("delayed")
    assert all(count <= n // 3 for n, count in enumerate(counts))
    assert counts[-1] > 75


@pytest.mark.parametrize(
    ("promote", "wanted"),
    [("soon", [[2], [5, 4], [6]]), ("delayed", [[2], [5], [4]])],
)
def test_a_delayed_promotion_makes_up_for_an_early_one(
    promote: str, wanted: list[list[int]]
) -> None:
    """The first three results promote 2, which turns out to be the fourth of six."""
    hand = nine(promote=promote)
    losses = (0.8, 0.9, 0.7, 0.6, 0.2, 0.1, 0.5, 1.0, 1.0)
    found = []
    for three in range(3):
        for number in range(3 * three, 3 * three + 3):
            hand.rest(number, losses[number])
        found.append(promoted(hand.flow()))
    assert found == wanted


def test_the_highest_rung_goes_first() -> None:
    hand = nine(promote="soon")
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
    left = Left(0, None)
    assert stopped([hand.decide(left)]) == [3], "ten trials are all, and one was promoted"
    hand.end(3, Outcome.STOPPED, 0.3)
    assert hand.decide(left) == Wait()


@pytest.mark.parametrize("slots", [1, 64])
def test_the_budget_is_spent_to_the_last_epoch(slots: int) -> None:
    for epochs in (5, 100, 333):
        session = Session(estimator("ASHA", epochs=81), some_curve, slots=slots, epochs=epochs)
        assert session.run().spent == epochs


def test_no_candidate_is_begun_that_leaves_no_epochs_for_promotions() -> None:
    """Of twelve, four are promoted for 2 epochs each, and one of these for 6 more."""
    hand = Hand(estimator("ASHA", eta=3, rungs=[1, 3], epochs=9))
    for epochs in range(12 + 4 * 2 + 6, 4 * 2 + 6, -1):
        assert isinstance(hand.decide(Left(epochs, None)), Sample)
        hand.sample()
    left = Left(4 * 2 + 6, None)
    assert hand.decide(left) == Wait()
    for number in range(12):
        hand.end(number, Outcome.FAILED)
    assert isinstance(hand.decide(left), Sample), "nothing is left to promote"


def test_epochs_are_put_aside_for_all_brackets() -> None:
    hand = Hand(estimator("AsyncHyperband", eta=3))
    hand.sample(12)
    assert hand.decide(Left(3, None)) == Wait()


@pytest.mark.parametrize("slots", [1, 64])
@pytest.mark.parametrize(
    ("epochs", "wanted"),
    [(100, {0: 42, 1: 13, 2: 4, 3: 1}), (247, {0: 81, 1: 27, 2: 9, 3: 3, 4: 1})],
)
def test_with_64_at_once_the_rungs_keep_their_shares(
    epochs: int, wanted: dict[int, int], slots: int
) -> None:
    """Without epochs put aside for promotions, all of them go to the lowest rungs. Of the 42
    candidates, one that could be promoted is not paid for."""
    made = estimator("ASHA", epochs=51, eta=3, rungs=[1, 3, 9, 17], promote="delayed")
    begun = Session(made, some_curve, slots=slots, epochs=epochs).run().begun()
    assert begun == wanted


# -- promoted last ---------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 3, 64])
@pytest.mark.parametrize(
    ("epochs", "wanted"), [(105, {0: 45, 1: 15, 2: 5}), (96, {0: 44, 1: 14, 2: 4})]
)
def test_promoted_last_a_search_begins_what_it_can_pay_to_promote(
    slots: int, epochs: int, wanted: dict[int, int]
) -> None:
    """Over 1, 3 and 9 epochs a candidate costs 1, and its promotions 2 and 6."""
    made = estimator("ASHA", eta=3, epochs=9, promote="last")
    session = Session(
        made, slots=slots, epochs=epochs, curve=lambda number, grant: [number % 7] * grant.until
    ).run()
    assert session.begun() == wanted
    assert session.spent == epochs
    kinds = [kind for kind, _ in session.events if kind in ("ask", "grant")]
    assert kinds.index("grant") == wanted[0], "every candidate begins before a promotion"


def test_promoted_last_the_best_of_all_are_promoted_one_by_one() -> None:
    """Ever better candidates: promoted soon, each of them is among the best when it comes."""

    def better(number: int, grant: Grant) -> list[float]:
        return [-float(number)] * grant.until

    promotions = {}
    for promote in ("soon", "last"):
        made = estimator("ASHA", eta=3, epochs=3, promote=promote)
        session = Session(made, epochs=75, curve=better).run()
        promotions[promote] = [args[0] for kind, args in session.events if kind == "grant"]
    assert promotions["last"] == list(range(44, 29, -1))
    assert len(promotions["soon"]) > 20


def test_promoted_last_a_slot_waits_rather_than_spend_what_promotions_need() -> None:
    hand = Hand(estimator("ASHA", eta=3, epochs=3, promote="last"))
    hand.sample(3)
    left = Left(2, None)
    assert hand.decide(left) == Wait()
    for number in range(3):
        hand.rest(number, number / 10)
    while isinstance(decision := hand.decide(left), Stop):
        hand.obey(decision)
    assert promoted([decision]) == [0]


def test_promoted_last_by_a_budget_of_trials() -> None:
    made = estimator("ASHA", eta=3, epochs=9, promote="last")
    assert Session(made, trials=30, slots=4).run().begun() == {0: 30, 1: 10, 2: 3}


def test_without_a_budget_promotions_come_soon() -> None:
    hand = nine(promote="last")
    for number in range(9):
        hand.rest(number, number / 10)
    assert promoted(hand.flow()) == [0, 1, 2]


def test_promoted_last_what_none_can_fill_goes_to_candidates() -> None:
    """No trial has a finite value, so none can be promoted, and nothing waits for it."""
    made = estimator("ASHA", eta=3, epochs=3, promote="last")
    session = Session(made, epochs=20, curve=lambda n, g: [math.inf] * g.until).run()
    assert session.begun() == {0: 20}


@pytest.mark.parametrize("epochs", [60, 80, 300])
@pytest.mark.parametrize("promote", ["soon", "delayed", "last"])
def test_stopping_what_can_never_be_promoted_changes_no_other_decision(
    promote: str, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where each candidate is the best when it comes, so that with `soon` all are promoted,
    and the first to come to the next rung stays the best there."""

    def curve(number: int, grant: Grant) -> list[float]:
        losses = [100.0 - number] * 5 + [float(number)] + [50.0] * 21
        return losses[: grant.until]

    def decisions() -> list[Decision]:
        made = estimator("ASHA", promote=promote, rungs=(5, 6, 7))
        session = Session(made, curve=curve, epochs=epochs).run()
        return [found for _, _, found in session.decisions if not isinstance(found, Stop)]

    with_stops = decisions()
    monkeypatch.setattr(ASHA, "hopeless", lambda self, history, left: None)
    assert with_stops == decisions()


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
        hand.end(hand.obey(decision), Outcome.FAILED)
    assert firsts == {1, 3}
    assert hand.decide(Left(0, None)) == End(
        "the budget that is left (0 of its epochs) pays for no further trial"
    )
    assert hand.decide(FREE) != Wait()
