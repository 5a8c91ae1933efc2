"""Stopping by the learning curve, around another estimator."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from kinase.api import Fidelity
from kinase.api.estimation import Estimation
from kinase.api.fidelity import Grant
from kinase.api.stopping import Stopping as StoppingModel
from kinase.api.trial import Outcome
from kinase.estimation import Left, Promote, Sample, Setting, Stop, make_estimator
from kinase.estimation.decision import Forecast
from kinase.estimation.rules import Verdict
from kinase.estimation.stopping import Stopping, is_spared
from kinase.history import History, Trial
from kinase.registry import UnusableMember

EPOCHS = 20
LEFT = Left(None, None)


def setting(seed: int = 0) -> Setting:
    full = Fidelity(epochs=EPOCHS)
    nowhere: Any = None  # neither space nor frame is looked at
    return Setting(full, space=nowhere, frame=nowhere, seed=seed)


def estimator(seed: int = 0, **options: Any) -> Stopping:
    model = Estimation.model_validate({"type": "Full", "stopping": {"type": "Median", **options}})
    made = make_estimator(model, setting(seed))
    assert isinstance(made, Stopping)
    return made


def curve(end: float, epochs: int = EPOCHS) -> tuple[float, ...]:
    return tuple(end + (1.0 - end) * 0.8**epoch for epoch in range(1, epochs + 1))


def history_of(rule: Stopping, *ends: float) -> History:
    history = History()
    for number, end in enumerate(ends):
        history.ask(Trial(number, {}, f"k{number}", grant=rule.ladder[0]))
        history.tell(number, Outcome.SUCCEEDED, (end,), curve(end))
    return history


def look(history: History, rule: Stopping, losses: tuple[float, ...]) -> Trial:
    number = len(history.asked)
    trial = Trial(number, {}, f"k{number}", grant=rule.ladder[0])
    history.ask(trial)
    history.rest(number, len(losses), (losses[-1],) if losses else (math.inf,), losses)
    return trial


def test_what_the_estimator_within_grants_has_looks() -> None:
    rule = estimator()
    [grant] = rule.ladder
    assert (grant.every, grant.until, grant.final) == (2, EPOCHS, True)
    assert rule.next(History(), LEFT) == Sample(grant)
    assert estimator(every=7).ladder[0].stop_after(7) == 14


def test_a_child_has_looks_too() -> None:
    model = Estimation.model_validate(
        {"type": "Morphism", "morphism": {"epochsPerChild": 9}, "stopping": {"type": "Median"}}
    )
    made = make_estimator(model, setting())
    assert made.child is not None
    assert (made.child.until, made.child.every) == (9, 2)
    assert made.inheritance is not None
    decision = made.next(History(), LEFT)
    assert isinstance(decision, Sample)
    assert decision.child == made.child


def test_a_bad_curve_is_stopped_and_the_best_goes_on() -> None:
    rule = estimator(spare=0)
    history = history_of(rule, 0.1, 0.2, 0.3, 0.4, 0.5)
    trial = look(history, rule, curve(0.05, 4))
    assert rule.next(history, LEFT) == Promote(trial.number, trial.grant)
    history = history_of(rule, 0.1, 0.2, 0.3, 0.4, 0.5)
    look(history, rule, curve(0.95, 4))
    decision = rule.next(history, LEFT)
    assert isinstance(decision, Stop)
    assert "5 of 5 other trials" in decision.why


def test_it_is_not_stopped_before_its_time_or_among_too_few() -> None:
    for rule, ends in [(estimator(spare=0, after=6), 5), (estimator(spare=0), 4)]:
        history = history_of(rule, *[0.1] * ends)
        trial = look(history, rule, curve(0.95, 4))
        assert rule.next(history, LEFT) == Promote(trial.number, trial.grant)


def test_a_stated_share_is_spared_and_has_no_more_looks() -> None:
    rule = estimator(spare=0.3)
    spared = [n for n in range(1000) if rule.spares(n)]
    assert 0.25 < len(spared) / 1000 < 0.35
    assert spared != [n for n in range(1000) if estimator(1, spare=0.3).spares(n)]
    rule = estimator(spare=1)
    history = history_of(rule, *[0.1] * 5)
    trial = look(history, rule, curve(0.95, 4))
    decision = rule.next(history, LEFT)
    free = trial.grant.model_copy(update={"every": 0})
    assert decision == Promote(trial.number, free, spared=True)
    assert not is_spared(trial)
    history.grant(trial.number, decision.grant)
    assert is_spared(trial)


def test_the_spared_keep_their_freedom_at_the_next_rung() -> None:
    rule = estimator(spare=1)
    free = Grant(fidelity=Fidelity(epochs=EPOCHS), until=8, rung=0, final=False)
    top = free.model_copy(update={"until": EPOCHS, "rung": 1, "final": True})

    class Up(type(rule.inner)):  # type: ignore[misc]
        def next(self, history: History, left: Left) -> Promote:
            return Promote(0, top)

    rule.inner = Up(None, setting())
    for every, wanted in [(0, 0), (2, 2)]:
        history = History()
        history.ask(Trial(0, {}, "k", grant=free.model_copy(update={"every": every})))
        history.rest(0, 8, (0.5,), curve(0.4, 8))
        decision = rule.next(history, LEFT)
        assert isinstance(decision, Promote)
        assert decision.grant.every == wanted


def test_without_values_trials_go_on_and_a_warning_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rule = estimator(spare=0)
    history = History()
    for losses in [(), (math.inf,) * 4, (math.nan,) * 4]:
        trial = look(history, rule, losses)
        trial.done = 4
        with caplog.at_level(logging.WARNING):
            assert rule.next(history, LEFT) == Promote(trial.number, trial.grant)
        history.grant(trial.number, trial.grant)
    assert len(caplog.records) == 1
    assert "no finite value of the objective in its first 4 epochs" in caplog.text


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_who_diverges_is_stopped_where_others_have_a_value(bad: float) -> None:
    rule = estimator(spare=0)
    history = history_of(rule, 0.1, 0.2, 0.3)
    trial = look(history, rule, (*curve(0.1, 3), bad))
    decision = rule.next(history, LEFT)
    assert isinstance(decision, Stop)
    assert (decision.predicted, decision.probability) == (None, 1.0)
    assert "where 3 other trials have one" in decision.why
    few = history_of(rule, 0.1, 0.2)
    trial = look(few, rule, (*curve(0.1, 3), bad))
    assert rule.next(few, LEFT) == Promote(trial.number, trial.grant)


def test_without_a_bar_nothing_is_judged() -> None:
    rule = estimator(spare=0, median={"trials": 1})
    history = History()
    look(history, rule, curve(0.1, 6))
    trial = look(history, rule, curve(0.9, 4))
    history.grant(0, rule.ladder[0])
    assert rule.bar(trial, history) == math.inf
    assert rule.next(history, LEFT) == Promote(trial.number, trial.grant)


def test_the_verdict_says_what_it_acted_on() -> None:
    rule = estimator(spare=0)

    class Sure(type(rule.rule)):  # type: ignore[misc]
        def verdict(self, trial: Trial, history: History, bar: float) -> Verdict:
            return Verdict(True, "why", 0.7, 0.99)

    rule.rule = Sure(None, rule.rule.setting)
    history = history_of(rule, 0.1)
    trial = look(history, rule, curve(0.9, 4))
    assert rule.next(history, LEFT) == Stop(trial.number, "why", 0.7, 0.99, 0.1)


def test_what_a_rule_expects_of_a_trial_that_goes_on_is_kept() -> None:
    rule = estimator(spare=0)

    class Unsure(type(rule.rule)):  # type: ignore[misc]
        def verdict(self, trial: Trial, history: History, bar: float) -> Verdict:
            return Verdict(False, "why", 0.2, 0.6)

    rule.rule = Unsure(None, rule.rule.setting)
    history = history_of(rule, 0.1)
    trial = look(history, rule, curve(0.9, 4))
    assert rule.next(history, LEFT) == Promote(trial.number, trial.grant, Forecast(0.6, 0.1, 0.2))


def test_what_is_not_installed_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "emcee" else name)
    model = Estimation.model_validate({"type": "Full", "stopping": {"type": "Domhan"}})
    with pytest.raises(UnusableMember, match=r"Domhan needs emcee.*'kinase-nas\[curves\]'"):
        make_estimator(model, setting())


@pytest.mark.parametrize("kind", ["FreezeThaw"])
def test_what_judges_curves_itself_takes_no_rule(kind: str) -> None:
    with pytest.raises(ValueError, match=f"type is {kind}, which judges learning curves itself"):
        Estimation.model_validate({"type": kind, "stopping": {"type": "Median"}})


def test_the_manifest_takes_each_rule() -> None:
    for kind, struct in [("Domhan", "domhan"), ("LCNet", "lcNet"), ("Baker", "baker")]:
        model = StoppingModel.model_validate({"type": kind})
        assert struct in model.model_dump(by_alias=True, exclude_none=True)
        assert (model.probability, model.spare) == (0.05, 0.05)
