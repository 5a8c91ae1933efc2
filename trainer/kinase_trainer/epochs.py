"""The one loop over epochs, for whatever learns: charge, train, score, save, tell.

with checkpoint.Uploads(store, prefix, meter.kept) as uploads:
    ended = train_epochs(learner, until, uploads, meter, notify, begin)

In a group of workers this is the loop of worker 0. The others run `follow_epochs`, which trains the
epochs that worker 0 orders, so that no worker can be an epoch ahead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import torch

from kinase.api.trial import Outcome, Point
from kinase_trainer.checkpoint import Saved, Uploads
from kinase_trainer.ending import Terminated
from kinase_trainer.errors import WorkerLost
from kinase_trainer.group import ALONE, Group
from kinase_trainer.ledger import Meter

Notify = Callable[[Point], bool]
"""Told after every epoch; False asks to stop."""
Begin = Callable[[int], None]
"""Told before every epoch how many are done."""


class Diverged(ArithmeticError):
    """The loss is not a number any more."""

    def __init__(self, epoch: int, loss: float, samples: int) -> None:
        """The loss of epoch `epoch`, from 1, became `loss` after `samples` sample passes."""
        super().__init__(f"the loss is {loss} in epoch {epoch}; the training ended there")
        self.samples = samples


class Learner(Protocol):
    """What is trained epoch by epoch. All its state is in what `pack` gives: another object that
    `unpack`s it continues exactly as this one would."""

    epoch: int
    """Epochs done."""
    epochs: int
    """Epochs of the whole training, by which its schedules go."""
    curve: list[Point]
    """A point for each epoch done."""
    device: torch.device
    ended: str
    """Why the training is over before its last epoch; empty while it is not."""

    @property
    def passes(self) -> int:
        """Samples that one epoch passes forward and backward."""

    def train_epoch(self) -> int:
        """Train one epoch; returns the sample passes.

        Raises:
            Diverged: the loss is not a number any more.
        """

    def score(self) -> dict[str, float]:
        """Metrics of the validation part."""

    def pack(self) -> Saved:
        """What a checkpoint holds."""

    def unpack(self, saved: Saved) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is of another training; then nothing was changed.
        """


@dataclass(frozen=True)
class Ended:
    """How the epochs of an attempt ended."""

    outcome: Outcome
    metrics: dict[str, float]
    """After the last epoch; none of a training that diverged, which counts as worst."""
    message: str = ""
    """Why it ended early."""

    @property
    def diverged(self) -> bool:
        """Whether the loss is not a number any more."""
        return bool(self.message)


def train_epochs(
    learner: Learner,
    until: int,
    uploads: Uploads,
    meter: Meter,
    notify: Notify,
    begin: Begin,
    name: str = "",
    group: Group = ALONE,
) -> Ended:
    """Train until so many epochs are done, the order to stop, or a loss that is not a number.

    After every epoch but the last of the whole training there is a checkpoint: a training that
    pauses at `until` can be taken up by another process as if it had never paused.

    Args:
        learner: which may have done some of the epochs, or all of them.
        until: epochs, at most those of the whole training.
        uploads: where checkpoints go. Leave its context before the result is written.
        meter: charges each epoch before it begins.
        notify: told after every epoch.
        begin: told before every epoch, and before that is charged.
        name: of the attempt, for the log.
        group: the workers that train together. All end where one of them was asked to.
    """
    while learner.epoch < until and not learner.ended:
        group.turn()
        begin(learner.epoch)
        meter.begin(learner.passes)
        group.tell("epoch")
        print(f"{name} epoch {learner.epoch + 1} begins".lstrip(), flush=True)
        try:
            samples = learner.train_epoch()
        except Diverged as error:
            meter.end(error.samples, meter.seconds(learner.device))
            _dismiss(group)
            return Ended(Outcome.SUCCEEDED, {}, str(error))
        metrics = {k: v for k, v in learner.score().items() if math.isfinite(v)}
        seconds = meter.seconds(learner.device)
        learner.curve.append(Point(epoch=learner.epoch, metrics=metrics, device_seconds=seconds))
        whole = learner.epoch == learner.epochs or bool(learner.ended)
        meter.done(samples, seconds, metrics, write=whole)
        if not whole:  # after the last epoch comes the result
            uploads.add(learner.pack())
        if not notify(learner.curve[-1]) and not whole:
            break
    _dismiss(group)
    metrics = learner.curve[-1].metrics if learner.curve else {}
    whole = learner.epoch >= learner.epochs or bool(learner.ended)
    return Ended(Outcome.SUCCEEDED if whole else Outcome.STOPPED, metrics)


def _dismiss(group: Group) -> None:
    """Tell the other workers that no epoch follows. One that is gone by now is not missed."""
    with suppress(WorkerLost):
        group.any(False)
        group.tell("over")


def follow_epochs(learner: Learner, begin: Begin, done: Begin, group: Group) -> None:
    """Train the epochs that worker 0 orders, at another worker of its group.

    Args:
        learner: in the state of worker 0's.
        begin: called before every epoch with the number of epochs that are done.
        done: called after every epoch with that number.
        group: the workers.

    Raises:
        Terminated: a worker was asked to end.
        WorkerLost: another worker is gone.
    """
    while True:
        group.any(group.asked())
        match group.tell(None):
            case "epoch":
                begin(learner.epoch)
                with suppress(Diverged):  # so has it at worker 0
                    learner.train_epoch()
                    learner.score()
                done(learner.epoch)
            case "leave":
                raise Terminated
            case _:
                return
