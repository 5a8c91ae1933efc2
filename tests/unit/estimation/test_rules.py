"""The rules that stop a trial: what is plainly bad is stopped, the best never."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

from kinase.api import Fidelity
from kinase.api.fidelity import Grant
from kinase.api.stopping import Stopping as StoppingModel
from kinase.api.trial import Outcome
from kinase.estimation.rules import Rule, Verdict, make_rule
from kinase.estimation.rules.base import alike, finished, sample
from kinase.history import History, Trial

EPOCHS = 20
GRANT = Grant(fidelity=Fidelity(epochs=EPOCHS), until=EPOCHS, every=2)
OPTIONS: dict[str, dict[str, Any]] = {
    "Domhan": {"domhan": {"steps": 20, "burnIn": 40}},
    "LCNet": {"lcNet": {"networks": 2, "steps": 40}},
    "Baker": {"baker": {"draws": 4}},
    "Median": {},
}


ROUGH = {
    **OPTIONS,
    "Domhan": {"domhan": {"steps": 10, "burnIn": 0}},
    "LCNet": {"lcNet": {"networks": 2, "steps": 10}},
}
"""For tests that do not look at what is predicted."""


def rule(kind: str, probability: float = 0.05, rough: bool = False) -> Rule:
    options = (ROUGH if rough else OPTIONS)[kind]
    data = {"type": kind, "probability": probability, **options}
    return make_rule(StoppingModel.model_validate(data), seed=3)


def curve(end: float, epochs: int = EPOCHS) -> tuple[float, ...]:
    """Accuracies, turned: they rise to `end`."""
    x = np.arange(1, epochs + 1)
    noise = 0.004 * np.sin(7.0 * x + 50 * end)
    return tuple((-(end - 0.4 * x**-0.9) + noise).tolist())


def history(count: int = 26) -> History:
    made = History()
    for number in range(count):
        end = 0.6 + 0.3 * (number * 7 % count) / count
        metrics = {"params": 1e5 * end, "val_loss": 1.0}
        trial = Trial(number, {}, f"k{number}", grant=GRANT, metrics=metrics)
        made.ask(trial)
        made.tell(number, Outcome.SUCCEEDED, (curve(end)[-1],), curve(end), metrics)
    return made


def judge(made: Rule, end: float, past: History, done: int = 8) -> Verdict | None:
    past = copy.deepcopy(past)
    number = len(past.asked)
    past.ask(Trial(number, {}, f"k{number}", grant=GRANT, metrics={"params": 1e5 * end}))
    losses = curve(end, done)
    past.rest(number, done, (losses[-1],), losses)
    return made.verdict(past.by_number[number], past, bar=min(t.losses[0] for t in past.told))


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_bad_is_stopped_and_the_best_goes_on(kind: str) -> None:
    past, made = history(), rule(kind)
    bad, best = judge(made, 0.45, past), judge(made, 0.93, past)
    assert bad is not None
    assert best is not None
    assert bad.stop
    assert not best.stop
    if kind != "Median":
        assert bad.predicted == pytest.approx(-0.45, abs=0.12)
        assert bad.probability is not None
        assert bad.probability > 0.95
        assert "after 20 epochs with probability" in bad.why


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_verdict_is_a_function_of_the_history(kind: str) -> None:
    past = history()
    used = rule(kind, rough=True)
    judge(used, 0.8, history(21))
    judge(used, 0.7, past, done=6)
    assert judge(used, 0.75, past) == judge(rule(kind, rough=True), 0.75, past)


@pytest.mark.parametrize("kind", ["Domhan", "LCNet", "Baker"])
def test_a_probability_of_nearly_nothing_stops_nearly_nothing(kind: str) -> None:
    found = judge(rule(kind, probability=1e-300), 0.885, history())
    assert found is not None
    assert not found.stop


@pytest.mark.parametrize(("kind", "count"), [("LCNet", 9), ("Baker", 19), ("Median", 4)])
def test_too_few_others_give_no_verdict(kind: str, count: int) -> None:
    assert judge(rule(kind), 0.45, history(count)) is None


def test_three_points_give_no_verdict() -> None:
    assert judge(rule("Domhan"), 0.45, history(2), done=3) is None


def test_only_curves_of_the_same_kind_are_compared() -> None:
    past = history(4)
    past.asked[0].inherits = True
    past.asked[1].grant = GRANT.model_copy(update={"fidelity": Fidelity(epochs=EPOCHS + 1)})
    past.asked[2].curve = curve(0.8, EPOCHS - 1)
    trial = Trial(9, {}, "k9", grant=GRANT, done=4)
    past.ask(trial)
    assert [other.number for other in alike(trial, past)] == [2, 3]
    assert [other.number for other in finished(trial, past)] == [3]
    past.asked[3].curve = (*curve(0.8, EPOCHS - 1), math.inf)
    assert finished(trial, past) == []
    past.asked[3].curve = (*[math.nan] * 4, *curve(0.8)[4:])
    assert finished(trial, past) == []


@pytest.mark.parametrize("kind", OPTIONS)
def test_gaps_in_curves_are_no_obstacle(kind: str) -> None:
    past = history()
    for trial, bad in zip(past.asked, (math.nan, math.inf), strict=False):
        trial.curve = (*[bad] * 8, *trial.curve[8:])
        past.asked[trial.number + 2].curve = (*trial.curve[:9], bad, *trial.curve[10:])
    assert judge(rule(kind, rough=True), 0.8, past) is not None


def test_a_model_is_fitted_anew_when_a_tenth_more_has_come() -> None:
    trials = [Trial(n, {}, f"k{n}") for n in range(2000)]
    assert [len(sample(trials[:n])) for n in (7, 25, 39, 40, 105)] == [7, 24, 39, 40, 100]
    assert [trial.number for trial in sample(trials)] == list(range(1700, 2000))


def test_a_rule_of_another_package_is_found_by_its_name() -> None:
    model = StoppingModel.model_validate({"type": "Custom", "custom": {"name": "nobodys"}})
    with pytest.raises(LookupError, match=r"'nobodys' is not registered .*'kinase.stopping'"):
        make_rule(model, 0)
