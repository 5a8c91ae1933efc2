"""How the trials of a rung stand, kept as events come, against a count of all of them."""

from __future__ import annotations

import math

import pytest

from kinase.api.trial import Outcome
from kinase.estimation.testing import Session, some_ending
from kinase.history import History
from tests.unit.estimation.helpers import estimator


def check(history: History) -> None:
    assert history.begun == sum(t.grant.rung >= 0 for t in history.asked)
    for rung in range(4):
        for bracket in range(history.brackets):
            entered = [
                t
                for t in history.asked
                if t.grant.bracket == bracket
                and t.grant.rung >= rung
                and (rung == t.grant.rung or rung in t.rungs)
                and (t.rungs or t.outcome is not Outcome.INFEASIBLE)
            ]
            here = [t for t in entered if t.grant.rung == rung]
            tally = history.tally(rung, bracket)
            there = history.at(rung, bracket)
            resting = [t for t in there if t.rests_at(rung)]
            assert tally.entered == len(entered)
            assert tally.resting == len(resting)
            assert tally.under_way == sum(t.outcome is None and not t.rests_at(rung) for t in here)
            assert history.reached(rung, bracket) == len(there)
            assert there == sorted(there, key=lambda t: (t.rungs[rung], t.number))
            by_best = history.at(rung, bracket, best=True)
            assert sorted(t.number for t in by_best) == sorted(t.number for t in there)
            for best, order in ((False, there), (True, by_best)):
                paused = [(t, place) for place, t in enumerate(order) if t.rests_at(rung)]
                found = history.best_resting(rung, bracket, best=best)
                worst = history.worst_resting(rung, bracket, best=best)
                assert found == (paused[0] if paused else None)
                assert worst is (paused[-1][0] if paused else None)


@pytest.mark.parametrize("kind", ["ASHA", "AsyncHyperband", "Hyperband"])
def test_the_standing_of_a_rung_is_that_of_its_trials(kind: str) -> None:
    session = Session(estimator(kind, eta=3), ending=some_ending, slots=6, epochs=250)
    while session.step():
        check(session.history)


def test_the_best_of_a_curve_counts_unless_it_ends_without_a_value() -> None:
    session = Session(estimator("ASHA", eta=3, rungs=[3]), slots=3, trials=3)
    curves = [[0.5, 0.1, 0.4], [0.2, 0.3, 0.2], [0.0, 0.0, math.inf]]
    session.curve = lambda number, grant: curves[number] + [0.0] * 24
    for _ in range(3):
        session.step()
    history = session.history
    assert [t.number for t in history.at(0)] == [1, 0, 2]
    assert [t.number for t in history.at(0, best=True)] == [0, 1, 2]
