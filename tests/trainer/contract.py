"""Trial contract v1, as tests of any trainer: subclass `TrainerContract` and say its command."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kinase.api.trial import (
    Outcome,
    Point,
    TaskInfo,
    TaskJob,
    TrialJob,
    TrialProgress,
    TrialResult,
)
from kinase.store import Store, open_uri
from tests.trainer.helpers import job
from tests.trainer.pod import Forwarder, Pod, until
from tests.trainer.test_push import Controller

PREFIX = "trials/00007"
TASK = TaskJob.model_validate({"experiment": "test", "task": {}, "training": {}})


def result_of(store: Store) -> TrialResult:
    return TrialResult.model_validate_json(store.get(f"{PREFIX}/result.json"))


def progress_of(store: Store) -> TrialProgress:
    if not store.exists(f"{PREFIX}/progress.json"):
        return TrialProgress()
    return TrialProgress.model_validate_json(store.get(f"{PREFIX}/progress.json"))


def curve(result: TrialResult) -> list[Any]:
    return [result.outcome, result.metrics, [(p.epoch, p.metrics) for p in result.curve]]


def trial_job(epochs: int = 3, **changes: Any) -> TrialJob:
    return job(fidelity={"epochs": epochs}, **changes)


class TrainerContract:
    """The tests. Each begins with an empty store, a folder or a bucket."""

    command: Sequence[str]
    slow: dict[str, str] = {}
    """Environment in which an epoch takes about half a second."""
    quick: dict[str, str] = {}
    """Environment of all the rest."""

    @pytest.fixture(params=["file", "s3"])
    def pod(self, request: pytest.FixtureRequest, tmp_path: Path) -> Pod:
        environment = {"KINASE_STORE": f"file://{tmp_path}/store"}
        if request.param == "s3":
            environment = request.getfixturevalue("s3")
        uri = environment["KINASE_STORE"]
        return Pod(tmp_path, uri, {**environment, **self.quick}, self.command)

    @pytest.fixture
    def store(self, pod: Pod) -> Store:
        return open_uri(
            pod.uri,
            pod.environment.get("KINASE_STORE_ENDPOINT"),
            pod.environment.get("KINASE_STORE_REGION"),
        )

    @pytest.fixture
    def controller(self) -> Iterator[Controller]:
        with Controller() as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield server
            server.shutdown()

    def undisturbed(self, pod: Pod, own: TrialJob) -> TrialResult:
        """What comes of a job that nothing disturbs."""
        folder = pod.folder / "undisturbed"
        folder.mkdir()
        other = Pod(folder, f"file://{folder}/store", self.quick, self.command)
        assert other.run(own) == 0, other.said
        return result_of(open_uri(other.uri))

    def test_a_task_is_described(self, pod: Pod, store: Store) -> None:
        own = TASK.model_copy(update={"key": "some/where.json"})
        assert pod.run(own) == 0, pod.said
        info = TaskInfo.model_validate_json(store.get("some/where.json"))
        assert info.input == (1, 8, 8)
        assert "until" in info.supports
        assert list(store.list()) == ["some/where.json"]
        assert pod.termination.message == ""

    def test_a_trial_leaves_three_objects(self, pod: Pod, store: Store) -> None:
        assert pod.run(trial_job()) == 0, pod.said
        found, spent = result_of(store), progress_of(store)
        assert (found.trial, found.attempt, found.outcome) == (7, 1, Outcome.SUCCEEDED)
        assert [point.epoch for point in found.curve] == [1, 2, 3]
        assert found.curve[-1].metrics == found.metrics
        assert found.cost.epochs == 3
        assert found.cost.samples == 3000
        assert (spent.attempt, spent.epochs_begun, spent.epochs_done) == (1, 3, 2)
        assert spent.metrics == found.metrics
        assert list(store.list()) == [
            f"{PREFIX}/checkpoint/last",
            f"{PREFIX}/progress.json",
            f"{PREFIX}/result.json",
        ]
        said = pod.termination
        assert (said.value, said.epochs, said.message) == (found.metrics["val_accuracy"], 3, "")

    def test_one_epoch_needs_no_checkpoint(self, pod: Pod, store: Store) -> None:
        assert pod.run(trial_job(1)) == 0
        assert [p.epoch for p in result_of(store).curve] == [1]

    def test_an_api_server_s_spelling_is_read(self, pod: Pod, store: Store) -> None:
        """It sorts the fields of an object, and writes 1.0 as 1."""
        own = trial_job()
        wanted = self.undisturbed(pod, own)
        document = json.loads(own.model_dump_json(by_alias=True), parse_float=_shortest)
        text = json.dumps(document, sort_keys=True, indent=1)
        assert TrialJob.model_validate_json(text) == own
        assert pod.run(text) == 0
        found = result_of(store)
        assert [p.epoch for p in found.curve] == [p.epoch for p in wanted.curve]

    @pytest.mark.parametrize("epoch", [1, 3])
    def test_a_killed_trial_goes_on(self, pod: Pod, store: Store, epoch: int) -> None:
        own = trial_job(8)
        with pod.start(own, **self.slow) as process:
            until(lambda: progress_of(store).epochs_begun >= epoch)
            pod.kill(process)
        spent = progress_of(store)
        lost = spent.epochs_begun - spent.epochs_done
        assert lost in (0, 1)
        assert not store.exists(f"{PREFIX}/result.json")
        assert pod.run(own.model_copy(update={"attempt": 2})) == 0
        found = result_of(store)
        assert curve(found) == curve(self.undisturbed(pod, own))
        assert (found.attempt, found.cost.epochs) == (2, 8 + lost)
        assert progress_of(store).cost.epochs == found.cost.epochs

    def test_sigterm_is_heeded_at_the_end_of_the_epoch(self, pod: Pod, store: Store) -> None:
        own = trial_job(8)
        with pod.start(own, **self.slow) as process:
            until(lambda: progress_of(store).epochs_begun >= 2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 143
        assert "SIGTERM" in pod.termination.message
        spent = progress_of(store)
        assert pod.termination.epochs == spent.epochs_done == spent.epochs_begun >= 2
        assert pod.run(own.model_copy(update={"attempt": 2})) == 0
        found = result_of(store)
        assert curve(found) == curve(self.undisturbed(pod, own))
        assert found.cost.epochs == 8

    def test_a_trial_pauses_and_goes_on(self, pod: Pod, store: Store) -> None:
        wanted = curve(self.undisturbed(pod, trial_job(4)))
        for attempt, (done, last) in enumerate(((0, 0), (0, 2), (2, 3)), start=1):
            own = trial_job(4, until=last, done=done, attempt=attempt)
            assert pod.run(own) == 0, pod.said
            found, spent = result_of(store), progress_of(store)
            assert (found.outcome, found.attempt) == (Outcome.STOPPED, attempt)
            assert [(p.epoch, p.metrics) for p in found.curve] == wanted[2][:last]
            assert found.cost.epochs == spent.epochs_begun == spent.epochs_done == last
        again = store.get(f"{PREFIX}/result.json")
        assert pod.run(own) == 0
        assert store.get(f"{PREFIX}/result.json") == again
        assert pod.run(trial_job(4, done=3, attempt=4)) == 0
        assert curve(result_of(store)) == wanted
        assert result_of(store).cost.epochs == 4

    def test_a_checkpoint_that_is_gone_ends_with_76(self, pod: Pod, store: Store) -> None:
        assert pod.run(trial_job(3, until=1)) == 0, pod.said
        store.delete(f"{PREFIX}/checkpoint/last")
        assert pod.run(trial_job(3, done=1, attempt=2)) == 76
        assert "checkpoint" in pod.termination.message
        spent = progress_of(store)
        assert (spent.epochs_begun, spent.epochs_done) == (1, 0)
        assert pod.run(trial_job(3, attempt=3)) == 0
        assert result_of(store).cost.epochs == 4

    def test_a_result_that_is_there_stands(self, pod: Pod, store: Store) -> None:
        assert pod.run(trial_job()) == 0
        before = store.get(f"{PREFIX}/result.json")
        for attempt in (1, 2):
            assert pod.run(trial_job(attempt=attempt)) == 0
            assert store.get(f"{PREFIX}/result.json") == before

    @pytest.mark.parametrize(
        "change", [{"trial": 8}, {"attempt": 9}, {"outcome": "Stopped"}, None], ids=str
    )
    def test_a_foreign_result_is_none(
        self, pod: Pod, store: Store, change: dict[str, Any] | None
    ) -> None:
        document = {"version": 1, "trial": 7, "attempt": 1, "outcome": "Succeeded"}
        text = json.dumps({**document, **change}) if change else '{"version": 1, "tri'
        store.put(f"{PREFIX}/result.json", text.encode())
        assert pod.run(trial_job(attempt=2)) == 0
        assert result_of(store).cost.epochs == 3

    def test_points_are_posted_and_the_answer_stops_the_trial(
        self, pod: Pod, store: Store, controller: Controller
    ) -> None:
        def answer(_: object) -> None:
            goes_on = b"true" if len(controller.seen) < 2 else b"false"
            controller.answer = (200, b'{"continue": %s}' % goes_on)

        controller.before = answer
        line = {"KINASE_REPORT_URL": controller.url, "KINASE_REPORT_TOKEN": "t" * 32}
        assert pod.run(trial_job(5), **line) == 0, pod.said
        found = result_of(store)
        assert (found.outcome, found.cost.epochs) == (Outcome.STOPPED, 2)
        for (_, headers, body), point in zip(controller.seen, found.curve, strict=True):
            assert headers["Authorization"] == f"Bearer {'t' * 32}"
            assert body.pop("attempt") == 1
            assert Point.model_validate(body).metrics == point.metrics
        # at the next attempt nobody answers, and it goes on to the end
        line["KINASE_REPORT_URL"] = "http://127.0.0.1:9/v1/trials/7/points"
        assert pod.run(trial_job(5, attempt=2), **line) == 0
        whole = self.undisturbed(pod, trial_job(5))
        assert curve(result_of(store)) == curve(whole)
        assert result_of(store).cost.epochs == 5

    def test_a_kept_network_is_tested_once(self, pod: Pod, store: Store) -> None:
        final = trial_job(kind="Final", keepWeights=True)
        assert pod.run(final) == 0
        asked = final.model_copy(update={"test": True})
        assert pod.run(asked) == 0
        raw = store.get(f"{PREFIX}/test.json")
        assert "test_accuracy" in TrialResult.model_validate_json(raw).metrics
        assert pod.run(asked.model_copy(update={"attempt": 2})) == 0
        assert store.get(f"{PREFIX}/test.json") == raw

    def test_bad_input_ends_with_2(self, pod: Pod, store: Store) -> None:
        for text in ("{", '{"version": 2}'):
            assert pod.run(text) == 2
        pod.job.unlink()
        assert pod.run(None) == 2
        assert pod.termination.message
        assert list(store.list()) == []

    def test_a_store_that_refuses_ends_with_2(self, s3: dict[str, str], tmp_path: Path) -> None:
        pod = Pod(tmp_path, s3["KINASE_STORE"], {**s3, **self.quick}, self.command)
        for change in (
            {"KINASE_STORE": "s3://no-such-bucket/a"},
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
        ):
            assert pod.run(trial_job(), **change) == 2, pod.said
            assert "store" in pod.termination.message or "bucket" in pod.termination.message

    def test_an_outage_is_sat_out(self, s3: dict[str, str], tmp_path: Path) -> None:
        network = Forwarder(s3["KINASE_STORE_ENDPOINT"])
        environment = {**s3, **self.quick, **self.slow, "KINASE_STORE_ENDPOINT": network.endpoint}
        pod = Pod(tmp_path, s3["KINASE_STORE"], environment, self.command)
        store = open_uri(s3["KINASE_STORE"], s3["KINASE_STORE_ENDPOINT"], "us-east-1")
        with pod.start(trial_job(5)) as process:
            until(lambda: progress_of(store).epochs_begun >= 1)
            with network.away():
                time.sleep(1.5)
            assert process.wait(60) == 0, pod.said
        found = result_of(store)
        assert curve(found) == curve(self.undisturbed(pod, trial_job(5)))
        assert found.cost.epochs == 5

    def test_an_outage_without_end_ends_with_75(self, s3: dict[str, str], tmp_path: Path) -> None:
        network = Forwarder(s3["KINASE_STORE_ENDPOINT"])
        environment = {**s3, **self.quick, "KINASE_STORE_ENDPOINT": network.endpoint}
        pod = Pod(tmp_path, s3["KINASE_STORE"], environment, self.command)
        with network.away():
            assert pod.run(trial_job(), KINASE_STORE_PATIENCE="1") == 75
        assert pod.termination.message
        network.cut()


def _shortest(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() else value
