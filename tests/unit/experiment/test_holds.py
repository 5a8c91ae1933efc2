"""Processes that wait at a rest, and are continued in the same attempt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from typing import Any

import pytest

from kinase.api import Kind, TrialJob
from kinase.api.trial import Outcome, TrialProgress, TrialResult
from kinase.engine import Event, Finished
from kinase.engine.tabular import TabularEngine
from kinase.experiment.entries import AnyEntry, Attempt, Granted
from kinase.experiment.journal import Journal
from kinase.experiment.loop import Loop
from kinase.store import Store
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, make_loop, told
from tests.unit.experiment.test_loop import Killed, Mortal
from tests.unit.experiment.test_stretches import learnt, manifest


class Waiting(TabularEngine):
    """Its processes leave results as a trainer does, and wait at a rest. A process that is deaf
    does not wait long enough to hear that it continues."""

    def __init__(self, store: Store, slots: int = 1, *, deaf: bool = False) -> None:
        super().__init__(learnt, INFO, slots)
        self.store, self.deaf = store, deaf
        self.processes: Counter[int] = Counter()
        self.released: set[int] = set()
        self._waits: dict[int, TrialJob] = {}
        self._unheard: list[Event] = []

    def launch(self, job: TrialJob) -> None:
        before = self._waits.pop(job.trial, None)
        if before is None or before.attempt != job.attempt:
            self.processes[job.trial] += 1
            left = self._ledger(job).attempt
            assert job.test or job.attempt > left, "an attempt is one process"
        elif self.deaf:
            text = self.store.get(f"{job.prefix}/result.json")
            self._unheard.append(Finished(job.trial, TrialResult.model_validate_json(text)))
            return
        super().launch(job)

    def _ledger(self, job: TrialJob) -> TrialProgress:
        key = f"{job.prefix}/progress.json"
        if not self.store.exists(key):
            return TrialProgress(attempt=0)
        return TrialProgress.model_validate_json(self.store.get(key))

    def running(self) -> dict[int, float]:
        return {**super().running(), **{event.trial: 0.0 for event in self._unheard}}

    def poll(self, timeout: float | None) -> Sequence[Event]:
        if self._unheard:
            return [self._unheard.pop()]
        job = self._jobs[0] if self._jobs else None
        found = super().poll(timeout)
        for event in found:
            assert job is not None
            assert isinstance(event, Finished)
            result = event.result
            ledger = self._ledger(job)
            begun = ledger.epochs_begun + job.last_epoch - job.done
            kept = {"attempt": job.attempt, "epochs_begun": begun, "epochs_done": job.last_epoch}
            self._put(f"{job.prefix}/progress.json", ledger.model_copy(update=kept))
            cost = result.cost.model_copy(update={"epochs": begun})
            result = result.model_copy(update={"cost": cost, "curve": self._curve(job, result)})
            self._put(f"{job.prefix}/{'test' if job.test else 'result'}.json", result)
            if result.outcome is Outcome.STOPPED:
                self._waits[job.trial] = job
            return [Finished(job.trial, result)]
        return found

    @staticmethod
    def _curve(job: TrialJob, result: TrialResult) -> tuple[Any, ...]:
        point = result.curve[-1]
        epochs = range(1, job.last_epoch + 1)
        return tuple(point.model_copy(update={"epoch": epoch}) for epoch in epochs)

    def _put(self, key: str, model: Any) -> None:
        self.store.put(key, model.model_dump_json(by_alias=True).encode())

    def holds(self, trial: int) -> bool:
        return trial in self._waits

    def release(self, undecided: Container[int] = ()) -> None:
        done = {number for number in self._waits if number not in undecided}
        self.released |= done
        for number in done:
            del self._waits[number]


def waiting(store: Store | None = None, *, deaf: bool = False, **spec: Any) -> Loop:
    store = store if store is not None else MemoryStore()
    slots = spec.get("budget", {}).get("parallelism", 1)
    engine = Waiting(store, slots, deaf=deaf)
    return make_loop(manifest(**spec), store, engine=engine, trainer_results=True)


def engine_of(loop: Loop) -> Waiting:
    assert isinstance(loop.engine, Waiting)
    return loop.engine


def journal(loop: Loop) -> list[AnyEntry]:
    return list(Journal(loop.store).replay())


@pytest.fixture(scope="module")
def undisturbed() -> list[tuple[Any, ...]]:
    loop = make_loop(manifest(), evaluate=learnt)
    loop.run()
    return told(loop)


def test_a_trial_that_continues_keeps_its_process(undisturbed: list[tuple[Any, ...]]) -> None:
    loop = waiting()
    state = loop.run()
    assert told(loop) == undisturbed
    granted = [entry for entry in journal(loop) if isinstance(entry, Granted)]
    kept = [entry for entry in granted if entry.attempt == 1]
    assert kept, "one that is promoted when it rests waits still"
    stretches = len(state.trials) + len(granted)
    tests = 1
    assert engine_of(loop).processes.total() == stretches - len(kept) + tests
    assert not [entry for entry in journal(loop) if isinstance(entry, Attempt)]


def test_one_that_does_not_continue_is_let_go_in_the_same_turn() -> None:
    loop = waiting()
    waits: list[set[int]] = []
    poll = loop.engine.poll

    def watched(timeout: float | None) -> Sequence[Event]:
        waits.append({n for n in loop.state.trials if loop.engine.holds(n)})
        return poll(timeout)

    loop.engine.poll = watched  # type: ignore[method-assign]
    loop.run()
    assert engine_of(loop).released
    assert not any(waits), "none waits while the loop waits"


def test_one_that_did_not_wait_long_enough_is_launched_again(
    undisturbed: list[tuple[Any, ...]],
) -> None:
    loop = waiting(deaf=True)
    state = loop.run()
    assert told(loop) == undisturbed
    again = [entry for entry in journal(loop) if isinstance(entry, Attempt)]
    assert again
    assert not any(entry.crash for entry in again)
    assert all(entry.begun == entry.done for entry in again), "no epoch is lost"
    assert state.committed_epochs == state.spent.epochs


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write_it_continues_to_the_same_end(
    after: bool, undisturbed: list[tuple[Any, ...]]
) -> None:
    whole = waiting()
    whole.run()
    for moment in range(1 + after, whole.journal.length + 1, 4):
        store = MemoryStore()
        first = waiting(store)
        first.journal._store = Mortal(store.sub("journal"), [moment], after)
        with pytest.raises(Killed):
            first.run()
        again = waiting(store)
        again.run()
        assert told(again) == undisturbed, moment


def test_at_another_fidelity_it_begins_in_a_process_of_its_own() -> None:
    loop = waiting(options={"axis": "data", "least": 0.1})
    loop.run()
    granted = [entry for entry in journal(loop) if isinstance(entry, Granted)]
    assert granted
    assert all(entry.restart and entry.attempt > 1 for entry in granted)


@pytest.mark.parametrize("deterministic", [False, True])
def test_many_at_once(deterministic: bool) -> None:
    budget = {"epochs": 60, "parallelism": 3}
    loop = waiting(budget=budget, deterministic=deterministic)
    state = loop.run()
    assert not state.outstanding
    assert state.committed_epochs == state.spent.epochs <= 60
    assert state.counts[Kind.FINAL]
