from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kinase.api import Outcome, TaskInfo, limits
from kinase.api.fidelity import Fidelity
from kinase.api.trial import Point
from kinase.engine import EngineError, Finished, Lost, Progress
from kinase.store import StoreUnavailable
from kinase_controller.cluster_io import ClusterIO, Gone
from kinase_controller.engine import Interrupted, KubernetesEngine
from kinase_controller.trials import Wanted
from kinase_kube import client as kube
from tests.unit.controller.fake_api import unavailable
from tests.unit.controller.test_trials import job
from tests.unit.controller.world import World, events, wait_for
from tests.unit.experiment.helpers import INFO, experiment

FIRST = job(trial=0, attempt=1, prefix="trials/00000")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def settle(world: World) -> None:
    """Let what is under way be done."""
    before = -1
    while before != len(world.api.requests):
        before = len(world.api.requests)
        time.sleep(0.05)


# -- launching -----------------------------------------------------------------------------


def test_a_launch_makes_the_trial_once(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        spec = world.trial("toy-00000")["spec"]
        assert (spec["number"], spec["attempt"], spec["kind"]) == (0, 1, "Search")
        assert len(spec["token"]) >= 32
        engine.launch(FIRST)
        engine.launch(FIRST)
        settle(world)
        assert world.api.count("create", kube.TRIAL) == 1
        assert list(engine.running()) == [0]


def test_a_trial_of_ours_that_the_cache_does_not_have_yet_is_adopted(world: World) -> None:
    with world.engine() as (engine, cluster):
        blind(cluster)
        body = Wanted.of("toy", FIRST).body("toy", world.uid, "ns", "t" * 32)
        made = world.api.put(kube.TRIAL, body)
        engine.launch(FIRST)
        wait_for(lambda: cluster.find("toy-00000"))
        world.leave(FIRST)
        world.end("toy-00000")
        sight(cluster, world, "toy-00000")
        [event] = events(engine)
        assert isinstance(event, Finished)
        assert world.trial("toy-00000")["metadata"]["uid"] == made["metadata"]["uid"]
        assert world.trial("toy-00000")["spec"]["token"] == "t" * 32


def test_a_name_that_another_owner_has_is_waited_for(world: World) -> None:
    foreign = Wanted.of("toy", FIRST).body("toy", "u-of-before", "ns", "f" * 32)
    world.api.put(kube.TRIAL, foreign)
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        wait_for(lambda: world.api.count("create", kube.TRIAL) >= 3)
        assert world.trial("toy-00000")["spec"]["token"] == "f" * 32, "it is left alone"
        world.api.remove(kube.TRIAL, "toy-00000")
        mine = world.trial("toy-00000")
        assert mine["metadata"]["ownerReferences"][0]["uid"] == world.uid


def test_a_further_attempt_raises_that_of_the_trial_and_takes_back_the_stop(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        token = world.trial("toy-00000")["spec"]["token"]
        engine.stop(0)
        wait_for(lambda: world.trial("toy-00000")["spec"].get("stop"))
        world.end("toy-00000", "Stopped", "Terminated", "stopped")
        [event] = events(engine)
        assert event == Lost(0, "stopped", crash=False)
        engine.launch(FIRST.model_copy(update={"attempt": 2}))
        spec = world.attempt("toy-00000", 2)["spec"]
        assert spec["stop"] is False
        assert json.loads(spec["job"])["attempt"] == 2
        assert spec["token"] == token
        assert world.api.count("create", kube.TRIAL) == 1


def test_a_stop_is_said_once_and_not_of_what_does_not_run(world: World) -> None:
    with world.engine() as (engine, cluster):
        engine.launch(FIRST)
        world.trial("toy-00000")
        for _ in range(3):
            engine.stop(0)
        engine.stop(99)
        wait_for(lambda: world.trial("toy-00000")["spec"].get("stop"))
        settle(world)
        assert world.api.count("merge", kube.TRIAL) == 1
        assert cluster.stops("toy-00000")


def test_a_trial_that_is_deleted_is_made_anew(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        before = world.trial("toy-00000")["metadata"]["uid"]
        world.api.remove(kube.TRIAL, "toy-00000")
        wait_for(lambda: (world.api.see(kube.TRIAL, "toy-00000") or {}).get("metadata"))
        assert world.trial("toy-00000")["metadata"]["uid"] != before


def test_what_the_api_server_does_not_take_for_a_while_is_said_again(world: World) -> None:
    with world.engine() as (engine, _):
        world.api.fault = lambda verb, plural: unavailable() if verb == "create" else None
        engine.launch(FIRST)
        wait_for(lambda: world.api.count("create", kube.TRIAL) >= 3)
        world.api.fault = lambda verb, plural: None
        world.trial("toy-00000")


# -- results -------------------------------------------------------------------------------


def test_the_result_in_the_store_is_the_truth(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        world.leave(FIRST, metrics={"val_accuracy": 0.75})
        world.end("toy-00000", "Failed", "Disrupted", "the node was lost")
        [event] = events(engine)
        assert isinstance(event, Finished)
        assert event.result.metrics == {"val_accuracy": 0.75}
        assert engine.running() == {}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda store: None,
        lambda store: store.put("trials/00000/result.json", b""),
        lambda store: store.put("trials/00000/result.json", b'{"version": 1, "trial": 0, "att'),
        lambda store: store.put("trials/00000/result.json", b"\xff\xfe\x00"),
        lambda store: store.put(
            "trials/00000/result.json", b'{"trial": 0, "attempt": 1, "outcome": "Excellent"}'
        ),
        lambda store: store.put(
            "trials/00000/result.json", b'{"trial": 8, "attempt": 1, "outcome": "Succeeded"}'
        ),
    ],
    ids=["missing", "empty", "truncated", "no text", "unknown outcome", "another's"],
)
def test_a_result_that_is_not_valid_counts_as_none(
    world: World, spoil: Callable[[Any], None]
) -> None:
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        spoil(world.store)
        world.end("toy-00000")
        [event] = events(engine)
        assert isinstance(event, Lost)
        assert event.crash
        assert "no valid result" in event.message


def test_a_result_that_is_too_large_is_not_read_and_said(world: World) -> None:
    valid = b'{"trial": 0, "attempt": 1, "outcome": "Succeeded"}'
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        world.store.put("trials/00000/result.json", valid + b" " * limits.RESULT)
        world.end("toy-00000")
        [event] = events(engine)
        assert isinstance(event, Lost)
        assert event.crash
        assert event.message == (
            "the trainer left no valid result of this trial: memory:/trials/00000/result.json is "
            "too large: 4,194,354 bytes, of at most 4,194,304 bytes"
        )


def test_a_store_that_is_away_ends_the_poll_with_its_error(world: World) -> None:
    class Away(type(world.store)):  # type: ignore[misc]
        def get(self, key: str, limit: int | None = None) -> bytes:
            raise StoreUnavailable("the store is away")

    world.store = Away()
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        world.end("toy-00000")
        with pytest.raises(StoreUnavailable, match="the store is away"):
            events(engine)


def test_every_end_is_told_once_however_often_it_is_seen(world: World) -> None:
    jobs = [job(trial=n, attempt=1, prefix=f"trials/{n:05d}") for n in range(20)]
    with world.engine() as (engine, _):
        for one in jobs:
            engine.launch(one)
        for one in jobs:
            world.trial(f"toy-{one.trial:05d}")
            world.leave(one)
            world.end(f"toy-{one.trial:05d}")
        found = events(engine, 20)
        assert sorted(e.trial for e in found) == list(range(20))
        for one in jobs:  # seen again, with more to say
            world.api.change(kube.TRIAL, f"toy-{one.trial:05d}", status={"node": "node-1"})
        settle(world)
        assert engine.poll(0.1) == []
        assert engine.running() == {}


# -- another process -----------------------------------------------------------------------


def test_a_later_engine_finds_what_runs_and_what_has_ended(world: World) -> None:
    jobs = [job(trial=n, attempt=1, prefix=f"trials/{n:05d}") for n in range(3)]
    with world.engine() as (engine, _):
        for one in jobs[:2]:
            engine.launch(one)
            world.trial(f"toy-{one.trial:05d}")
        engine.close()
        assert engine.running() == {}
        world.leave(jobs[0])
        world.end("toy-00000")
        settle(world)
        again = KubernetesEngine(engine._cluster, world.store)
        assert again.poll(0.05) == [], "what nobody wants is not told"
    with world.engine("toy-controller-b") as (again, _):
        assert [again.adopt(one) for one in jobs] == [True, True, False]
        [event] = events(again)
        assert event.trial == 0
        assert list(again.running()) == [1]
        world.leave(jobs[1])
        world.end("toy-00001")
        assert [e.trial for e in events(again)] == [1]
    assert world.api.count("create", kube.TRIAL) == 2


def test_an_attempt_that_was_written_down_and_not_yet_said_is_begun(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        world.trial("toy-00000")
    with world.engine("toy-controller-b") as (again, _):
        assert again.adopt(FIRST.model_copy(update={"attempt": 2}))
        world.attempt("toy-00000", 2)


def test_a_result_of_an_attempt_that_was_stopped_is_not_that_of_the_next(world: World) -> None:
    """A suspended trial leaves one, and goes on when the experiment does."""
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        world.leave(FIRST, Outcome.STOPPED)
        world.end("toy-00000")
        [event] = events(engine)
        assert isinstance(event, Finished)
        assert event.result.outcome is Outcome.STOPPED
        engine.launch(FIRST.model_copy(update={"attempt": 2}))
        world.attempt("toy-00000", 2)
        world.end("toy-00000", "Failed", "Disrupted", "evicted")
        [event] = events(engine)
        assert event == Lost(0, "evicted", crash=False)


def test_only_a_pod_that_runs_holds_a_device(world: World) -> None:
    """What waits, in a queue or for a node, is charged no time."""
    jobs = [job(trial=n, attempt=1, prefix=f"trials/{n:05d}") for n in range(2)]
    with world.engine() as (engine, _):
        for one in jobs:
            engine.launch(one)
            world.trial(f"toy-{one.trial:05d}")
        began = (datetime.now(UTC) - timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {"phase": "Running", "attempt": 1, "startTime": began}
        world.api.change(kube.TRIAL, "toy-00001", status=status)

        def held() -> dict[int, float]:
            engine.poll(0.05)
            return engine.running()

        wait_for(lambda: held()[1] > 0)
        assert held()[0] == 0
        assert 59 < held()[1] < 75
    with world.engine("toy-controller-b") as (again, _):
        assert again.adopt(jobs[1])
        again.poll(0)
        assert again.running()[1] > 59, "a later process counts what was before it"
        # another attempt begins at nothing, whatever the status still says of the last
        world.end("toy-00001", "Failed", "Disrupted")
        assert events(again) == [Lost(1, "Disrupted", crash=False)]
        again.launch(jobs[1].model_copy(update={"attempt": 2}))
        world.attempt("toy-00001", 2)
        assert again.running() == {1: 0.0}


def test_what_waits_is_what_the_operator_says_of_the_attempt_that_is_wanted(world: World) -> None:
    jobs = [job(trial=n, attempt=1, prefix=f"trials/{n:05d}") for n in range(4)]
    words = {"phase": "Pending", "reason": "Unschedulable", "message": "0/1 nodes"}
    said: list[dict[str, Any]] = [
        {**words, "attempt": 1},
        {"phase": "Running", "attempt": 1},
        {"phase": "Pending", "attempt": 1},  # it may begin at any moment
        {**words, "reason": "BackOff", "attempt": 2},
    ]
    with world.engine() as (engine, _):
        for one, status in zip(jobs, said, strict=True):
            engine.launch(one)
            world.trial(f"toy-{one.trial:05d}")
            world.api.change(kube.TRIAL, f"toy-{one.trial:05d}", status=status)
        wait_for(lambda: [seen.number for seen in engine.waiting()] == [0])
        engine.launch(jobs[3].model_copy(update={"attempt": 2}))
        wait_for(lambda: [seen.reason for seen in engine.waiting()] == ["Unschedulable", "BackOff"])


def clock(seconds: float) -> str:
    """A time as Kubernetes writes it, so many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_the_wait_of_an_attempt_for_its_pod_is_told_once(world: World) -> None:
    waits: list[float] = []
    with world.engine() as (engine, _):
        engine.queued = waits.append
        engine.launch(FIRST)
        world.trial("toy-00000")
        status = {"phase": "Running", "attempt": 1, "startTime": clock(40)}
        world.api.change(kube.TRIAL, "toy-00000", status=status)

        def told() -> bool:
            engine.poll(0)
            return bool(waits)

        wait_for(told)
        world.leave(FIRST)
        world.end("toy-00000")
        events(engine)
    [seconds] = waits
    assert 35 < seconds <= 40


def test_the_wait_of_one_that_ended_between_two_looks_is_told_too(world: World) -> None:
    waits: list[float] = []
    with world.engine() as (engine, _):
        engine.queued = waits.append
        engine.launch(FIRST)
        world.trial("toy-00000")
        world.leave(FIRST)
        status = {"attempt": 1, "startTime": clock(0), "phase": "Succeeded", "reason": "Completed"}
        world.api.change(kube.TRIAL, "toy-00000", status=status)
        events(engine)
    assert waits == [0.0]


def test_an_attempt_that_never_began_has_no_wait(world: World) -> None:
    waits: list[float] = []
    with world.engine() as (engine, _):
        engine.queued = waits.append
        engine.launch(FIRST)
        world.end("toy-00000", "Failed", "Disrupted")
        events(engine)
    assert waits == []


def test_a_wait_goes_on_over_a_restart_and_is_not_told_by_both(world: World) -> None:
    waits: list[float] = []
    second = job(trial=1, attempt=1, prefix="trials/00001")
    with world.engine() as (engine, _):
        for trial in (FIRST, second):
            engine.launch(trial)
        world.trial("toy-00001")
        world.trial("toy-00000")
        status = {"phase": "Running", "attempt": 1, "startTime": clock(0)}
        world.api.change(kube.TRIAL, "toy-00000", status=status)
        made = {"creationTimestamp": clock(-100)}
        world.api.change(kube.TRIAL, "toy-00001", metadata=made)
    with world.engine("toy-controller-b") as (again, _):
        again.queued = waits.append
        assert again.adopt(FIRST)
        assert again.adopt(second)
        status = {"phase": "Running", "attempt": 1, "startTime": clock(0)}
        world.api.change(kube.TRIAL, "toy-00001", status=status)

        def told() -> bool:
            again.poll(0)
            return bool(waits)

        wait_for(told)
    [seconds] = waits
    assert 95 < seconds < 110


# -- posts ---------------------------------------------------------------------------------


def test_a_post_is_an_event_and_answers_whether_to_go_on(world: World) -> None:
    point = Point(epoch=1, metrics={"val_accuracy": 0.5}, device_seconds=1.0)
    with world.engine() as (engine, _):
        assert engine.post(0, point), "of a trial that does not run"
        assert engine.poll(0) == []
        engine.launch(FIRST)
        world.trial("toy-00000")
        assert engine.post(0, point)
        assert engine.poll(0.05) == [Progress(0, point)]
        assert list(engine.running()) == [0]
        engine.stop(0)
        wait_for(lambda: not engine.post(0, point))


# -- pods that wait at a rest ----------------------------------------------------------------

STRETCH = job(trial=0, attempt=1, prefix="trials/00000", fidelity=Fidelity(epochs=9), until=3)
ONWARDS = STRETCH.model_copy(update={"until": 9, "done": 3})


def leave_rest(world: World, epochs: int = 3, **fields: Any) -> None:
    points = [Point(epoch=e + 1, metrics={}, device_seconds=1.0) for e in range(epochs)]
    world.leave(STRETCH, Outcome.STOPPED, curve=tuple(points), **fields)


def rest(world: World, engine: KubernetesEngine) -> None:
    """The pod leaves its result and asks; the loop takes it in."""
    world.trial("toy-00000")
    wait_for(lambda: engine._cluster.find("toy-00000"))
    leave_rest(world)
    assert engine.rests(0, 3) is None
    [event] = events(engine)
    assert isinstance(event, Finished)
    assert list(engine.running()) == []
    assert engine.holds(0)
    assert engine.rests(0, 3) is None


def test_a_pod_that_rests_is_continued_in_its_attempt(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(STRETCH)
        rest(world, engine)
        engine.launch(ONWARDS)
        engine.release()
        assert engine.rests(0, 3) == 9
        assert not engine.holds(0)
        leave_rest(world, 9)
        world.end("toy-00000")
        [event] = events(engine)
        assert isinstance(event, Finished)
        assert len(event.result.curve) == 9
        assert world.trial("toy-00000")["spec"]["attempt"] == 1
        assert world.api.count("create", kube.TRIAL) == 1


def test_a_pod_that_is_not_continued_is_told_to_end_and_its_end_is_no_news(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(STRETCH)
        rest(world, engine)
        engine.release()
        assert engine.rests(0, 3) is False
        assert not engine.holds(0)
        world.end("toy-00000")
        settle(world)
        assert engine.poll(0.05) == []
        engine.launch(ONWARDS.model_copy(update={"attempt": 2}))
        world.attempt("toy-00000", 2)


def test_a_pod_that_has_ended_is_not_held_and_one_that_did_not_hear_gives_its_rest(
    world: World,
) -> None:
    with world.engine() as (engine, _):
        engine.launch(STRETCH)
        rest(world, engine)
        engine.launch(ONWARDS)
        world.end("toy-00000")  # before it asked again
        [event] = events(engine)
        assert isinstance(event, Finished)
        assert len(event.result.curve) == 3, "the loop launches it again"
        settle(world)
        assert engine.poll(0.05) == []


def test_a_crash_after_it_was_continued_is_a_loss(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(STRETCH)
        rest(world, engine)
        engine.launch(ONWARDS)
        world.end("toy-00000", "Failed", "Crashed")
        [event] = events(engine)
        assert isinstance(event, Lost)


def test_a_later_controller_continues_what_was_granted_and_not_said(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(STRETCH)
        rest(world, engine)
    with world.engine("toy-controller-b") as (engine, _):
        assert engine.rests(0, 3) is False, "before the journal is read"
        assert engine.adopt(ONWARDS)
        assert engine.rests(0, 3) == 9


def test_a_pod_that_waits_without_a_result_is_not_believed(world: World) -> None:
    with world.engine() as (engine, _):
        engine.launch(STRETCH)
        wait_for(lambda: engine._cluster.find("toy-00000"))
        assert engine.rests(0, 3) is None
        settle(world)
        assert engine.poll(0.05) == []
        assert list(engine.running()) == [0]
        assert engine.rests(1, 3) is False, "of a trial that does not run"
        world.end("toy-00000")
        [event] = events(engine)
        assert isinstance(event, Lost), "else the search would wait for it forever"


def test_a_pod_that_ends_while_its_rest_is_read_is_reported_once(world: World) -> None:
    with world.engine() as (engine, cluster):
        engine.launch(STRETCH)
        wait_for(lambda: engine._cluster.find("toy-00000"))
        leave_rest(world)
        assert engine.rests(0, 3) is None
        world.end("toy-00000")
        wait_for(lambda: not cluster.ended.empty())
        [event] = events(engine)
        assert isinstance(event, Finished)
        assert not engine.holds(0)
        engine.launch(ONWARDS.model_copy(update={"attempt": 2}))
        assert engine.poll(0.05) == []
        assert list(engine.running()) == [0], "the next attempt is not taken for the one before"


def test_with_a_time_limit_each_stretch_is_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, trialTemplate={"image": "x", "timeLimit": "1h"})
    with world.engine() as (engine, _):
        engine.launch(STRETCH)
        wait_for(lambda: engine._cluster.find("toy-00000"))
        leave_rest(world)
        assert engine.rests(0, 3) is False


# -- what ends the waiting -----------------------------------------------------------------


def test_a_lost_lease_interrupts_the_poll(world: World) -> None:
    with world.engine() as (engine, cluster):
        engine.launch(FIRST)
        cluster._lose()
        with pytest.raises(Interrupted, match="another controller"):
            engine.poll(5)


@pytest.mark.parametrize("how", ["deleted", "being deleted", "another of the name"])
def test_an_experiment_that_is_gone_ends_the_poll(world: World, how: str) -> None:
    with world.engine() as (engine, _):
        engine.launch(FIRST)
        world.trial("toy-00000")
        if how == "being deleted":
            mark = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
            world.api.change(kube.EXPERIMENT, "toy", metadata=mark)
        else:
            world.api.remove(kube.EXPERIMENT, "toy")
        if how == "another of the name":
            world.api.put(kube.EXPERIMENT, world._experiment())
        with pytest.raises(Gone):
            events(engine)


def test_a_controller_of_an_experiment_that_is_gone_does_not_begin(world: World) -> None:
    world.api.remove(kube.EXPERIMENT, "toy")
    with pytest.raises(Gone), world.cluster():
        pass
    assert world.api.count("create", kube.TRIAL) == 0


# -- the task ------------------------------------------------------------------------------


class Asking(threading.Thread):
    """Asks about the task, as the main thread does."""

    def __init__(self, engine: KubernetesEngine, **spec: Any) -> None:
        super().__init__(daemon=True)
        self.engine, self.spec = engine, experiment(**spec).spec
        self.info: TaskInfo | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.info = self.engine.describe(self.spec.task, self.spec.training)
        except Exception as error:
            self.error = error

    def over(self) -> Asking:
        self.join(10)
        assert not self.is_alive()
        return self


def test_the_trainer_is_asked_once_about_the_task(world: World) -> None:
    with world.engine() as (engine, _):
        asking = Asking(engine)
        spec = world.trial("toy-task")["spec"]
        assert (spec["kind"], json.loads(spec["job"])["describe"]) == ("Task", True)
        world.answer()
        assert asking.over().info == INFO
        assert Asking(engine).over().info == INFO
        assert world.api.count("create", kube.TRIAL) == 1
        assert world.api.count("merge", kube.TRIAL) == 0


def test_a_trainer_that_cannot_serve_the_task_is_quoted_and_asked_again(world: World) -> None:
    with world.engine() as (engine, _):
        asking = Asking(engine)
        world.trial("toy-task")
        world.end("toy-task", "Failed", "BadInput", "task.dataset 'absent' does not exist")
        error = asking.over().error
        assert isinstance(error, EngineError)
        assert "task.dataset 'absent' does not exist" in str(error)
        asking = Asking(engine)
        world.attempt("toy-task", 2)
        world.answer()
        assert asking.over().info == INFO


def test_a_trainer_that_was_asked_too_often_is_asked_no_more(world: World) -> None:
    with world.engine() as (engine, _):
        asking = Asking(engine)
        world.trial("toy-task")
        world.api.change(kube.TRIAL, "toy-task", spec={"attempt": 999})
        world.end("toy-task", "Failed", "BadInput", "no data")
        asking.over()
        error = Asking(engine).over().error
        assert isinstance(error, EngineError)
        assert "delete the NASTrial toy-task" in str(error)
        world.api.remove(kube.TRIAL, "toy-task")
        asking = wait_for(lambda: _asks(engine, world))
        world.answer()
        assert asking.over().info == INFO


def _asks(engine: KubernetesEngine, world: World) -> Asking | None:
    asking = Asking(engine)
    asking.join(0.2)
    return asking if asking.is_alive() else None


def test_an_answer_that_is_none_is_an_error(world: World) -> None:
    with world.engine() as (engine, _):
        asking = Asking(engine)
        key = json.loads(world.trial("toy-task")["spec"]["job"])["key"]
        world.store.put(key, b'{"input": [1, 8, 8], "outputs": 0}')
        world.end("toy-task")
        error = asking.over().error
        assert isinstance(error, EngineError)
        assert str(error).startswith("invalid description of the task")


def test_a_question_of_an_earlier_process_is_waited_for(world: World) -> None:
    with world.engine() as (engine, cluster):
        Asking(engine)
        world.trial("toy-task")
        cluster._lose()
    with world.engine("toy-controller-b") as (again, _):
        asking = Asking(again)
        time.sleep(0.1)
        world.answer()
        assert asking.over().info == INFO
    assert world.api.count("create", kube.TRIAL) == 1
    assert world.api.count("merge", kube.TRIAL) == 0


def test_a_suspension_interrupts_the_question(world: World) -> None:
    with world.engine() as (engine, _):
        asking = Asking(engine)
        world.trial("toy-task")
        world.api.change(kube.EXPERIMENT, "toy", spec={"suspend": True})
        assert isinstance(asking.over().error, Interrupted)


def blind(cluster: ClusterIO) -> None:
    """From now on the cluster is told of no trial but by the answers to its own requests."""
    cluster._trials._take = lambda kind, item: None  # type: ignore[method-assign]


def sight(cluster: ClusterIO, world: World, name: str) -> None:
    """The cluster sees the trial as it is."""
    item = world.trial(name)

    async def observe() -> None:
        cluster._trials.observe(item)

    cluster.call(observe())


def test_a_network_that_was_measured_is_trained_by_workers_in_other_pods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, trialTemplate={"image": "x", "workers": 4})
    measured = STRETCH.model_copy(update={"until": 0})
    with world.engine() as (engine, _):
        engine.launch(measured)
        assert "workers" not in world.trial("toy-00000")["spec"]
        wait_for(lambda: engine._cluster.find("toy-00000"))
        assert engine.rests(0, 0) is False, "one pod must not train what four shall"
        leave_rest(world, 0)
        world.end("toy-00000")
        events(engine)
        engine.launch(STRETCH.model_copy(update={"attempt": 2, "workers": 4}))
        world.attempt("toy-00000", 2)
        assert world.trial("toy-00000")["spec"]["workers"] == 4
        wait_for(lambda: (seen := engine._cluster.find("toy-00000")) and seen.attempt == 2)
        leave_rest(world, attempt=2)
        assert engine.rests(0, 3) is None, "as any other pod that rests"
