"""A trainer of one's own on this machine: a process for each attempt."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from kinase.api import NASExperiment, Outcome
from kinase.api.storage import Storage
from kinase.api.task import Task, Training
from kinase.api.trial import TrialJob, TrialResult
from kinase.engine import EngineError
from kinase.engine.base import Event, Finished, Lost, Progress
from kinase.engine.command import Command, decisive
from kinase.engine.local import LocalEngine
from kinase.experiment.local import own_trainer, run
from tests.unit.engine.test_local import manifest, tells

SCRIPT = str(Path(__file__).parents[2] / "sdk_trainer.py")


def own(tmp_path: Path, *command: str, **env: str) -> NASExperiment:
    variables = [{"name": name, "value": value} for name, value in env.items()]
    return manifest(
        tmp_path,
        "of my own",
        budget={"trials": 2, "parallelism": 2},
        trialTemplate={"command": list(command), "env": variables},
    )


def learnt(seed: int, epochs: int) -> float:
    """What the script measures after so many epochs that nothing disturbs."""
    value = 0
    for epoch in range(epochs):
        value = value * 3 + epoch + seed
    return (value % 997) / 997


def test_a_search_with_a_script_whose_trial_is_killed_once(tmp_path: Path) -> None:
    """It goes on from the checkpoint, is charged exactly, and learns what it would have."""
    loop = run(own(tmp_path, "python", SCRIPT, KILLED="1"))
    assert tells(loop) == [0, 1, 2]
    killed = loop.state.trials[1]
    assert (killed.outcome, killed.attempt, killed.cost.epochs) == (Outcome.SUCCEEDED, 2, 3)
    assert loop.state.spent.epochs == 2 * 2 + 4 + 1
    for each in loop.state.trials.values():
        value = learnt(each.seed, each.fidelity.epochs)
        assert each.metrics == {"val_accuracy": pytest.approx(value)}
    assert loop.state.finished is not None
    assert loop.state.finished.test == {"test_accuracy": 0.5}
    assert loop.info.goals == {"val_accuracy": "maximize"}


def engine(tmp_path: Path, *words: str, limit: float | None = None, **env: str) -> LocalEngine:
    (tmp_path / "local").mkdir(exist_ok=True)
    return LocalEngine(
        1,
        Storage(uri=f"file://{tmp_path}/runs"),
        "default/toy",
        command=Command(experiment="toy", metric="val_accuracy", words=words, environment=env),
        time_limit=limit,
        scratch=tmp_path / "local",
    )


def trial(epochs: int) -> TrialJob:
    return TrialJob.model_validate(
        {
            "experiment": "toy", "trial": 3, "task": {}, "training": {}, "space": {"type": "Chain"},
            "architecture": {}, "fidelity": {"epochs": epochs}, "seed": 1, "prefix": "trials/00003",
        }
    )  # fmt: skip


def first(made: LocalEngine, kind: type[Event]) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for event in made.poll(1):
            if isinstance(event, kind):
                return event
    raise AssertionError("nothing came")


def test_a_trial_that_is_asked_to_stop_ends_at_its_checkpoint(tmp_path: Path) -> None:
    made = engine(tmp_path, "python", SCRIPT, EPOCH_SECONDS="0.1")
    try:
        made.launch(trial(1000))
        seen = first(made, Progress)
        assert (seen.trial, seen.point.epoch) == (3, 1)
        made.stop(3)
        result: TrialResult = first(made, Finished).result
        assert result.outcome is Outcome.STOPPED
        assert result.cost.epochs == len(result.curve) < 1000
    finally:
        made.close()


SHELL = 'sleep 600 & echo $! > {pid}; [ -z "$1" ]; wait'


@pytest.mark.parametrize("how", ["limit", "close"])
def test_nothing_that_a_command_started_outlives_it(tmp_path: Path, how: str) -> None:
    pid = tmp_path / "pid"
    limit = 3.0 if how == "limit" else None
    made = engine(tmp_path, "sh", "-c", SHELL.format(pid=pid), limit=limit)
    try:
        made.launch(trial(1))
        if how == "limit":
            lost = first(made, Lost)
            assert (lost.permanent, "timeLimit" in lost.message) == (True, True)
        else:
            while not (pid.exists() and pid.read_text()):
                time.sleep(0.02)
    finally:
        made.close()
    for _ in range(100):  # the kernel reaps it when init has been told
        state = Path(f"/proc/{int(pid.read_text())}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("it lives")


@pytest.mark.parametrize(
    ("script", "message", "crash"),
    [
        (
            "exit 0",
            "code 0 and left no valid result of trial 3: it wrote no trials/00003/res",
            True,
        ),
        ("exit 42", "ended with code 42 and left no valid result", True),
        ("exit 3", "exit code 3; see .*/local/worker-0.log", True),
        ("exit 75", "the store was out of reach", False),
        ("exit 76", "the checkpoint is gone", False),
        ("exit 143", "ended by SIGTERM", False),
        ("kill -9 $$", "killed by signal 9", True),
        (
            'echo \'{"message": "no data"}\' > $KINASE_TERMINATION_LOG; exit 2',
            "^bad input: no data$",
            True,
        ),
        (
            "d=${KINASE_STORE#file://}/trials/00003; mkdir -p $d; "
            "echo '{\"trial\": 4}' > $d/result.json",
            "trials/00003/result.json is invalid: attempt",
            True,
        ),
    ],
)
def test_an_attempt_without_a_result_is_lost(
    tmp_path: Path, script: str, message: str, crash: bool
) -> None:
    made = engine(tmp_path, "sh", "-c", script)
    try:
        made.launch(trial(1))
        lost = first(made, Lost)
    finally:
        made.close()
    assert re.search(message, lost.message), lost.message
    assert (lost.trial, lost.crash, lost.permanent) == (3, crash, "42" in script)
    assert lost.checkpoint_gone is ("76" in script)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no-such-program",), r"'no-such-program' cannot be started \(No such file"),
        (("false",), "could not describe the task: exit code 1"),
        (("true",), "ended with code 0 and wrote no trainer.json; it must describe the task"),
        (
            ("sh", "-c", "echo '{}' > ${KINASE_STORE#file://}/trainer.json"),
            "wrote a trainer.json that is invalid: input",
        ),
    ],
)
def test_a_command_that_does_not_describe_the_task(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "runs/default/toy").mkdir(parents=True)
    made = engine(tmp_path, *words)
    try:
        with pytest.raises(EngineError, match=message):
            made.describe(Task(), Training())
    finally:
        made.close()


def test_the_command_of_a_manifest(tmp_path: Path) -> None:
    given = own(tmp_path, "python", "train.py", A="1")
    template = given.spec.trial_template
    secret = {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    document = template.model_dump(by_alias=True, exclude_none=True, mode="json")
    document.update(args=["--fast"], env=[*document["env"], secret])
    spec = given.spec.model_copy(update={"trial_template": type(template).model_validate(document)})
    found = own_trainer(given.model_copy(update={"spec": spec}))
    assert found is not None
    assert found.words == ("python", "train.py", "--fast")
    assert found.environment == {"A": "1"}
    assert own_trainer(manifest(tmp_path)) is None


# -- several workers -------------------------------------------------------------------

WORKERS = (
    'echo "$KINASE_RANK/$KINASE_WORLD at $KINASE_RENDEZVOUS, slot $KINASE_SLOT,'
    ' points ${{KINASE_REPORT_URL:+yes}}, threads $OMP_NUM_THREADS" > {seen}-$KINASE_RANK; {then}'
)


@pytest.mark.parametrize(
    ("then", "message", "fields"),
    [
        ('[ "$KINASE_RANK" = 0 ] && exit 77; exit 3', "worker 1 of 2: exit code 3", (True, False)),
        (
            '[ "$KINASE_RANK" = 1 ] && exit 77; sleep 1; exit 143',
            "worker 0 of 2: ended by SIGTERM",
            (False, False),
        ),
        ("exit 77", "worker 0 of 2: another worker was lost", (False, False)),
        (
            '[ "$KINASE_RANK" = 0 ] && exit 77; exit 42',
            "worker 1 of 2: exit code 42",
            (True, True),
        ),
    ],
    ids=["a crash", "SIGTERM", "lost", "infeasible"],
)
def test_a_lost_worker_ends_the_attempt_by_its_cause(
    tmp_path: Path, then: str, message: str, fields: tuple[bool, bool]
) -> None:
    made = engine(tmp_path, "sh", "-c", WORKERS.format(seen=tmp_path / "seen", then=then))
    try:
        made.launch(trial(3).model_copy(update={"workers": 2}))
        lost = first(made, Lost)
        assert lost.message.startswith(message)
        assert (lost.crash, lost.permanent) == fields
    finally:
        made.close()
    said = [(tmp_path / f"seen-{rank}").read_text() for rank in range(2)]
    meeting = re.findall(r"at (127\.0\.0\.1:\d+)", said[0])
    assert meeting == re.findall(r"at (127\.0\.0\.1:\d+)", said[1])
    assert said[0].startswith(f"0/2 at {meeting[0]}, slot 0, points yes, threads ")
    assert said[1].startswith(f"1/2 at {meeting[0]}, slot 1, points , threads ")


@pytest.mark.parametrize(
    ("codes", "wanted"),
    [
        ((0, None), (0, 0)),
        ((0, 77), (0, 0)),
        ((42, 77), (0, 42)),
        ((77, -9), (1, -9)),
        ((None, 77, 1), (2, 1)),
        ((143, 77), (0, 143)),
        ((143, 2), (1, 2)),
        ((77, 77), (0, 77)),
    ],
)
def test_whose_end_is_that_of_an_attempt(
    codes: tuple[int | None, ...], wanted: tuple[int, int]
) -> None:
    assert decisive(codes) == wanted


def test_our_trainer_runs_in_processes_where_a_trial_has_several_workers(tmp_path: Path) -> None:
    given = manifest(tmp_path, trialTemplate={"workers": 2, "env": [{"name": "A", "value": "1"}]})
    found = own_trainer(given)
    assert found is not None
    assert found.words[1:] == ("-m", "kinase_trainer")
    assert (found.environment, found.custom) == ({"A": "1"}, False)
    assert own_trainer(given, "tests.fake_trainer") is None
