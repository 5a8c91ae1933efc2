"""Pools of candidates that are ranked by zero-cost proxies."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from kinase.api.estimation import Estimation
from kinase.api.trial import Outcome
from kinase.estimation import End, Left, Promote, Sample, Stop, Wait, make_estimator
from kinase.estimation.testing import SETTING, Session
from tests.unit.estimation.helpers import Hand


def hand(
    pool: int = 3,
    proxies: tuple[str, ...] = ("nwot",),
    first: int | None = None,
    **model: Any,
) -> Hand:
    screen = {"pool": pool, "proxies": proxies, "first": first}
    spec = {"type": "Full", **model, "screen": screen}
    full = SETTING.full.model_copy(update={"epochs": 9})
    return Hand(make_estimator(Estimation.model_validate(spec), replace(SETTING, full=full)))


def measured(made: Hand, number: int, **values: float) -> None:
    made.history.rest(
        number, 0, (math.inf,), (), {f"proxy_{name}": value for name, value in values.items()}
    )


def test_the_best_of_a_pool_is_trained_and_the_others_are_stopped() -> None:
    made = hand()
    for number, value in enumerate((1.0, 3.0, 2.0)):
        decision = made.decide()
        assert isinstance(decision, Sample)
        assert (decision.grant.until, decision.grant.rung, decision.grant.final) == (0, -1, False)
        assert decision.measure == ("nwot",)
        made.obey(decision)
        measured(made, number, nwot=value)
    decision = made.decide()
    assert isinstance(decision, Promote)
    assert (decision.trial, decision.grant) == (1, made.estimator.ladder[0])
    made.obey(decision)
    assert made.history.told == [], "a strategy learns of no candidate by its proxies"
    stops = [made.obey(made.decide()) for _ in range(2)]
    assert stops == [2, 0]
    assert isinstance(made.decide(), Sample), "the next pool"


def test_after_a_warm_start_candidates_are_trained_as_they_are_proposed() -> None:
    made = hand(pool=2, first=2)
    for number in range(4):
        made.obey(made.decide())
        measured(made, number, nwot=float(number))
        if number % 2:
            assert made.obey(made.decide()) == number
            assert made.obey(made.decide()) == number - 1, "stopped"
    decision = made.decide()
    assert decision == Sample(made.estimator.ladder[0]), "also while one of a pool trains"


def test_with_several_proxies_ranks_count_not_values() -> None:
    made = hand(proxies=("nwot", "synflow"))
    for number, (nwot, synflow) in enumerate(((3.0, 2.0), (2.0, 1e30), (1.0, 1.0))):
        made.obey(made.decide())
        measured(made, number, nwot=nwot, synflow=synflow)
    assert made.decide() == Promote(0, made.estimator.ladder[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_has_no_finite_value_ranks_last(value: float | None) -> None:
    made = hand()
    for number, each in enumerate((value, -5.0, -7.0)):
        made.obey(made.decide())
        measured(made, number, **({} if each is None else {"nwot": each}))
    assert made.decide() == Promote(1, made.estimator.ladder[0])


def test_it_waits_for_the_whole_pool() -> None:
    made = hand()
    for _ in range(3):
        made.obey(made.decide())
    measured(made, 2, nwot=1.0)
    assert made.decide() == Wait()
    made.end(1, Outcome.FAILED)
    measured(made, 0, nwot=2.0)
    assert made.decide() == Promote(0, made.estimator.ladder[0])


def test_a_pool_that_the_budget_cuts_short_and_that_failed_has_no_best() -> None:
    made = hand()
    made.obey(made.decide())
    made.end(0, Outcome.FAILED)
    assert isinstance(made.decide(Left(None, 0)), Sample), "the budget refuses it"


def test_what_cannot_be_built_is_replaced() -> None:
    made = hand()
    for _ in range(3):
        made.obey(made.decide())
    made.end(0, Outcome.INFEASIBLE)
    assert isinstance(made.decide(), Sample)


def test_a_pool_that_gets_no_more_trials_is_ranked_as_it_is() -> None:
    made = hand()
    for number in range(2):
        made.obey(made.decide())
        measured(made, number, nwot=number)
    assert made.decide(Left(None, 0)) == Promote(1, made.estimator.ladder[0])
    made.obey(Promote(1, made.estimator.ladder[0]))
    assert isinstance(made.decide(Left(None, 0)), Stop)


@pytest.mark.parametrize("type", ["Full", "ASHA", "Hyperband"])
def test_a_last_pool_that_is_not_full_ends_the_search(type: str) -> None:
    made = hand(type=type).estimator
    session = Session(made, trials=10, slots=2).run()
    assert len(session.history.asked) == 10
    assert [t for t in session.history.asked if t.outcome is None and not t.resting] == []


def test_around_a_ladder_each_pool_gives_it_one_candidate() -> None:
    made = hand(pool=2, type="ASHA", asha={"eta": 3})
    losses = iter((0.3, 0.2, 0.1))
    trained: list[int] = []
    while len(trained) < 4:
        decision = made.decide()
        number = made.obey(decision)
        if isinstance(decision, Sample):
            measured(made, number, nwot=float(number % 2))
        elif isinstance(decision, Promote):
            trained.append(number)
            if len(trained) < 4:
                made.rest(number, next(losses))
    assert trained == [1, 3, 5, 5], "the best of three goes up"
    assert made.history.by_number[5].grant.rung == 1
    assert [t.number for t in made.history.told if t.outcome is None] == [1, 3, 5]


def test_it_says_what_the_trainer_must_know() -> None:
    assert hand().estimator.needs == {"until", "measure"}


def test_without_budget_it_ends_as_the_estimator_within() -> None:
    made = hand(type="ASHA", asha={"eta": 3})
    assert isinstance(made.decide(Left(0, None)), End)
