"""Candidates that one process scores in turn: slots, kills, losses, and the same search always."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from kinase.api import Kind, NASExperiment, Outcome, TrialJob
from kinase.api.fidelity import Fidelity, Grant
from kinase.api.slice import Slice
from kinase.api.trial import MOST_ALSO, TrialResult
from kinase.engine import Event, Finished, Lost
from kinase.engine.tabular import TabularEngine
from kinase.experiment import batches
from kinase.experiment.batches import Batch, batch_size, slots_for
from kinase.experiment.dispatch import job_of
from kinase.experiment.journal import Journal
from kinase.experiment.loop import Loop
from kinase.experiment.trial_record import TrialRecord
from kinase.store import Store
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import WRITES, make_loop, told
from tests.unit.experiment.test_loop import Killed, Mortal
from tests.unit.experiment.test_one_shot import KNOWS, LEFT, one_shot, score

ALSO = KNOWS.model_copy(update={"supports": (*KNOWS.supports, "also")})


class Pods(TabularEngine):
    """Notes what is launched, and that no slot is taken twice."""

    def __init__(self, slots: int = 1, batch: int = 3, evaluate: Any = score) -> None:
        super().__init__(evaluate, ALSO, slots, lambda job: LEFT, batch)
        self.launched: list[TrialJob] = []

    def launch(self, job: TrialJob) -> None:
        super().launch(job)
        self.launched.append(job)

    @property
    def sizes(self) -> list[int]:
        """Of the jobs that score candidates."""
        return [1 + len(job.also) for job in self.launched if job.slice is not None]


def run(
    manifest: NASExperiment, engine: TabularEngine, store: Store | None = None, **options: Any
) -> Loop:
    loop = make_loop(manifest, store, engine=engine, info=options.pop("info", ALSO), **options)
    loop.run()
    return loop


def evolution(candidates: int = 20, **spec: Any) -> NASExperiment:
    return one_shot(spec.pop("kind", "Evolution"), candidates, **spec)


# -- slots and counts ----------------------------------------------------------------------


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(
    ("candidates", "slots", "sizes"),
    [
        (13, 1, [3, 3, 3, 3, 1]),
        (24, 2, [3] * 8),
        (11, 1, [2, 2, 2, 2, 2, 1]),  # a quarter of all is 2
        (2, 4, [1, 1]),
    ],
)
def test_as_many_are_asked_as_fill_the_slots_and_no_more_than_are_paid_for(
    candidates: int, slots: int, sizes: list[int], deterministic: bool
) -> None:
    budget = {"epochs": 30, "parallelism": slots}
    engine = Pods(slots)
    state = run(evolution(candidates, budget=budget, deterministic=deterministic), engine).state
    assert state.searched == candidates
    assert engine.sizes == sizes
    assert all(t.outcome is Outcome.SUCCEEDED for t in state.told)


def test_what_is_trained_has_a_slot_of_its_own() -> None:
    engine = Pods(1, batch=10)
    run(evolution(12, kind="Random"), engine)
    alone = [job for job in engine.launched if job.slice is None]
    assert [job.kind for job in alone] == [Kind.SUPERNET, Kind.FINAL, Kind.FINAL]
    assert all(not job.also for job in alone)
    assert engine.sizes == [10, 2]


def test_the_searchs_and_the_controls_candidates_go_together() -> None:
    engine = Pods(1, batch=10)
    state = run(evolution(10, kind="Random"), engine).state
    [job] = [job for job in engine.launched if job.slice is not None]
    assert {member.kind for member in job.members} == {Kind.SEARCH, Kind.CONTROL}
    for member in job.members:
        trial = state.trials[member.trial]
        assert (trial.kind, trial.seed, trial.prefix) == (member.kind, member.seed, member.prefix)
        assert trial.architecture == member.architecture


def test_a_trainer_that_does_not_know_it_gets_one_candidate_at_a_time() -> None:
    engine = Pods(1)
    run(evolution(5), engine, info=KNOWS)
    assert engine.sizes == [1] * 5


def test_the_manifest_and_the_engine_limit_a_batch() -> None:
    def size(given: int | None, most: int, slots: int = 1, **spec: Any) -> int:
        fields = {} if given is None else {"batch": given}
        estimation = {"type": "OneShot", "oneShot": {"epochs": 6, **fields}}
        return batch_size(evolution(estimation=estimation, **spec).spec, ALSO, most, slots)

    assert size(None, MOST_ALSO) == 16
    assert size(4, MOST_ALSO) == 4
    assert size(None, 1) == 1
    assert size(None, MOST_ALSO, slots=25) == 10, "a quarter of 1000"
    few = {"trials": 40, "epochs": 30}
    assert size(None, MOST_ALSO, slots=2, budget=few) == 5
    assert size(None, MOST_ALSO, slots=20, budget=few) == 1
    assert size(None, MOST_ALSO, slots=20, budget=few, kind="Random") == 16
    with pytest.raises(ValueError, match="less than or equal to 100"):
        size(101, MOST_ALSO)


# -- what a batch is -----------------------------------------------------------------------


def trial(number: int, *, scored: bool = True, **fields: Any) -> TrialRecord:
    weights = Slice(prefix="trials/00000") if scored else None
    grant = Grant(fidelity=Fidelity(epochs=4), until=0 if scored else 4)
    architecture = LEFT[0].architecture
    document: dict[str, Any] = {
        "kind": Kind.SEARCH, "architecture": architecture, "key": "", "grant": grant, "seed": 1,
        "resources": {}, "parents": (), "operation": "", "slice": weights,
    }  # fmt: skip
    return TrialRecord(number=number, **{**document, **fields})


def test_jobs_that_differ_in_more_than_the_candidate_stay_apart() -> None:
    loop = make_loop(evolution(), engine=Pods(), info=ALSO)
    first = trial(1)
    batch = Batch([first], [job_of(loop, first)], 3)

    def takes(other: TrialRecord, again: bool = False) -> bool:
        return batch.takes(other, job_of(loop, other), again=again)

    assert takes(trial(2))
    assert takes(trial(2, kind=Kind.CONTROL, seed=5, attempt=3))
    assert not takes(trial(2), again=True)
    assert not takes(trial(2, scored=False))
    assert not takes(trial(2, slice=Slice(prefix="trials/00009")))
    assert not takes(trial(2, learning_rate=0.5))
    other = trial(3, scored=False)
    assert not Batch([other], [job_of(loop, other)], 3).open


def test_a_batch_is_full_by_number_and_by_length(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make_loop(evolution(), engine=Pods(), info=ALSO)

    def filled(most: int) -> int:
        batch = Batch([trial(1)], [job_of(loop, trial(1))], most)
        for number in range(2, 50):
            if not batch.open:
                break
            batch.add(trial(number), job_of(loop, trial(number)))
        assert batch.job.members == tuple(batch.jobs)
        return len(batch.jobs)

    assert filled(7) == 7
    monkeypatch.setattr(batches, "MOST_CHARACTERS", 2000)
    length = len(batches.Candidate.of(job_of(loop, trial(1))).model_dump_json())
    assert filled(50) == 1 + -(-2000 // length)


def test_candidates_that_wait_take_as_many_slots_as_they_need() -> None:
    waiting = [trial(1), trial(2, scored=False), trial(3), trial(4), trial(5)]
    assert [slots_for(waiting, size) for size in (1, 2, 3, 10)] == [5, 3, 3, 2]
    assert slots_for([], 3) == 0


def test_one_that_does_not_fit_waits_for_a_slot() -> None:
    loop = make_loop(evolution(), engine=Pods(1), info=ALSO)
    dispatch = loop._dispatch
    dispatch.begin(trial(1))
    assert dispatch.free, "another candidate"
    dispatch.begin(trial(2, learning_rate=0.5))
    assert [each.number for each in dispatch.waiting] == [2]
    assert not dispatch.free
    dispatch.cancel(dispatch.waiting[0])
    assert dispatch.free
    dispatch.cancel(dispatch.due[0].trials[0])
    assert not dispatch.due


# -- kills and losses ----------------------------------------------------------------------


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("after", [False, True])
@WRITES
def test_killed_at_every_write_it_ends_alike(after: bool, every: int, deterministic: bool) -> None:
    manifest = evolution(13, deterministic=deterministic)
    undisturbed = run(manifest, Pods())
    entries = list(Journal(undisturbed.store).replay())
    for moment in range(1, undisturbed.journal.length + 1, every):
        store = MemoryStore()
        runs = Counter[int]()

        def evaluate(job: TrialJob, runs: Counter[int] = runs) -> dict[str, float]:
            runs[job.trial] += 1
            return score(job)

        with pytest.raises(Killed):
            run(manifest, Pods(evaluate=evaluate), Mortal(store, [moment], after))
        again = run(manifest, Pods(evaluate=evaluate), store)
        assert told(again) == told(undisturbed)
        assert len(list(Journal(store).replay())) == len(entries)
        assert sum(runs.values()) <= len(runs) + 1, "what was told is not scored again"


class Shuffled(Pods):
    """Several pods at once; those of a batch in order, the pods in any order."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._random = random.Random(seed)

    def poll(self, timeout: float | None) -> Sequence[Event]:
        self._jobs.rotate(self._random.randrange(3))
        return super().poll(timeout)


def test_a_deterministic_search_is_the_same_in_whatever_order_pods_end() -> None:
    manifest = evolution(
        52, deterministic=True, budget={"epochs": 30, "parallelism": 3}, control={"share": 0.2}
    )
    found, sizes = set(), set[int]()
    for seed in range(4):
        engine = Shuffled(seed, slots=3, batch=4)
        loop = run(manifest, engine)
        trials = loop.state.trials.values()
        found.add(str([(t.number, t.kind, t.key, t.seed, t.metrics) for t in trials]))
        sizes |= set(engine.sizes)
    assert len(found) == 1
    assert sizes == {4}, "pods are full"


class Lossy(Pods):
    """The process of some batches ends after so many candidates; by the number of the batch."""

    def __init__(self, ends: dict[int, int], crash: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self._ends, self._crash = ends, crash
        self._left: int | None = None

    def launch(self, job: TrialJob) -> None:
        if job.slice is not None:
            self._left = self._ends.get(len(self.sizes))
        super().launch(job)

    def poll(self, timeout: float | None) -> Sequence[Event]:
        if self._left == 0:
            self._left = None
            first, *others = self._jobs.popleft().members
            return [
                Lost(first.trial, "killed", crash=self._crash),
                *(Lost(each.trial, "not begun", crash=False) for each in others),
            ]
        if self._left is not None:
            self._left -= 1
        return super().poll(timeout)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("scored", [0, 1, 2])
def test_of_a_lost_batch_only_those_without_a_result_are_launched_again(
    scored: int, deterministic: bool
) -> None:
    engine = Lossy({1: scored})
    manifest = evolution(6, deterministic=deterministic, kind="Random")
    state = run(manifest, engine).state
    attempts = [t.attempt for t in state.trials.values() if t.slice is not None]
    assert attempts == [1, 1, 1, *([1] * scored), *([2] * (3 - scored))]
    counts = Counter(m.trial for job in engine.launched for m in job.members)
    assert all(counts[t.number] == t.attempt for t in state.trials.values())
    assert state.searched == 6
    if not deterministic:
        assert engine.sizes == [3, 3, 3 - scored], "together"


def test_only_the_candidate_that_ends_its_process_fails() -> None:
    """The fifth one, whatever process it is in."""

    class Fatal(Pods):
        def poll(self, timeout: float | None) -> Sequence[Event]:
            first, *others = self._jobs[0].members
            if first.trial != 5 or first.slice is None:
                return super().poll(timeout)
            self._jobs.popleft()
            return [Lost(5, "it died"), *(Lost(o.trial, "not begun", crash=False) for o in others)]

    state = run(evolution(9, kind="Random"), Fatal(batch=4)).state
    outcomes = {n: t.outcome for n, t in state.trials.items() if t.slice is not None}
    assert [n for n, outcome in outcomes.items() if outcome is Outcome.FAILED] == [5]
    assert sum(outcome is Outcome.SUCCEEDED for outcome in outcomes.values()) == 8


def test_one_that_cannot_be_built_is_told_and_the_others_count() -> None:
    class Picky(Pods):
        def poll(self, timeout: float | None) -> Sequence[Event]:
            [event] = super().poll(timeout)
            if isinstance(event, Finished) and event.trial == 2:
                result = TrialResult(trial=2, attempt=1, outcome=Outcome.INFEASIBLE, message="no")
                return [Finished(2, result)]
            return [event]

    state = run(evolution(6, kind="Random"), Picky()).state
    assert state.trials[2].outcome is Outcome.INFEASIBLE
    scored = [t for t in state.trials.values() if t.slice is not None and t.number != 2]
    assert all(t.outcome is Outcome.SUCCEEDED for t in scored)
    assert len(scored) == 5


def test_the_seconds_of_a_batch_are_charged_once() -> None:
    engine = Pods(2)
    loop = make_loop(evolution(), engine=engine, info=ALSO)
    first = job_of(loop, trial(1))
    engine.launch(first.with_also([job_of(loop, trial(2))]))
    engine.launch(job_of(loop, trial(3)))
    assert list(engine.running()) == [1, 2, 3]
    assert engine.busy == 2
