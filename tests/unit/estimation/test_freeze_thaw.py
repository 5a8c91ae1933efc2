"""Freeze-thaw as an estimator."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from kinase.api import Fidelity
from kinase.api.estimation import Estimation
from kinase.api.fidelity import Grant
from kinase.api.trial import Outcome
from kinase.estimation import End, Estimator, Left, Sample, Setting, make_estimator
from kinase.estimation.freeze_thaw import FreezeThaw
from kinase.estimation.testing import SETTING, EstimatorContract, Make, Session, some_ending
from kinase.history import History, Trial
from kinase.predict import freeze_thaw as model


def estimator(setting: Setting, **options: Any) -> Estimator:
    options = {"draws": 50, **options}
    manifest = Estimation.model_validate({"type": "FreezeThaw", "freezeThaw": options})
    return make_estimator(manifest, setting)


class TestContract(EstimatorContract):
    """With few decisions and a rough search for the hyper-parameters, for each decision fits the
    model. How well it fits is not what the contract asks."""

    @pytest.fixture(autouse=True)
    def rough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(model, "_DRAWS", 6)
        monkeypatch.setattr(model, "_STEPS", 1)

    @pytest.fixture
    def make(self) -> Make:
        return lambda setting: estimator(setting, every=40, initial=4)

    @pytest.fixture
    def setting(self) -> Setting:
        return replace(SETTING, full=SETTING.full.model_copy(update={"epochs": 70}))

    def test_without_a_limit_of_epochs_the_trials_end_it(
        self, make: Make, setting: Setting
    ) -> None:
        """With fewer of them than the contract has: each decision fits the model."""
        session = Session(make(setting), ending=some_ending, slots=10, trials=25).run()
        assert len(session.history.asked) == 25
        assert session.left == Left(None, 0)


def setting(epochs: int = 20) -> Setting:
    nowhere: Any = None
    return Setting(Fidelity(epochs=epochs), space=nowhere, frame=nowhere)


def test_its_rungs_are_steps_of_epochs() -> None:
    made = [estimator(setting(n)).ladder for n in (20, 50, 21)]
    assert [[grant.until for grant in grants[-2:]] for grants in made] == [
        [19, 20],
        [48, 50],
        [20, 21],
    ]
    assert [len(grants) for grants in made] == [20, 17, 11]
    assert len(estimator(setting(100_000), every=1).ladder) == 1000


def test_it_begins_with_new_trials() -> None:
    made = estimator(setting())
    assert made.next(History(), Left(None, None)) == Sample(made.ladder[0])


def test_a_pool_of_a_screen_is_not_what_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates whose proxies are measured have no curves to decide from."""
    monkeypatch.setattr(FreezeThaw, "_pick", lambda *args: pytest.fail("it has decided already"))
    made = estimator(setting(), initial=3)
    history = History()
    pool = Grant(fidelity=setting().full, until=0, rung=-1, final=False)
    for number in range(8):
        history.ask(Trial(number, {}, str(number), grant=pool))
    for number in range(2):
        history.rest(number, 0, (math.inf,))
        history.grant(number, made.ladder[0])
        history.rest(number, 1, (0.5,), (0.5,))
    assert made.next(history, Left(None, None)) == Sample(made.ladder[0])


def test_where_all_that_pause_are_beyond_the_model_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinase.estimation.freeze_thaw._MOST", 2)
    made = estimator(setting(), every=10, initial=2)
    history = History()
    for number in range(3):
        history.ask(Trial(number, {}, str(number), grant=made.ladder[0]))
        loss = 0.1 * number
        history.rest(number, 10, (loss,), (loss,) * 10)
    for number in range(2):
        history.grant(number, made.ladder[1])
        history.tell(number, Outcome.SUCCEEDED, (0.1,), (0.1,) * 20)
    assert isinstance(made.next(history, Left(100, 0)), End)


def test_the_best_curve_is_trained_furthest() -> None:
    def losses(number: int, grant: Grant) -> list[float]:
        end = 0.3 + 0.1 * (number * 5 % 8)
        return [end + 0.6 * math.exp(-0.3 * epoch) for epoch in range(1, grant.until + 1)]

    made = estimator(setting(), every=4, initial=8)
    session = Session(made, curve=losses, epochs=60, trials=8).run()
    done = {trial.number: len(trial.curve) for trial in session.history.asked}
    assert max(done, key=lambda number: done[number]) == 0
    assert session.spent <= 60
    assert sum(epochs > 8 for epochs in done.values()) <= 4
