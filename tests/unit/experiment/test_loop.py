from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from kinase.api import Kind, Outcome, TrialJob
from kinase.engine import Event
from kinase.engine.tabular import TabularEngine
from kinase.experiment.entries import Told
from kinase.experiment.journal import Fenced, Journal
from kinase.experiment.stage import Search, owes_control
from kinase.store import Store
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, experiment, make_loop, score, told


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Mortal(Store):
    """A store whose process is killed at its n-th write, before or after it took effect."""

    def __init__(self, inner: Store, life: list[int], after: bool) -> None:
        self.inner, self.life, self.after, self.uri = inner, life, after, inner.uri

    def get(self, key: str, limit: int | None = None) -> bytes:
        return self.inner.get(key, limit)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        self.life[0] -= 1
        if self.life[0] == 0 and not self.after:
            raise Killed
        self.inner.put(key, data, if_absent=if_absent)
        if self.life[0] == 0:
            raise Killed

    def list(self, prefix: str = "") -> Any:
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def sub(self, prefix: str) -> Store:
        return Mortal(self.inner.sub(prefix), self.life, self.after)


def test_a_run_ends_with_a_winner_trained_at_full_fidelity() -> None:
    loop = make_loop(experiment())
    state = loop.run()
    assert state.ended == "20 trials were run"
    assert state.finished is not None
    assert state.finished.winner is not None
    winner = state.trials[state.finished.winner]
    assert winner.kind is Kind.FINAL
    assert winner.fidelity.epochs == 4
    assert state.counts == {Kind.SEARCH: 16, Kind.CONTROL: 4, Kind.FINAL: 2}
    assert state.spent.epochs == 20 * 2 + 2 * 4


def test_finalists_are_the_best_of_search_and_control() -> None:
    loop = make_loop(experiment())
    state = loop.run()
    searched = [t for t in state.trials.values() if t.kind is not Kind.FINAL]
    best: dict[str, float] = {}
    for trial in searched:
        best[trial.key] = max(best.get(trial.key, 0.0), trial.metrics["val_accuracy"])
    expected = sorted(best, key=lambda key: -best[key])[:2]
    assert [t.key for t in state.of_kind(Kind.FINAL)] == expected


@pytest.mark.parametrize("strategy", ["Random", "LocalSearch", "Evolution"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write_it_goes_on_to_the_same_end(strategy: str, after: bool) -> None:
    manifest = experiment(strategy={"type": strategy}, budget={"trials": 12})
    undisturbed = make_loop(manifest)
    undisturbed.run()
    writes = undisturbed.journal.length
    entries = list(Journal(undisturbed.store).replay())
    for moment in range(1, writes + 1):
        store = MemoryStore()
        runs = Counter[int]()

        def evaluate(job: TrialJob, runs: Counter[int] = runs) -> dict[str, float]:
            runs[job.trial] += 1
            return score(job)

        with pytest.raises(Killed):
            make_loop(manifest, Mortal(store, [moment], after), evaluate=evaluate).run()
        again = make_loop(manifest, store, evaluate=evaluate)
        again.run()
        assert told(again) == told(undisturbed)
        assert again.state.finished == undisturbed.state.finished.model_copy(  # type: ignore[union-attr]
            update={"elapsed": again.state.finished.elapsed}  # type: ignore[union-attr]
        )
        assert len(list(Journal(store).replay())) == len(entries)
        assert sum(runs.values()) <= len(runs) + 1  # only the trial in flight may run again


def test_a_second_process_is_fenced_off() -> None:
    store = MemoryStore()
    first, second = make_loop(experiment(), store), make_loop(experiment(), store)
    first.replay()
    second.replay()
    for loop in (first, second):
        loop._append(*Search(loop, loop.arms[Kind.SEARCH], loop.arms[Kind.CONTROL]).next())
    first._commit()
    with pytest.raises(Fenced, match="another process wrote number 0"):
        second._commit()


def test_parallel_asks_are_told_only_what_has_finished() -> None:
    loop = make_loop(experiment(budget={"trials": 20, "parallelism": 4}), slots=4)
    state = loop.run()
    entries = list(make_loop(experiment(), loop.store).journal.replay())
    ended: set[int] = set()
    for entry in entries:
        if isinstance(entry, Told):
            ended.add(entry.trial)
        elif entry.type == "asked" and entry.kind is Kind.SEARCH:
            assert set(entry.parents) <= ended
    assert state.counts[Kind.SEARCH] + state.counts[Kind.CONTROL] == 20


class Shuffled(TabularEngine):
    """Trials end in an order that a seed draws, one or several at a time."""

    def __init__(self, whole: TabularEngine, seed: int) -> None:
        super().__init__(whole._evaluate, whole._info, whole.slots)
        self.chance = random.Random(seed)

    def poll(self, timeout: float | None) -> Sequence[Event]:
        found: list[Event] = []
        while self._jobs and (not found or self.chance.random() < 0.5):
            self._jobs.rotate(self.chance.randrange(len(self._jobs)))
            found += super().poll(timeout)
        return found


@pytest.mark.parametrize("strategy", ["Evolution", "LocalSearch"])
def test_with_deterministic_the_order_in_which_trials_end_changes_nothing(strategy: str) -> None:
    def trials(seed: int, deterministic: bool | None) -> list[Any]:
        manifest = experiment(
            budget={"trials": 40, "parallelism": 4},
            strategy={"type": strategy},
            deterministic=deterministic,
        )
        engine = Shuffled(TabularEngine(score, INFO, 4), seed)
        loop = make_loop(manifest, engine=engine)
        state = loop.run()
        assert state.finished is not None
        assert not state.outstanding
        return [(t.number, t.key, t.kind, t.metrics) for t in state.trials.values()]

    assert trials(1, True) == trials(2, True) == trials(3, True)
    assert len({str(trials(seed, None)) for seed in range(1, 4)}) > 1


def test_with_deterministic_a_run_killed_at_any_write_proposes_the_same() -> None:
    manifest = experiment(budget={"trials": 12, "parallelism": 3}, deterministic=True)
    whole = make_loop(manifest, slots=3)
    wanted = [trial.key for trial in whole.run().trials.values()]
    for moment in range(1, whole.journal.length + 1, 2):
        store = MemoryStore()
        with pytest.raises(Killed):
            make_loop(manifest, Mortal(store, [moment], True), slots=3).run()
        again = make_loop(manifest, store, slots=3).run()
        assert [trial.key for trial in again.trials.values()] == wanted, moment


@pytest.mark.parametrize("epochs", range(10, 40))
@pytest.mark.parametrize("slots", [1, 3])
def test_epochs_are_never_overspent_and_never_left_lying(epochs: int, slots: int) -> None:
    manifest = experiment(budget={"epochs": epochs, "parallelism": slots})
    state = make_loop(manifest, slots=slots).run()
    assert state.finished is not None
    due = min(2, len({t.key for t in state.trials.values() if t.kind is not Kind.FINAL})) * 4
    assert state.spent.epochs <= epochs
    assert epochs - state.spent.epochs < 2 + (8 - due)


def test_the_target_ends_the_search() -> None:
    manifest = experiment(objective={"target": 0.85}, budget={"trials": 500})
    state = make_loop(manifest).run()
    assert state.ended == "the target 0.85 is reached"
    *before, last = [t for t in state.told if t.kind is not Kind.FINAL]
    assert last.metrics["val_accuracy"] >= 0.85
    assert all(t.metrics["val_accuracy"] < 0.85 for t in before)


def test_an_exhausted_space_ends_the_search() -> None:
    chain = {"maxDepth": 1, "ops": ["conv"], "widths": [4, 8], "kernels": [3], "strides": [1]}
    manifest = experiment(space={"type": "Chain", "chain": chain}, control={"share": 0})
    state = make_loop(manifest).run()
    assert state.ended == "the search space is exhausted"
    assert state.counts[Kind.SEARCH] == 2


def test_a_network_that_vanishes_is_told_infeasible_and_costs_nothing() -> None:
    chain = {"minDepth": 6, "maxDepth": 6, "strides": [2], "kernels": [3]}
    manifest = experiment(space={"type": "Chain", "chain": chain}, budget={"trials": 5})
    state = make_loop(manifest).run()
    searched = [t for t in state.trials.values() if t.kind in (Kind.SEARCH, Kind.CONTROL)]
    assert len(searched) == 5
    assert {t.outcome for t in searched} == {Outcome.INFEASIBLE}
    assert all(t.message for t in searched)
    assert state.spent.epochs == 0
    assert state.finished is not None
    assert state.finished.winner is None
    assert "no trial gave a network" in state.finished.message


def test_a_value_that_is_not_a_number_counts_as_worst() -> None:
    def evaluate(job: TrialJob) -> dict[str, float]:
        return {} if job.trial < 5 else score(job)

    loop = make_loop(experiment(), evaluate=evaluate)
    state = loop.run()
    assert loop.losses(state.trials[0]) == (math.inf,)
    assert loop.best is not None
    assert loop.best.number >= 5
    assert state.finished is not None
    assert state.finished.winner is not None


def test_baselines_are_trained_as_finalists_are_and_never_win() -> None:
    layers = [{"op": "conv", "width": 8, "kernel": 3, "stride": 1}] * 4
    manifest = experiment(baselines=[{"name": "by hand", "architecture": {"layers": layers}}])
    state = make_loop(manifest).run()
    [baseline] = state.of_kind(Kind.BASELINE)
    assert baseline.operation == "by hand"
    assert baseline.fidelity.epochs == 4
    assert state.finished is not None
    assert state.finished.winner != baseline.number


def test_a_baseline_by_its_name_is_written_out_in_the_journal() -> None:
    cell = {"preset": "darts", "search": {"cells": 1, "filters": 1}}
    manifest = experiment(
        space={"type": "Cell", "cell": {**cell, "evaluation": cell["search"]}},
        baselines=[{"name": "by Liu et al.", "architecture": {"named": "DARTS_V2"}}],
    )
    loop = make_loop(manifest, evaluate=lambda job: {"val_accuracy": job.trial / 100})
    [baseline] = loop.run().of_kind(Kind.BASELINE)
    assert baseline.architecture == loop.space.named["DARTS_V2"]
    loop.space.validate(baseline.architecture)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.33, 0.5])
def test_the_control_gets_its_share_evenly(share: float) -> None:
    controls = 0
    for n in range(1000):
        controls += owes_control(n, controls, share)
        assert abs(controls - (n + 1) * share) < 1


def test_several_objectives_give_a_front_of_finalists() -> None:
    also = [{"metric": "params", "goal": "minimize"}]
    manifest = experiment(objective={"also": also}, finalists={"count": 3})
    loop = make_loop(manifest)
    state = loop.run()
    searched = [t for t in state.trials.values() if t.kind is not Kind.FINAL]
    best = min(searched, key=lambda t: -t.metrics["val_accuracy"])
    finalists = list(state.of_kind(Kind.FINAL))
    assert finalists[0].parents == (best.number,)
    for finalist in finalists:
        found = state.trials[finalist.parents[0]]
        dominating = [
            t
            for t in searched
            if t.metrics["val_accuracy"] > found.metrics["val_accuracy"]
            and t.resources["params"] < found.resources["params"]
        ]
        assert not dominating


@pytest.mark.parametrize("checkpoints", ["running", "all"])
def test_checkpoints_that_trainers_leave_go_at_the_end(checkpoints: str) -> None:
    storage = {"uri": "file://unused", "checkpoints": checkpoints}
    manifest = experiment(budget={"trials": 4}, storage=storage)
    store = MemoryStore()

    def evaluate(job: TrialJob) -> dict[str, float]:
        assert job.keep_checkpoint is (checkpoints == "all")
        store.put(f"{job.prefix}/checkpoint/last", b"1")
        store.put(f"{job.prefix}/weights.safetensors", b"1")
        return score(job)

    make_loop(manifest, store, evaluate=evaluate, trainer_results=True).run()
    left = [key for key in store.list("trials/") if "/checkpoint/" in key]
    assert bool(left) is (checkpoints == "all")
    assert any(key.endswith("weights.safetensors") for key in store.list("trials/"))
