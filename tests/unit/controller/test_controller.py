"""The whole controller, over an API server and a store in memory."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kinase.api import TrialJob
from kinase.api.status import ExperimentStatus
from kinase.store import StoreError, StoreUnavailable
from kinase.store.memory import MemoryStore
from kinase_controller import cluster_io
from kinase_controller import controller as module
from kinase_controller.controller import Controller, Gone, Interrupted, Stale, Terminated
from kinase_kube import client as kube
from tests.cluster.lab.processes import free_ports
from tests.unit.controller.world import World, wait_for
from tests.unit.experiment.helpers import INFO, experiment, make_loop, score

BUDGET = {"trials": 8, "parallelism": 2}


class Cluster(World):
    """The operator and the trainer: every attempt that is wanted is run, step by step."""

    def __init__(self, patch: pytest.MonkeyPatch, **spec: Any) -> None:
        super().__init__(patch, **{"budget": BUDGET, **spec})
        self.ran: list[tuple[str, int]] = []
        """Name and attempt of all that was run."""
        self.hold = False
        """Whether trials go on until they are stopped."""
        self.crash: set[tuple[str, int]] = set()
        self.pending: str = ""
        """Why no pod can run."""
        self.refuse: Callable[[dict[str, Any]], str | None] = lambda job: None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)

    def _work(self) -> None:
        while not self._over.is_set():
            for item in self.api.all(kube.TRIAL):
                spec, status = item["spec"], item.get("status") or {}
                if status.get("attempt") == spec["attempt"] and status["phase"] != "Pending":
                    continue
                self._step(item["metadata"]["name"], spec, status)
            time.sleep(0.002)

    def _step(self, name: str, spec: dict[str, Any], status: dict[str, Any]) -> None:
        attempt, job = spec["attempt"], json.loads(spec["job"])
        if spec.get("stop"):
            self.end(name, "Stopped", "Terminated", "stopped")
        elif self.pending:
            if status.get("phase") != "Pending" or status.get("attempt") != attempt:
                self.end(name, "Pending", "ImageNotFound", self.pending)
        elif self.hold and spec["kind"] != "Task":
            return
        else:
            self.ran.append((name, attempt))
            if (name, attempt) in self.crash:
                self.end(name, "Failed", "Crashed", "exit code 1")
            elif spec["kind"] == "Task":
                message = self.refuse(job)
                if message is not None:
                    self.end(name, "Failed", "BadInput", message)
                    return
                self.store.put(job["key"], INFO.model_dump_json(by_alias=True).encode())
                self.end(name)
            else:
                trial = TrialJob.model_validate(job)
                metrics, last = score(trial), trial.last_epoch
                point = {"epoch": last, "metrics": metrics, "deviceSeconds": 0.0}
                paused = {"outcome": "Stopped", "curve": [point]}
                self.leave(
                    trial, metrics=metrics, **(paused if last < trial.fidelity.epochs else {})
                )
                self.end(name)

    # -- what the tests do and see ------------------------------------------------------

    @property
    def status(self) -> dict[str, Any]:
        found = self.api.see(kube.EXPERIMENT, "toy")
        return (found or {}).get("status") or {}

    def condition(self, kind: str) -> tuple[str, str, str]:
        for one in self.status.get("conditions") or ():
            if one["type"] == kind:
                return one["status"], one["reason"], one["message"]
        return "", "", ""

    def until(self, kind: str, status: str, reason: str) -> str:
        """The message, once a condition says this."""

        def said() -> str | None:
            found = self.condition(kind)
            return found[2] or " " if found[:2] == (status, reason) else None

        return wait_for(said) or ""

    def correct(self, **spec: Any) -> None:
        """The user changes the manifest."""
        self.api.change(kube.EXPERIMENT, "toy", spec=spec)


class Run(threading.Thread):
    """A controller's process."""

    def __init__(self, world: Cluster, pod: str = "toy-controller-a") -> None:
        super().__init__(daemon=True)
        self.controller = Controller(world.who(pod))
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.controller.run()
        except BaseException as error:
            self.error = error

    def over(self, timeout: float = 20) -> Run:
        self.join(timeout)
        assert not self.is_alive(), "it goes on"
        return self

    def end(self) -> None:
        if self.is_alive():
            self.controller.terminate()
            self.over()


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []
    monkeypatch.setattr(module, "PORT", 0)
    monkeypatch.setattr(module, "PATIENCE", (0.05, 0.2))
    monkeypatch.setattr(cluster_io, "STATUS_SECONDS", 0.01)
    monkeypatch.setenv("KINASE_POD_IP", "127.0.0.1")

    def cluster(**spec: Any) -> Cluster:
        world = Cluster(monkeypatch, **spec)
        made.append(world)
        monkeypatch.setattr(module, "open_store", lambda storage: Root(world))
        return world

    yield cluster
    for world in made:
        world.close()


class Root(MemoryStore):
    """The bucket, in which the experiment's place is the world's store."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def sub(self, prefix: str) -> Any:
        assert prefix == f"ns/{self._world.uid}"
        return self._world.store


def undisturbed(**spec: Any) -> list[tuple[str, str]]:
    """Kind and architecture of all trials of a run on one machine."""
    loop = make_loop(experiment(**{"budget": {"trials": 8, "parallelism": 1}, **spec}))
    loop.run()
    return [(t.kind.value, t.key) for t in loop.state.trials.values()]


def trials(run: Run) -> list[tuple[str, str]]:
    loop = run.controller._loop
    assert loop is not None
    return [(t.kind.value, t.key) for t in loop.state.trials.values()]


# -- to the end ----------------------------------------------------------------------------


def test_an_experiment_runs_to_its_end_and_says_so(make: Callable[..., Cluster]) -> None:
    world = make(budget={"trials": 8, "parallelism": 1})
    run = Run(world).over()
    assert run.error is None
    status = ExperimentStatus.model_validate(world.status)
    assert status.phase == "Succeeded"
    assert status.start_time is not None
    assert status.completion_time is not None
    assert status.progress == "8/8"
    assert status.winner is not None
    assert status.model == f"{world.store.uri}/final"
    assert status.report == f"{world.store.uri}/report.html"
    assert b"<title>" in world.store.get("report.html")
    assert world.condition("Succeeded")[:2] == ("True", "Succeeded")
    assert world.condition("Failed")[0] == world.condition("Progressing")[0] == "False"
    assert trials(run) == undisturbed()
    assert len(set(world.ran)) == len(world.ran) == 8 + 2 + 1 + 1, "each once: task, test"
    lease = world.api.see(kube.LEASE, "toy-controller")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == ""


def test_the_manifest_is_fixed_before_anything_is_decided_by_it(
    make: Callable[..., Cluster],
) -> None:
    world = make()
    run = Run(world)
    wait_for(lambda: world.store.exists("experiment.json"))
    assert "startTime" in world.status, "from which on the API server refuses changes"
    run.over()


def test_killed_at_any_time_the_next_process_goes_on(make: Callable[..., Cluster]) -> None:
    world = make(budget={"trials": 8, "parallelism": 1})
    last = None
    for count in range(12):
        last = Run(world, f"toy-controller-{count}")
        last.join(0.05 * (1 + count))
        if not last.is_alive() and last.error is None:
            break
        last.end()
        assert isinstance(last.error, Terminated) or last.error is None
    assert last is not None
    last.over()
    assert world.status["phase"] == "Succeeded"
    assert trials(last) == undisturbed()
    assert len(set(world.ran)) == len(world.ran), "no attempt was run twice"


# -- what cannot run -----------------------------------------------------------------------

UNKNOWN = [
    ("space", {"type": "Custom", "custom": {"name": "mine"}}, "spec.space.custom.name"),
    ("strategy", {"type": "Custom", "custom": {"name": "mine"}}, "spec.strategy.custom.name"),
    (
        "estimation",
        {"type": "Custom", "custom": {"name": "mine"}},
        "spec.estimation.custom.name",
    ),
]


@pytest.mark.parametrize(("field", "value", "place"), UNKNOWN, ids=[u[0] for u in UNKNOWN])
def test_a_member_that_no_package_has_is_named_and_may_be_corrected(
    make: Callable[..., Cluster], field: str, value: dict[str, Any], place: str
) -> None:
    world = make()
    right = world.spec.get(field)
    world.spec[field] = value
    world.api.put(kube.EXPERIMENT, world._experiment())
    run = Run(world)
    message = world.until("Progressing", "False", "InvalidSpec")
    assert message.startswith(f"{place}: 'mine' is not registered")
    assert "known: " in message
    assert "startTime" not in world.status, "everything may still change"
    assert not world.ran
    world.spec[field] = right
    world.api.put(kube.EXPERIMENT, world._experiment())
    run.over()
    assert world.status["phase"] == "Succeeded"


def test_a_baseline_that_is_not_of_the_space_is_named(make: Callable[..., Cluster]) -> None:
    world = make(baselines=[{"name": "mine", "architecture": {"layers": [{"op": "warp"}]}}])
    run = Run(world)
    message = world.until("Progressing", "False", "InvalidSpec")
    assert message.startswith("spec.baselines[0].architecture: ")
    assert "warp" in message
    run.end()


def test_a_data_set_that_the_trainer_has_not_is_told_in_its_words_and_may_be_corrected(
    make: Callable[..., Cluster],
) -> None:
    world = make(task={"dataset": "absent"})
    known = "task.dataset 'absent' does not exist; known: ok"
    world.refuse = lambda job: known if job["task"]["dataset"] == "absent" else None
    run = Run(world)
    message = world.until("Progressing", "False", "TaskUnavailable")
    assert message == f"the trainer cannot serve the task: {known}"
    assert "startTime" not in world.status
    assert world.status["phase"] == "Pending"
    hasty = world.refuse

    def slow(job: dict[str, Any]) -> str | None:
        time.sleep(1.2)  # longer than the controller goes without a look
        return hasty(job)

    world.refuse = slow
    seen = {world.condition("Progressing")[1:]}
    asked = len(world.ran)
    while len(world.ran) < asked + 3:
        seen.add(world.condition("Progressing")[1:])
    asking = ("AskingTrainer", "the trainer is asked about the task")
    assert seen == {("TaskUnavailable", message), asking}, "the last answer is not that of the next"
    world.correct(task={"dataset": "ok"})
    run.over()
    assert run.error is None
    assert world.status["phase"] == "Succeeded"


def test_a_trainer_whose_pod_waits_is_asked_anew_when_its_image_is_corrected(
    make: Callable[..., Cluster],
) -> None:
    world = make(trialTemplate={"image": "no/such:image"})
    world.pending = "no/such:image does not exist"
    run = Run(world)
    message = world.until("Progressing", "False", "TaskPending")
    assert message.endswith("its pod waits: ImageNotFound: no/such:image does not exist")
    asked = world.trial("toy-task")["spec"]["attempt"]
    world.correct(trialTemplate={"image": "kinase/fake"})
    world.attempt("toy-task", asked + 1)
    world.pending = ""
    run.over()
    assert world.status["phase"] == "Succeeded"
    assert [n for n in world.ran if n[0] == "toy-task"] == [("toy-task", asked + 1)]


def test_while_all_trials_wait_the_condition_says_for_what(
    make: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PENDING", 0.0)
    world = make(budget={"trials": 2, "parallelism": 2})
    world.hold = True
    run = Run(world)
    world.until("Progressing", "True", "Searching")
    world.pending = "0/1 nodes are available"
    message = world.until("Progressing", "False", "TrialsPending")
    ending = "wait: toy-00000: ImageNotFound: 0/1 nodes are available"
    assert message == f"all 2 trials under way {ending}"
    assert world.status["trials"]["running"] == 0
    assert world.status["phase"] == "Searching"
    world.hold, world.pending = False, ""
    run.over()
    assert world.status["phase"] == "Succeeded"


def test_a_test_that_crashes_is_told_and_tried_again(make: Callable[..., Cluster]) -> None:
    world = make(budget={"trials": 8, "parallelism": 1})
    names = {f"toy-{n:05d}-test" for n in (8, 9)}
    world.crash = {(name, attempt) for name in names for attempt in (1, 2)}
    Run(world).over()
    assert world.status["phase"] == "Succeeded"
    said = [event["message"] for event in world.api.all(kube.EVENT)]
    assert "the winner could not be tested: exit code 1" in said
    tests = [(name, attempt) for name, attempt in world.ran if name in names]
    assert [attempt for _, attempt in tests] == [1, 2, 3]


# -- suspension ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [{}, {"estimation": {"type": "Hyperband", "hyperband": {"eta": 2}}}],
    ids=["whole trainings", "in a bracket"],
)
def test_suspended_it_stands_and_resumed_it_comes_to_the_same_end(
    spec: dict[str, Any], make: Callable[..., Cluster]
) -> None:
    world = make(budget={"trials": 8, "parallelism": 1}, **spec)
    run = Run(world)
    wait_for(lambda: len(world.ran) >= 4)
    world.hold = True
    wait_for(lambda: any((i.get("status") or {}).get("phase") is None for i in trials_of(world)))
    world.correct(suspend=True)
    run.over()
    assert run.error is None
    assert world.status["phase"] == "Suspended"
    assert world.condition("Suspended")[0] == "True"
    assert all("phase" in (i.get("status") or {}) for i in trials_of(world)), "nothing runs"
    before = world.status
    world.hold = False
    again = Run(world, "toy-controller-b").over()
    assert again.error is None
    assert world.status["phase"] == "Suspended", "it is still"
    assert world.status["trials"] == before["trials"]
    world.correct(suspend=False)
    last = Run(world, "toy-controller-c").over()
    assert world.status["phase"] == "Succeeded"
    assert world.condition("Suspended")[0] == "False"
    assert trials(last) == undisturbed(**spec)


def trials_of(world: Cluster) -> list[dict[str, Any]]:
    return [i for i in world.api.all(kube.TRIAL) if i["spec"]["kind"] != "Task"]


def test_suspended_while_the_trainer_is_asked_it_stands_before_its_beginning(
    make: Callable[..., Cluster],
) -> None:
    world = make()
    world.pending = "no node is free"
    run = Run(world)
    world.until("Progressing", "False", "TaskPending")
    world.correct(suspend=True)
    run.over()
    assert world.status["phase"] == "Suspended"
    assert "startTime" not in world.status


# -- outages -------------------------------------------------------------------------------


def test_a_store_that_is_away_is_told_and_what_was_known_stays(
    make: Callable[..., Cluster],
) -> None:
    world = make(budget={"trials": 8, "parallelism": 1})
    run = Run(world)
    wait_for(lambda: (world.status.get("trials") or {}).get("succeeded", 0) >= 1)
    world.hold = True
    run.end()
    known = world.status
    away = AwayStore()
    kept, world.store = world.store, away
    again = Run(world, "toy-controller-b")
    world.until("Progressing", "False", "StoreUnavailable")
    for field in ("trials", "best", "budget", "cost", "startTime", "progress"):
        assert world.status.get(field) == known[field], field
    world.store = kept
    world.hold = False
    again.over()
    assert world.status["phase"] == "Succeeded"


class AwayStore(MemoryStore):
    error: StoreError = StoreUnavailable("s3://bucket: connection refused")

    def get(self, key: str, limit: int | None = None) -> bytes:
        raise self.error

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        raise self.error


def test_a_store_that_refuses_is_told_and_asked_by_a_process_with_other_credentials(
    make: Callable[..., Cluster],
) -> None:
    """A Secret that was put right reaches the environment of a new process alone."""
    world = make()
    refuses = AwayStore()
    refuses.error = StoreError("s3://bucket: InvalidAccessKeyId")
    kept, world.store = world.store, refuses
    run = Run(world).over()
    assert isinstance(run.error, Stale)
    assert world.condition("Progressing")[1:] == ("StoreRefused", "s3://bucket: InvalidAccessKeyId")
    assert world.status["phase"] == "Pending"
    world.store = kept
    assert Run(world).over().error is None
    assert world.status["phase"] == "Succeeded"


# -- the end of the process ----------------------------------------------------------------


@pytest.mark.parametrize("when", ["asking", "waiting", "searching"])
def test_asked_to_end_it_ends_soon_wherever_it_is(make: Callable[..., Cluster], when: str) -> None:
    world = make()
    match when:
        case "asking":
            world.pending = "no node is free"
        case "waiting":
            world.refuse = lambda job: "the data does not exist"
        case "searching":
            world.hold = True
    run = Run(world)
    match when:
        case "asking":
            world.until("Progressing", "False", "TaskPending")
        case "waiting":
            world.until("Progressing", "False", "TaskUnavailable")
        case "searching":
            wait_for(lambda: trials_of(world))
    run.controller.terminate()
    began = time.monotonic()
    run.over()
    assert time.monotonic() - began < 3
    assert isinstance(run.error, Terminated)
    lease = world.api.see(kube.LEASE, "toy-controller")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "", "the next one need not wait"
    assert not any(i["spec"].get("stop") for i in trials_of(world)), "its trials go on"


def test_it_ends_at_once_while_another_has_the_lease(make: Callable[..., Cluster]) -> None:
    world = make()
    world.hold = True
    first = Run(world)
    wait_for(lambda: trials_of(world))
    second = Run(world, "toy-controller-b")
    wait_for(lambda: getattr(second.controller.cluster, "lease", None))
    second.controller.terminate()
    second.over(5)
    assert isinstance(second.error, Terminated)
    lease = world.api.see(kube.LEASE, "toy-controller")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "toy-controller-a"
    first.end()


@pytest.mark.parametrize("when", ["asking", "searching"])
def test_deleted_it_ends_without_a_word(make: Callable[..., Cluster], when: str) -> None:
    world = make()
    world.pending = "no node is free" if when == "asking" else ""
    world.hold = True
    run = Run(world)
    wait_for(lambda: trials_of(world) if when == "searching" else world.api.all(kube.TRIAL))
    world.api.remove(kube.EXPERIMENT, "toy")
    run.over()
    assert isinstance(run.error, Gone)


def test_deleted_at_its_last_word_it_ends(make: Callable[..., Cluster]) -> None:
    world = make()
    put = world.store.put

    def report(key: str, data: bytes, *, if_absent: bool = False) -> None:
        put(key, data, if_absent=if_absent)
        if key == "report.html":
            world.api.fault = lambda verb, plural: None
            world.api.remove(kube.EXPERIMENT, "toy")

    world.store.put = report  # type: ignore[method-assign]
    run = Run(world).over(10)
    assert isinstance(run.error, Gone)


def test_the_lease_lost_it_ends_and_leaves_its_trials(make: Callable[..., Cluster]) -> None:
    world = make()
    world.hold = True
    run = Run(world)
    wait_for(lambda: trials_of(world))
    run.controller.cluster._lose()
    run.over()
    assert isinstance(run.error, Interrupted)
    assert not any(i["spec"].get("stop") for i in trials_of(world))


# -- the endpoint --------------------------------------------------------------------------


def page(path: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{module.PORT}{path}", timeout=15) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_report_and_the_metrics_are_served_while_it_searches(
    make: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    [port] = free_ports(1)
    monkeypatch.setattr(module, "PORT", port)
    world = make(budget={"trials": 8, "parallelism": 1})
    world.pending = "no node is free"
    run = Run(world)
    world.until("Progressing", "False", "TaskPending")
    assert page("/")[0] == 503
    assert page("/readyz")[0] == 200
    world.pending = ""
    wait_for(lambda: len(world.ran) >= 4)
    world.hold = True
    wait_for(lambda: page("/")[0] == 200)
    assert "toy" in page("/")[1]
    ended = 'kinase_trials_total{experiment="toy",kind="Search",namespace="ns",outcome="Succeeded"}'
    assert ended in page("/metrics")[1]
    world.hold = False
    run.over()
