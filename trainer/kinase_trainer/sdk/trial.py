"""One attempt of a trial, as a context manager around a training loop."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kinase.api.fidelity import Fidelity
from kinase.api.objective import Goal
from kinase.api.task import Task, Training
from kinase.api.trial import (
    INFEASIBLE_EXIT,
    Architecture,
    CheckpointGone,
    ClassCount,
    Outcome,
    Point,
    TaskInfo,
    TaskJob,
    TrialJob,
    TrialResult,
)
from kinase.space import ArchitectureError, Frame, Graph, InfeasibleError, Space, make_space
from kinase.store import NotFound, Store
from kinase.words import counted
from kinase_trainer import process
from kinase_trainer.ending import Ending, Terminator
from kinase_trainer.ledger import Meter
from kinase_trainer.sdk import machine, states
from kinase_trainer.sdk.weights import Learnt, load_into, save_built, save_other

if TYPE_CHECKING:
    from kinase_trainer.network import Network

CHECKPOINT = "checkpoint/last"
TEST = "test.json"


class Infeasible(Exception):
    """Raise this if the architecture can never work: the trial ends as infeasible."""


def trial(
    *,
    input: tuple[int, int, int],
    outputs: int,
    train: int,
    validation: int,
    test: int = 0,
    metrics: Mapping[str, Goal] | None = None,
    classes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Trial:
    """The attempt for which this process was started. Use it once, in a `with` statement.

    Before the first trial, the search starts the process to describe the task, from these
    arguments; that process ends before the body of the `with` statement.

    Args:
        input: (channels, height, width) of a sample.
        outputs: width of the network's last layer.
        train: training samples.
        validation: validation samples.
        test: test samples.
        metrics: metrics of `Trial.report` with their directions. Default: accuracy.
        classes: names of the classes.
        notes: remarks to show before the search.
    """
    known = dict(metrics or {"val_accuracy": "maximize"})
    info = TaskInfo(
        input=input,
        outputs=outputs,
        train=train,
        validation=validation,
        test=test,
        metrics=tuple(known),
        goals=known,
        classes=tuple(ClassCount(name=name) for name in classes),
        notes=notes,
        device=machine.device_name(),
        supports=("until",),
    )
    return Trial(info)


class Trial:
    """One attempt of a trial."""

    job: TrialJob
    """The input of the trial (docs/trial-contract.md)."""
    store: Store
    """Store of the experiment; the trial reads and writes below `job.prefix`."""

    def __init__(self, info: TaskInfo) -> None:
        """See `trial`."""
        self.info = info
        self.done = 0
        """Completed epochs, including those of earlier attempts."""
        self.stopped = False
        """Whether the search has asked the trial to stop."""
        self._terminator = Terminator(Ending(os.environ))
        self._curve: list[Point] = []
        self._kept: dict[str, states.Stateful] = {}
        self._network: Network | None = None
        self._learnt = Learnt((0.0,), (1.0,), tuple(each.name for each in info.classes))
        self._test: dict[str, float] | None = None
        self._message = ""

    # -- the trial's input -------------------------------------------------------------

    @property
    def task(self) -> Task:
        """`spec.task`: data set, path and options."""
        return self.job.task

    @property
    def training(self) -> Training:
        """`spec.training`: batch size, optimizer, augmentation, ..."""
        return self.job.training

    @property
    def architecture(self) -> Architecture:
        """The architecture, in the form of the search space."""
        return self.job.architecture

    @property
    def fidelity(self) -> Fidelity:
        """What this trial spends: its `epochs` are those of the whole training, by which a
        schedule goes. The trial may pause before the last of them; `Trial.epochs` gives those that
        are to train now."""
        return self.job.fidelity

    @property
    def seed(self) -> int:
        """Seed of weights, data order and augmentation. The generators of Python, NumPy and torch
        are seeded with it at the start of the trial, and again before each epoch."""
        return self.job.seed

    @property
    def testing(self) -> bool:
        """Whether to test the kept network instead of training: `epochs` is then empty, and
        `report_test` reports the metrics."""
        return self.job.test

    @property
    def space(self) -> Space:
        """The search space."""
        if self.job.root is None:
            return make_space(self.job.space)
        from kinase_trainer.root import space_of

        return space_of(self.job, self.store)

    def graph(self) -> Graph:
        """The architecture's network as a graph of operations, at the size of this trial.

        Raises:
            ArchitectureError, InfeasibleError: the network cannot be built; the trial ends as
                infeasible.
        """
        space = self.space
        space.validate(self.architecture)
        return space.graph(self.architecture, self._frame)

    @property
    def _frame(self) -> Frame:
        channels, height, width = self.info.input
        side = self.fidelity.resolution
        shape = (channels, side or height, side or width)
        return Frame(shape, self.info.outputs, self.fidelity.scale)

    def build(
        self, mean: tuple[float, ...] = (0.0,), deviation: tuple[float, ...] = (1.0,)
    ) -> Network:
        """The architecture's network as a torch module, with weights drawn with the trial's seed.

        Args:
            mean: mean of each channel of the training images, which the network subtracts.
            deviation: standard deviation of each channel, by which it divides.
        """
        from kinase_trainer.network import Network

        graph = self.graph()
        machine.seed(self.seed, 0)
        self._network = Network(graph, mean, deviation)
        self._learnt = Learnt(mean, deviation, self._learnt.classes)
        return self._network

    # -- the loop ----------------------------------------------------------------------

    def keep(self, **objects: states.Stateful) -> None:
        """Name what a checkpoint holds, before the first epoch: what has `state_dict` and
        `load_state_dict`. An earlier attempt's checkpoint is put back at once, and `epochs`
        continues from there. Name all that an epoch changes, for a trial may pause after any epoch
        and continue in another process. `model` is the network that is kept for the test and for
        you."""
        if self.done:
            raise RuntimeError("keep is called once, before the first epoch")
        self._kept = dict(objects)
        if not self.testing:
            self._resume()
        elif "model" in objects:
            model = objects["model"]
            built = self._network is not None and model is self._network
            load_into(model, self.store.sub(self.job.prefix), built=built)

    def epochs(self, samples: int | None = None) -> Iterator[int]:
        """The epochs that are to train now, counted from 0. Each is charged before it is given.
        They end with the training, or earlier where the search lets the trial pause.

        Args:
            samples: training samples per epoch. Default: the training split.
        """
        if self.testing:
            return
        self._must_hold()
        if self.done < self.job.last_epoch < self.fidelity.epochs and not self._kept:
            raise RuntimeError(
                f"the trial pauses after epoch {self.job.last_epoch} of {self.fidelity.epochs}; "
                "call trial.keep(model=..., optimizer=...) so that it can continue from there"
            )
        passes = self.info.train if samples is None else samples
        while self.done < self.job.last_epoch and not self.stopped:
            epoch = self.done
            self._terminator.begin(epoch)
            self._meter.begin(passes)
            self._passes = passes
            machine.seed(self.seed, epoch + 1)
            yield epoch
            if self.done == epoch:
                raise RuntimeError(
                    f"epoch {epoch} has ended without a report; call trial.report({epoch}, "
                    "metric=value) at the end of each epoch"
                )

    def report(self, epoch: int, **metrics: float) -> None:
        """Say what was measured after an epoch: writes the checkpoint, posts the point, and prints
        a line.

        Args:
            epoch: the number from `epochs`.
            metrics: metrics on the validation split; NaN values are omitted.
        """
        if epoch != self.done or self.testing:
            raise ValueError(f"report is for epoch {self.done}, the one under way; got {epoch}")
        values = _finite(metrics)
        unknown = sorted(set(metrics) - set(self.info.metrics))
        if unknown:
            raise ValueError(
                f"{unknown[0]} is not one of the metrics that sdk.trial names: "
                f"{', '.join(self.info.metrics)}"
            )
        seconds = self._meter.seconds(machine.device())
        self.done += 1
        self._curve.append(Point(epoch=self.done, metrics=values, device_seconds=seconds))
        shown = ", ".join(f"{name} {float(value):.4f}" for name, value in metrics.items())
        job = self.job
        print(
            f"trial {job.trial} attempt {job.attempt} epoch {self.done} of {self.fidelity.epochs}: "
            f"{shown or 'no metric'}",
            flush=True,
        )
        saved = self.done < self.fidelity.epochs and bool(self._kept)
        self._meter.done(self._passes, seconds, values, write=not saved)
        if saved:
            self._save()
        self._terminator.ending.note(self.done, values)
        self._terminator.done(last=self.done >= self.job.last_epoch)
        if self._push is not None and not self._push(self._curve[-1]):
            self.stopped = True
        self._terminator.check()

    def report_test(self, **metrics: float) -> None:
        """Report the kept network's metrics on the test split, if `testing` is true."""
        if not self.testing:
            raise ValueError("report_test is for a trial whose `testing` is true")
        self._test = _finite(metrics)

    # -- start and end -----------------------------------------------------------------

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, self._terminator.handle)
        try:
            job, self.store = process.open_job(os.environ, self._terminator)
            if isinstance(job, TaskJob):
                self._describe(job)
                sys.exit(0)
            self.job = job
            if self._is_over():
                sys.exit(0)
            self._push = process.push_of(job, os.environ)
            if not job.test:
                self._meter = Meter(self.store, job.prefix, job.attempt)
            machine.seed(job.seed, 0)
        except Exception as error:
            self._end(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        code = 0
        try:
            if error is None:
                self._finish()
            elif _never_works(error) and not self.testing:
                code, self._message = INFEASIBLE_EXIT, str(error) or type(error).__name__
                self._meter.settle()
                self._write(Outcome.INFEASIBLE, {})
            else:
                self._end(error)
                return
        except Exception as failure:
            self._end(failure)
            raise
        self._terminator.over()
        self._terminator.ending.say(self._message)
        if code:
            print(f"kinase_trainer: {self._message}", file=sys.stderr)
            sys.exit(code)

    def _end(self, error: BaseException) -> None:
        """End the process according to the contract. A crash is passed on to Python, which prints
        it."""
        code, message = process.end_of(error, self._terminator)
        self._terminator.over()
        self._terminator.ending.say(message)
        if code != process.CRASH:
            print(f"kinase_trainer: {message}", file=sys.stderr)
            sys.exit(code)

    def _describe(self, job: TaskJob) -> None:
        info = self.info
        if job.space is not None and job.space.model is not None:
            from kinase_trainer.root import make_root

            root = make_root(job.space.model, info.input, info.outputs, self.store)
            info = info.model_copy(update={"root": root})
        self.store.put(job.key, info.model_dump_json(by_alias=True, indent=2).encode())
        self._terminator.over()
        self._terminator.ending.say("")

    def _is_over(self) -> bool:
        """Whether an earlier process has already written the answer."""
        if self.job.test:
            return self.store.exists(f"{self.job.prefix}/{TEST}")
        result = process.finished(self.job, self.store)
        if result is None:
            return False
        print(f"trial {self.job.trial}: attempt {result.attempt} left its result")
        self._terminator.over()
        self._terminator.ending.note(len(result.curve), result.metrics)
        self._terminator.ending.paused = process.paused(result, self.job.last_epoch)
        self._terminator.ending.say(result.message)
        if result.outcome is Outcome.INFEASIBLE:
            sys.exit(INFEASIBLE_EXIT)
        return True

    def _finish(self) -> None:
        if self.testing:
            if self._test is None:
                raise RuntimeError(
                    "the trial was a test, and report_test was not called: if trial.testing, "
                    "measure the test part and call trial.report_test(test_accuracy=...)"
                )
            self._write(Outcome.SUCCEEDED, self._test)
            return
        # a loop that was left early is over; one that was stopped, or may go no further, is not
        paused = self.stopped or self.done >= self.job.last_epoch
        over = self.done >= self.fidelity.epochs or not paused
        self._curve = self._curve[: self.job.last_epoch]
        metrics = self._curve[-1].metrics if self._curve else {}
        if self.job.keep_weights and self.done:
            self._save_weights(metrics)
        self._write(Outcome.SUCCEEDED if over else Outcome.STOPPED, metrics)
        if over and not self.job.keep_checkpoint and self._kept and self.done > 1:
            self.store.delete(f"{self.job.prefix}/{CHECKPOINT}")

    def _write(self, outcome: Outcome, metrics: Mapping[str, float]) -> None:
        facts: dict[str, Any] = {"device": self.info.device}
        testing = self.testing
        result = TrialResult(
            trial=self.job.trial,
            attempt=self.job.attempt,
            outcome=outcome,
            metrics=dict(metrics),
            curve=() if testing else tuple(self._curve),
            message=self._message[:4000],
            facts=facts,
        )
        if not testing:
            result = result.model_copy(update={"cost": self._meter.cost()})
            self._terminator.ending.paused = process.paused(result, self.job.last_epoch)
        name = TEST if testing else "result.json"
        text = result.model_dump_json(by_alias=True).encode()
        self.store.put(f"{self.job.prefix}/{name}", text)

    # -- states ------------------------------------------------------------------------

    def _save(self) -> None:
        head = {
            "epoch": self.done,
            "curve": [point.model_dump(mode="json", by_alias=True) for point in self._curve],
        }
        kept = {name: each.state_dict() for name, each in self._kept.items()}
        self.store.put(f"{self.job.prefix}/{CHECKPOINT}", states.pack(head, kept))
        self._meter.kept(self.done)

    def _resume(self) -> None:
        try:
            raw = self.store.get(f"{self.job.prefix}/{CHECKPOINT}")
        except NotFound:
            return
        try:
            head, kept = states.unpack(raw)
            if set(kept) != set(self._kept):
                raise states.BadState(f"it holds {', '.join(sorted(kept)) or 'nothing'}")
            epoch, curve = int(head["epoch"]), [Point.model_validate(p) for p in head["curve"]]
            # weights of a later epoch cannot be taken back
            most = self.job.last_epoch if self.job.keep_weights else self.fidelity.epochs
            if not 0 < epoch <= most or len(curve) != epoch:
                raise states.BadState(f"it holds {counted(epoch, 'epoch')} of {most}")
        except (states.BadState, KeyError, TypeError, ValueError) as error:
            self._message = f"the checkpoint was not used ({error}); training started from scratch"
            return
        for name, state in kept.items():
            self._kept[name].load_state_dict(state)
        self.done, self._curve = epoch, curve
        self._meter.stands(epoch)

    def _must_hold(self) -> None:
        """
        Raises:
            CheckpointGone: fewer epochs are done than the search has paid for.
        """
        if self.done >= self.job.done:
            return
        self._meter.kept(self.done)
        raise CheckpointGone(
            f"the checkpoint holds {counted(self.done, 'epoch')}; it must hold "
            f"{self.job.done}, which are paid for"
            + (f" ({self._message})" if self._message else "")
        )

    def _save_weights(self, metrics: dict[str, float]) -> None:
        """The network with the result, if torch has made one."""
        network: Any = self._kept.get("model", self._network)
        if network is None or "torch" not in sys.modules:
            return
        if self._network is not None and network is self._network:
            save_built(
                self.store, self.job, network, self._frame, self._learnt, metrics, self.space
            )
        else:
            save_other(self.store, self.job.prefix, network)


def _never_works(error: BaseException) -> bool:
    """Whether a retry is pointless: the network is impossible, or too large for the memory."""
    known = (Infeasible, ArchitectureError, InfeasibleError, MemoryError)
    return isinstance(error, known) or type(error).__name__ == "OutOfMemoryError"


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
