"""The interface of an engine, which runs trials."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass

from kinase.api.space import Space
from kinase.api.task import Task, Training
from kinase.api.trial import Point, TaskInfo, TrialJob, TrialResult


class EngineError(Exception):
    """The engine cannot run any trial; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A running trial ended an epoch. This is a hint and may be lost."""

    trial: int
    point: Point


@dataclass(frozen=True, slots=True)
class Finished:
    """A trial's process ended with a result."""

    trial: int
    result: TrialResult


@dataclass(frozen=True, slots=True)
class Lost:
    """A trial's process ended without a result."""

    trial: int
    message: str
    """The known cause, for people."""
    crash: bool = True
    """Whether the trial may be the cause, so that the loss counts against `maxRetries`."""
    out_of_memory: bool = False
    """Whether the machine ran out of memory."""
    permanent: bool = False
    """Whether a retry is pointless, for example after the time limit."""
    given_up: bool = False
    """Whether it was disrupted too often to be retried."""
    checkpoint_gone: bool = False
    """Whether nothing was trained because the checkpoint holds fewer epochs than `TrialJob.done`.
    The ledger, `progress.json`, says how many it holds."""


Event = Progress | Finished | Lost


class Engine(ABC):
    """Runs trials, at most `slots` at a time. Not thread-safe: one loop owns it."""

    slots: int
    """Maximum number of jobs that run at the same time."""
    batch: int = 1
    """Maximum number of candidates in a job (`TrialJob.also`): 1 where a process is at hand. Events
    are those of each candidate."""

    @abstractmethod
    def describe(self, task: Task, training: Training, space: Space | None = None) -> TaskInfo:
        """Ask the trainer about the task.

        Args:
            task: the learning task.
            training: how to train networks.
            space: the search space, if the search starts from a network of the trainer.

        Raises:
            EngineError: the data set, the device or the network is missing.
        """

    @abstractmethod
    def launch(self, job: TrialJob) -> None:
        """Start an attempt of a trial, or of several candidates; a slot must be free."""

    def adopt(self, job: TrialJob) -> bool:
        """Called after a restart: whether an attempt that an earlier process launched is still
        running, or has ended in the meantime. Its events then arrive as if it had just been
        launched."""
        return False

    @abstractmethod
    def running(self) -> dict[int, float]:
        """Running trials, with the seconds that each has held its slot. Of several candidates in a
        job, all but the first have held it for none."""

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return len(self.running())

    @abstractmethod
    def poll(self, timeout: float | None) -> Sequence[Event]:
        """Wait for events, at most `timeout` seconds; the list can be empty."""

    def holds(self, trial: int) -> bool:
        """Whether the process of a trial that rests still waits. `launch` with the same attempt and
        more epochs then continues it. If it does not hear of that, its end is reported with the
        result of the rest."""
        return False

    def release(self, undecided: Container[int] = ()) -> None:  # noqa: B027
        """Let the processes end that wait and were not continued: their slots are others' now.
        Those of `undecided` trials wait on."""

    @abstractmethod
    def stop(self, trial: int) -> None:
        """Ask a trial to stop at its next checkpoint; its result then says `Stopped`."""

    @abstractmethod
    def close(self) -> None:
        """Kill everything that still runs."""
