"""Termination messages, and what SIGTERM does when."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kinase.api.trial import Termination
from kinase_trainer import ending as ending_module
from kinase_trainer.ending import MOST_BYTES, Ending, Terminated, Terminator, compose


@pytest.mark.parametrize(
    "message",
    [
        "",
        "the loss is nan",
        "x" * 100_000,
        "ü" * 100_000,
        "日本" * 50_000,
        "\x00\x01" * 50_000,
        '"\\' * 50_000,
        "😀" * 50_000,
        "lost \ud800 half",
    ],
)
def test_a_message_is_a_termination_and_fits(message: str) -> None:
    data = compose(0.1 + 0.2, 17, message)
    assert len(data) <= MOST_BYTES
    read = Termination.model_validate_json(data)
    assert (read.value, read.epochs) == (0.1 + 0.2, 17)
    assert len(message) < 3000 or len(read.message) > 400
    assert message.encode(errors="replace").decode().startswith(read.message)


def test_what_is_not_known_is_left_out() -> None:
    assert json.loads(compose(None, None, "why")) == {"message": "why"}


def test_the_value_is_the_objective_s(tmp_path: Path) -> None:
    path = tmp_path / "termination-log"
    environ = {"KINASE_TERMINATION_LOG": str(path), "KINASE_METRIC": "val_loss"}
    ending = Ending(environ)
    for metrics, value in (({"val_loss": 0.5, "val_accuracy": 1.0}, 0.5), ({}, None)):
        ending.note(3, metrics)
        ending.say("")
        assert Termination.model_validate_json(path.read_bytes()) == Termination(
            value=value, epochs=3
        )
    ending.note(4, {"val_loss": math.nan})
    assert ending.value is None


def test_a_message_that_cannot_be_written_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Ending({}).say("nowhere")
    assert capsys.readouterr().err == ""
    Ending({"KINASE_TERMINATION_LOG": str(tmp_path / "no" / "folder")}).say("lost")
    assert "no termination message" in capsys.readouterr().err


class Exited(BaseException):
    """Stands for the end of the process."""


class World:
    """A clock, an alarm, and an exit that can be looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.alarm: float | None = None
        self.handler: Callable[..., object] = lambda *_: None

        def leave(code: int) -> None:
            assert code == 143
            raise Exited

        monkeypatch.setattr(ending_module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(ending_module.os, "_exit", leave)
        monkeypatch.setattr(ending_module.signal, "signal", self._signal)
        monkeypatch.setattr(ending_module.signal, "setitimer", self._setitimer)

    def _signal(self, number: int, handler: Callable[..., object]) -> None:
        if number == signal.SIGALRM:
            self.handler = handler

    def _setitimer(self, which: int, seconds: float) -> None:
        self.alarm = seconds


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def training(world: World, took: float | None = None, into: float = 0.0) -> Terminator:
    """In an epoch, `into` seconds after its beginning, the one before it took `took`."""
    own = Terminator(Ending({}))
    done = 4
    if took is not None:
        own.begin(3)
        world.now += took
        own.done(last=False)
    own.begin(done)
    world.now += into
    return own


def term(own: Terminator) -> None:
    own.handle(signal.SIGTERM, None)


def test_before_the_training_the_end_is_at_once(world: World) -> None:
    own = Terminator(Ending({}))
    with pytest.raises(Exited):
        term(own)
    assert own.text == "ended by SIGTERM before the training started"


def test_without_a_grace_period_every_epoch_is_waited_for(world: World) -> None:
    own = training(world, took=1e6)
    term(own)
    assert world.alarm is None
    with pytest.raises(Terminated):
        own.done(last=False)


@pytest.mark.parametrize(
    ("took", "into", "at_once"),
    [
        (20.0, 0.0, False),  # 27 s of the 30 are waited
        (28.0, 0.0, True),
        (28.0, 2.0, False),
        (600.0, 500.0, True),
        (600.0, 580.0, False),
        (600.0, 700.0, False),  # longer than the last one: who knows
        (None, 500.0, False),
    ],
)
def test_an_epoch_is_waited_for_if_the_last_one_lets_hope(
    world: World, took: float | None, into: float, at_once: bool
) -> None:
    own = training(world, took, into)
    own.grace = 30.0
    if at_once:
        with pytest.raises(Exited):
            term(own)
        assert own.text == "ended by SIGTERM; epochs done: 4"
        return
    term(own)
    assert world.alarm == pytest.approx(27)
    with pytest.raises(Exited):
        world.handler()


@pytest.mark.parametrize(
    ("grace", "wait"), [(600.0, 595.0), (30.0, 27.0), (1.0, 0.9), (0.0, 0.001)]
)
def test_a_part_of_the_grace_period_is_left_for_the_end(
    world: World, grace: float, wait: float
) -> None:
    own = training(world)
    own.grace = grace
    term(own)
    assert world.alarm == pytest.approx(wait)
    world.alarm = None
    term(own)  # a second signal does not prolong it
    assert world.alarm is None


def test_the_result_is_waited_for_as_long_as_there_is_time(world: World) -> None:
    own = training(world, took=1000)
    own.grace = 30.0
    own.done(last=True)
    term(own)
    own.check()
    assert own.text == "ended by SIGTERM before the result was written"
    with pytest.raises(Exited):
        world.handler()


def test_a_signal_in_the_last_epoch_leaves_the_result(world: World) -> None:
    own = training(world)
    term(own)
    own.done(last=True)
    own.check()


def test_a_signal_between_two_epochs_begins_none(world: World) -> None:
    own = training(world)
    own.done(last=False)
    term(own)
    for step in (own.check, lambda: own.begin(5), lambda: own.done(last=False)):
        with pytest.raises(Terminated):
            step()


def test_a_store_out_of_reach_is_not_waited_for(world: World) -> None:
    own = training(world)
    own.outage = lambda: True
    with pytest.raises(Exited):
        term(own)


def test_a_forked_child_ends_without_a_word(tmp_path: Path) -> None:
    own = Terminator(Ending({"KINASE_TERMINATION_LOG": str(tmp_path / "log")}))
    own.begin(0)
    child = os.fork()
    if not child:
        term(own)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
    assert not (tmp_path / "log").exists()
    assert not own.asked


def test_what_is_decided_stays(world: World) -> None:
    own = training(world)
    own.grace = 30.0
    term(own)
    own.over()
    assert world.alarm == 0
