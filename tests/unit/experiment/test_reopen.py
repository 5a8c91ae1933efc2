"""A search that was over goes on when a limit is raised."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kinase.api import Kind, NASExperiment, TrialJob
from kinase.engine import Event
from kinase.engine import Finished as Done
from kinase.engine.tabular import TabularEngine
from kinase.experiment.entries import Ended, Finished, Reopened
from kinase.experiment.journal import Journal
from kinase.experiment.loop import Loop
from kinase.experiment.older import limits_of
from kinase.experiment.reopening import lowered, stays
from kinase.experiment.state import SEARCHING, State
from kinase.report import render
from kinase.report.gather import gather
from kinase.store import Store
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, WRITES, experiment, make_loop, score, told
from tests.unit.experiment.test_loop import Killed, Mortal


def sized(trials: int, **spec: Any) -> NASExperiment:
    return experiment(**{"budget": {"trials": trials}, **spec})


def searched(loop: Loop) -> list[tuple[Any, ...]]:
    """The search's trials without their numbers, which those of finalists shift."""
    trials = loop.state.trials
    return [
        (t.kind, t.key, t.seed, t.metrics, t.cost, [trials[p].key for p in t.parents])
        for t in loop.state.of_kind(*SEARCHING)
    ]


@pytest.mark.parametrize("strategy", ["Random", "Evolution"])
def test_it_is_the_search_that_a_larger_budget_would_have_been(strategy: str) -> None:
    store = MemoryStore()
    kind = {"strategy": {"type": strategy}}
    first = make_loop(sized(9, **kind), store)
    first.run()
    earlier = told(first)
    loop = make_loop(sized(23, **kind), store)
    state = loop.run()
    assert told(loop)[: len(earlier)] == earlier
    whole = make_loop(sized(23, **kind))
    whole.run()
    assert searched(loop) == searched(whole)
    assert state.ended == "23 trials were run"
    finalists = {t.key for t in state.of_kind(Kind.FINAL)}
    assert {t.key for t in whole.state.of_kind(Kind.FINAL)} <= finalists


def test_what_was_trained_as_a_finalist_is_not_trained_again() -> None:
    store = MemoryStore()
    runs = Counter[str]()

    def evaluate(job: TrialJob) -> dict[str, float]:
        if job.kind is Kind.FINAL:
            runs[repr(job.architecture)] += 1
        return score(job)

    layers = [{"op": "conv", "width": 8, "kernel": 3, "stride": 1}] * 4
    baseline = {"baselines": [{"name": "by hand", "architecture": {"layers": layers}}]}
    for trials in range(3, 30, 3):
        loop = make_loop(sized(trials, **baseline), store, evaluate=evaluate)
        state = loop.run()
        assert state.searched == trials
        assert len(state.before) == trials // 3 - 1
        assert state.counts[Kind.BASELINE] == 1
    assert set(runs.values()) == {1}
    best = max(state.of_kind(Kind.FINAL), key=lambda t: t.metrics["val_accuracy"])
    assert state.finished is not None
    assert state.finished.winner == best.number


@pytest.mark.parametrize("slots", [1, 3])
def test_epochs_stay_exact_however_often_it_goes_on(slots: int) -> None:
    store = MemoryStore()
    for epochs in range(12, 90, 3):
        manifest = experiment(budget={"epochs": epochs, "parallelism": slots})
        state = make_loop(manifest, store, slots=slots).run()
        assert state.finished is not None
        assert state.spent.epochs == sum(t.cost.epochs for t in state.trials.values()) <= epochs
    # what is left pays for no trial with as many finalists as may follow
    assert epochs - state.spent.epochs < 2 + 2 * 4


@WRITES
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write_it_comes_to_the_same_end(after: bool, every: int) -> None:
    def raised_from_the_first_end() -> MemoryStore:
        store = MemoryStore()
        make_loop(sized(6), store).run()
        return store

    undisturbed = make_loop(sized(12), raised_from_the_first_end())
    before = len(list(undisturbed.store.list("journal/")))
    undisturbed.run()
    entries = list(Journal(undisturbed.store).replay())
    for moment in range(1 + after % every, undisturbed.journal.length - before + 1, every):
        store = raised_from_the_first_end()
        with pytest.raises(Killed):
            make_loop(sized(12), Mortal(store, [moment], after)).run()
        again = make_loop(sized(12), store)
        again.run()
        assert told(again) == told(undisturbed)
        assert len(list(Journal(store).replay())) == len(entries)
        assert [end.winner for end in again.state.before] == [
            end.winner for end in undisturbed.state.before
        ]


def test_an_unchanged_or_smaller_budget_changes_nothing() -> None:
    store = MemoryStore()
    make_loop(sized(6), store).run()
    written = list(store.list())
    for trials in (6, 4):
        loop = make_loop(sized(trials), store)
        loop.run()
        assert stays(loop) is None
    loop = make_loop(experiment(budget={"trials": 6, "epochs": 10_000}), store)
    loop.run()
    assert list(store.list()) == written


def test_a_limit_that_is_taken_away_counts_as_raised() -> None:
    store = MemoryStore()
    make_loop(experiment(budget={"trials": 6, "epochs": 1000}), store).run()
    state = make_loop(experiment(budget={"epochs": 40}), store).run()
    assert state.searched > 6
    assert state.spent.epochs <= 40


def test_a_target_that_is_reached_is_said() -> None:
    store = MemoryStore()
    make_loop(sized(500, objective={"target": 0.85}), store).run()
    loop = make_loop(sized(600, objective={"target": 0.85}), store)
    length = len(loop.run().told)
    assert stays(loop) == (
        "budget.trials has changed, but the search does not resume: the target 0.85 is reached; "
        "raise or remove objective.target"
    )
    loop = make_loop(sized(10, objective={"target": 0.93}), store)
    assert loop.run().ended == ("10 trials were run" if length < 12 else loop.state.ended)
    state = make_loop(sized(length + 20), store).run()
    assert state.searched == length + 20
    assert state.ended == f"{length + 20} trials were run"


def test_a_budget_that_pays_for_no_trial_is_said() -> None:
    store = MemoryStore()
    spent = make_loop(experiment(budget={"epochs": 20}), store).run().spent.epochs
    loop = make_loop(experiment(budget={"epochs": 21}), store)
    loop.run()
    assert stays(loop) is not None
    assert stays(loop).startswith(
        "budget.epochs has changed, but the search does not resume: the budget "
    )
    assert stays(loop).endswith(f"raise budget.epochs to {spent + 2 + 8} or more")
    state = make_loop(experiment(budget={"epochs": spent + 2 + 8}), store).run()
    assert state.before


class Raises:
    """Raises the budget once the finalists are trained."""

    def __init__(self, manifest: NASExperiment) -> None:
        self.manifest = manifest

    def tick(self, loop: Loop) -> None:
        if loop.state.ended is not None:
            loop.update(self.manifest)

    def started(self, loop: Loop) -> None: ...

    def told(self, loop: Loop, trial: object) -> None: ...

    rested = told

    def progressed(self, loop: Loop, trial: int, point: object) -> None: ...


def test_a_limit_raised_while_finalists_train_touches_no_test_part_in_between() -> None:
    loop = make_loop(sized(6), listener=Raises(sized(12)))
    state = loop.run()
    assert state.searched == 12
    assert state.before == []
    entries = list(Journal(loop.store).replay())
    assert sum(isinstance(e, Reopened) for e in entries) == 1
    assert sum(isinstance(e, Finished) for e in entries) == 1
    assert state.spent.epochs == 12 * 2 + state.counts[Kind.FINAL] * 4


def aged(store: Store) -> None:
    """Take the limits out of a finished search's journal, as an older version left it."""
    [key] = [key for key in store.list("journal/") if b'"type":"ended"' in store.get(key)]
    lines = [json.loads(line) for line in store.get(key).splitlines()]
    for line in lines:
        line.pop("limits", None)
    store.put(key, "\n".join(map(json.dumps, lines)).encode())


OLD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "trials": ({"budget": {"trials": 6}}, {"budget": {"trials": 8}}),
    "epochs": ({"budget": {"epochs": 20}}, {"budget": {"epochs": 60}}),
    "another limit": ({"budget": {"trials": 6}}, {"budget": {"epochs": 60}}),
    "target": (
        {"budget": {"trials": 500}, "objective": {"target": 0.8123456789}},
        {"budget": {"trials": 500}, "objective": {"target": 0.91}},
    ),
}


@pytest.mark.parametrize(("before", "after"), OLD.values(), ids=OLD.keys())
def test_a_journal_without_limits_goes_on_by_what_it_says(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    store: Store = MemoryStore()
    ran = make_loop(experiment(**before), store).run().searched
    aged(store)
    written = list(store.list())
    same = make_loop(experiment(**before), store)
    assert same.run().searched == ran
    assert (stays(same), lowered(same)) == (None, None)
    assert list(store.list()) == written
    state = make_loop(experiment(**after), store).run()
    assert state.searched > ran
    assert len(state.before) == 1


def test_an_old_search_of_a_whole_space_stays_over() -> None:
    small = {"space": {"type": "Chain", "chain": {"minDepth": 1, "maxDepth": 1, "widths": [4]}}}
    store: Store = MemoryStore()
    make_loop(sized(500, **small, strategy={"type": "Random"}), store).run()
    aged(store)
    written = list(store.list())
    for trials in (500, 600):
        loop = make_loop(sized(trials, **small, strategy={"type": "Random"}), store)
        assert loop.run().finished is not None
    assert list(store.list()) == written


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("6 trials were run", {"trials": 6}),
        ("the 40 epochs are spent, those of the finalists kept back", {"epochs": 40}),
        ("the 0.123457 device hours are spent", {"deviceHours": pytest.approx(0.123457, rel=2e-5)}),
        ("the duration is over", {"duration": 99.0}),
        ("the target 0.9 is reached", {"target": 0.9}),
        ("the target x is reached", {}),
        ("every architecture of the space was tried", {}),
    ],
)
def test_limits_are_read_from_an_old_reason(reason: str, found: dict[str, float]) -> None:
    assert limits_of(reason, 99.0) == found
    line = Journal._line(Ended(reason=reason))
    assert '"limits"' not in line


def test_a_lowered_limit_is_said() -> None:
    store = MemoryStore()
    loop = make_loop(sized(6), store)
    loop.run()
    assert lowered(loop) is None
    loop = make_loop(sized(4), store)
    assert loop.run().searched == 6
    assert lowered(loop) == (
        "budget.trials was lowered after the search had ended; its results are kept"
    )


def test_a_limit_lowered_below_what_a_running_search_has_spent_is_said() -> None:
    store = MemoryStore()
    with pytest.raises(Killed):
        make_loop(sized(20), Mortal(store, [9], after=True)).run()
    loop = make_loop(sized(2), store)
    done = loop.replay().searched
    assert lowered(loop) == (
        f"budget.trials is 2, and {done} are spent already: the search ends now, and finalists "
        "follow"
    )
    state = make_loop(sized(2), store).run()
    assert (state.ended, state.searched) == (f"{done} trials were run", done)


def test_an_entry_that_does_not_follow_is_refused() -> None:
    with pytest.raises(ValueError, match="a search that has not ended cannot be resumed"):
        State().apply(Reopened(limits={}))


def test_each_use_of_the_test_part_is_told() -> None:
    """A winner that wins again is not tested again; another one is, and both values are shown."""
    store = MemoryStore()
    tests = Counter[int]()

    def evaluate(job: TrialJob) -> dict[str, float]:
        if job.test:
            tests[job.trial] += 1
            return {"test_accuracy": job.trial / 1000}
        # a finalist is better the later its architecture was found
        return {"val_accuracy": job.trial / 1000} if job.kind is Kind.FINAL else score(job)

    for trials in (3, 12, 13):
        loop = make_loop(sized(trials), store, evaluate=evaluate, trainer_results=True)
        state = loop.run()
    assert set(tests.values()) == {1}
    assert state.tested == {number: {"test_accuracy": number / 1000} for number in tests}
    assert len(tests) > 1
    data = gather(loop)
    assert data.winner is not None
    assert data.winner.tests == len(tests)
    [item] = [item for item in data.protocol if "test part" in item.question]
    assert item.satisfied is False
    assert item.answer.startswith(f"{len(tests)} times, because the search was resumed")
    for number in tests:
        assert f"trial {number} test_accuracy {number / 1000:.4f}" in item.answer
    assert f"use {len(tests)} of the test part" in render(data)


def test_children_of_trials_whose_weights_are_gone_are_trained_from_scratch() -> None:
    store = MemoryStore()

    def evaluate(job: TrialJob) -> dict[str, float]:
        store.put(f"{job.prefix}/weights.safetensors", b"1")
        return score(job)

    class Keeps(TabularEngine):
        def poll(self, timeout: float | None) -> Sequence[Event]:
            return tuple(
                replace(e, result=e.result.model_copy(update={"kept_bytes": 1}))
                if isinstance(e, Done)
                else e
                for e in super().poll(timeout)
            )

    def go(trials: int, weights: str, place: MemoryStore) -> Loop:
        manifest = sized(
            trials,
            estimation={"type": "Morphism"},
            storage={"uri": "file://unused", "weights": weights},
            strategy={"type": "Evolution", "evolution": {"population": 2, "sample": 2}},
            control={"share": 0},
        )
        loop = make_loop(manifest, place, engine=Keeps(evaluate, INFO), trainer_results=True)
        loop.run()
        return loop

    go(6, "needed", store)
    assert not [k for k in store.list("trials/") if "/00000/weights" in k]
    loop = go(9, "needed", store)
    [entry] = [e for e in Journal(store).replay() if isinstance(e, Reopened)]
    assert not set(entry.weights) & set(range(6))
    later = [t for t in loop.state.of_kind(Kind.SEARCH) if t.number > 6]
    assert later
    for trial in later:
        ancestors = trial.inherit.ancestors if trial.inherit is not None else ()
        assert all(a.trial > 6 for a in ancestors)
        if not ancestors:
            assert trial.fidelity.epochs == 4
