"""Estimators that think for seconds: the events of trials are taken in meanwhile, and decided on
after."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from kinase.api import Kind
from kinase.engine import EngineError, Event
from kinase.engine.tabular import TabularEngine
from kinase.estimation import Decision, End, Left
from kinase.estimation.asha import ASHA
from kinase.experiment import thinking
from kinase.experiment.loop import Loop
from kinase.experiment.thinking import Thinking
from kinase.history import History
from kinase.store import Store
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, make_loop, told
from tests.unit.experiment.test_loop import Killed, Mortal
from tests.unit.experiment.test_stretches import learnt, manifest


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop looks at its events at once."""
    monkeypatch.setattr(thinking, "PATIENCE", 0.0005)


class Pondering(ASHA):
    """Thinks until the engine was asked for events twice more."""

    slow = True
    engine: Watched

    def next(self, history: History, left: Left) -> Decision:
        version, seen = history.version, self.engine.polls
        while self.engine.polls < seen + 2:
            assert self.engine.polled.wait(10)
            self.engine.polled.clear()
        assert history.version == version, "the history changed while it was thinking"
        return super().next(history, left)


class Watched(TabularEngine):
    """Counts how often it is asked."""

    def __init__(self, slots: int) -> None:
        super().__init__(learnt, INFO, slots)
        self.polls = 0
        self.polled = threading.Event()

    def poll(self, timeout: float | None) -> Sequence[Event]:
        self.polls += 1
        self.polled.set()
        return super().poll(timeout)


def pondering(store: Store | None = None, slots: int = 1, **spec: Any) -> Loop:
    engine = Watched(slots)
    budget = {"epochs": 50, "parallelism": slots}
    loop = make_loop(manifest(budget=budget, **spec), store, slots, engine=engine)
    for arm in loop.arms.values():
        arm.estimator = Pondering(loop.estimator.options, loop.setting)
        arm.estimator.engine = engine
    return loop


def undisturbed(slots: int = 1, **spec: Any) -> Loop:
    budget = {"epochs": 50, "parallelism": slots}
    loop = make_loop(manifest(budget=budget, **spec), None, slots, evaluate=learnt)
    loop.run()
    return loop


@pytest.mark.parametrize(("slots", "deterministic"), [(1, False), (3, True)])
def test_it_decides_what_it_would_have_decided_at_once(slots: int, deterministic: bool) -> None:
    loop = pondering(slots=slots, deterministic=deterministic)
    loop.run()
    assert told(loop) == told(undisturbed(slots, deterministic=deterministic))


def test_results_that_come_meanwhile_are_decided_on_after() -> None:
    loop = pondering(slots=3)
    state = loop.run()
    assert state.finished is not None
    assert not state.outstanding
    assert state.committed_epochs == state.spent.epochs <= 50


def test_a_restart_thinks_again_about_the_same_history() -> None:
    whole = undisturbed()
    for moment in range(1, whole.journal.length + 1, 9):
        store = MemoryStore()
        with pytest.raises(Killed):
            pondering(Mortal(store, [moment], True)).run()
        again = pondering(store)
        again.run()
        assert told(again) == told(whole), moment


def test_an_interruption_does_not_wait_for_it() -> None:
    loop = pondering(slots=2)
    engine, poll = loop.engine, loop.engine.poll

    def interrupting(timeout: float | None) -> Sequence[Event]:
        if loop.arms[Kind.SEARCH].thinking and len(loop.state.trials) > 3:
            loop.interrupt()
        return poll(timeout)

    engine.poll = interrupting  # type: ignore[method-assign]
    assert loop.run().finished is None


def test_a_slot_that_is_taken_away_meanwhile_does_not_stall_the_search() -> None:
    loop = pondering(slots=3, deterministic=True)
    engine, poll = loop.engine, loop.engine.poll
    since = 0

    def lowering(timeout: float | None) -> Sequence[Event]:
        nonlocal since
        since = since + 1 if loop.arms[Kind.SEARCH].thinking else 0
        assert since < 1000, "it thinks forever"
        if since and len(loop.state.running) == 2:
            budget = {"epochs": 50, "parallelism": 1}
            loop.update(manifest(budget=budget, deterministic=True))
        return poll(timeout)

    engine.poll = lowering  # type: ignore[method-assign]
    assert loop.run().finished is not None
    assert loop.spec.budget.parallelism == 1


def test_what_it_raises_is_reported_as_of_any_estimator() -> None:
    class Failing(ASHA):
        slow = True

        def next(self, history: History, left: Left) -> Decision:
            raise ValueError("no such curve")

    loop = make_loop(manifest(), evaluate=learnt)
    loop.arms[Kind.SEARCH].estimator = Failing(loop.estimator.options, loop.setting)
    with pytest.raises(EngineError, match=r"the estimator ASHA failed after .*: .*no such curve"):
        loop.run()


def test_a_decision_is_made_once_for_what_it_is_made_from() -> None:
    made: list[str] = []

    def decide(what: str) -> Decision:
        made.append(what)
        return End(what)

    mind = Thinking()
    found: list[Decision | None] = []
    for version, left in ((1, "a"), (1, "b"), (1, "a"), (1, "b"), (2, "a")):
        what = f"{version}{left}"
        while (decision := mind.ask(version, left, partial(decide, what))) is None:
            assert mind.busy
        found.append(decision)
        assert not mind.busy
    assert found == [End("1a"), End("1b"), End("1a"), End("1b"), End("2a")]
    assert made == ["1a", "1b", "2a"]


def test_a_decision_about_a_history_that_has_changed_is_dropped() -> None:
    ready = threading.Event()

    def old() -> Decision:
        ready.wait(10)
        return End("old")

    mind = Thinking()
    assert mind.ask(1, None, old) is None
    assert mind.ask(2, None, lambda: End("new")) is None
    ready.set()
    while (decision := mind.ask(2, None, lambda: End("new"))) is None:
        pass
    assert decision == End("new")
