"""Successive halving and Hyperband: sizes, costs, and who gets on."""

from __future__ import annotations

import copy
import math

import pytest

from kinase.api.estimation import HyperbandEstimation
from kinase.api.fidelity import Grant
from kinase.api.trial import Outcome
from kinase.estimation import End, Left, Promote, Sample, Wait
from kinase.estimation.hyperband import sizes
from kinase.estimation.testing import Session, some_ending
from tests.unit.estimation.helpers import Hand, estimator, promoted, rungs, stopped


def apart(number: int, grant: Grant) -> list[float]:
    """Curves that do not cross."""
    return [number * 29 % 83 / 83 + 1 / epoch for epoch in range(1, grant.until + 1)]


PAPER = [{0: 81, 1: 27, 2: 9, 3: 3, 4: 1}, {1: 34, 2: 11, 3: 3, 4: 1}, {2: 15, 3: 5, 4: 1}]
TABLE = [{0: 81, 1: 27, 2: 9, 3: 3, 4: 1}, {1: 27, 2: 9, 3: 3, 4: 1}, {2: 9, 3: 3, 4: 1}]


@pytest.mark.parametrize("slots", [1, 20, 200])
@pytest.mark.parametrize(
    ("convention", "wanted", "epochs"),
    [
        ("paper", [*PAPER, {3: 8, 4: 2}, {4: 5}], 1581),
        ("table", [*TABLE, {3: 6, 4: 2}, {4: 5}], 1404),
    ],
)
def test_a_sweep_of_81_epochs(
    convention: str, wanted: list[dict[int, int]], epochs: int, slots: int
) -> None:
    made = estimator("Hyperband", 81, brackets=convention)
    trials = sum(max(bracket.values()) for bracket in wanted)
    session = Session(made, apart, slots=slots, trials=trials).run()
    assert [session.begun(number) for number in range(5)] == wanted
    assert session.spent == epochs


def test_without_resuming_a_sweep_costs_all_of_its_rungs() -> None:
    for convention, trials, epochs in (("paper", 143, 1902), ("table", 128, 1701)):
        made = estimator("Hyperband", 81, brackets=convention, horizon="rung")
        assert Session(made, apart, slots=9, trials=trials).run().spent == epochs


@pytest.mark.parametrize(("eta", "most"), [(3, 729), (10, 10_000)])
def test_brackets_are_counted_in_integers(eta: int, most: int) -> None:
    """Where a logarithm of floats loses one: 243 to base 3, 1000 to base 10."""
    power = 1
    while eta**power <= most:
        for epochs in (eta**power, eta ** (power + 1) - 1):
            assert len(estimator("Hyperband", epochs, eta=eta).ladder) == power + 1
        power += 1


def test_the_brackets_of_3_to_729_epochs() -> None:
    """One more than the powers of 3 up to the epochs, each from a rung of its own."""
    for epochs in range(3, 730):
        rungs = HyperbandEstimation().values(epochs)
        most = sum(3**k <= epochs for k in range(1, 7))
        assert rungs == tuple(epochs // 3**k for k in range(most, -1, -1))
        assert len(sizes(len(rungs), 3, "paper")) == most + 1


@pytest.mark.parametrize("kind", ["Hyperband", "SuccessiveHalving"])
def test_brackets_that_are_over_are_not_looked_at_again(kind: str) -> None:
    """And decisions are those of an estimator that looks at all: its history is another one."""
    made = estimator(kind, 9)
    session = Session(made, ending=some_ending, slots=6, trials=150)
    while session.step():
        history = session.history
        assert made.next(history, session.left) == made.next(copy.copy(history), session.left)
        made.next(history, session.left)
        assert len(made._brackets(history)) <= 5
    assert history.brackets > 15


def test_the_sizes_of_brackets() -> None:
    assert sizes(5, 3, "paper") == (81, 34, 15, 8, 5)
    assert sizes(5, 3, "table") == (81, 27, 9, 6, 5)
    assert sizes(4, 4, "paper") == (64, 22, 8, 4)


def test_a_sweep_follows_a_sweep() -> None:
    session = Session(estimator("Hyperband", 9), apart, slots=4, trials=9 + 5 + 3 + 9).run()
    assert [session.begun(number) for number in (0, 3)] == [{0: 9, 1: 3, 2: 1}] * 2


@pytest.mark.parametrize("slots", [1, 10, 100])
def test_halving_finds_the_best_where_curves_do_not_cross(slots: int) -> None:
    """Of n candidates; with 81 and eta 3, every rung costs 81 epochs without resuming."""
    for n in (3, 10, 27, 50, 81):
        made = estimator("SuccessiveHalving", 81, initial=n)
        session = Session(made, apart, slots=slots, trials=n).run()
        values = {t.number: apart(t.number, t.grant)[0] for t in session.history.asked}
        best = min(session.history.told, key=session.estimator.rank)
        assert values[best.number] == min(values.values())
    assert session.begun() == {0: 81, 1: 27, 2: 9, 3: 3, 4: 1}
    assert session.spent == 81 + 27 * 2 + 9 * 6 + 3 * 18 + 54
    restarted = estimator("SuccessiveHalving", 81, horizon="rung")
    assert Session(restarted, apart, slots=slots, trials=81).run().spent == 405


TABLE_OF_LOSSES = {
    0: (0.9, 0.5, 0.1),
    1: (0.5, 0.4, 0.4),
    2: (0.7, 0.7, 0.2),
    3: (0.5, 0.6, 0.3),
    4: (math.inf, 0.0, 0.0),
    5: (0.8, 0.1, 0.0),
    6: (0.6, 0.3, 0.5),
    7: (0.95, 0.9, 0.9),
    8: (0.85, 0.8, 0.8),
}


def test_a_known_table() -> None:
    """Nine candidates over 1, 3 and 9 epochs: 1, 3 and 6 have the best losses after one epoch (of
    the equal ones the first is first), 6 the best of these after three."""

    def curve(number: int, grant: Grant) -> list[float]:
        first, third, ninth = TABLE_OF_LOSSES[number]
        return [first, third, third, *[ninth] * 6][: grant.until]

    session = Session(estimator("SuccessiveHalving", 9), curve, slots=3, trials=9).run()
    order = [(args[0], args[1].rung) for kind, args in session.events if kind == "grant"]
    assert order == [(1, 1), (3, 1), (6, 1), (6, 2)]
    outcomes = {t.number: t.outcome for t in session.history.told}
    assert outcomes.pop(6) is Outcome.SUCCEEDED
    assert set(outcomes.values()) == {Outcome.STOPPED}


class TestABracket:
    """Of nine candidates, three of which get to the second rung, and one to the third."""

    @pytest.fixture
    def hand(self) -> Hand:
        hand = Hand(estimator("SuccessiveHalving", 9))
        assert rungs(hand.estimator.ladder) == [1, 3, 9]
        return hand

    def test_the_next_one_begins_while_it_waits(self, hand: Hand) -> None:
        assert hand.sample(20) == list(range(20))
        assert [t.grant.bracket for t in hand.history.asked] == [0] * 9 + [1] * 9 + [2] * 2
        for number in range(8):
            hand.rest(number, number / 10)
        assert hand.flow() == []
        hand.rest(8, 0.05)
        assert promoted(hand.flow()) == [0, 8, 1]

    def test_an_older_bracket_goes_first(self, hand: Hand) -> None:
        hand.sample(18)
        for number in reversed(range(18)):
            hand.rest(number, number / 10)
        assert promoted(hand.flow()) == [0, 1, 2, 9, 10, 11]

    def test_the_others_are_stopped_and_say_why(self, hand: Hand) -> None:
        hand.sample(9)
        for number in range(9):
            hand.rest(number, math.inf if number == 4 else number / 10)
        decisions = hand.flow()
        assert promoted(decisions) == [0, 1, 2]
        assert sorted(stopped(decisions)) == [3, 4, 5, 6, 7, 8]

    def test_what_never_trained_is_replaced(self, hand: Hand) -> None:
        hand.sample(9)
        hand.end(3, Outcome.INFEASIBLE)
        hand.end(5, Outcome.INFEASIBLE)
        assert hand.sample(3) == [9, 10, 11]
        assert [t.grant.bracket for t in hand.history.asked[9:]] == [0, 0, 1]

    def test_it_is_replaced_though_a_later_bracket_has_begun(self, hand: Hand) -> None:
        hand.sample(11)
        hand.end(3, Outcome.INFEASIBLE)
        for number in (0, 1, 2, 4, 5, 6, 7, 8):
            hand.rest(number, number / 10)
        [last] = hand.sample()
        assert hand.history.asked[last].grant.bracket == 0
        hand.rest(last, -1.0)
        assert promoted(hand.flow()) == [11, 0, 1]

    def test_a_later_bracket_is_not_taken_for_whole_while_an_older_one_fills(
        self, hand: Hand
    ) -> None:
        hand.sample(12)
        hand.end(3, Outcome.INFEASIBLE)
        for number in (9, 10, 11):
            hand.rest(number, 0.1)
        assert isinstance(hand.decide(), Sample)

    def test_a_failed_trial_counts_as_the_worst(self, hand: Hand) -> None:
        hand.sample(9)
        for number in range(7):
            hand.end(number, Outcome.FAILED)
        hand.rest(7, 0.7)
        hand.rest(8, 0.8)
        assert promoted(hand.flow()) == [7, 8]
        hand.end(7, Outcome.FAILED)
        hand.rest(8, 0.9)
        assert promoted(hand.flow()) == [8]

    def test_one_that_is_infeasible_at_a_higher_rung_is_not_replaced(self, hand: Hand) -> None:
        hand.sample(9)
        for number in range(9):
            hand.rest(number, number / 10)
        hand.flow()
        hand.end(0, Outcome.INFEASIBLE)
        hand.rest(1, 0.3)
        hand.rest(2, 0.2)
        assert promoted(hand.flow()) == [2]
        [new] = hand.sample()
        assert hand.history.asked[new].grant.bracket == 1

    def test_all_failed_at_once(self, hand: Hand) -> None:
        hand.sample(9)
        for number in range(9):
            hand.end(number, Outcome.FAILED)
        [new] = hand.sample()
        assert hand.history.asked[new].grant.bracket == 1

    def test_one_that_was_stopped_in_its_rung_counts_there(self, hand: Hand) -> None:
        hand.sample(9)
        hand.end(0, Outcome.STOPPED, 0.01)
        for number in range(1, 9):
            hand.rest(number, number / 10)
        assert [t.number for t in hand.history.at(0, 0)][:2] == [0, 1]
        assert promoted(hand.flow()) == [1, 2, 3]

    def test_a_trial_at_a_look_is_under_way(self, hand: Hand) -> None:
        hand.sample(9)
        for number in range(9):
            hand.rest(number, number / 10)
        hand.flow()
        hand.look(0, 0.5, 0.4)
        hand.rest(1, 0.1)
        hand.rest(2, 0.2)
        assert hand.flow() == []
        hand.obey(Promote(0, hand.history.by_number[0].grant))
        hand.rest(0, 0.0)
        assert promoted(hand.flow()) == [0]

    def test_nothing_more_to_begin_makes_a_bracket_whole(self, hand: Hand) -> None:
        """As with a space that is exhausted: six candidates, two of which get on."""
        hand.sample(6)
        for number in range(6):
            hand.rest(number, number / 10)
        none = Left(None, 0)
        for wanted in (0, 1):
            decision = hand.decide(none)
            assert hand.obey(decision) == wanted
        for _ in range(2, 6):
            assert hand.obey(hand.decide(none)) in range(2, 6)
        assert isinstance(hand.decide(none), Wait)
        hand.rest(0, 0.1)
        hand.rest(1, 0.1)
        hand.obey(hand.decide(none))
        hand.obey(hand.decide(none))
        decision = hand.decide(none)
        assert isinstance(decision, End)
        assert decision.why == "no trial is left to begin, and none to promote"

    def test_the_bar_is_the_last_that_would_get_on(self, hand: Hand) -> None:
        hand.sample(9)
        for number in range(8):
            hand.rest(number, number / 10)
            trial = hand.history.by_number[8]
            assert hand.estimator.bar(trial, hand.history) == (0.2 if number > 1 else math.inf)


@pytest.mark.parametrize("slots", [1, 9, 50])
@pytest.mark.parametrize("epochs", [5, 13, 60, 100, 297, 330])
def test_a_bracket_is_as_large_as_the_budget_pays_for(epochs: int, slots: int) -> None:
    """All epochs but less than one candidate's way up are spent, and rungs keep their shares."""
    session = Session(estimator("SuccessiveHalving", 81), apart, slots=slots, epochs=epochs).run()
    assert session.epochs is not None
    assert session.spent <= epochs
    assert session.spent >= epochs - 1
    first = session.begun(0)
    assert [first.get(k, 0) for k in range(5)] == [first[0] // 3**k for k in range(5)]
    cost = sum(first.get(k, 0) * e for k, e in enumerate((1, 2, 6, 18, 54)))
    one_more = sum((first[0] + 1) // 3**k * e for k, e in enumerate((1, 2, 6, 18, 54)))
    assert cost <= epochs
    assert first[0] == 81 or one_more > epochs
