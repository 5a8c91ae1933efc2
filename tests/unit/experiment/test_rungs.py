"""How trials stand on a ladder: counted by rung, and never compared across rungs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kinase.api import Kind, Outcome, TrialJob
from kinase.api.fidelity import Fidelity, Grant
from kinase.api.trial import Cost, Point
from kinase.engine import Event, Finished
from kinase.engine.tabular import Evaluate, TabularEngine
from kinase.experiment.entries import Asked, Granted, Rested
from kinase.experiment.finals import choose
from kinase.experiment.journal import Journal
from kinase.experiment.loop import Loop
from kinase.experiment.record import Record
from kinase.experiment.rungs import OVER, RungCount
from kinase.experiment.state import SEARCHING, State
from tests.unit.experiment.helpers import INFO, experiment, make_loop
from tests.unit.experiment.test_stretches import learnt, manifest


def from_scratch(state: State) -> dict[int, RungCount]:
    """The counts, by looking at each trial as a whole."""
    found: dict[int, RungCount] = {}
    for trial in state.of_kind(*SEARCHING):
        grants = [grant for grant, _ in trial.rests]
        rungs = dict.fromkeys([*(g.rung for g in grants), trial.grant.rung])
        cost = Cost()
        for grant, rest in trial.rests:
            count = found.setdefault(grant.rung, RungCount(grant.rung))
            count.cost = count.cost + rest.cost - cost
            cost = rest.cost
            ends = rest.done >= grant.until
            count.reached += ends
            count.promoted += ends and grant.rung != trial.grant.rung
        for rung in rungs:
            found.setdefault(rung, RungCount(rung)).entered += 1
        count = found[trial.grant.rung]
        count.paused += trial.paused
        if trial.outcome is None:
            continue
        count.cost = count.cost + trial.cost - cost
        count.ended += 1
        count.reached += trial.outcome is Outcome.SUCCEEDED
        count.stopped += trial.outcome is Outcome.STOPPED and trial.message != OVER
        count.failed += trial.outcome in (Outcome.FAILED, Outcome.INFEASIBLE)
    return found


class Watcher:
    """Compares at every turn of the loop."""

    looked = 0

    def _look(self, loop: Loop, *_: Any) -> None:
        state = loop.state
        for rung, count in from_scratch(state).items():
            count.until = state.rungs[rung].until
            assert state.rungs[rung] == count, rung
        running = [t for t in state.running.values() if t.kind in SEARCHING]
        by_rung = Counter(t.grant.rung for t in running)
        assert {r: c.running for r, c in state.rungs.items() if c.running} == dict(by_rung)
        self.looked += 1

    started = progressed = rested = told = tick = _look


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("ASHA", {}),
        ("SuccessiveHalving", {"screen": {"pool": 2}}),
        ("ASHA", {"options": {"axis": "data", "least": 0.1}}),
    ],
)
def test_the_counts_by_rung_are_those_of_the_trials(kind: str, more: dict[str, Any]) -> None:
    watcher = Watcher()
    spec = manifest(kind, budget={"trials": 16, "parallelism": 2}, **more)
    loop = make_loop(spec, evaluate=learnt, slots=2, listener=watcher)
    state = loop.run()
    assert watcher.looked > 16
    assert sum(count.entered for count in state.rungs.values()) > state.searched
    assert sum(c.cost.epochs for c in state.rungs.values()) == sum(
        t.cost.epochs for t in state.of_kind(*SEARCHING)
    )
    again = State()
    for entry in Journal(loop.store).replay():
        again.apply(entry)
    assert again.rungs == state.rungs


def falling(job: TrialJob) -> dict[str, float]:
    """A value that is lower the longer it trains: no value of a higher rung is above one below."""
    until = job.fidelity.epochs if job.until is None else job.until
    return {**learnt(job), "val_accuracy": learnt(job)["val_accuracy"] / 10**until}


def test_the_best_and_the_finalists_are_of_the_highest_rung() -> None:
    loop = make_loop(manifest(), evaluate=falling)
    state = loop.run()
    assert loop.best is not None
    assert loop.best.rung == 2
    finalists = [state.trials[t.parents[0]] for t in state.of_kind(Kind.FINAL)]
    assert finalists[0].rung == 2
    assert finalists[1].rung >= 1
    ranked = sorted(state.of_kind(*SEARCHING), key=loop.rank)
    assert finalists == ranked[:2]
    low = min(
        (t.metrics["val_accuracy"], t.number) for t in state.of_kind(*SEARCHING) if t.rung < 1
    )
    assert low[0] > loop.best.metrics["val_accuracy"]


def test_where_the_highest_rung_has_too_few_finalists_the_next_one_follows() -> None:
    loop = make_loop(manifest(finalists={"count": 4}), evaluate=falling)
    state = loop.run()
    chosen = choose(list(state.of_kind(*SEARCHING)), 4, loop.losses)
    rungs = [t.rung for t in chosen]
    assert rungs == sorted(rungs, reverse=True)
    assert len(set(rungs)) == 2


class CurveEngine(TabularEngine):
    """A tabular engine that knows each trial's value after every epoch."""

    def __init__(self, evaluate: Evaluate) -> None:
        super().__init__(evaluate, INFO)
        self._value = evaluate

    def poll(self, timeout: float | None) -> Sequence[Event]:
        job = self._jobs[0] if self._jobs else None
        events = super().poll(timeout)
        if job is None:
            return events
        (ended,) = events
        assert isinstance(ended, Finished)
        curve = tuple(
            Point(
                epoch=epoch,
                metrics=self._value(job.model_copy(update={"until": epoch})),
                device_seconds=0.0,
            )
            for epoch in range(1, ended.result.cost.epochs + 1)
        )
        return (replace(ended, result=ended.result.model_copy(update={"curve": curve})),)


def stopping(spare: float, **more: Any) -> Any:
    """A rule that stops the worse half at each look."""
    rule = {"type": "Median", "every": 2, "spare": spare, "median": {"trials": 2}}
    return experiment(
        training={"epochs": 8},
        strategy={"type": "Random"},
        estimation={"type": "Full", "stopping": rule},
        budget={"trials": 24},
        **more,
    )


def test_the_spared_are_noted_and_replayed() -> None:
    loop = make_loop(stopping(0.5), engine=CurveEngine(learnt))
    state = loop.run()
    searched = list(state.of_kind(*SEARCHING))
    spared = [t for t in searched if t.spared]
    ruled = [t for t in searched if t.ruled]
    assert spared
    assert ruled
    assert not set(map(id, spared)) & set(map(id, ruled))
    assert all(t.outcome is Outcome.SUCCEEDED and t.grant.every == 0 for t in spared)
    assert all(t.outcome is Outcome.STOPPED and t.done < 8 for t in ruled)
    found = loop.leaders.calibration
    assert found is not None
    assert (found.stopped, found.spared) == (len(ruled), len(spared))
    again = make_loop(stopping(0.5), loop.store)
    again.replay()
    assert again.leaders.calibration == found
    assert again.leaders.wronged == loop.leaders.wronged


def test_the_best_that_gets_worse_at_a_look_gives_way() -> None:
    loop = make_loop(manifest())
    first = Grant(fidelity=Fidelity(epochs=9), until=1, final=False)
    second = first.model_copy(update={"until": 5, "rung": 1, "every": 1})
    for number, value in enumerate((0.8, 0.7, 0.6)):
        where: dict[str, Any] = {
            "kind": Kind.SEARCH,
            "architecture": {},
            "key": f"{number}",
            "seed": 0,
        }
        Record.apply(loop, Asked(trial=number, grant=first, **where))
        metrics = {"val_accuracy": value}
        Record.apply(loop, Rested(trial=number, done=1, metrics=metrics, cost=Cost(epochs=1)))
    looks = ((0, 0.5, 1), (1, 0.65, 1), (1, 0.55, 2), (0, 0.9, 0), (0, 0.58, 2))
    for number, value, best in looks:
        trial = loop.state.trials[number]
        Record.apply(loop, Granted(trial=number, grant=second, attempt=2))
        metrics, cost = {"val_accuracy": value}, Cost(epochs=trial.done + 1)
        Record.apply(loop, Rested(trial=number, done=trial.done + 1, metrics=metrics, cost=cost))
        assert loop.best is loop.state.trials[best]


def test_a_spared_trial_that_becomes_the_best_was_wrongly_condemned() -> None:
    def late(job: TrialJob) -> dict[str, float]:
        """The worse at first, the better at the end."""
        until = job.fidelity.epochs if job.until is None else job.until
        quality = learnt(job)["val_loss"] + job.trial / 1000
        return {"val_accuracy": quality / 2 if until == 8 else 1 - quality / 2, "val_loss": 1.0}

    state = (loop := make_loop(stopping(1), engine=CurveEngine(late))).run()
    best: float = 0.0
    wronged = set()
    for trial in state.told:
        if trial.kind in SEARCHING and trial.metrics["val_accuracy"] > best:
            best = trial.metrics["val_accuracy"]
            if trial.spared:
                wronged.add(trial.number)
    assert wronged
    assert loop.leaders.wronged == wronged
    found = loop.leaders.calibration
    assert found is not None
    assert (found.stopped, found.won) == (0, len(wronged))
