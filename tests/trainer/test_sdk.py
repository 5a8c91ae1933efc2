"""`kinase_trainer.sdk` in this process: the page's script, states, and what is refused."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kinase.api.trial import Outcome, TaskInfo, TrialJob, TrialProgress, TrialResult
from kinase.store import Store, open_uri
from kinase_trainer import sdk
from kinase_trainer.sdk import states
from kinase_trainer.sdk.trial import Trial
from tests.trainer.contract import TASK
from tests.trainer.helpers import job

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "own-trainer" / "train.py")
PREFIX = "trials/00007"
Start = Callable[..., None]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_uri(f"file://{tmp_path}/store")


@pytest.fixture
def asked(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Sets the environment of an attempt."""
    before = signal.getsignal(signal.SIGTERM)

    def start(own: Any) -> None:
        (tmp_path / "job.json").write_text(own.model_dump_json(by_alias=True))
        monkeypatch.setenv("KINASE_JOB", str(tmp_path / "job.json"))
        monkeypatch.setenv("KINASE_STORE", store.uri)
        monkeypatch.delenv("KINASE_REPORT_URL", raising=False)

    yield start
    signal.signal(signal.SIGTERM, before)


def result(store: Store) -> TrialResult:
    return TrialResult.model_validate_json(store.get(f"{PREFIX}/result.json"))


def points(store: Store) -> list[Any]:
    return [(p.epoch, p.metrics) for p in result(store).curve]


def of(epochs: int, **changes: Any) -> TrialJob:
    return job(fidelity={"epochs": epochs}, **changes)


class Killed(BaseException):
    """Stands for SIGKILL after a checkpoint: what follows does not happen."""


def test_the_script_of_the_page_goes_on_as_if_undisturbed(
    asked: Start,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        save = Trial._save

        def dies(self: Trial) -> None:
            save(self)
            if self.done == 2:
                raise Killed

        patch.setattr(Trial, "_save", dies)
        patch.setattr(Trial, "__exit__", lambda *_: None)
        asked(of(4, keepWeights=True, kind="Final"))
        with pytest.raises(Killed):
            runpy.run_path(EXAMPLE)
    asked(of(4, keepWeights=True, kind="Final", attempt=2))
    runpy.run_path(EXAMPLE)
    found, resumed = result(store), points(store)
    lines = [line for line in capsys.readouterr().out.splitlines() if "val_accuracy 0." in line]
    assert [line.partition(":")[0] for line in lines] == [
        f"trial 7 attempt {attempt} epoch {epoch} of 4"
        for attempt, epoch in ((1, 1), (1, 2), (2, 3), (2, 4))
    ]
    assert (found.outcome, found.cost.epochs, found.cost.samples) == (Outcome.SUCCEEDED, 4, 2400)
    asked(of(4, keepWeights=True, kind="Final", attempt=3, test=True))
    runpy.run_path(EXAMPLE)
    tested = TrialResult.model_validate_json(store.get(f"{PREFIX}/test.json"))
    assert tested.metrics["test_accuracy"] == pytest.approx(resumed[-1][1]["val_accuracy"], abs=0.2)
    for name in ("result.json", "progress.json", "test.json"):
        store.delete(f"{PREFIX}/{name}")
    asked(of(4))
    runpy.run_path(EXAMPLE)
    assert points(store) == resumed


def test_the_task_is_described_before_the_body(asked: Start, store: Store) -> None:
    asked(TASK)
    with pytest.raises(SystemExit) as ended, sdk.trial(
        input=(3, 4, 4), outputs=2, train=9, validation=3, metrics={"val_mae": "minimize"},
        classes=("a", "b"), notes=("made up",),
    ):  # fmt: skip
        raise AssertionError("the body was run")
    assert ended.value.code == 0
    info = TaskInfo.model_validate_json(store.get("trainer.json"))
    assert (info.input, info.outputs, info.goals) == ((3, 4, 4), 2, {"val_mae": "minimize"})
    assert ([c.name for c in info.classes], info.notes) == (["a", "b"], ("made up",))


def small(**more: Any) -> Trial:
    return sdk.trial(input=(1, 8, 8), outputs=10, train=100, validation=10, **more)


def test_an_architecture_that_cannot_work_is_infeasible(asked: Start, store: Store) -> None:
    asked(of(3))
    with pytest.raises(SystemExit) as ended, small() as trial:  # noqa: PT012
        for _ in trial.epochs(samples=7):
            raise sdk.Infeasible("too deep")
    assert ended.value.code == 42
    found = result(store)
    assert (found.outcome, found.message) == (Outcome.INFEASIBLE, "too deep")
    assert (found.cost.epochs, found.cost.samples) == (1, 7)


@pytest.mark.parametrize(
    ("error", "code"), [(sdk.ConfigError("no data"), 2), (ValueError("odd"), None)]
)
def test_errors_of_the_body(
    asked: Start, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: Exception, code: int | None,
) -> None:  # fmt: skip
    monkeypatch.setenv("KINASE_TERMINATION_LOG", str(tmp_path / "said"))
    asked(of(3))
    with pytest.raises(SystemExit if code else type(error)) as ended, small():
        raise error
    if isinstance(ended.value, SystemExit):
        assert ended.value.code == code
    assert str(error) in json.loads((tmp_path / "said").read_text())["message"]
    assert not store.exists(f"{PREFIX}/result.json")


def test_an_epoch_without_a_report_is_named(asked: Start) -> None:
    asked(of(3))
    with pytest.raises(RuntimeError, match=r"epoch 0 .* call trial.report\(0,"), small() as trial:
        for _ in trial.epochs():
            pass


@pytest.mark.parametrize(
    ("epoch", "metrics", "message"),
    [
        (1, {"val_accuracy": 0.5}, "report is for epoch 0, the one under way; got 1"),
        (0, {"accuracy": 0.5}, "accuracy is not one of the metrics that sdk.trial names: val_acc"),
    ],
)
def test_a_report_that_cannot_be_is_refused(
    asked: Start, epoch: int, metrics: dict[str, float], message: str
) -> None:
    asked(of(3))
    with small() as trial:
        for _ in trial.epochs():
            with pytest.raises(ValueError, match=message):
                trial.report(epoch, **metrics)
            break


def test_a_test_that_says_nothing_is_refused(asked: Start) -> None:
    asked(of(3, kind="Final", test=True))
    with pytest.raises(RuntimeError, match="report_test was not called"), small() as trial:
        assert list(trial.epochs()) == []


def test_a_value_that_is_no_number_is_left_out(asked: Start, store: Store) -> None:
    asked(of(1))
    with small() as trial:
        for epoch in trial.epochs():
            trial.report(epoch, val_accuracy=float("nan"))
    assert (result(store).metrics, result(store).outcome) == ({}, Outcome.SUCCEEDED)


def test_a_loop_may_end_early(asked: Start, store: Store) -> None:
    asked(of(9))
    with small() as trial:
        for epoch in trial.epochs():
            trial.report(epoch, val_accuracy=0.5)
            break
    found = result(store)
    assert (found.outcome, found.cost.epochs, len(found.curve)) == (Outcome.SUCCEEDED, 1, 1)


def test_a_checkpoint_of_other_names_is_passed_over(asked: Start, store: Store) -> None:
    asked(of(3, keepCheckpoint=True))
    linear = torch.nn.Linear(2, 2)
    with small() as trial:
        trial.keep(model=linear)
        for epoch in trial.epochs():
            trial.report(epoch, val_accuracy=0.5)
    store.delete(f"{PREFIX}/result.json")
    asked(of(3, attempt=2))
    with small() as trial:
        trial.keep(model=linear, optimizer=torch.optim.SGD(linear.parameters()))
        assert trial.done == 0
        for epoch in trial.epochs():
            trial.report(epoch, val_accuracy=0.5)
    assert result(store).message.startswith("the checkpoint was not used (it holds model); train")
    assert result(store).cost.epochs == 6
    ledger = TrialProgress.model_validate_json(store.get(f"{PREFIX}/progress.json"))
    assert (ledger.epochs_begun, ledger.epochs_done) == (6, 2)


def test_a_network_of_ones_own_is_kept_and_tested(asked: Start, store: Store) -> None:
    linear = torch.nn.Linear(2, 2)
    asked(of(1, kind="Final", keepWeights=True))
    with small() as trial:
        trial.keep(model=linear)
        for epoch in trial.epochs():
            trial.report(epoch, val_accuracy=0.5)
    other = torch.nn.Linear(2, 2)
    asked(of(1, kind="Final", keepWeights=True, test=True))
    with small() as trial:
        trial.keep(model=other)
        trial.report_test(test_accuracy=0.5)
    assert torch.equal(other.weight, linear.weight)


def test_states_come_back_as_they_were() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    kept = {"model": model, "optimizer": optimizer, "schedule": schedule}
    raw = states.pack({"epoch": 1}, {name: each.state_dict() for name, each in kept.items()})  # type: ignore[attr-defined]
    head, found = states.unpack(raw)
    assert head == {"epoch": 1}
    wanted = optimizer.state_dict()
    assert found["optimizer"]["param_groups"] == wanted["param_groups"]
    for index, slots in wanted["state"].items():
        for name, tensor in slots.items():
            assert torch.equal(found["optimizer"]["state"][index][name], tensor)
    assert {k: v for k, v in found["schedule"].items() if k != "_step_count"} == {
        k: v for k, v in schedule.state_dict().items() if k != "_step_count"
    }
    tied = torch.nn.Linear(2, 2)
    both = {"a": {"x": tied.weight, "y": tied.weight}}
    assert torch.equal(states.unpack(states.pack({}, both))[1]["a"]["y"], tied.weight)


def test_keys_with_points_give_no_tensor_the_place_of_another() -> None:
    state = {"a.b": torch.zeros(2), "a": {"b": torch.ones(2)}}
    found = states.unpack(states.pack({}, {"model": state}))[1]["model"]
    assert found["a.b"].tolist() == [0, 0]
    assert found["a"]["b"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": object()}, "model.a is of type object"),
        ({"a": [{"b": {1, 2}}]}, "model.a.0.b is of type set"),
        ({(1, 2): 3}, r"model has the key \(1, 2\)"),
    ],
)
def test_a_state_of_something_else_is_refused(state: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        states.pack({}, {"model": state})


@pytest.mark.parametrize("cut", [0, 10, 40, -1])
def test_a_damaged_state_is_refused(cut: int) -> None:
    raw = states.pack({"epoch": 1}, {"a": {"x": torch.ones(3)}})
    with pytest.raises(states.BadState):
        states.unpack(raw[:cut])


def test_it_does_not_import_torch() -> None:
    code = "import sys; from kinase_trainer import sdk; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_script_of_the_page_is_trained_in_stretches(asked: Start, store: Store) -> None:
    """With the points of one training without pauses."""
    for attempt, (done, until) in enumerate(((0, 1), (1, 3)), start=1):
        asked(of(3, attempt=attempt, done=done, until=until))
        runpy.run_path(EXAMPLE)
    found, in_stretches = result(store), points(store)
    assert (found.outcome, found.cost.epochs) == (Outcome.SUCCEEDED, 3)
    for name in ("result.json", "progress.json"):
        store.delete(f"{PREFIX}/{name}")
    asked(of(3))
    runpy.run_path(EXAMPLE)
    assert points(store) == in_stretches


# -- pauses ----------------------------------------------------------------------------


class Counter:
    value = 0

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def counted_to(asked: Start, leave_at: int = 99, **changes: Any) -> None:
    """A trial of four epochs that counts them."""
    asked(of(4, **changes))
    counter = Counter()
    with small() as trial:
        trial.keep(counter=counter)
        for epoch in trial.epochs():
            counter.value += epoch + 1
            trial.report(epoch, val_accuracy=counter.value / 10)
            if trial.done == leave_at:
                break


def test_a_loop_pauses_and_goes_on_by_itself(asked: Start, store: Store) -> None:
    counted_to(asked, until=0)
    assert (result(store).outcome, points(store)) == (Outcome.STOPPED, [])
    for attempt, (done, until) in enumerate(((0, 1), (1, 3), (3, 4)), start=2):
        counted_to(asked, until=until, done=done, attempt=attempt)
        found = result(store)
        assert found.outcome is (Outcome.SUCCEEDED if until == 4 else Outcome.STOPPED)
        assert found.cost.epochs == len(found.curve) == until
        assert store.exists(f"{PREFIX}/checkpoint/last") is (until < 4)
    assert points(store)[-1] == (4, {"val_accuracy": 1.0})


def test_a_pause_that_was_reached_is_not_trained_again(asked: Start, store: Store) -> None:
    counted_to(asked, until=3)
    counted_to(asked, until=2, done=2, attempt=2)  # the checkpoint is further
    assert (len(points(store)), result(store).cost.epochs) == (2, 3)
    before = store.get(f"{PREFIX}/result.json")
    with pytest.raises(SystemExit) as ended:
        counted_to(asked, until=2, done=2, attempt=2)
    assert (ended.value.code, store.get(f"{PREFIX}/result.json")) == (0, before)


def test_epochs_that_are_gone_end_with_76(asked: Start, store: Store, capfd: Any) -> None:
    counted_to(asked, until=2)
    store.put(f"{PREFIX}/checkpoint/last", b"damaged")
    with pytest.raises(SystemExit) as ended:
        counted_to(asked, until=3, done=2, attempt=2)
    assert ended.value.code == 76
    assert "the checkpoint holds 0 epochs; it must hold 2" in capfd.readouterr().err
    spent = TrialProgress.model_validate_json(store.get(f"{PREFIX}/progress.json"))
    assert (spent.epochs_begun, spent.epochs_done) == (2, 0)
    counted_to(asked, until=3, attempt=3)
    assert (len(points(store)), result(store).cost.epochs) == (3, 5)


def test_a_loop_that_is_left_within_a_stretch_is_over(asked: Start, store: Store) -> None:
    counted_to(asked, until=3, leave_at=2)
    assert (result(store).outcome, len(points(store))) == (Outcome.SUCCEEDED, 2)


def test_a_loop_without_states_cannot_pause(asked: Start, store: Store) -> None:
    asked(of(4, until=2))
    with pytest.raises(RuntimeError, match="pauses after epoch 2 of 4; call trial"), small() as t:
        next(t.epochs())
    assert not store.exists(f"{PREFIX}/progress.json")
