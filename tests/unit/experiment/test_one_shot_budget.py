"""One-shot searches whose budget is spent by the time the supernet is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kinase.api import Kind, Outcome
from kinase.api.trial import Cost, Point, TrialProgress, TrialResult
from kinase.engine import EngineError, Event, Finished, Lost
from kinase.engine.tabular import TabularEngine
from kinase.estimation import Decision, Left, Sample
from kinase.estimation.one_shot import OneShot
from kinase.experiment.loop import Loop
from kinase.history import History
from kinase.report.foresight import foresight
from kinase.store import Store
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import make_loop
from tests.unit.experiment.test_one_shot import KNOWS, LEFT, engine, one_shot, score


class Loses(TabularEngine):
    """Loses the first attempt at the trials of a kind, after an epoch that no checkpoint has."""

    def __init__(self, store: Store, kind: Kind) -> None:
        super().__init__(score, KNOWS, 1, lambda job: LEFT)
        self._store, self._kind = store, kind

    def poll(self, timeout: float | None) -> Sequence[Event]:
        job = self._jobs[0] if self._jobs else None
        if job is None or job.kind is not self._kind or job.attempt > 1:
            return [self._charged(event) for event in super().poll(timeout)]
        self._jobs.popleft()
        begun = TrialProgress(attempt=1, epochs_begun=1 if job.supernet is not None else 0)
        self._store.put(f"{job.prefix}/progress.json", begun.model_dump_json().encode())
        return (Lost(job.trial, "the node is gone", crash=False),)

    def _charged(self, event: Event) -> Event:
        assert isinstance(event, Finished)
        if event.trial:
            return event
        cost = Cost(epochs=event.result.cost.epochs + (self._kind is Kind.SUPERNET))
        return Finished(0, event.result.model_copy(update={"cost": cost}))


@pytest.mark.parametrize("kind", [Kind.SUPERNET, Kind.SEARCH])
def test_epochs_that_a_supernet_loses_do_not_end_the_search(kind: Kind) -> None:
    manifest = one_shot(budget={"epochs": 14})  # 6, and 2 finalists of 4
    store = MemoryStore()
    state = make_loop(manifest, store, engine=Loses(store, kind), info=KNOWS).run()
    assert state.trials[0].outcome is Outcome.SUCCEEDED
    assert state.counts[Kind.SEARCH] == len(LEFT)
    assert all(trial.metrics for trial in state.of_kind(Kind.SEARCH))
    assert state.finished is not None
    assert state.finished.winner is not None
    assert state.spent.epochs == 14 + (kind is Kind.SUPERNET)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def timed(store: Store, duration: str, clock: Clock, found: TrialResult | None = None) -> Loop:
    """A search whose supernet takes an hour; with `found`, as it is then stopped."""

    class Slow(TabularEngine):
        def poll(self, timeout: float | None) -> Sequence[Event]:
            job = self._jobs[0] if self._jobs else None
            events = super().poll(timeout)
            if job is not None and job.supernet is not None:
                clock.now += 3600
                if found is not None:
                    return (Finished(job.trial, found),)
            return events

    manifest = one_shot("Random", budget={"duration": duration})
    slow = Slow(score, KNOWS, 1, lambda job: LEFT)
    return make_loop(manifest, store, engine=slow, info=KNOWS, clock=clock)


def test_some_candidates_are_scored_when_the_supernet_has_taken_all_time() -> None:
    state = timed(MemoryStore(), "30m", Clock()).run()
    assert state.searched == 2, "as many as there are finalists"
    assert state.ended == "the duration is over"
    assert state.finished is not None
    assert state.finished.winner is not None


@pytest.mark.parametrize("epochs", [0, 3])
def test_a_stopped_supernet_is_used_or_trained_again_once_the_budget_is_raised(epochs: int) -> None:
    store, clock = MemoryStore(), Clock()
    curve = (Point(epoch=3, metrics={"val_accuracy": 0.4}, device_seconds=1.0),)
    stopped = TrialResult(
        trial=0,
        attempt=1,
        outcome=Outcome.STOPPED,
        curve=curve if epochs else (),
        kept_bytes=epochs,
    )
    state = timed(store, "30m", clock, stopped).run()
    assert state.finished is not None
    assert (state.finished.winner is None) is (epochs == 0)
    state = timed(store, "9h", clock).run()
    assert state.counts[Kind.SUPERNET] == (1 if epochs else 2)
    assert state.searched == 20
    assert state.finished is not None
    assert state.finished.winner is not None
    last = max(t.number for t in state.of_kind(Kind.SUPERNET))
    slices = {t.slice.prefix for t in state.of_kind(Kind.SEARCH) if t.slice is not None}
    assert slices == {state.trials[last].prefix}


def test_only_what_runs_on_several_workers_is_charged_for_them() -> None:
    class Runs(Loop):
        @property
        def running(self) -> dict[int, float]:
            return {trial.number: 100.0 for trial in list(self.state.trials.values())[:3]}

    options: dict[str, Any] = {"trialTemplate": {"workers": 4}}
    known = KNOWS.model_copy(update={"supports": (*KNOWS.supports, "workers")})
    loop = Runs(one_shot(**options), MemoryStore(), engine(), known, trainer_results=False)
    loop.run()
    assert loop.running_seconds == 4 * 100 + 100 + 100, "the supernet's, and two candidates'"


def test_what_a_budget_pays_for() -> None:
    scored = one_shot("Evolution", 8, budget={"epochs": 20}).spec
    assert (scored.paid_trials, scored.epochs_for(8)) == (8, 6 + 2 * 4)
    assert (foresight(scored) or "").endswith("; estimation.oneShot.candidates 20 would do")
    trained = {"type": "OneShot", "oneShot": {"epochs": 6}}
    spec = one_shot("PCDARTS", estimation=trained, budget={"epochs": 26}).spec
    assert (spec.search_epochs, spec.paid_trials) == (6 + 4, 3)
    assert one_shot("PCDARTS", estimation=trained, budget={"trials": 90}).spec.paid_trials == 5
    with pytest.raises(ValueError, match=r"one trial takes 10 and .* it must be at least 18"):
        one_shot("PCDARTS", estimation=trained, budget={"epochs": 17})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (7, "it samples from trial 7, no trained supernet"),
        (None, "it trains a supernet, and there is one already"),
    ],
)
def test_an_estimator_that_decides_what_cannot_be_is_named(
    change: int | None, message: str
) -> None:
    loop = make_loop(one_shot(), engine=engine(), info=KNOWS)
    shot = loop.estimator
    assert isinstance(shot, OneShot)
    ask = shot.next

    def decide(history: History, left: Left) -> Decision:
        found = ask(history, left)
        if not isinstance(found, Sample):
            return found
        return shot.training if change is None else replace(found, supernet=change)

    shot.next = decide  # type: ignore[method-assign]
    with pytest.raises(EngineError, match=message):
        loop.run()
