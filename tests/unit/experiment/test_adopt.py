"""The loop on an engine whose trials go on without it, as pods do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kinase.api import Kind, Outcome, TaskInfo, TrialJob, TrialResult
from kinase.api.trial import Cost, TrialProgress
from kinase.engine import Engine, Event, Finished, Lost
from kinase.experiment import outcome as module
from kinase.experiment.loop import Loop
from kinase.experiment.state import SEARCHING
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import (
    INFO,
    WRITES,
    experiment,
    make_loop,
    score,
    told,
)
from tests.unit.experiment.test_loop import Killed, Mortal

SECONDS = 10.0
"""Device seconds of an epoch."""


class Run:
    """An attempt that is under way, or over."""

    def __init__(self, job: TrialJob) -> None:
        self.job = job
        self.stop = False
        self.epochs = 0
        self.end: Event | None = None


class Outside:
    """Where trials run whatever becomes of the loop. An epoch passes at a step."""

    def __init__(
        self,
        evicted: Callable[[TrialJob], bool] = lambda job: False,
        polite: bool = False,
        most: int = 1000,
    ) -> None:
        """
        Args:
            evicted: whether an attempt is lost in the middle of its second epoch.
            polite: whether a trial that is stopped leaves a result that says so.
            most: attempts after which the cluster gives up a trial that is lost.
        """
        self._most = most
        self.store = MemoryStore()
        self.launches: Counter[tuple[int, int, bool]] = Counter()
        """Trial, attempt, and whether it is a test."""
        self.trained: Counter[int] = Counter()
        """Epochs begun, by trial."""
        self.most = 0
        """Attempts that ran at once."""
        self.runs: dict[tuple[int, bool], Run] = {}
        self._evicted, self._polite = evicted, polite

    def begin(self, job: TrialJob) -> None:
        held = self.runs.get((job.trial, job.test))
        if held is not None and held.job.attempt >= job.attempt:
            return  # it is there already
        assert held is None or held.end is not None, "two attempts of a trial at once"
        self.launches[job.trial, job.attempt, job.test] += 1
        self.runs[job.trial, job.test] = Run(job)
        self.most = max(self.most, sum(run.end is None for run in self.runs.values()))

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            for run in self.runs.values():
                if run.end is None:
                    self._step(run)

    def _step(self, run: Run) -> None:
        job = run.job
        if job.test:
            assert self.store.exists(f"{job.prefix}/result.json"), "no network was kept"
            run.epochs += 1
            if run.stop:
                run.end = Lost(job.trial, "stopped", crash=False)
            elif run.epochs == 3:
                run.end = self._result(job, Outcome.SUCCEEDED, {"test_accuracy": 0.5})
            return
        place = f"{job.prefix}/progress.json"
        progress = TrialProgress()
        if self.store.exists(place):
            progress = TrialProgress.model_validate_json(self.store.get(place))
        if run.stop and run.epochs:
            if self._polite:
                run.end = self._result(job, Outcome.STOPPED, progress.metrics, progress.cost)
            else:
                run.end = Lost(job.trial, "stopped", crash=False)
            return
        run.epochs += 1
        self.trained[job.trial] += 1
        begun = {
            "attempt": job.attempt,
            "epochs_begun": progress.epochs_begun + 1,
            "samples": progress.samples + 1000,
            "device_seconds": progress.device_seconds + SECONDS,
        }
        lost = self._evicted(job) and run.epochs == 2
        if not lost:
            begun |= {"epochs_done": progress.epochs_done + 1, "metrics": score(job)}
        progress = progress.model_copy(update=begun)
        self.store.put(place, progress.model_dump_json(by_alias=True).encode())
        if lost:
            over = job.attempt >= self._most
            run.end = Lost(job.trial, "evicted", crash=False, given_up=over)
        elif progress.epochs_done >= job.fidelity.epochs:
            run.end = self._result(job, Outcome.SUCCEEDED, progress.metrics, progress.cost)

    def _result(
        self, job: TrialJob, outcome: Outcome, metrics: dict[str, float], cost: Cost | None = None
    ) -> Finished:
        result = TrialResult(
            trial=job.trial,
            attempt=job.attempt,
            outcome=outcome,
            metrics=metrics,
            cost=cost or Cost(),
        )
        if not job.test:
            text = result.model_dump_json(by_alias=True).encode()
            self.store.put(f"{job.prefix}/result.json", text)
        return Finished(job.trial, result)


class Window(Engine):
    """One process's sight of what runs outside."""

    slots = 1000

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._wanted: dict[int, bool] = {}

    def describe(self, task: Any, training: Any, space: Any = None) -> TaskInfo:
        return INFO

    def launch(self, job: TrialJob) -> None:
        self._outside.begin(job)
        self._wanted[job.trial] = job.test

    def adopt(self, job: TrialJob) -> bool:
        if (job.trial, job.test) not in self._outside.runs:
            return False
        self.launch(job)
        return True

    def running(self) -> dict[int, float]:
        found = self._outside.runs
        return {n: found[n, test].epochs * SECONDS for n, test in self._wanted.items()}

    def poll(self, timeout: float | None) -> Sequence[Event]:
        self._outside.step()
        ended: list[Event] = []
        for number, test in list(self._wanted.items()):
            end = self._outside.runs[number, test].end
            if end is not None:
                ended.append(end)
                del self._wanted[number]
        return ended

    def stop(self, trial: int) -> None:
        self._outside.runs[trial, self._wanted[trial]].stop = True

    def close(self) -> None:
        self._wanted.clear()


class Listener:
    """Calls a function at every turn of the loop."""

    def __init__(self, tick: Callable[[Loop], None]) -> None:
        self._tick = tick

    def started(self, loop: Loop) -> None: ...

    def progressed(self, loop: Loop, trial: int, point: Any) -> None: ...

    def told(self, loop: Loop, trial: Any) -> None: ...

    rested = told

    def tick(self, loop: Loop) -> None:
        self._tick(loop)


def loop_of(outside: Outside, manifest: Any, store: Any = None, **options: Any) -> Loop:
    return make_loop(
        manifest,
        outside.store if store is None else store,
        engine=Window(outside),
        trainer_results=True,
        **options,
    )


def every_third(job: TrialJob) -> bool:
    """Evict the first attempt of some trials, and the second of a few."""
    return (job.trial % 3 == 1 and job.attempt == 1) or (job.trial % 9 == 1 and job.attempt == 2)


def check_the_books(loop: Loop, outside: Outside) -> None:
    """Nothing was run twice, and what was trained is what was charged."""
    assert max(outside.launches.values()) == 1
    for trial in loop.state.trials.values():
        assert trial.outcome is not None
        assert trial.cost.epochs == outside.trained[trial.number], trial.number
        attempts = [a for n, a, test in outside.launches if n == trial.number and not test]
        assert sorted(attempts) == list(range(1, len(attempts) + 1)), "no number is left out"
    assert loop.state.spent.epochs == sum(outside.trained.values())
    limit = loop.spec.budget.epochs
    if limit is not None:
        assert loop.state.spent.epochs <= limit
    assert loop.state.finished is not None
    winner = loop.state.finished.winner
    assert {key[0] for key in outside.launches if key[2]} == {winner}


BUDGETS = [{"trials": 9}, {"epochs": 40}]


@WRITES
@pytest.mark.parametrize("budget", BUDGETS, ids=["trials", "epochs"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("parallelism", [1, 4])
@pytest.mark.parametrize("strategy", ["Random", "Evolution"])
def test_killed_at_every_write_while_trials_go_on_it_comes_to_the_same_end(
    strategy: str, parallelism: int, after: bool, budget: dict[str, int], every: int
) -> None:
    manifest = experiment(
        strategy={"type": strategy}, budget={**budget, "parallelism": parallelism}
    )
    undisturbed = loop_of(world := Outside(every_third), manifest)
    undisturbed.run()
    check_the_books(undisturbed, world)
    writes = [0]
    counting = Outside(every_third)
    loop_of(counting, manifest, Mortal(counting.store, writes, after)).run()
    for moment in range(1 + after % every, 1 - writes[0], every):
        outside = Outside(every_third)
        with pytest.raises(Killed):
            loop_of(outside, manifest, Mortal(outside.store, [moment], after)).run()
        outside.step(moment % 6)  # meanwhile some of them end
        again = loop_of(outside, manifest)
        again.run()
        check_the_books(again, outside)
        # with several at once, what evolution knows when it is asked is a matter of time; so is
        # what the epochs pay for
        if parallelism == 1 or (strategy == "Random" and "trials" in budget):
            assert told(again) == told(undisturbed), moment
            assert again.state.finished is not None
            assert undisturbed.state.finished is not None
            assert again.state.finished.winner == undisturbed.state.finished.winner


@pytest.mark.parametrize("parallelism", [1, 4])
def test_killed_again_and_again_it_comes_to_an_end(parallelism: int) -> None:
    manifest = experiment(
        strategy={"type": "Random"}, budget={"trials": 12, "parallelism": parallelism}
    )
    undisturbed = loop_of(Outside(every_third), manifest)
    undisturbed.run()
    outside = Outside(every_third)
    lives = 0
    while True:
        lives += 1
        loop = loop_of(outside, manifest, Mortal(outside.store, [1 + lives % 3], lives % 2 == 0))
        try:
            loop.run()
            break
        except Killed:
            outside.step(lives % 4)
    assert lives > 10
    check_the_books(loop, outside)
    assert told(loop) == told(undisturbed)


@pytest.mark.parametrize("polite", [False, True], ids=["killed", "with a result"])
@pytest.mark.parametrize("parallelism", [1, 4])
def test_interrupted_trials_go_on_from_their_checkpoint(parallelism: int, polite: bool) -> None:
    manifest = experiment(
        strategy={"type": "Random"},
        training={"epochs": 5},
        estimation={"type": "Full"},
        budget={"trials": 9, "parallelism": parallelism},
    )
    undisturbed = loop_of(Outside(), manifest)
    undisturbed.run()
    for turn in range(1, 60, 3):
        outside = Outside(polite=polite)
        turns = [0]

        def tick(loop: Loop, turn: int = turn, turns: list[int] = turns) -> None:
            turns[0] += 1
            if turns[0] == turn:
                loop.interrupt()

        first = loop_of(outside, manifest, listener=Listener(tick))
        first.run()
        if first.state.finished is not None:
            break
        assert not first.engine.running()
        assert all(run.end is not None for run in outside.runs.values()), "everything stands"
        again = loop_of(outside, manifest)
        again.run()
        check_the_books(again, outside)
        assert told(again) == told(undisturbed), turn
        assert all(t.outcome is Outcome.SUCCEEDED for t in again.state.trials.values())
    else:
        pytest.fail("the search was longer than the test")


def test_a_raised_budget_and_more_parallelism_count_from_the_next_turn() -> None:
    outside = Outside()
    narrow = experiment(budget={"trials": 6, "parallelism": 1})
    wide = experiment(budget={"trials": 30, "parallelism": 5})
    before: list[int] = []

    def tick(loop: Loop) -> None:
        if not before and loop.state.searched >= 4:
            before.append(outside.most)
            loop.update(wide)

    loop = loop_of(outside, narrow, listener=Listener(tick))
    state = loop.run()
    assert before == [1]
    assert outside.most == 5
    assert state.searched == 30
    assert state.ended == "30 trials were run"
    check_the_books(loop, outside)


def test_a_budget_of_epochs_that_is_raised_is_spent_and_kept() -> None:
    outside = Outside(every_third)
    manifest = experiment(budget={"epochs": 20, "parallelism": 2})
    more = experiment(budget={"epochs": 60, "parallelism": 2})

    def tick(loop: Loop) -> None:
        if loop.state.spent.epochs >= 6:
            loop.update(more)

    loop = loop_of(outside, manifest, listener=Listener(tick))
    state = loop.run()
    assert 20 < state.spent.epochs <= 60
    check_the_books(loop, outside)


def test_another_attempt_does_not_spend_what_the_finalists_need() -> None:
    """Whenever it is that attempts are lost, and whatever is left then."""
    for lost in range(12):
        for epochs in range(12 + lost % 3, 30, 3):
            outside = Outside(lambda job, lost=lost: job.trial >= lost and job.attempt == 1)  # type: ignore[misc]
            manifest = experiment(budget={"epochs": epochs, "parallelism": 1 + lost % 3})
            loop = loop_of(outside, manifest)
            state = loop.run()
            assert state.spent.epochs == sum(outside.trained.values()) <= epochs
            assert state.counts[Kind.FINAL] >= 1


def test_a_trial_that_is_lost_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evictions do not count as crashes, yet they are not borne for ever."""
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 5)
    outside = Outside(lambda job: job.trial == 1)
    loop = loop_of(outside, experiment(budget={"trials": 3}, estimation={"type": "Full"}))
    state = loop.run()
    assert state.trials[1].outcome is Outcome.SUCCEEDED, "each attempt went on from the last"
    outside = Outside(lambda job: job.trial == 1)
    spec = {"training": {"epochs": 20}, "estimation": {"type": "Full"}}
    loop = loop_of(outside, experiment(budget={"trials": 3}, **spec))
    trial = loop.run().trials[1]
    assert (trial.outcome, trial.attempt, trial.crashes) == (Outcome.FAILED, 5, 0)
    assert trial.message == "evicted"
    check_the_books(loop, outside)
    outside = Outside(lambda job: job.trial == 1, most=3)
    loop = loop_of(outside, experiment(budget={"trials": 3}, **spec))
    trial = loop.run().trials[1]
    assert (trial.outcome, trial.attempt, trial.crashes) == (Outcome.FAILED, 3, 0)
    check_the_books(loop, outside)


def test_a_finalist_that_left_no_network_does_not_win() -> None:
    outside = Outside(lambda job: job.kind is Kind.FINAL and job.trial % 2 == 1)
    loop = loop_of(outside, experiment(budget={"epochs": 20}))
    state = loop.run()
    outcomes = {t.outcome: t for t in state.of_kind(Kind.FINAL)}
    assert set(outcomes) == {Outcome.SUCCEEDED, Outcome.STOPPED}
    stopped = outcomes[Outcome.STOPPED]
    assert stopped.message == "the epochs left do not pay for another attempt"
    assert state.finished is not None
    assert state.finished.winner == outcomes[Outcome.SUCCEEDED].number
    nobody = loop_of(Outside(lambda job: job.kind is Kind.FINAL), experiment(budget={"epochs": 20}))
    state = nobody.run()
    assert state.finished is not None
    assert state.finished.winner is None
    assert "no trial gave a network" in state.finished.message


@pytest.mark.parametrize("polite", [False, True], ids=["killed", "with a result"])
def test_what_the_device_budget_stops_is_told_as_stopped(polite: bool) -> None:
    outside = Outside(polite=polite)
    hours = 12 * SECONDS / 3600
    manifest = experiment(
        strategy={"type": "Random"},
        training={"epochs": 30},
        estimation={"type": "Full"},
        finalists={"count": 1, "epochs": 3},
        budget={"deviceHours": hours, "parallelism": 3},
    )
    loop = loop_of(outside, manifest)
    state = loop.run()
    searched = [t for t in state.trials.values() if t.kind in SEARCHING]
    assert {t.outcome for t in searched} == {Outcome.STOPPED}
    assert all(t.metrics for t in searched), "what they measured counts"
    assert all(attempt == 1 for _, attempt, _ in outside.launches)
    [finalist] = state.of_kind(Kind.FINAL)
    assert finalist.outcome is Outcome.SUCCEEDED, "a finalist is not stopped by the budget"
    assert state.finished is not None
    assert state.finished.winner == finalist.number
    check_the_books(loop, outside)


def test_an_interruption_of_the_winner_s_test_leaves_it_to_the_next_run() -> None:
    manifest = experiment(budget={"trials": 5})
    undisturbed = loop_of(Outside(), manifest)
    undisturbed.run()
    outside = Outside()

    def tick(loop: Loop) -> None:
        if any(test for _, test in outside.runs):
            loop.interrupt()

    first = loop_of(outside, manifest, listener=Listener(tick))
    first.run()
    assert first.state.finished is None
    assert first.state.outstanding == {}
    again = loop_of(outside, manifest)
    state = again.run()
    assert state.finished is not None
    assert state.finished.test == {"test_accuracy": 0.5}
    assert told(again) == told(undisturbed)
    tests = [(attempt, n) for (_, attempt, test), n in outside.launches.items() if test]
    assert sorted(tests) == [(1, 1), (2, 1)]
