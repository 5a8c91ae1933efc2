"""A trainer on this machine in separate processes: one for each worker of an attempt, by trial
contract v1.

It is a custom trainer, or Kinase's own where a trial has several workers. A process of the local
engine runs it like a pod on a cluster: the job is in a file, everything else
in the environment. It also receives the points that the trainer posts.
"""

from __future__ import annotations

import ctypes
import hmac
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pydantic import ValidationError

from kinase.api import limits
from kinase.api._base import Model
from kinase.api.space import Space
from kinase.api.task import Task, Training
from kinase.api.trial import (
    BAD_INPUT_EXIT,
    CHECKPOINT_GONE_EXIT,
    INFEASIBLE_EXIT,
    TERMINATED_EXIT,
    UNAVAILABLE_EXIT,
    WORKER_LOST_EXIT,
    Point,
    TaskInfo,
    TaskJob,
    Termination,
    TrialJob,
    TrialResult,
)
from kinase.engine.answers import wrong
from kinase.engine.oom import oom_kills
from kinase.store import NotFound, Store, TooLarge

FIELD = "trialTemplate.command"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables with the number of threads of numeric libraries."""
MOST_BYTES = 64 * 1024
"""Maximum size in bytes of a posted point."""
LAST_SECONDS = 5.0
"""Maximum seconds for the other workers to end after the first one that was lost."""
ANSWER_SECONDS = 2.0
"""Maximum seconds until a post is answered. The trainer does not wait longer."""
TICK = 0.05
"""Seconds between two checks of the process."""
_PR_SET_PDEATHSIG = 1


class Command(Model):
    """How to run a custom trainer."""

    experiment: str
    """Name of the experiment."""
    metric: str
    """The objective's metric."""
    words: tuple[str, ...]
    """The program and its arguments."""
    environment: dict[str, str] = {}
    """Environment variables in addition to those of this process."""
    custom: bool = True
    """Whether it is a trainer of the manifest's."""


class TrainerError(Exception):
    """The command cannot be run, or did not describe the task."""

    for_people = True
    """See `kinase.engine.worker`."""


class AttemptLost(Exception):
    """An attempt ended without a result; the fields are those of `kinase.engine.base.Lost`."""

    def __init__(
        self,
        message: str,
        *,
        crash: bool = True,
        permanent: bool = False,
        out_of_memory: bool = False,
        checkpoint_gone: bool = False,
    ) -> None:
        """`message` gives the known cause."""
        super().__init__(message)
        self.fields = {
            "crash": crash,
            "permanent": permanent,
            "out_of_memory": out_of_memory,
            "checkpoint_gone": checkpoint_gone,
        }


class CommandTrainer:
    """A worker's trainer that runs a command for each job."""

    def __init__(
        self, command: Command, store: Store, scratch: Path | None, held: int | None
    ) -> None:
        """Do not start anything yet.

        Args:
            command: what to run.
            store: store of the experiment.
            scratch: folder for the job's file. Default: a temporary folder.
            held: the worker's lock, which the process inherits.
        """
        self.command, self.store, self._held = command, store, held
        self._folder = Path(mkdtemp()) if scratch is None else scratch
        self._slot = os.environ.get("KINASE_SLOT", "0")

    def describe(
        self, task: Task, training: Training, space: Space | None = None, store: Store | None = None
    ) -> TaskInfo:
        """Ask the command about the task.

        Raises:
            TrainerError: the command did not answer.
        """
        asked = TaskJob(
            experiment=self.command.experiment, task=task, training=training, space=space
        )
        self.store.delete(asked.key)
        with self._started(asked, None) as (process,):
            code = process.wait()
        if code != 0:
            raise TrainerError(f"{self._name} could not describe the task: {self._end(code)}")
        try:
            return TaskInfo.model_validate_json(self.store.get(asked.key, limits.RESULT))
        except NotFound:
            raise TrainerError(
                f"{self._name} ended with code 0 and wrote no {asked.key}; it must describe the "
                "task where the job has `describe` (docs/trial-contract.md)"
            ) from None
        except TooLarge as error:
            raise TrainerError(f"{self._name}: {error}") from None
        except ValidationError as error:
            raise TrainerError(
                f"{self._name} wrote a {asked.key} that is invalid: {wrong(error)}"
            ) from None

    def run(self, job: TrialJob, store: Store, notify: Callable[[Point], bool]) -> TrialResult:
        """Run one attempt.

        Raises:
            AttemptLost: the attempt left no valid result.
        """
        before = oom_kills()
        with _Receiver(job.attempt) as receiver, self._started(job, receiver) as processes:
            first = processes[0]
            while first.poll() is None and not any(each.poll() for each in processes):
                receiver.answer(notify)
            codes = _ends(processes)
        rank, code = decisive(codes)
        if code == 0 or (code == INFEASIBLE_EXIT and rank == 0):
            return self._result(job, code)
        message = self._end(code, rank)
        if len(codes) > 1:
            message = f"worker {rank} of {len(codes)}: {message}"
        if code == INFEASIBLE_EXIT:
            raise AttemptLost(message, permanent=True)
        if code == -signal.SIGKILL and oom_kills() > before:
            raise AttemptLost("the machine ran out of memory", out_of_memory=True)
        gone = code == CHECKPOINT_GONE_EXIT
        blameless = gone or code in (TERMINATED_EXIT, UNAVAILABLE_EXIT, WORKER_LOST_EXIT)
        raise AttemptLost(message, crash=not blameless, checkpoint_gone=gone)

    def _result(self, job: TrialJob, code: int) -> TrialResult:
        key = f"{job.prefix}/{'test.json' if job.test else 'result.json'}"
        why = f"it wrote no {key}"
        try:
            result = TrialResult.model_validate_json(self.store.get(key, limits.RESULT))
            if result.trial == job.trial and result.attempt <= job.attempt:
                return result
            why = f"{key} is of trial {result.trial}, attempt {result.attempt}"
        except NotFound:
            pass
        except TooLarge as error:
            why = str(error)
        except ValidationError as error:
            why = f"{key} is invalid: {wrong(error)}"
        raise AttemptLost(
            f"{self._name} ended with code {code} and left no valid result of trial {job.trial}: "
            f"{why}",
            permanent=code == INFEASIBLE_EXIT,
        )

    @property
    def _name(self) -> str:
        field = FIELD if self.command.custom else "the trainer"
        return f"{field} {' '.join(self.command.words)!r:.200}"

    def _end(self, code: int, rank: int = 0) -> str:
        """How a process ended, with its termination message."""
        how = {
            BAD_INPUT_EXIT: "bad input",
            CHECKPOINT_GONE_EXIT: "the checkpoint is gone",
            TERMINATED_EXIT: "ended by SIGTERM",
            UNAVAILABLE_EXIT: "the store was out of reach",
            WORKER_LOST_EXIT: "another worker was lost",
        }.get(code, f"exit code {code}" if code >= 0 else f"killed by signal {-code}")
        said = ""
        try:
            with self._place("termination", rank).open("rb") as file:
                said = Termination.model_validate_json(file.read(4096)).message
        except (OSError, ValidationError):
            pass
        log = f"see {self._folder}/worker-{self._slot}.log"
        return ": ".join(filter(None, (how, said))) + ("" if said else f"; {log}")

    def _place(self, name: str, rank: int = 0) -> Path:
        return self._folder / f"{name}-{self._slot}{f'-{rank}' if rank else ''}"

    @contextmanager
    def _started(
        self, job: TrialJob | TaskJob, receiver: _Receiver | None
    ) -> Iterator[list[subprocess.Popen[bytes]]]:
        """The processes of an attempt, by worker; they are killed at the end of the context."""
        asked = self._place("job")
        asked.write_text(job.model_dump_json(by_alias=True))
        size = job.workers if isinstance(job, TrialJob) else 1
        meeting = _free_port() if size > 1 else 0
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(size):
                place = self._workers_place(rank, size, meeting) if size > 1 else {}
                processes.append(self._start(asked, rank, receiver, place))
            yield processes
        finally:
            for each in processes:
                each.kill()
            for each in processes:
                each.wait()

    def _workers_place(self, rank: int, size: int, port: int) -> dict[str, str]:
        """Environment of one of several workers: each has a GPU, and a share of the threads."""
        slot = int(self._slot) if self._slot.isdigit() else 0
        threads = {
            name: str(max(1, int(os.environ[name]) // size))
            for name in THREADS
            if os.environ.get(name, "").isdigit()
        }
        return {
            **threads,
            "KINASE_SLOT": str(slot * size + rank),
            "KINASE_RANK": str(rank),
            "KINASE_WORLD": str(size),
            "KINASE_RENDEZVOUS": f"127.0.0.1:{port}",
        }

    def _start(
        self, asked: Path, rank: int, receiver: _Receiver | None, place: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        said = self._place("termination", rank)
        said.unlink(missing_ok=True)
        own = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        local = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1")))
        environment = {
            **os.environ,
            "PATH": own,  # so that `python` is the one that runs Kinase
            "NO_PROXY": local,
            "no_proxy": local,
            **self.command.environment,
            "KINASE_JOB": str(asked),
            "KINASE_STORE": self.store.uri,
            "KINASE_METRIC": self.command.metric,
            "KINASE_TERMINATION_LOG": str(said),
            **(receiver.environment if receiver is not None and rank == 0 else {}),
            **place,
        }
        try:
            return subprocess.Popen(
                self.command.words,
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=() if self._held is None else (self._held,),
                preexec_fn=_die_with_worker,
            )
        except OSError as error:
            raise TrainerError(
                f"{self._name} cannot be started ({error.strerror}); give a program on PATH, or "
                "its path from where kinase was started"
            ) from None


def decisive(codes: Sequence[int | None]) -> tuple[int, int]:
    """The worker whose end is that of an attempt, and its exit code: the first one's if it has
    ended well, else that of a worker which has not just lost another one.

    Args:
        codes: exit codes by worker; None of one that had to be killed for the end of another.
    """
    if codes[0] == 0:
        return 0, 0
    bad = [(rank, code) for rank, code in enumerate(codes) if code]
    return min(bad, key=lambda end: (end[1] == WORKER_LOST_EXIT, end[1] == TERMINATED_EXIT))


def _ends(processes: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """The exit codes of workers of which one has ended. The others end soon, too: they miss it, or
    the first one has the result."""
    deadline = time.monotonic() + LAST_SECONDS
    if processes[0].poll() != 0:
        while any(each.poll() is None for each in processes) and time.monotonic() < deadline:
            time.sleep(TICK)
    return [each.poll() for each in processes]


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_worker() -> None:
    """Run in the new process: have the kernel kill it together with the worker."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Receiver:
    """Receives the points that a trial posts, and answers whether it should continue."""

    def __init__(self, attempt: int) -> None:
        self._points: queue.Queue[tuple[Point, queue.Queue[bool]]] = queue.Queue()
        self._token = secrets.token_hex(16)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(attempt))
        self._server.daemon_threads = True

    @property
    def environment(self) -> dict[str, str]:
        """URL and token for posting."""
        return {
            "KINASE_REPORT_URL": f"http://127.0.0.1:{self._server.server_port}/points",
            "KINASE_REPORT_TOKEN": self._token,
        }

    def __enter__(self) -> _Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, notify: Callable[[Point], bool]) -> None:
        """Pass on a point, if one arrives within a tick."""
        try:
            point, reply = self._points.get(timeout=TICK)
        except queue.Empty:
            return
        reply.put(notify(point))

    def _take(self, point: Point) -> bool | None:
        reply: queue.Queue[bool] = queue.Queue()
        self._points.put((point, reply))
        try:
            return reply.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            return None

    def _handler(self, attempt: int) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                """Do not log requests."""

            def do_POST(self) -> None:
                given = self.headers.get("Authorization", "")
                if not hmac.compare_digest(given.encode(), f"Bearer {receiver._token}".encode()):
                    self.send_error(401)
                    return
                size = self.headers.get("Content-Length", "")
                if not size.isdigit() or int(size) > MOST_BYTES:
                    self.send_error(413)
                    return
                try:
                    document = json.loads(self.rfile.read(int(size)))
                    if document.pop("attempt") != attempt:
                        raise ValueError("it is of another attempt")
                    point = Point.model_validate(document)
                except (ValueError, KeyError, TypeError, AttributeError):
                    self.send_error(400)
                    return
                go_on = receiver._take(point)
                data = json.dumps({} if go_on is None else {"continue": go_on}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler


def command_of(
    experiment: str, metric: str, words: Sequence[str], environment: dict[str, str]
) -> Command | None:
    """The command of a manifest, or None if it has no command."""
    if not words:
        return None
    return Command(
        experiment=experiment, metric=metric, words=tuple(words), environment=environment
    )
