"""Trials in stretches: granted before they train, paused at the end of a rung, then trained on or
told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from kinase import registry
from kinase.api import Kind, NASExperiment, Outcome, TrialJob
from kinase.api.fidelity import Fidelity, Grant
from kinase.api.trial import Cost, TrialProgress, TrialResult
from kinase.engine import EngineError, Lost
from kinase.engine.tabular import TabularEngine
from kinase.estimation import Decision, Left, Promote, Sample, Wait
from kinase.estimation.asha import ASHA
from kinase.experiment import artifacts, asking, checkpoints, outcome
from kinase.experiment.artifacts import FEW
from kinase.experiment.dispatch import job_of
from kinase.experiment.entries import AnyEntry, Asked, Attempt, Granted, Rested, Told
from kinase.experiment.journal import Journal
from kinase.experiment.loop import Loop
from kinase.experiment.record import Record
from kinase.experiment.recovery import lost
from kinase.experiment.rungs import OVER
from kinase.experiment.trial_record import TrialRecord
from kinase.history import History
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, WRITES, experiment, make_loop, score, told
from tests.unit.experiment.test_loop import Killed, Mortal

LADDERS: dict[str, dict[str, Any]] = {
    "ASHA": {"eta": 3, "least": 1},
    "SuccessiveHalving": {"eta": 3, "least": 1},
    "Hyperband": {"eta": 3, "least": 1},
    "AsyncHyperband": {"eta": 3, "least": 1},
}


def manifest(kind: str = "ASHA", **spec: Any) -> NASExperiment:
    """A search of 9 epochs, with rungs at 1, 3 and 9."""
    field = {"ASHA": "asha"}.get(kind, kind[0].lower() + kind[1:])
    options = {**LADDERS[kind], **spec.pop("options", {})}
    around = {name: spec.pop(name) for name in ("screen", "stopping") if name in spec}
    base: dict[str, Any] = {
        "training": {"epochs": 9},
        "estimation": {"type": kind, field: options, **around},
        "budget": {"trials": 20},
    }
    return experiment(**{**base, **spec})


def learnt(job: TrialJob) -> dict[str, float]:
    """A value that rises with the epochs trained, differently for each architecture."""
    full = score(job.model_copy(update={"fidelity": Fidelity(epochs=1)}))
    until = job.fidelity.epochs if job.until is None else job.until
    proxies = {f"proxy_{name}": full["val_accuracy"] ** 2 for name in job.measure}
    if until == 0:
        return proxies
    return {**full, **proxies, "val_accuracy": full["val_accuracy"] * until / (until + 1)}


class Book:
    """Epochs that were really trained: a stretch from its checkpoint to where it pauses."""

    def __init__(self) -> None:
        self.trained: Counter[int] = Counter()

    def __call__(self, job: TrialJob) -> dict[str, float]:
        until = job.fidelity.epochs if job.until is None else job.until
        self.trained[job.trial] += until - job.done
        return learnt(job)


@WRITES
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", LADDERS)
@pytest.mark.parametrize("strategy", ["Random", "Evolution"])
def test_killed_at_every_write_it_continues_to_the_same_end(
    kind: str, strategy: str, after: bool, every: int
) -> None:
    spec = manifest(kind, strategy={"type": strategy}, budget={"epochs": 70})
    undisturbed = make_loop(spec, evaluate=learnt)
    undisturbed.run()
    entries = list(Journal(undisturbed.store).replay())
    assert any(isinstance(entry, Granted) for entry in entries)
    for moment in range(1 + after % every, undisturbed.journal.length + 1, every):
        store = MemoryStore()
        with pytest.raises(Killed):
            make_loop(spec, Mortal(store, [moment], after), evaluate=learnt).run()
        again = make_loop(spec, store, evaluate=learnt)
        again.run()
        assert told(again) == told(undisturbed), moment
        assert len(list(Journal(store).replay())) == len(entries)


@pytest.mark.parametrize("kind", LADDERS)
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("epochs", range(27, 87, 4))
def test_the_budget_is_exact(kind: str, slots: int, epochs: int) -> None:
    book = Book()
    budget = {"epochs": epochs, "parallelism": slots}
    loop = make_loop(manifest(kind, budget=budget), evaluate=book, slots=slots)
    state = loop.run()
    assert state.committed_epochs == state.spent.epochs == sum(book.trained.values()) <= epochs
    charged = {t.number: t.cost.epochs for t in state.trials.values() if t.cost.epochs}
    assert charged == dict(book.trained)
    assert state.counts[Kind.FINAL] >= 1
    assert not state.outstanding


@pytest.mark.parametrize("kind", ["ASHA", "Hyperband"])
def test_a_screen_before_a_ladder_costs_no_epochs_and_survives_kills(kind: str) -> None:
    spec = manifest(kind, budget={"epochs": 60}, screen={"pool": 3})
    undisturbed = make_loop(spec, evaluate=learnt)
    state = undisturbed.run()
    mine = [t for t in state.trials.values() if t.kind is Kind.SEARCH]
    trained = [t for t in mine if t.cost.epochs]
    left = [t for t in mine if not t.cost.epochs]
    assert len(left) >= 2 * len(trained) - 4
    assert {t.message for t in left} <= {
        "another one of its pool ranks higher",
        "the search is over",
    }
    for number, trial in enumerate(trained[:3]):  # each is the best of its pool
        pool = mine[3 * number : 3 * number + 3]
        assert max(pool, key=learnt_proxy) is trial
    for moment in range(1, undisturbed.journal.length + 1, 7):
        store = MemoryStore()
        with pytest.raises(Killed):
            make_loop(spec, Mortal(store, [moment], True), evaluate=learnt).run()
        again = make_loop(spec, store, evaluate=learnt)
        again.run()
        assert told(again) == told(undisturbed), moment


def learnt_proxy(trial: TrialRecord) -> float:
    """What a candidate's proxy was when it rested before training."""
    return trial.rests[0][1].metrics["proxy_nwot"]


def test_a_promoted_trial_trains_on_from_its_checkpoint() -> None:
    jobs: list[TrialJob] = []

    def evaluate(job: TrialJob) -> dict[str, float]:
        jobs.append(job)
        return learnt(job)

    state = make_loop(manifest(), evaluate=evaluate).run()
    stretches: dict[int, list[tuple[int, int | None, int]]] = {}
    for job in jobs:
        if job.kind in (Kind.SEARCH, Kind.CONTROL):
            stretches.setdefault(job.trial, []).append((job.done, job.until, job.attempt))
    assert set(map(tuple, stretches.values())) == {
        ((0, 1, 1),),
        ((0, 1, 1), (1, 3, 2)),
        ((0, 1, 1), (1, 3, 2), (3, None, 3)),
    }
    assert {job.fidelity.epochs for job in jobs} == {9}  # the schedule's horizon
    whole = [t for t in state.told if t.kind is Kind.SEARCH and t.outcome is Outcome.SUCCEEDED]
    assert whole
    assert {t.cost.epochs for t in whole} == {9}


def test_another_fidelity_trains_from_scratch_in_a_place_of_its_own() -> None:
    options = {"axis": "data", "least": 0.1}
    jobs: list[TrialJob] = []

    def evaluate(job: TrialJob) -> dict[str, float]:
        jobs.append(job)
        return learnt(job)

    state = make_loop(manifest(options=options), evaluate=evaluate).run()
    promoted = next(t for t in state.told if t.restarts == 2)
    assert [(j.prefix, j.done, j.until) for j in jobs if j.trial == promoted.number] == [
        (f"trials/{promoted.number:05d}{restart}", 0, None) for restart in ("", ".1", ".2")
    ]
    assert promoted.cost.epochs == 27
    assert promoted.outcome is Outcome.SUCCEEDED
    assert state.spent.epochs == sum(t.cost.epochs for t in state.told)


def test_when_the_search_ends_what_is_paused_is_told_with_its_value() -> None:
    loop = make_loop(manifest(options={"promote": "soon"}), evaluate=learnt)
    state = loop.run()
    entries = list(Journal(loop.store).replay())
    told = {entry.trial: entry for entry in entries if isinstance(entry, Told)}
    rests = {entry.trial: entry for entry in entries if isinstance(entry, Rested)}
    stopped = [t for t in state.told if t.outcome is Outcome.STOPPED]
    assert stopped
    for trial in stopped:
        assert told[trial.number].metrics == rests[trial.number].metrics
        assert trial.message in ("the search is over", "it can no longer be promoted")
    assert "the search is over" in {trial.message for trial in stopped}
    best = max(
        (t for t in state.told if t.kind in (Kind.SEARCH, Kind.CONTROL)),
        key=lambda t: (t.rung, t.metrics["val_accuracy"]),
    )
    assert loop.best is best
    assert next(t.parents[0] for t in state.of_kind(Kind.FINAL)) == best.number


def test_a_strategy_is_told_once_and_sees_the_latest_value() -> None:
    loop = make_loop(manifest(strategy={"type": "Evolution"}), evaluate=learnt)
    observed: Counter[int] = Counter()
    strategy = loop.arms[Kind.SEARCH].strategy
    observe = strategy.observe

    def count(trial: Any, history: Any) -> None:
        observed[trial.number] += 1
        observe(trial, history)

    strategy.observe = count  # type: ignore[method-assign]
    loop.run()
    history = loop.arms[Kind.SEARCH].history
    assert set(observed.values()) == {1}
    assert len(observed) == len(history.asked)
    for rung in range(3):
        there = history.at(rung)
        assert there
        top = [t for t in there if t.rung == rung]
        assert [t.losses[0] for t in top] == sorted(t.losses[0] for t in top)


def test_a_value_that_is_lost_at_a_higher_rung_ranks_last() -> None:
    def evaluate(job: TrialJob) -> dict[str, float]:
        diverged = job.until == 3 and job.trial % 2 == 0
        return {} if diverged else learnt(job)

    loop = make_loop(manifest(budget={"trials": 30}), evaluate=evaluate)
    state = loop.run()
    lost = [t for t in state.told if not t.metrics]
    assert lost
    assert all(t.number % 2 == 0 for t in lost)
    assert loop.best is not None
    assert loop.best.metrics
    finalists = {t.parents[0] for t in state.of_kind(Kind.FINAL)}
    assert not finalists & {t.number for t in lost}


class Meddling(ASHA):
    """Promotes a trial that runs."""

    def next(self, history: History, left: Left) -> Decision:
        if len(history.asked) == 2:
            return Promote(history.asked[-1].number, self.ladder[1])
        return super().next(history, left)


class Lazy(ASHA):
    """Waits for nothing."""

    def next(self, history: History, left: Left) -> Decision:
        return Wait()


class Generous(ASHA):
    """Grants what is done."""

    def next(self, history: History, left: Left) -> Decision:
        for trial in history.resting():
            return Promote(trial.number, trial.grant)
        return Sample(self.ladder[0])


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Meddling, "it decides about trial 1, which runs and does not rest"),
        (Lazy, "it waits while no trial runs"),
        (
            Generous,
            "it grants trial 0 training up to epoch 1, and epoch 1 is done; a promotion must",
        ),
    ],
)
def test_a_decision_that_cannot_be_done_is_refused(cls: type[ASHA], said: str) -> None:
    loop = make_loop(manifest(budget={"trials": 9, "parallelism": 3}), evaluate=learnt, slots=3)
    arm = loop.arms[Kind.SEARCH]
    arm.estimator = cls(loop.estimator.options, loop.setting)
    with pytest.raises(EngineError, match=f"the estimator ASHA failed after .*: .*{said}"):
        loop.run()
    assert "Traceback" in next(loop.store.get(key).decode() for key in loop.store.list("errors/"))


def asked_loop(grant: Grant) -> tuple[Loop, Any]:
    loop = make_loop(manifest(), evaluate=learnt)
    loop._append(
        Asked(trial=0, kind=Kind.SEARCH, architecture={"layers": []}, key="0", grant=grant, seed=1)
    )
    return loop, loop.state.trials[0]


def stopped_at(epochs: int) -> TrialResult:
    points = [
        {"epoch": e + 1, "metrics": {"val_accuracy": 0.5}, "deviceSeconds": 0.0}
        for e in range(epochs)
    ]
    return TrialResult.model_validate(
        {
            "trial": 0,
            "attempt": 1,
            "outcome": "Stopped",
            "metrics": {"val_accuracy": 0.5},
            "curve": points,
            "cost": {"epochs": epochs},
        }
    )


@pytest.mark.parametrize(
    ("until", "every", "done", "kind"),
    [(3, 0, 3, Rested), (3, 0, 2, Told), (6, 2, 2, Rested), (6, 2, 1, Told), (0, 0, 0, Rested)],
)
def test_a_stopped_result_is_a_pause_if_it_came_to_the_end_of_its_stretch(
    until: int, every: int, done: int, kind: type
) -> None:
    grant = Grant(fidelity=Fidelity(epochs=9), until=until, every=every, final=False)
    loop, trial = asked_loop(grant)
    assert job_of(loop, trial).until == (every or until)
    entry = outcome.of_result(loop, trial, stopped_at(done))
    assert type(entry) is kind
    loop._append(entry)
    assert loop.state.spent == Cost(epochs=done)
    # a look changes nothing of what the grant pays for, an end gives back what was not begun
    assert loop.state.committed_epochs == (until if kind is Rested else done)


@pytest.mark.parametrize(
    ("epochs", "outcome_", "said"),
    [
        (3, Outcome.STOPPED, ""),
        (9, Outcome.SUCCEEDED, "the trainer trained 9 epochs and was to pause after 3: a trainer"),
        (2, Outcome.STOPPED, "the trainer stopped with 2 epochs in its curve and was to train up"),
        (0, Outcome.STOPPED, "the trainer stopped with 0 epochs in its curve and was to train up"),
    ],
)
def test_a_trainer_that_does_not_pause_as_its_job_says_is_named_and_charged(
    epochs: int, outcome_: Outcome, said: str
) -> None:
    loop, trial = asked_loop(Grant(fidelity=Fidelity(epochs=9), until=3, final=False))
    update = {"outcome": outcome_, "cost": Cost(device_seconds=7.0), "message": "a remark"}
    result = stopped_at(epochs).model_copy(update=update)
    loop._append(outcome.of_result(loop, trial, result))
    assert trial.said.startswith("; ".join(filter(None, ("a remark", said))))
    # a trainer that says nothing of its cost does not train for free
    assert loop.state.spent == Cost(epochs=epochs, device_seconds=7.0)


def test_a_trial_that_is_asked_to_stop_is_not_blamed_for_it() -> None:
    loop, trial = asked_loop(Grant(fidelity=Fidelity(epochs=9), until=3, final=False))
    entry = outcome.of_result(loop, trial, stopped_at(2), stopped=True)
    assert (type(entry), entry.message) == (Told, "")


def test_what_a_trainer_remarks_at_a_rest_is_kept() -> None:
    loop, trial = asked_loop(Grant(fidelity=Fidelity(epochs=9), until=3, final=False))
    result = stopped_at(3).model_copy(update={"message": "proxy nwot is not finite"})
    loop._append(outcome.of_result(loop, trial, result))
    assert trial.said == "proxy nwot is not finite"
    loop._append(*asking.end(loop, "over"))
    assert trial.said == f"{OVER}; proxy nwot is not finite"


@pytest.mark.parametrize(
    ("metrics", "kind"), [({"val_accuracy": 0.5}, Rested), ({"proxy_nwot": 1.0}, Told), ({}, Told)]
)
def test_a_training_that_diverged_ends_though_its_proxies_were_measured(
    metrics: dict[str, float], kind: type
) -> None:
    loop, trial = asked_loop(Grant(fidelity=Fidelity(epochs=9), until=3, final=False))
    result = stopped_at(2).model_copy(update={"outcome": Outcome.SUCCEEDED, "metrics": metrics})
    assert type(outcome.of_result(loop, trial, result)) is kind


def rested_at(done: int) -> tuple[Loop, TrialRecord]:
    """A trial that is trained on from a rest."""
    grant = Grant(fidelity=Fidelity(epochs=9), until=done, final=False)
    loop, trial = asked_loop(grant)
    loop._append(outcome.of_result(loop, trial, stopped_at(done)))
    further = grant.model_copy(update={"until": 9, "rung": 1, "final": True})
    loop._append(Granted(trial=0, grant=further, attempt=2))
    return loop, trial


def test_epochs_stay_charged_if_their_ledger_is_gone() -> None:
    loop, trial = rested_at(3)
    gone = Lost(0, "the checkpoint is gone", crash=False, checkpoint_gone=True)
    entry = outcome.of_loss(loop, trial, gone, TrialProgress(), stopped=False)
    assert isinstance(entry, Attempt)
    assert (entry.begun, entry.done, entry.crash) == (3, 0, False)
    loop._append(entry)
    assert loop.state.committed_epochs == 3 + 9
    end = outcome.of_progress(loop, trial, TrialProgress(), "killed")
    assert end.cost.epochs == 3


@pytest.mark.parametrize("held", [1, 2, 4])
def test_a_trial_that_was_lost_at_a_look_still_rests_there(held: int) -> None:
    """A kill between a checkpoint and its result must not skip the decision."""
    grant = Grant(fidelity=Fidelity(epochs=9), until=9, every=2)
    loop, trial = asked_loop(grant)
    found = TrialProgress(attempt=1, epochs_begun=held, epochs_done=held)
    loop._append(outcome.again(loop, trial, found, "killed", crash=False))
    job = job_of(loop, trial)
    assert (job.done, job.until) == (min(held, 2), 2)
    entry = outcome.of_result(loop, trial, stopped_at(2))
    assert isinstance(entry, Rested)
    loop._append(entry, Granted(trial=0, grant=grant, attempt=3))
    assert job_of(loop, trial).until == 4
    # a checkpoint that is gone later takes back no look
    loop._append(outcome.again(loop, trial, TrialProgress(), "gone", crash=False))
    assert (job_of(loop, trial).done, job_of(loop, trial).until) == (0, 4)


@pytest.mark.parametrize(
    ("trained", "entry"), [(9, Told), (2, Attempt), (None, Attempt)], ids=["whole", "part", "none"]
)
def test_what_a_process_left_before_it_was_lost_counts(trained: int | None, entry: type) -> None:
    """Its checkpoint may be deleted by then, and the training would begin again."""
    loop, trial = asked_loop(Grant(fidelity=Fidelity(epochs=9), until=9))
    if trained is not None:
        result = stopped_at(trained)
        if trained == 9:
            result = result.model_copy(update={"outcome": Outcome.SUCCEEDED})
        loop.store.put(
            f"{trial.prefix}/result.json", result.model_dump_json(by_alias=True).encode()
        )
    gone = Lost(0, "the worker died", crash=True)
    assert type(lost(loop, trial, gone, results=True, stopped=False)) is entry
    assert type(lost(loop, trial, gone, results=False, stopped=False)) is Attempt


def test_a_trainer_that_misses_epochs_which_its_ledger_holds_is_not_asked_forever() -> None:
    loop, trial = rested_at(3)
    gone = Lost(0, "the checkpoint is gone", crash=False, checkpoint_gone=True)
    ledger = TrialProgress(attempt=1, epochs_begun=3, epochs_done=3)
    for _ in range(loop.spec.trial_template.max_retries + 1):
        entry = outcome.of_loss(loop, trial, gone, ledger, stopped=False)
        loop._append(entry)
    assert isinstance(entry, Told)
    assert entry.metrics, "its value at its last rest counts"


def test_entries_of_before_there_were_grants_are_read() -> None:
    plain = {"trial": 0, "kind": "Search", "architecture": {}, "key": "0" * 16, "seed": 1}
    entry = Asked.model_validate({**plain, "fidelity": {"epochs": 7}})
    assert entry.grant == Grant(fidelity=Fidelity(epochs=7), until=7)
    with pytest.raises(ValueError, match=r"until is 8; it must be at most fidelity.epochs, 7"):
        Grant(fidelity=Fidelity(epochs=7), until=8)


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_the_controls_bracket_is_as_large_as_its_share_pays_for(share: float) -> None:
    """It is promoted as a whole one would be, and does not end within its first rung."""
    spec = manifest(
        "SuccessiveHalving",
        training={"epochs": 27},
        budget={"epochs": 400, "parallelism": 3},
        control={"share": share},
    )
    loop = make_loop(spec, engine=TabularEngine(learnt, INFO, 3))
    loop.run()
    history = loop.arms[Kind.CONTROL].history
    first, second, third, _ = (history.tally(rung, 0).entered for rung in range(4))
    assert 9 <= first < 27
    assert (second, third) == (first // 3, first // 9)


def test_the_control_has_rungs_of_its_own() -> None:
    spec = manifest(budget={"trials": 60}, control={"share": 0.3})
    loop = make_loop(spec, engine=TabularEngine(learnt, INFO, 3))
    state = loop.run()
    for kind in (Kind.SEARCH, Kind.CONTROL):
        mine = [t for t in state.trials.values() if t.kind is kind]
        reached = [sum(t.rung >= rung for t in mine) for rung in range(3)]
        assert reached[0] == len(mine)
        assert reached[1] >= len(mine) // 3 - 1 > 0
        assert reached[2] > 0
    assert state.counts[Kind.CONTROL] == 18


@pytest.mark.parametrize("kind", ["ASHA", "AsyncHyperband"])
@pytest.mark.parametrize("budget", [{"trials": 60}, {"epochs": 200}])
def test_checkpoints_are_kept_of_those_that_may_still_be_promoted(
    kind: str, budget: dict[str, int]
) -> None:
    """Stopping the others changes nothing else, and bounds what the store holds."""

    class Keeping(registry.load("kinase.estimators", kind)):  # type: ignore[misc]
        def hopeless(self, history: History, left: Left) -> None:
            return None

    kept: list[tuple[int, int]] = []

    def evaluate(job: TrialJob) -> dict[str, float]:
        kept.append((loop.state.resting, len(loop.state.trials)))
        return learnt(job)

    courses = []
    for cls in (None, Keeping):
        loop = make_loop(manifest(kind, budget=budget), evaluate=evaluate)
        for arm in loop.arms.values():
            if cls is not None:
                arm.estimator = cls(arm.estimator.options, loop.setting)
        kept.clear()
        state = loop.run()
        courses.append(
            [
                (t.number, t.key, t.kind, t.rung, t.metrics, t.cost.epochs)
                for t in state.trials.values()
            ]
        )
        if cls is None:
            most, total = max(kept)[0], state.searched
            assert any(t.message == "it can no longer be promoted" for t in state.told)
    assert courses[0] == courses[1]
    assert most < max(kept)[0]
    if "trials" in budget:  # of each of the two arms, a third of a rung's trials
        assert most <= 2 * sum(total // 3 ** (rung + 1) for rung in range(2))


# -- checkpoints ---------------------------------------------------------------------------


class Counting(MemoryStore):
    """Counts listings; trials leave checkpoints in it, as one that was killed does."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: Counter[str] = Counter()

    def list(self, prefix: str = "") -> Iterator[str]:
        self.listed[prefix] += 1
        return super().list(prefix)

    def trained(self, job: TrialJob) -> dict[str, float]:
        if job.until != 0:
            self.put(f"{job.prefix}/checkpoint/last", b"1")
        return learnt(job)

    @property
    def checkpoints(self) -> set[str]:
        keys = [key for key in super().list("trials/") if "/checkpoint/" in key]
        return {key.partition("/checkpoint/")[0] for key in keys}


@pytest.mark.parametrize("keeps", ["running", "all"])
def test_beginning_again_at_another_fidelity_frees_the_checkpoint_before(keeps: str) -> None:
    store, wrong = Counting(), set[str]()

    class Watcher:
        def __getattr__(self, name: str) -> Any:
            return self.look

        def look(self, loop: Loop, *rest: Any) -> None:
            trials = loop.state.trials.values()
            former = {artifacts.prefix(t.number, n) for t in trials for n in range(t.restarts)}
            wrong.update(former & store.checkpoints)

    storage = {"uri": "file://unused", "checkpoints": keeps}
    loop = make_loop(
        manifest(options={"axis": "data", "least": 0.1}, storage=storage),
        store,
        evaluate=store.trained,
        trainer_results=True,
        listener=Watcher(),
    )
    loop.run()
    assert any(t.restarts for t in loop.state.told)
    assert bool(wrong) is bool(store.checkpoints) is (keeps == "all")


@pytest.mark.parametrize("trials", [8, 40])
def test_trials_that_end_together_are_looked_for_in_one_listing(
    trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that rest do when the search is over."""
    store, real = Counting(), checkpoints.free
    listed: dict[int, int] = {}

    def free(record: Record, entries: list[AnyEntry]) -> None:
        before = store.listed.total()
        real(record, entries)
        told = [each for each in entries if isinstance(each, Told)]
        if any(each.message == OVER for each in told):
            listed[len(told)] = store.listed.total() - before

    monkeypatch.setattr(checkpoints, "free", free)
    loop = make_loop(
        manifest(options={"promote": "soon"}, budget={"trials": trials}),
        store,
        evaluate=store.trained,
        trainer_results=True,
    )
    loop.run()
    [(told, count)] = listed.items()
    assert (told > FEW) is (trials > 8)
    assert count == (1 if told > FEW else told)
    assert not store.checkpoints


def test_a_trial_that_was_never_trained_leaves_no_checkpoint_to_look_for() -> None:
    store = Counting()
    screen = {"proxies": ["synflow"], "pool": 4}
    loop = make_loop(
        manifest(screen=screen, budget={"trials": 12}),
        store,
        evaluate=store.trained,
        trainer_results=True,
    )
    loop.run()
    untrained = [t for t in loop.state.told if not t.cost.epochs]
    assert untrained
    assert not any(f"{t.prefix}/" in store.listed for t in untrained)
