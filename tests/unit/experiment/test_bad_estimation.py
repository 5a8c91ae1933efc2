"""Estimations that cannot work: refused at the first border, by the field, in one line; and what
goes wrong on the way costs what it costs and no more."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kinase import validation
from kinase.api import Kind, Outcome, TrialJob
from kinase.api._base import struct_name
from kinase.api.load import Document, ManifestError
from kinase.api.trial import Point
from kinase.engine import EngineError, Finished, Lost
from kinase.engine.base import Event
from kinase.engine.tabular import TabularEngine
from kinase.estimation import Decision, End, Left, Promote, Sample, Stop
from kinase.estimation.asha import ASHA
from kinase.experiment.check import checked
from kinase.experiment.entries import Asked, Attempt, Rested
from kinase.experiment.journal import Journal
from kinase.experiment.loop import Loop
from kinase.history import History
from kinase.runs.rows import row
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, experiment, make_loop
from tests.unit.experiment.test_stretches import LADDERS, learnt, manifest

# -- in the manifest -------------------------------------------------------------------------

DEEP = {"type": "Chain", "chain": {"minDepth": 4, "strides": [2]}}
ONE_RUNG = "so there would be one rung; lower least or eta"


def refusal(kind: str, options: dict[str, Any], **spec: Any) -> str:
    base = {"training": {"epochs": 27}, "space": {"type": "Chain"}, "strategy": {"type": "Random"}}
    estimation = {"type": kind, struct_name(kind): options}
    document = {
        "apiVersion": "kinase.dev/v1alpha1",
        "kind": "NASExperiment",
        "metadata": {"name": "bad"},
        "spec": {**base, "budget": {"trials": 10}, "estimation": estimation, **spec},
    }
    with pytest.raises(ManifestError) as error:
        checked(Document("m.yaml", document, {}))
    [problem] = error.value.problems
    found = str(problem)
    assert "\n" not in found
    return found


@pytest.mark.parametrize("kind", LADDERS)
@pytest.mark.parametrize(
    ("options", "spec", "said"),
    [
        ({"eta": 1}, {}, ".eta: 1 is too small; use at least 2"),
        ({"eta": 2.5}, {}, ".eta: 2.5 is not a whole number"),
        (
            {"eta": 3, "least": 40},
            {},
            f".least 40 is above training.epochs / eta = 27 / 3, {ONE_RUNG}",
        ),
        ({"eta": 3, "least": 27}, {}, f"27 / 3, {ONE_RUNG}, or raise training.epochs"),
        (
            {"eta": 3},
            {"training": {"epochs": 2}},
            f"least 1 is above training.epochs / eta = 2 / 3, {ONE_RUNG}, or raise training.epochs",
        ),
        ({"rungs": []}, {}, ".rungs: has too few items; give 1 or more"),
        ({"rungs": [9, 3]}, {}, ".rungs: rungs must be ascending, each given once"),
        (
            {"rungs": [3, 30]},
            {},
            ".rungs end with 30; they must be below training.epochs 27, which follows them",
        ),
        (
            {"axis": "data", "least": 0.5, "eta": 3},
            {},
            f".least: least 0.5 is above the full fidelity / eta = 1 / 3, {ONE_RUNG}",
        ),
        (
            {"axis": "resolution", "rungs": [4]},
            {"space": DEEP, "task": {"resolution": 16}},
            ": axis resolution has a rung of 4, at which the search space builds no network "
            "(layer2: stride 2 on a feature map of 1x1 leaves nothing); raise least, or list rungs "
            "that it can build",
        ),
        (
            {"axis": "cells", "least": 40, "eta": 3},
            {"space": {"type": "Cell"}},
            f": least 40 is above the full fidelity / eta = 8 / 3, {ONE_RUNG}",
        ),
        (
            {"axis": "cells", "least": 2},
            {},
            ".axis cells requires the space type Cell; space.type is Chain",
        ),
    ],
)
def test_a_ladder_that_cannot_be_is_refused(kind: str, options: Any, spec: Any, said: str) -> None:
    found = refusal(kind, options, **spec)
    assert said in found
    assert f"estimation.{struct_name(kind)}" in found


def test_a_budget_that_pays_for_no_trial_is_refused() -> None:
    found = refusal("Hyperband", {}, budget={"epochs": 50})
    assert found.endswith(
        "budget.epochs 50 is too small: one trial takes 1 and finalists and baselines take "
        "3 x 27 = 81; it must be at least 82"
    )


def test_steps_of_freeze_thaw_that_are_whole_trainings_are_refused() -> None:
    assert refusal("FreezeThaw", {"every": 27}).endswith(
        "estimation.freezeThaw.every 27 is not below training.epochs 27, so no trial would pause; "
        "lower it"
    )


def test_a_rule_that_no_package_registers_is_named() -> None:
    stopping = {"type": "Custom", "custom": {"name": "nix"}}
    estimation = {"type": "ASHA", "stopping": stopping}
    found = refusal("ASHA", {}, estimation=estimation)
    assert "spec.estimation.stopping.custom.name: 'nix' is not registered in" in found


@pytest.mark.parametrize(
    ("estimation", "said"),
    [
        (
            {"type": "ASHA", "asha": {"axis": "resolution", "rungs": [2, 8]}},
            "m.yaml:1: spec.estimation.asha: rungs end with 8; they must be below the full "
            "fidelity's 8, which follows them",
        ),
        (
            {"type": "ASHA", "screen": {"proxies": ["nwot", "nix"]}},
            "m.yaml:1: spec.estimation.screen.proxies[1]: 'nix' is not a zero-cost proxy of this "
            "trainer; it can measure nwot",
        ),
    ],
)
def test_what_only_the_data_shows_is_refused_by_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, estimation: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made = experiment(training={"epochs": 27}, estimation=estimation, task={"dataset": "digits"})
    Path("m.yaml").write_text(made.model_dump_json(by_alias=True, exclude_unset=True))
    info = INFO.model_copy(update={"proxies": ("nwot",)})
    monkeypatch.setattr(validation, "read_data", lambda *_: info)
    assert validation.validate_files(["m.yaml"]) == (2, [said])


# -- a member of another package --------------------------------------------------------------


def decides(decide: Callable[[ASHA, History], Any]) -> type[ASHA]:
    """ASHA that decides something else once there are four trials."""

    class Own(ASHA):
        def next(self, history: History, left: Left) -> Decision:
            if len(history.asked) == 4:
                found: Decision = decide(self, history)
                return found
            return super().next(history, left)

    return Own


@pytest.mark.parametrize(
    ("decide", "said"),
    [
        (
            lambda own, h: None,
            "TypeError: it decided None; it must decide Sample, Train, Promote, Stop, ",
        ),
        (
            lambda own, h: "go on",
            "TypeError: it decided 'go on'; it must decide Sample, Train, Promote",
        ),
        (lambda own, h: Promote, "it must decide Sample, Train, Promote, Stop, Wait or End"),
        (lambda own, h: own.absent, "AttributeError: 'Own' object has no attribute 'absent'"),
        (lambda own, h: 1 / 0, "ZeroDivisionError: division by zero"),
        (
            lambda own, h: Promote(h.asked[-1].number, own.ladder[1]),
            "ValueError: it decides about trial 3, which runs and does not rest",
        ),
        (
            lambda own, h: Stop(h.asked[-1].number, "bored"),
            "ValueError: it decides about trial 3, which runs and does not rest",
        ),
        (lambda own, h: Stop(77, "who"), "it decides about trial 77, which is not a trial of its"),
        (lambda own, h: Stop(True, "who"), "its Stop has trial True; give the number of a trial"),
        (lambda own, h: Promote("0", own.ladder[1]), "its Promote has trial '0'; give the number"),
        (lambda own, h: Promote(0, 3), "TypeError: its Promote has grant 3; give a Grant"),
        (lambda own, h: Sample(None), "TypeError: its Sample has grant None; give a Grant"),
        (lambda own, h: Sample(own.ladder[0], 3), "its Sample has child 3; give a Grant"),
        (
            lambda own, h: Sample(own.ladder[0], None, "nwot"),
            "its Sample has measure 'nwot'; give a tuple of names",
        ),
        (lambda own, h: Stop(0, None), "TypeError: its Stop has why None; give a text"),
        (
            lambda own, h: Stop(0, "bad", math.nan),
            "its Stop has predicted nan; give a finite number",
        ),
        (
            lambda own, h: Stop(0, "bad", 0.5, 5.0),
            "its Stop has probability 5.0; give a number from 0 to 1",
        ),
        (lambda own, h: End(7), "TypeError: its End has why 7; give a text"),
    ],
)
def test_an_estimator_that_decides_nonsense_is_named(decide: Any, said: str) -> None:
    """Nothing of it gets into the journal; what was earned before stays."""
    budget = {"trials": 9, "parallelism": 3}
    loop = make_loop(manifest(budget=budget, control={"share": 0}), evaluate=learnt, slots=3)
    loop.arms[Kind.SEARCH].estimator = decides(decide)(loop.estimator.options, loop.setting)
    with pytest.raises(EngineError) as caught:
        loop.run()
    message = str(caught.value)
    assert message.startswith("the estimator ASHA failed after 4 trials: ")
    assert said in message
    assert "\n" not in message
    assert "Traceback" in loop.store.get("errors/estimator-00004.txt").decode()
    entries = list(Journal(loop.store).replay())
    assert [e.trial for e in entries if isinstance(e, Asked)] == [0, 1, 2, 3]
    assert {type(e) for e in entries} <= {Asked, Rested}


# -- on the way ------------------------------------------------------------------------------


class Forgetful(TabularEngine):
    """Loses the checkpoint of the first trial that is promoted, as a trainer says it: exit 76."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(learnt, INFO, 1)
        self.store = store
        self.jobs: list[TrialJob] = []
        self.lost: int | None = None

    def poll(self, timeout: float | None) -> Sequence[Event]:
        job = self._jobs[0] if self._jobs else None
        if job is not None:
            self.jobs.append(job)
        if job is not None and job.done and self.lost is None:
            self._jobs.popleft()
            self.lost = job.trial
            self.store.put(
                f"{job.prefix}/progress.json",
                b'{"attempt": %d, "epochsBegun": %d, "epochsDone": 0, "samples": 0, '
                b'"deviceSeconds": 0, "metrics": {}}' % (job.attempt, job.done),
            )
            return (
                Lost(
                    job.trial,
                    "the checkpoint is gone; it must hold 1 epoch",
                    crash=False,
                    checkpoint_gone=True,
                ),
            )
        events = super().poll(timeout)
        if job is not None and job.trial == self.lost:  # what the lost epochs cost is charged
            [event] = events
            assert isinstance(event, Finished)
            cost = event.result.cost.model_copy(update={"epochs": event.result.cost.epochs + 1})
            return (Finished(job.trial, event.result.model_copy(update={"cost": cost})),)
        return events


def test_a_checkpoint_that_is_gone_is_trained_again_and_charged() -> None:
    store = MemoryStore()
    engine = Forgetful(store)
    loop = make_loop(manifest(budget={"epochs": 60}, control={"share": 0}), store, engine=engine)
    state = loop.run()
    assert engine.lost is not None
    mine = [(j.done, j.until, j.attempt) for j in engine.jobs if j.trial == engine.lost]
    assert mine[:3] == [(0, 1, 1), (1, 3, 2), (0, 3, 3)], "from scratch, to the same end"
    [attempt] = [e for e in Journal(store).replay() if isinstance(e, Attempt)]
    assert attempt.message == "the checkpoint is gone; it must hold 1 epoch"
    assert not attempt.crash
    assert (attempt.begun, attempt.done) == (1, 0)
    trial = state.trials[engine.lost]
    assert row(trial)["message"].endswith(
        "1 epoch was trained and charged again, because the checkpoint was gone"
    )
    assert trial.cost.epochs == 1 + max(until or 9 for _, until, _ in mine)
    assert state.spent.epochs <= 60


@pytest.mark.parametrize("kind", LADDERS)
@pytest.mark.parametrize("rung", [1, 3])
def test_a_metric_that_is_missing_at_a_rung_ranks_last(kind: str, rung: int) -> None:
    def evaluate(job: TrialJob) -> dict[str, float]:
        if job.until == rung and job.trial % 2:
            return {"val_loss": 0.1}
        return learnt(job)

    loop = make_loop(manifest(kind, budget={"trials": 40}), evaluate=evaluate)
    state = loop.run()
    lost = [t for t in state.told if t.rests and "val_accuracy" not in t.metrics]
    assert lost
    assert max(t.grant.until for t in lost) == rung, "none of them was trained further"
    finalists = {t.parents[0] for t in state.of_kind(Kind.FINAL)}
    assert not finalists & {t.number for t in lost}


class Silent(TabularEngine):
    """Reports one value at the end, and no learning curve."""

    def poll(self, timeout: float | None) -> Sequence[Event]:
        events = super().poll(timeout)
        found: list[Event] = []
        for event in events:
            assert isinstance(event, Finished)
            bare = [
                Point(epoch=p.epoch, metrics={}, device_seconds=0.0) for p in event.result.curve
            ]
            result = event.result.model_copy(update={"curve": tuple(bare)})
            found.append(Finished(event.trial, result))
        return found


def test_a_curve_rule_without_curves_stops_nothing_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    estimation = {"type": "Full", "stopping": {"type": "Median", "every": 1, "spare": 0}}
    spec = experiment(estimation=estimation, control={"share": 0})
    state = make_loop(spec, engine=Silent(learnt, INFO)).run()
    outcomes = {t.outcome for t in state.of_kind(Kind.SEARCH)}
    assert outcomes <= {Outcome.SUCCEEDED, Outcome.INFEASIBLE}
    [record] = caplog.records
    assert "estimation.stopping cannot judge trial" in record.getMessage()
    assert "does not report the objective after every epoch" in record.getMessage()


def test_a_trainer_that_cannot_pause_is_refused_before_anything_starts() -> None:
    info = INFO.model_copy(update={"supports": ()})
    loop = make_loop(manifest(), info=info, evaluate=learnt)
    with pytest.raises(
        ManifestError, match="ASHA requires a trainer that supports until; this one"
    ):
        loop.run()
    assert list(Journal(loop.store).replay()) == []


@pytest.mark.parametrize("kind", LADDERS)
def test_more_slots_than_a_bracket_has_candidates_are_all_used(kind: str) -> None:
    """The next bracket begins while the first one waits."""
    spec = manifest(kind, budget={"trials": 80, "parallelism": 40}, control={"share": 0})
    engine = TabularEngine(learnt, INFO, 40)
    loop = make_loop(spec, engine=engine)
    busy: list[int] = []
    poll = engine.poll

    def counting(timeout: float | None) -> Sequence[Event]:
        if len(loop.state.trials) < 80:
            busy.append(len(engine.running()))
        return poll(timeout)

    engine.poll = counting  # type: ignore[method-assign]
    loop.run()
    assert set(busy) == {40}


class Interrupting(TabularEngine):
    """Interrupts its search after so many results."""

    def __init__(self, results: int) -> None:
        super().__init__(learnt, INFO, 3)
        self.results = results
        self.loop: Loop | None = None

    def poll(self, timeout: float | None) -> Sequence[Event]:
        self.results -= 1
        if not self.results and self.loop is not None:
            self.loop.interrupt()
        return super().poll(timeout)


@pytest.mark.parametrize("kind", LADDERS)
@pytest.mark.parametrize("results", [2, 5])
def test_interrupted_in_a_bracket_it_continues(kind: str, results: int) -> None:
    """As with `suspend`: nothing new begins, what rests stays at rest, and the budget is exact."""
    spec = manifest(kind, budget={"epochs": 90, "parallelism": 3})
    store = MemoryStore()
    engine = Interrupting(results)
    engine.loop = make_loop(spec, store, engine=engine)
    before = engine.loop.run()
    assert before.ended is None
    assert before.resting
    assert not before.running
    rested = {t.number: (t.done, t.metrics) for t in before.outstanding.values()}
    again = make_loop(spec, store, engine=TabularEngine(learnt, INFO, 3))
    assert {t.number: (t.done, t.metrics) for t in again.replay().outstanding.values()} == rested
    state = make_loop(spec, store, engine=TabularEngine(learnt, INFO, 3)).run()
    assert len(state.trials) > len(before.trials)
    assert state.committed_epochs == state.spent.epochs <= 90
    assert not state.outstanding
    on = {number for number in rested if state.trials[number].rung > before.trials[number].rung}
    assert on, "some of those that rested were promoted later"
