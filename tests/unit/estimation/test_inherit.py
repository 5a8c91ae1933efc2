"""Children that inherit weights under a ladder: whom they are compared with, and who trains on."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kinase.api.trial import Outcome
from kinase.estimation import History, Left, Promote, Sample, Stop
from kinase.estimation.inherit import CHILDREN
from kinase.estimation.testing import Session, some_ending
from tests.unit.estimation.helpers import Hand, estimator, promoted, rungs, stopped


def family(parents: int = 1, loss: float = 0.5, **inherit: Any) -> Hand:
    """Networks from scratch that rest after their first epoch."""
    options = {"epochsPerChild": 9, "firstEpochs": 2, **inherit}
    hand = Hand(estimator("ASHA", eta=3, inherit=options))
    for number in hand.sample(parents):
        hand.rest(number, loss)
    return hand


def children(hand: Hand, losses: list[float], parent: int = 0) -> list[int]:
    """Children that rest at the end of their first rung, all at once."""
    found = [hand.child(parent) for _ in losses]
    for number, loss in zip(found, losses, strict=True):
        hand.rest(number, loss)
    return found


def test_children_have_a_ladder_of_their_own() -> None:
    hand = family()
    decision = hand.decide()
    assert isinstance(decision, Sample)
    assert decision.grant == hand.estimator.ladder[0]
    child = decision.child
    assert child is not None
    assert rungs(hand.estimator.ladder) == [1, 3, 9, 27]
    assert (child.until, child.fidelity.epochs, child.final) == (2, 9, False)
    assert (child.bracket, child.rung) == (CHILDREN, 2)
    hand.obey(decision, 0)
    hand.rest(1, 0.4)
    [promotion] = hand.flow()
    assert isinstance(promotion, Promote)
    whole = promotion.grant
    assert (whole.until, whole.fidelity, whole.final) == (9, child.fidelity, True)
    assert (whole.bracket, whole.rung) == (CHILDREN, 3), "it ranks with what is trained in full"


def test_a_third_of_the_siblings_train_on() -> None:
    hand = family(loss=0.1)
    assert promoted(hand.flow()) == []
    numbers = children(hand, [0.5, 0.3, 0.4, 0.8, 0.2, 0.9])
    assert promoted(hand.flow()) == [numbers[4], numbers[1]]
    assert isinstance(hand.decide(), Sample)


@pytest.mark.parametrize(("loss", "goes_on"), [(0.5, True), (0.51, False), (math.inf, False)])
def test_the_best_child_trains_on_at_once_if_it_is_as_good_as_its_parent(
    loss: float, goes_on: bool
) -> None:
    hand = family(loss=0.5)
    [number] = children(hand, [loss])
    assert promoted(hand.flow()) == [number] * goes_on


def test_a_child_without_siblings_is_compared_with_the_latest_other_children() -> None:
    hand = family(parents=4, loss=0.1)
    hand.flow()
    numbers = [children(hand, [loss], parent)[0] for parent, loss in enumerate((0.3, 0.4, 0.2))]
    assert promoted(hand.flow()) == numbers[2:]


def test_children_and_networks_from_scratch_do_not_promote_each_other() -> None:
    """Two candidates from scratch and any number of children are no third of a rung."""
    hand = family(parents=2, loss=0.7)
    children(hand, [0.75] * 2)
    assert hand.flow() == []
    assert isinstance(hand.decide(), Sample)
    [third] = hand.sample()
    hand.rest(third, 0.6)
    assert promoted(hand.flow()) == [third]


def test_only_the_latest_children_are_considered() -> None:
    """The others are stopped, so few checkpoints are kept."""
    hand = family(loss=0.0, eta=2)
    numbers: list[int] = []
    ended: list[int] = []
    for step in range(12):
        numbers += children(hand, [0.5 + step / 100])
        ended += stopped(flow := hand.flow())
        for number in promoted(flow):
            hand.end(number, Outcome.SUCCEEDED, 0.3)
        assert sum(t.grant.bracket == CHILDREN for t in hand.history.resting()) <= 4
    assert ended == numbers[3:8], "the first three were among the best half in time"


def test_what_its_distillation_took_is_part_of_its_grant() -> None:
    """The loop adds it to the first grant; the promotion trains for all epochs on labels, too."""
    hand = family()
    decision = hand.decide()
    assert isinstance(decision, Sample)
    assert decision.child is not None
    longer = decision.child.fidelity.model_copy(update={"epochs": 9 + 4})
    distilled = decision.child.model_copy(update={"fidelity": longer, "until": 2 + 4})
    hand.obey(Sample(decision.grant, distilled), 0)
    hand.rest(1, 0.4)
    [promotion] = hand.flow()
    assert isinstance(promotion, Promote)
    assert (promotion.grant.until, promotion.grant.fidelity) == (13, longer)


def test_a_promotion_that_is_not_paid_for_is_passed_over() -> None:
    hand = family()
    [number] = children(hand, [0.1])
    assert isinstance(hand.decide(Left(6, None)), Sample)
    assert hand.decide(Left(7, None)) == Promote(number, hand.estimator.children[1])  # type: ignore[attr-defined]
    assert not isinstance(hand.decide(Left(0, None)), Promote)


def test_without_a_pause_a_child_trains_to_its_end() -> None:
    hand = family(firstEpochs=9)
    number = hand.child(0)
    assert hand.history.by_number[number].grant.final
    hand.end(number, Outcome.SUCCEEDED, 0.4)
    assert not any(isinstance(d, Promote | Stop) for d in hand.flow())


def test_what_a_trial_must_reach_is_that_of_its_kind() -> None:
    """A child's bar is the best child, also where all trials have the same rung."""
    hand = Hand(estimator("Morphism"))
    scratch, child = hand.sample()[0], hand.child(0)
    hand.end(scratch, Outcome.SUCCEEDED, 0.5)
    hand.end(child, Outcome.SUCCEEDED, 0.2)
    first, second = hand.history.asked
    assert hand.estimator.bar(first, hand.history) == 0.5
    assert hand.estimator.bar(second, hand.history) == 0.2
    ladder = family(loss=0.6)
    [number] = children(ladder, [0.3])
    trial = ladder.history.by_number[number]
    assert ladder.estimator.bar(trial, ladder.history) == 0.3


@pytest.mark.parametrize("kind", ["ASHA", "AsyncHyperband", "Hyperband", "SuccessiveHalving"])
@pytest.mark.parametrize("slots", [1, 5])
def test_every_ladder_ends_within_its_budget(kind: str, slots: int) -> None:
    """Three of four candidates are children of the last network with a value."""

    def parent(history: History) -> int | None:
        able = [t.number for t in history.told if t.usable]
        return able[-1] if able and len(history.asked) % 4 else None

    made = estimator(kind, epochs=9, inherit={"epochsPerChild": 6})
    session = Session(made, ending=some_ending, slots=slots, epochs=240, parent=parent).run()
    assert session.spent <= 240
    assert session.left.epochs is not None
    assert session.left.epochs < 9
    assert not session.history.running
    begun = session.begun(CHILDREN)
    top = len(made.ladder) - 1
    assert begun[top - 1] > 10
    assert 0.2 < begun[top] / begun[top - 1] < 0.7
    for decision in (d for _, _, d in session.decisions if isinstance(d, Promote)):
        trial = session.history.by_number[decision.trial]
        assert (decision.grant.bracket == CHILDREN) == trial.inherits
