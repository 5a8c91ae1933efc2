"""What strategies and estimators see: values of several rungs on one scale."""

from __future__ import annotations

import math

import pytest

from kinase.api import Outcome
from kinase.api.fidelity import Fidelity, Grant
from kinase.history import History, Trial


def grant(rung: int) -> Grant:
    return Grant(fidelity=Fidelity(epochs=9), until=(1, 3, 9)[rung], rung=rung, final=rung == 2)


def history(*values: float, first: int = 0) -> History:
    """Trials that rest at the end of their first rung."""
    made = History()
    for number, value in enumerate(values):
        trial = Trial(number, {}, str(number), grant=grant(first))
        made.ask(trial)
        made.rest(number, trial.grant.until, (value,))
    return made


def promote(made: History, number: int, rung: int, value: float) -> None:
    made.grant(number, grant(rung))
    made.rest(number, grant(rung).until, (value,))


def seen(made: History) -> list[float]:
    return [trial.losses[0] for trial in made.asked]


def test_a_higher_rung_reorders_its_trials_on_the_scale_of_the_first() -> None:
    made = history(0.5, 0.4, 0.3, 0.2)
    promote(made, 3, 1, 0.11)
    assert seen(made) == [0.5, 0.4, 0.3, 0.2]  # alone there: nothing to reorder
    promote(made, 2, 1, 0.10)
    assert seen(made) == [0.5, 0.4, 0.2, 0.3]
    promote(made, 1, 1, 0.12)
    assert seen(made) == [0.5, 0.4, 0.2, 0.3]
    promote(made, 3, 2, 0.01)
    promote(made, 2, 2, 0.02)
    assert seen(made) == [0.5, 0.4, 0.3, 0.2]
    assert [trial.rungs for trial in made.asked[2:]] == [
        {0: (0.3,), 1: (0.10,), 2: (0.02,)},
        {0: (0.2,), 1: (0.11,), 2: (0.01,)},
    ]


def test_without_rungs_a_loss_is_what_was_measured() -> None:
    made = History()
    for number, losses in enumerate([(0.3, 7.0), (0.1, 9.0), (math.inf, math.inf)]):
        made.ask(Trial(number, {}, str(number)))
        assert made.tell(number, Outcome.SUCCEEDED, losses)
        assert made.asked[number].losses == losses


def test_what_diverges_at_a_higher_rung_is_worst() -> None:
    made = history(0.5, 0.4, 0.3)
    promote(made, 2, 1, math.inf)
    promote(made, 1, 1, 0.2)
    assert seen(made) == [0.5, 0.4, math.inf]


def test_a_trial_that_began_at_a_higher_rung_is_worth_the_next_better_one() -> None:
    made = history(0.5, 0.4)
    promote(made, 1, 1, 0.2)
    made.ask(Trial(2, {}, "2", grant=grant(1)))
    made.rest(2, 3, (0.3,))
    assert seen(made) == [0.5, 0.4, 0.4]
    made.ask(Trial(3, {}, "3", grant=grant(1)))
    made.rest(3, 3, (0.1,))
    assert seen(made)[3] == 0.4


def test_further_objectives_are_as_measured() -> None:
    made = History()
    for number, losses in enumerate([(0.5, 100.0), (0.4, 200.0)]):
        made.ask(Trial(number, {}, str(number), grant=grant(0)))
        made.rest(number, 1, losses)
    for number, losses in enumerate([(0.2, 100.0), (0.3, 200.0)]):
        made.grant(number, grant(1))
        made.rest(number, 3, losses)
    assert [trial.losses for trial in made.asked] == [(0.4, 100.0), (0.5, 200.0)]


@pytest.mark.parametrize("rung", [0, 1])
def test_a_trial_is_told_of_once(rung: int) -> None:
    made = History()
    made.ask(Trial(0, {}, "0", grant=grant(rung)))
    assert made.rest(0, grant(rung).until, (0.1,))
    made.grant(0, grant(2))
    assert not made.tell(0, Outcome.SUCCEEDED, (0.05,))
    assert [trial.number for trial in made.told] == [0]
    with pytest.raises(ValueError, match="trial 0 has already been told"):
        made.tell(0, Outcome.SUCCEEDED, (0.05,))
