"""Weights from parents to children: what is asked, what the journal says, what is deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from kinase.api import Kind, NASExperiment, Outcome, TrialJob
from kinase.api.inheritance import Inherited
from kinase.api.trial import epoch_folder
from kinase.engine.base import Event, Finished
from kinase.engine.tabular import TabularEngine
from kinase.estimation import InheritanceRule
from kinase.experiment import artifacts, asking, inheritance, weights
from kinase.experiment.entries import Asked, Entry, Told
from kinase.experiment.journal import Journal
from kinase.experiment.loop import Loop
from kinase.experiment.record import Record
from kinase.experiment.state import State
from kinase.experiment.trial_record import TrialRecord
from kinase.history import WHOLE
from kinase.report.gather import gather, inherited_text
from kinase.space import Frame, make_space
from kinase.store import Store
from kinase.store.memory import MemoryStore
from kinase.strategy.nash import LINE
from tests.unit.experiment.helpers import (
    INFO,
    WRITES,
    experiment,
    make_loop,
    score,
    told,
    with_weights,
)
from tests.unit.experiment.test_loop import Killed, Mortal

STRATEGIES: dict[str, dict[str, Any]] = {
    "Evolution": {"type": "Evolution", "evolution": {"population": 4, "sample": 2}},
    "LocalSearch": {"type": "LocalSearch", "localSearch": {"initial": 3}},
    "LargeScaleEvolution": {
        "type": "LargeScaleEvolution",
        "largeScaleEvolution": {"population": 4, "resetWeights": False, "start": "random"},
    },
    "NASH": {"type": "NASH", "nash": {"neighbours": 3, "morphisms": 1}},
}
CHAIN = {"maxDepth": 5, "widths": [4, 8, 16], "ops": ["conv"], "strides": [1]}
"""None of it is infeasible."""
LADDER = {"type": "ASHA", "inherit": {"epochsPerChild": 3}}
SIZE = 100


class Trainer(TabularEngine):
    """Leaves weights in the store where the job says so, and says what a child began with. What
    is at the path of its parent must not change from one stretch of a child to the next."""

    def __init__(self, store: Store, slots: int = 1) -> None:
        super().__init__(score, INFO, slots)
        self.store = store
        self.launched: list[TrialJob] = []
        self.read: dict[int, bytes] = {}

    def launch(self, job: TrialJob) -> None:
        if job.inherit is not None:
            found = self.store.get(f"{job.inherit.ancestors[0].prefix}/weights.safetensors")
            assert self.read.setdefault(job.trial, found) == found
        self.launched.append(job)
        super().launch(job)

    def poll(self, timeout: float | None) -> Sequence[Event]:
        job = self._jobs[0] if self._jobs else None
        events = super().poll(timeout)
        if job is None:
            return events
        [event] = events
        assert isinstance(event, Finished)
        changes: dict[str, Any] = {}
        if job.keep_weights:
            epochs = len(event.result.curve)
            folder = epoch_folder(epochs) if event.result.outcome is Outcome.STOPPED else ""
            for name in ("weights.safetensors", "model.json"):
                key = f"{artifacts.folder(job.prefix, folder)}/{name}"
                self.store.put(key, f"trial {job.trial}, epochs: {epochs}".encode())
            changes |= {"kept_bytes": SIZE, "kept_in": folder}
        if job.inherit is not None:
            nearest = job.inherit.ancestors[0]
            count = None if nearest.morphisms is None else len(nearest.morphisms)
            changes["inherited"] = Inherited(trial=nearest.trial, share=1.0, morphisms=count)
        return (Finished(job.trial, event.result.model_copy(update=changes)),)


def manifest(strategy: str = "Evolution", **spec: Any) -> NASExperiment:
    estimation = {"type": "Morphism", "morphism": {"epochsPerChild": 1, **spec.pop("morphism", {})}}
    base = {
        "space": {"type": "Chain", "chain": CHAIN},
        "strategy": STRATEGIES[strategy],
        "estimation": estimation,
        "budget": {"trials": 30},
    }
    return experiment(**{**base, **spec})


def run(
    experiment: NASExperiment,
    store: Store | None = None,
    inner: Store | None = None,
    slots: int = 1,
) -> tuple[Loop, Trainer]:
    store = store or MemoryStore()
    engine = Trainer(inner or store, slots)
    loop = make_loop(experiment, store, engine=engine, trainer_results=True)
    loop.run()
    return loop, engine


def asked(store: Store) -> list[Asked]:
    return [entry for entry in Journal(store).replay() if isinstance(entry, Asked)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_children_inherit_and_the_journal_says_what(strategy: str) -> None:
    loop, engine = run(manifest(strategy))
    entries = asked(loop.store)
    children = [each for each in entries if each.inherit is not None]
    assert children
    for entry in entries:
        if entry.kind is Kind.SEARCH:
            assert (entry.inherit is not None) == bool(entry.parents)
            assert entry.grant.until == (1 if entry.parents else 4)
        else:
            assert entry.inherit is None
            assert entry.grant.until == 4
    by_number = {each.trial: each for each in entries}
    for entry in children:
        assert entry.inherit is not None
        nearest = entry.inherit.ancestors[0]
        assert nearest.trial == entry.parents[0]
        assert nearest.architecture == by_number[nearest.trial].architecture
    assert any(each.inherit and each.inherit.ancestors[0].morphisms for each in children)
    jobs = {job.trial: job for job in engine.launched if not job.test}
    assert jobs.keys() == {t.number for t in loop.state.told if t.outcome is Outcome.SUCCEEDED}
    assert all(job.inherit == by_number[number].inherit for number, job in jobs.items())
    assert all(job.keep_weights == (job.kind is not Kind.CONTROL) for job in jobs.values())


def killed_at_every_write(experiment: NASExperiment, every: int) -> Loop:
    """Kill a run at each write in turn: it goes on with the same lineage and the same weights.

    Returns the run that nothing disturbed.
    """
    undisturbed, _ = run(experiment)
    lineage = [each.inherit for each in asked(undisturbed.store)]
    for moment in range(1, undisturbed.journal.length + 1, every):
        store = MemoryStore()
        with pytest.raises(Killed):
            run(experiment, Mortal(store, [moment], after=moment % 2 == 0), store)
        again, _ = run(experiment, store)
        assert told(again) == told(undisturbed)
        assert [each.inherit for each in asked(store)] == lineage
        there = artifacts.places_with_weights(store)
        assert there == artifacts.places_with_weights(undisturbed.store)
    return undisturbed


@WRITES
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_killed_at_every_write_it_goes_on_with_the_same_lineage(strategy: str, every: int) -> None:
    killed_at_every_write(manifest(strategy, budget={"trials": 12}), every)


def test_children_climb_a_ladder_of_their_own() -> None:
    """The trainer of these tests asserts that a parent's weights are there at each stretch of its
    child."""
    loop, engine = run(manifest("NASH", estimation=LADDER, budget={"epochs": 60}))
    trials = list(loop.state.of_kind(Kind.SEARCH))
    children = [t for t in trials if t.inherit is not None]
    assert {t.grant.bracket for t in children} == {-1}
    assert {t.grant.bracket for t in trials if t.inherit is None} == {0}
    assert {t.cost.epochs for t in children} == {1, 3}
    promoted = {t.number for t in children if t.cost.epochs == 3}
    stretches = Counter(job.trial for job in engine.launched)
    assert promoted
    assert {n for n, count in stretches.items() if count == 2} >= promoted
    assert loop.state.committed_epochs <= 60
    assert loop.arms[Kind.SEARCH].history.latest


class Places:
    """A listener that notes how many folders of weights a trial has at most."""

    def __init__(self) -> None:
        self.most: Counter[int] = Counter()

    def __getattr__(self, name: str) -> Any:
        return self.look

    def look(self, loop: Loop, *rest: Any) -> None:
        there = Counter(map(artifacts.trial_of, artifacts.places_with_weights(loop.store)))
        self.most |= Counter({n: count for n, count in there.items() if n is not None})


@pytest.mark.parametrize("every", [0, 1])
def test_the_weights_of_a_promoted_parent_stay_as_its_children_read_them(every: int) -> None:
    """Those of an earlier stretch are where they were, until no unfinished child needs them."""
    stopping = {"stopping": {"type": "Median", "every": every, "spare": 0}} if every else {}
    store, seen = MemoryStore(), Places()
    engine = Trainer(store, 4)
    loop = make_loop(
        manifest(
            "Evolution",
            estimation={**LADDER, "asha": {"eta": 2}, **stopping},
            budget={"trials": 40, "parallelism": 4},
        ),
        store,
        engine=engine,
        trainer_results=True,
        listener=seen,
        slots=4,
    )
    loop.run()
    trials = loop.state.trials
    read = Counter(
        (child.inherit.ancestors[0].trial, child.inherit.ancestors[0].prefix)
        for child in trials.values()
        if child.inherit is not None
    )
    parents = Counter(number for number, _ in read)
    assert max(parents.values()) > 1, "no parent had children from two of its stretches"
    for number, place in read:
        assert place in trials[number].kept
    assert max(seen.most.values()) > 1
    finalists = {t.number for t in loop.state.of_kind(Kind.FINAL)}
    assert with_weights(store) == finalists
    kept = sum(size for t in loop.state.of_kind(Kind.SEARCH) for size in t.kept.values())
    assert weights.bytes_of(loop) == (kept, 0)


def test_what_an_earlier_version_kept_on_a_ladder_is_read() -> None:
    """It overwrote a trial's weights at the prefix itself, and its entries name no folder."""
    state = State()
    for text in (
        {"type": "asked", "trial": 0, "kind": "Search", "architecture": {}, "key": "a", "seed": 1}
        | {"grant": {"fidelity": {"epochs": 9}, "until": 1, "final": False}},
        {"type": "rested", "trial": 0, "done": 1, "keptBytes": 5},
    ):
        state.apply(TypeAdapter(Entry).validate_python(text))
    [trial] = state.trials.values()
    assert trial.weights == "trials/00000"
    assert inheritance.needed(state, ()) == {trial.weights}


@WRITES
def test_killed_on_a_ladder_it_goes_on_with_the_same_lineage(every: int) -> None:
    killed_at_every_write(manifest("NASH", estimation=LADDER, budget={"trials": 8}), every)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("slots", [1, 4])
def test_weights_are_deleted_when_no_child_can_need_them(strategy: str, slots: int) -> None:
    most = 0

    class Watcher:
        def __getattr__(self, name: str) -> Any:
            return self.look

        def look(self, loop: Loop, *rest: Any) -> None:
            nonlocal most
            most = max(most, len(with_weights(loop.store)))

    store = MemoryStore()
    engine = Trainer(store, slots)
    budget = {"trials": 60, "parallelism": slots}
    experiment = manifest(strategy, budget=budget)
    loop = make_loop(
        experiment, store, engine=engine, trainer_results=True, listener=Watcher(), slots=slots
    )
    loop.run()
    finalists = {t.number for t in loop.state.of_kind(Kind.FINAL)}
    assert with_weights(store) == finalists
    searched = sum(1 for t in loop.state.of_kind(Kind.SEARCH))
    # the parents to come, those of the children under way, and those that have just ended
    former = LINE if strategy == "NASH" else 0
    assert most <= 4 + former + inheritance.ANCESTORS * slots + 1 < searched
    assert weights.bytes_of(loop) == (SIZE * searched, 0)


def test_what_a_lost_trainer_writes_later_is_deleted_at_the_end() -> None:
    class Late(Trainer):
        def launch(self, job: TrialJob) -> None:
            if job.kind is Kind.FINAL:
                self.store.put("trials/00000/weights.safetensors", b"x")
            super().launch(job)

    store = MemoryStore()
    loop = make_loop(
        manifest(budget={"trials": 6}), store, engine=Late(store), trainer_results=True
    )
    loop.run()
    finalists = {t.number for t in loop.state.of_kind(Kind.FINAL)}
    assert with_weights(store) == finalists


class Guarded(MemoryStore):
    """Refuses to delete weights that the journal, read anew, says a child may yet need."""

    deleted = 0

    def delete(self, key: str) -> None:
        if key.endswith("weights.safetensors"):
            state = State()
            for entry in Journal(self).replay():
                state.apply(entry)
            needed = {
                ancestor.trial
                for child in state.outstanding.values()
                if child.inherit is not None
                for ancestor in child.inherit.ancestors
            }
            trial = int(key.split("/")[1])
            assert trial not in needed, f"trial {trial} has unfinished children"
            self.deleted += self.exists(key)
        super().delete(key)


@pytest.mark.parametrize("strategy", ["Evolution", "LocalSearch"])
@pytest.mark.parametrize("several", [False, True])
def test_what_an_unfinished_child_needs_is_never_deleted(
    strategy: str, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kinase.strategy.evolution import Evolution
    from kinase.strategy.local_search import LocalSearch

    for member in (Evolution, LocalSearch) if several else ():
        real = member.propose

        def propose(self: Any, history: Any, rng: Any, real: Any = real) -> Any:
            found = real(self, history, rng)
            if found is None or not found.parents:
                return found
            others = sorted((self.parents_to_come(history) or set()) - {*found.parents})
            return replace(found, parents=(*others[:2], *found.parents))

        monkeypatch.setattr(member, "propose", propose)
    experiment = manifest(strategy, budget={"trials": 24, "parallelism": 3})
    for moment in (None, 9, 20):
        store = Guarded()
        if moment is not None:
            mortal = Mortal(store, [moment], after=moment % 2 == 0)
            with pytest.raises(Killed):
                run(experiment, mortal, store, slots=3)
        loop, _ = run(experiment, store, store, slots=3)
        assert store.deleted > 0
        assert loop.state.finished is not None
        parents = [e.parents for e in asked(store) if e.inherit is not None]
        assert any(len(each) > 1 for each in parents) == several


def test_all_weights_are_kept_where_that_is_wished() -> None:
    loop, _ = run(manifest(storage={"weights": "all"}))
    searched = {t.number for t in loop.state.of_kind(Kind.SEARCH)}
    assert searched < with_weights(loop.store)


def test_a_strategy_that_names_no_parents_loses_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from kinase.strategy.evolution import Evolution

    kept: list[set[int]] = []
    monkeypatch.setattr(Evolution, "parents_to_come", lambda self, history: None)
    monkeypatch.setattr(asking, "end", _spied(asking.end, kept))
    loop, _ = run(manifest())
    assert kept[0] == {t.number for t in loop.state.of_kind(Kind.SEARCH)}


def _spied(end: Any, kept: list[set[int]]) -> Any:
    def spy(record: Record, reason: str) -> Any:
        kept.append(with_weights(record.store))
        return end(record, reason)

    return spy


def test_what_no_morphisms_reach_is_trained_anew_where_that_is_wished() -> None:
    loop, _ = run(manifest(morphism={"fallback": "scratch"}))
    children = [t for t in loop.state.of_kind(Kind.SEARCH) if t.parents]
    assert {t.fidelity.epochs for t in children} == {1, 4}
    for trial in children:
        assert (trial.inherit is None) == (trial.fidelity.epochs == 4)


@pytest.mark.parametrize("epochs", range(20, 40))
@pytest.mark.parametrize("fallback", ["matching", "scratch"])
def test_epochs_are_never_overspent(epochs: int, fallback: str) -> None:
    experiment = manifest(
        budget={"epochs": epochs, "parallelism": 2}, morphism={"fallback": fallback}
    )
    loop, _ = run(experiment, slots=2)
    assert loop.state.spent.epochs <= epochs
    assert loop.state.spent.epochs == sum(t.fidelity.epochs for t in loop.state.told)
    if fallback == "matching":  # a child takes one epoch; beginners and controls four
        assert epochs - loop.state.spent.epochs < 4


def test_the_report_says_what_was_inherited() -> None:
    loop, _ = run(manifest())
    data = gather(loop)
    summary = dict(data.summary)
    children = [t for t in loop.state.told if t.inherited is not None]
    chains = sum(t.inherited is not None and t.inherited.morphisms is not None for t in children)
    assert summary["Children"].startswith(f"{chains} by morphisms, {len(children) - chains} by")
    assert summary["Weights for children"].endswith("written, 0 B kept")
    texts = {t.inherited for t in data.trials if t.inherited}
    assert any(text.startswith("from trial ") for text in texts)
    assert inherited_text(Inherited(message="gone")) == "no weights to inherit"
    assert inherited_text(Inherited(trial=3, share=1.0, morphisms=0)) == "from trial 3, unchanged"
    assert inherited_text(Inherited(trial=3, share=0.5)) == "50% of the weights of trial 3"


def test_other_journals_are_as_they_were() -> None:
    loop = make_loop(experiment())
    loop.run()
    for key in loop.store.list():
        text = loop.store.get(key).decode()
        assert "inherit" not in text
        assert "learningRate" not in text
        assert "keptBytes" not in text
    plain = {"trial": 0, "kind": "Search", "architecture": {}, "key": "0" * 16, "seed": 1}
    entry = Asked.model_validate({**plain, "fidelity": {"epochs": 1}})
    assert entry.inherit is None
    assert entry.learning_rate == 1
    assert Told.model_validate({"trial": 0, "outcome": "Succeeded"}).inherited is None


def test_only_what_ended_well_and_kept_weights_has_heirs() -> None:
    space = make_space(manifest().spec.space)
    layer = {"op": "conv", "width": 4, "kernel": 3, "stride": 1}
    one, wider = {"layers": [layer]}, {"layers": [{**layer, "width": 8}]}

    def record(number: int, architecture: Any, **changes: Any) -> TrialRecord:
        facts = {"outcome": Outcome.SUCCEEDED, "kept_bytes": 1, "kind": Kind.SEARCH, **changes}
        kind = facts.pop("kind")
        return TrialRecord(number, kind, architecture, str(number), WHOLE, 0, {}, (), "", **facts)

    def asked(*records: TrialRecord, matching: bool = True) -> Any:
        trials = {each.number: each for each in records}
        rule = InheritanceRule(matching=matching)
        frame = Frame((1, 8, 8), 10)
        return inheritance.plan(rule, space, frame, trials, list(trials), wider, seed=3)

    found = asked(record(0, one))
    assert found.ancestors[0].morphisms == (
        {"op": "widen", "seed": 3, "node": "layer0_conv", "to": 8},
    )
    for changes in ({"outcome": Outcome.FAILED}, {"kept_bytes": 0}, {"kind": Kind.CONTROL}):
        assert asked(record(0, one, **changes)) is None
    assert asked(record(0, one, outcome=None, resting=True)) == found
    assert asked(record(0, one, outcome=None)) == found, (
        "it has been promoted, and left some before"
    )
    other = {"layers": [{**layer, "stride": 2}]}
    assert asked(record(0, other)).ancestors[0].morphisms is None
    assert asked(record(0, other), matching=False) is None
    assert (
        asked(record(0, other), record(1, one)).ancestors[0].trial == 1
    )  # the one it can grow from
    heirs = [record(0, one)]
    for number in range(1, 6):
        heirs.append(record(number, one, inherit=asked(heirs[-1])))
    line = asked(heirs[-1]).ancestors
    assert [each.trial for each in line] == [5, 4, 3]


def test_weights_of_the_ancestors_of_unfinished_children_are_needed() -> None:
    loop, _ = run(manifest(budget={"trials": 12}))
    entries = list(Journal(loop.store).replay())
    state = State()
    for entry in entries:
        state.apply(entry)
        if isinstance(entry, Asked) and entry.inherit is not None:
            wanted = {each.prefix for each in entry.inherit.ancestors}
            assert wanted | {"trials/00000"} <= inheritance.needed(state, {0, 99})
