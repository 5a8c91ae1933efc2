from __future__ import annotations

import pytest

from kinase.api import Cost, Fidelity, Kind, Outcome
from kinase.experiment import budget
from kinase.experiment.entries import Asked, Attempt, Told
from kinase.experiment.state import State
from tests.unit.experiment.helpers import experiment

SEARCH, FINAL = Fidelity(epochs=2), Fidelity(epochs=4)


def asked(number: int, kind: Kind = Kind.SEARCH) -> Asked:
    fidelity = FINAL if kind is Kind.FINAL else SEARCH
    return Asked(
        trial=number, kind=kind, architecture={}, key=str(number), fidelity=fidelity, seed=number
    )


def told(number: int, epochs: int = 2, seconds: float = 0.0) -> Told:
    cost = Cost(epochs=epochs, samples=1000 * epochs, device_seconds=seconds)
    return Told(trial=number, outcome=Outcome.SUCCEEDED, cost=cost)


def state(*entries: Asked | Attempt | Told) -> State:
    result = State()
    for entry in entries:
        result.apply(entry)
    return result


def refusal(spec: dict[str, object], at: State, elapsed: float = 0.0, running: float = 0.0) -> str:
    limits = experiment(budget=spec).spec
    return budget.refusal(limits, at, SEARCH, SEARCH.epochs, FINAL, 1000, elapsed, running) or ""


def test_trials_are_counted_when_asked_and_finalists_are_not() -> None:
    at = state(asked(0), told(0), asked(1), asked(2, Kind.FINAL))
    assert refusal({"trials": 3}, at) == ""
    assert refusal({"trials": 2}, at) == "2 trials were run"


@pytest.mark.parametrize(("total", "pays"), [(13, False), (14, True)])
def test_epochs_are_kept_back_for_outstanding_trials_and_finalists(total: int, pays: bool) -> None:
    at = state(asked(0), told(0), asked(1))  # 2 spent, 2 promised, 2 x 4 due, 2 asked for
    assert (refusal({"epochs": total}, at) == "") is pays


@pytest.mark.parametrize(("total", "pays"), [(14, False), (15, True)])
def test_an_epoch_lost_with_a_killed_attempt_stays_charged(total: int, pays: bool) -> None:
    lost = Attempt(trial=1, attempt=2, begun=2, done=1, crash=False)
    at = state(asked(0), told(0), asked(1), lost)
    assert at.trials[1].committed == 3
    assert (refusal({"epochs": total}, at) == "") is pays


def test_device_hours_are_reserved_by_the_slowest_rate_seen() -> None:
    fast, slow = told(0, seconds=2.0), told(1, seconds=20.0)  # 1 and 10 ms a sample pass
    at = state(asked(0), fast, asked(1), slow, asked(2))
    needed = 0.01 * (2000 + 2000 + 2 * 4000)  # this trial, the outstanding one, two finalists
    hours = (22.0 + needed) / 3600
    assert refusal({"deviceHours": hours * 1.001}, at) == ""
    assert "device hours is spent" in refusal({"deviceHours": hours * 0.999}, at)


def test_the_duration_ends_the_search_and_stops_what_runs() -> None:
    at = state(asked(0))
    spec = experiment(budget={"duration": "10m"}).spec
    assert refusal({"duration": "10m"}, at, elapsed=599) == ""
    assert refusal({"duration": "10m"}, at, elapsed=600) == "the duration is over"
    assert not budget.overdrawn(spec, at, 599, 0.0)
    assert budget.overdrawn(spec, at, 600, 0.0)


def test_running_trials_are_stopped_when_device_hours_are_used_up() -> None:
    spec = experiment(budget={"deviceHours": 1}).spec
    at = state(asked(0), told(0, seconds=3000.0), asked(1))
    assert not budget.overdrawn(spec, at, 0.0, 599.0)
    assert budget.overdrawn(spec, at, 0.0, 600.0)


def test_an_entry_out_of_turn_is_an_error() -> None:
    with pytest.raises(ValueError, match="trial 3 was asked out of turn"):
        state(asked(3))
    with pytest.raises(ValueError, match="trial 0 is not outstanding"):
        state(asked(0), told(0), told(0))
