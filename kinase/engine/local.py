"""The local engine: warm worker processes, one for each slot."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kinase.api.space import Space
from kinase.api.storage import Storage
from kinase.api.task import Task, Training
from kinase.api.trial import Point, TaskInfo, TrialJob
from kinase.engine.answers import result_of, wrong
from kinase.engine.base import Engine, EngineError, Event, Lost, Progress
from kinase.engine.command import Command
from kinase.engine.oom import oom_kills

START_SECONDS = 180.0
"""Maximum seconds for a worker to import the trainer."""
END_SECONDS = 5.0
"""How long a worker that has closed its connection may take to end."""
STARTS = 3
"""Workers in a row that can die before they are ready; after that the engine gives up."""


BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from kinase.engine.worker import serve; serve(int(sys.argv[1]))"
)
"""Code of a worker. It is not a process of `multiprocessing`, which would run the user's script
again in each worker, unless it is guarded by ``if __name__ == "__main__"``."""


def _import_path() -> list[str]:
    """Import path of this process, so that a worker finds the same modules."""
    return [entry or os.getcwd() for entry in sys.path]


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]
    slot: int
    ready: bool = False
    started: float = field(default_factory=time.monotonic)
    job: TrialJob | None = None
    since: float = 0.0
    """When the job was handed over, or the worker ready for it, on the monotonic clock."""
    oom_kills: int = 0
    """The kernel's count of out-of-memory kills when the job began."""
    overtime: bool = False
    hung: bool = False
    """It closed its connection and did not end within `END_SECONDS`."""


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _kill(each: _Worker) -> None:
    """Kill a worker with its process group, which holds everything that its command has started.

    Nothing happens once its exit status was taken: its number may be another process's by then.
    """
    if each.process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):  # it leads no process group
        os.killpg(each.process.pid, signal.SIGKILL)
    each.process.kill()


def _death(each: _Worker) -> str:
    """How a worker ended that is gone or about to be. What it has started ends before its exit
    status is taken, while its number still stands for its process group."""
    if each.process.returncode is None:
        each.hung = not _await_end(each.process.pid, END_SECONDS)
    _kill(each)
    with contextlib.suppress(subprocess.TimeoutExpired):
        each.process.wait(END_SECONDS)
    if each.hung:
        return "the worker process closed its connection and did not end"
    code = each.process.returncode
    how = f"was killed by signal {-code}" if code and code < 0 else f"exited with code {code}"
    return f"the worker process {how}"


def _await_end(pid: int, seconds: float) -> bool:
    """Wait for the end of a child process, without reaping its exit status; whether it ended."""
    deadline = time.monotonic() + seconds
    while not _ended(pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


def _ended(pid: int) -> bool:
    """Whether a child process has ended; its exit status is not reaped."""
    if not hasattr(os, "waitid"):  # before Python 3.13 on macOS
        asked = ["ps", "-o", "stat=", "-p", str(pid)]
        state = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        return state.strip()[:1] in ("", "Z")
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:  # its status was taken already
        return True


class LocalEngine(Engine):
    """Runs trials in processes on this machine.

    A worker imports the trainer once and is used for many trials; one that dies is replaced, and
    its trial is reported as lost. CPU threads are divided among the slots. Workers die with the
    process that owns the engine, even when it is killed.
    """

    def __init__(
        self,
        slots: int,
        storage: Storage,
        directory: str,
        *,
        trainer: str = "torch",
        command: Command | None = None,
        time_limit: float | None = None,
        scratch: Path | None = None,
    ) -> None:
        """Start the workers; they import the trainer in the background.

        Args:
            slots: number of trials that run at the same time.
            storage: where trials read and write.
            directory: the experiment's place below the storage.
            trainer: entry point of the group `kinase.trainers`, or an import path.
            command: a custom trainer to run instead.
            time_limit: seconds after which an attempt is killed and not retried.
            scratch: folder on this machine for the workers' logs and the lock file that they hold
                while they live.
        """
        self.slots = slots
        self._arguments = (
            trainer,
            command and command.model_dump_json(),
            storage.model_dump_json(),
            directory,
            scratch and str(scratch),
        )
        self._threads = max(1, _cpus() // slots)
        self._time_limit = time_limit
        self._workers = [self._start(slot) for slot in range(slots)]
        self._backlog: list[Event] = []
        self._stillborn = 0

    def _start(self, slot: int) -> _Worker:
        ours, theirs = Pipe()
        with theirs:
            end = theirs.fileno()
            process = subprocess.Popen(
                [sys.executable, "-c", BOOT, str(end), json.dumps(_import_path())],
                pass_fds=(end,),
                stdin=subprocess.DEVNULL,
            )
        with contextlib.suppress(OSError):  # it died; the wait for it reports that
            ours.send((os.getpid(), slot, self._threads, *self._arguments))
        return _Worker(process, ours, slot)

    def describe(self, task: Task, training: Training, space: Space | None = None) -> TaskInfo:
        """Ask the first worker's trainer about the task."""
        while True:
            first = self._workers[0]
            try:
                self._await_ready(first)
                question = (
                    task.model_dump_json(),
                    training.model_dump_json(),
                    None if space is None else space.model_dump_json(by_alias=True),
                )
                first.connection.send(("describe", *question))
                match first.connection.recv():
                    case ("described", str(text)):
                        try:
                            return TaskInfo.model_validate_json(text)
                        except ValidationError as error:
                            raise EngineError(
                                f"the trainer's description of the task is invalid: {wrong(error)}"
                            ) from None
                    case ("error", None, str(message), bool()):
                        raise EngineError(message)
                    case other:
                        raise EngineError(f"the worker answered {other!r}")
            except (EOFError, OSError):
                self._replace(first)

    def _await_ready(self, each: _Worker) -> None:
        if each.ready:
            return
        if not each.connection.poll(START_SECONDS):
            raise EngineError(
                f"a worker did not start within {START_SECONDS:g} s: this machine may be too "
                "busy; the same command tries again"
            )
        match each.connection.recv():
            case ("ready",):
                each.ready = True
                self._stillborn = 0
            case ("error", None, str(message), bool()):
                raise EngineError(f"a worker could not start: {message}")
            case other:
                raise EngineError(f"the worker answered {other!r}")

    def launch(self, job: TrialJob) -> None:
        """Hand the job to a free worker, a ready one by preference."""
        free = [w for w in self._workers if w.job is None]
        if not free:
            raise RuntimeError("no slot is free")
        chosen = min(free, key=lambda w: (not w.ready, w.slot))
        chosen.job = job
        chosen.since = time.monotonic()
        chosen.oom_kills = oom_kills()
        chosen.overtime = False
        try:
            chosen.connection.send(("run", job.model_dump_json()))
        except OSError:
            self._backlog.append(self._bury(chosen))

    def running(self) -> dict[int, float]:
        """Running trials, with the seconds since each was handed to its worker."""
        now = time.monotonic()
        return {w.job.trial: now - w.since for w in self._workers if w.job is not None}

    def poll(self, timeout: float | None) -> Sequence[Event]:
        """Wait for the workers' messages, their deaths, or the next time limit."""
        if self._backlog:
            backlog, self._backlog = self._backlog, []
            return backlog
        self._enforce_time_limit()
        begun = [each.since for each in self._workers if each.job is not None and each.ready]
        if self._time_limit is not None and begun:
            left = max(0.0, min(begun) + self._time_limit - time.monotonic())
            timeout = left if timeout is None else min(timeout, left)
        events: list[Event] = []
        by_connection = {w.connection: w for w in self._workers}
        for ready in wait(list(by_connection), timeout):
            events += self._receive(by_connection[ready])  # type: ignore[index]
        return events

    def _receive(self, each: _Worker) -> list[Event]:
        events: list[Event] = []
        try:
            while each.connection.poll():
                event = self._event(each, each.connection.recv())
                if event is not None:
                    events.append(event)
        except (EOFError, OSError):
            if each.job is not None:
                events.append(self._bury(each))
            else:
                self._replace(each)
        return events

    def _event(self, each: _Worker, message: object) -> Event | None:
        match message:
            case ("ready",):
                each.ready = True
                each.since = time.monotonic()  # importing the trainer is not charged
                self._stillborn = 0
                return None
            case ("point", int(trial), str(text)):
                return Progress(trial, Point.model_validate_json(text))
            case ("result", int(trial), str(text)):
                each.job = None
                return result_of(trial, text)
            case ("error", int(trial), str(text), bool(out_of_memory)):
                each.job = None
                return Lost(trial, text, out_of_memory=out_of_memory)
            case ("lost", int(trial), str(text), dict(fields)):
                each.job = None
                return Lost(trial, text, **fields)
            case ("error", None, str(text), bool()):
                raise EngineError(f"a worker could not start: {text}")
            case _:
                raise EngineError(f"the worker answered {message!r}")

    def _enforce_time_limit(self) -> None:
        if self._time_limit is None:
            return
        for each in self._workers:
            over = time.monotonic() - each.since >= self._time_limit
            if each.job is not None and each.ready and over:
                each.overtime = True
                _kill(each)

    def _bury(self, each: _Worker) -> Lost:
        """Replace a dead worker, and report its trial as lost."""
        assert each.job is not None
        trial, message = each.job.trial, _death(each)
        self._replace(each)
        if each.overtime:
            limit = f"it ran longer than trialTemplate.timeLimit, {self._time_limit:g} s"
            return Lost(trial, limit, permanent=True)
        killed = each.process.returncode == -9 and not each.hung
        if killed and oom_kills() > each.oom_kills:
            return Lost(trial, "the machine ran out of memory", out_of_memory=True)
        return Lost(trial, message)

    def _replace(self, each: _Worker) -> None:
        """Start a worker in place of a dead one.

        Raises:
            EngineError: several workers in a row have died before they were ready.
        """
        self._stillborn += not each.ready
        if self._stillborn >= STARTS:
            raise EngineError(f"workers cannot start: {_death(each)}")
        _kill(each)
        each.process.wait()
        each.connection.close()
        self._workers[each.slot] = self._start(each.slot)

    def stop(self, trial: int) -> None:
        """Ask the trial's worker to stop after the current epoch."""
        for each in self._workers:
            if each.job is not None and each.job.trial == trial:
                with contextlib.suppress(OSError):  # it died; the next poll says so
                    each.connection.send(("stop",))

    def close(self) -> None:
        """Kill the workers."""
        for each in self._workers:
            _kill(each)
        for each in self._workers:
            each.process.wait()
            each.connection.close()
