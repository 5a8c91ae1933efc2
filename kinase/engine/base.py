"""What an engine is: the place where trials run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from kinase.api.space import Space
from kinase.api.task import Task, Training
from kinase.api.trial import Point, TaskInfo, TrialJob, TrialResult


class EngineError(Exception):
    """The engine cannot run trials at all; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A running trial ended an epoch. A hint: nothing relies on seeing it."""

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
    """What is known of the cause, for a person."""
    crash: bool = True
    """Whether the trial may be the cause, so that it counts against `maxRetries`."""
    out_of_memory: bool = False
    """Whether the machine ran out of memory for it."""
    permanent: bool = False
    """Whether trying again is of no use, as at the time limit."""
    given_up: bool = False
    """Whether it was lost too often, for no fault of its own, to be tried again."""
    checkpoint_gone: bool = False
    """Whether nothing was trained because the checkpoint holds fewer epochs than `TrialJob.done`.
    The ledger, `progress.json`, says how many it holds."""


Event = Progress | Finished | Lost


class Engine(ABC):
    """Runs trials, at most `slots` at once. Not thread-safe: one loop owns it."""

    slots: int
    """How many trials may run at once."""

    @abstractmethod
    def describe(self, task: Task, training: Training, space: Space | None = None) -> TaskInfo:
        """Ask the trainer about the task.

        Args:
            task: what is learnt.
            training: how networks are trained.
            space: of the search, where it begins with a network that the trainer has.

        Raises:
            EngineError: the data set, the device or the network is not there.
        """

    @abstractmethod
    def launch(self, job: TrialJob) -> None:
        """Begin an attempt of a trial; a slot must be free."""

    def adopt(self, job: TrialJob) -> bool:
        """Whether an attempt that an earlier process launched goes on, or has ended meanwhile,
        without us: its events come as if it had just been launched. Asked after a restart."""
        return False

    @abstractmethod
    def running(self) -> dict[int, float]:
        """Running trials, with the seconds that each has held its slot."""

    @abstractmethod
    def poll(self, timeout: float | None) -> Sequence[Event]:
        """Wait for events, at most `timeout` seconds; none may come."""

    @abstractmethod
    def stop(self, trial: int) -> None:
        """Ask a trial to stop at its next checkpoint; its result then says `Stopped`."""

    @abstractmethod
    def close(self) -> None:
        """End everything that still runs, at once."""
