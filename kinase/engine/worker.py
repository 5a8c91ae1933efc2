"""A worker process of the local engine: imports the trainer once, then runs trial after trial.

Messages to the worker are ("describe", task, training, space or None), ("run", job) and ("stop",);
from it ("ready",), ("described", info), ("point", trial, point), ("result", trial, result),
("lost", trial, message, fields of `Lost`) and ("error", trial, message, out_of_memory). All data is
JSON text, so both ends validate it.
"""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from importlib.metadata import EntryPoint
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kinase import registry
from kinase.api.space import Space
from kinase.api.storage import Storage, is_shared
from kinase.api.task import Task, Training
from kinase.api.trial import CheckpointGone, Point, TaskInfo, TrialJob, TrialResult
from kinase.engine.command import THREADS, AttemptLost, Command, CommandTrainer
from kinase.store import Store, open_store
from kinase.words import raised

LOCK = "workers.lock"
"""File that running workers keep locked: a new run waits until it is free."""

_PR_SET_PDEATHSIG = 1


def _lead(parent: int) -> None:
    """Lead a process group that is killed with the worker: a custom trainer can start other
    processes."""
    os.setsid()

    def end(*_: object) -> None:
        os.killpg(os.getpid(), signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)


def _die_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """End with the parent process: a worker that continued would race with those of a new run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if by is not signal.SIGKILL:
            os.kill(os.getpid(), by)
            time.sleep(5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def load_trainer(name: str) -> Any:
    """The trainer registered as `name`, or the module or object at an import path
    (``package.module`` or ``package.module:object``)."""
    if "." in name or ":" in name:
        return EntryPoint(name, name, "kinase.trainers").load()
    return registry.load("kinase.trainers", name)


def serve(descriptor: int) -> None:
    """Entry point of a worker process, which inherits its end of the engine's pipe as `descriptor`;
    the other arguments of `main` come first."""
    multiprocessing.current_process().daemon = True  # it dies at any moment, and has no children
    connection: Connection[Any, Any] = Connection(descriptor)
    try:
        arguments = connection.recv()
    except (EOFError, OSError):  # the engine is gone already
        return
    main(connection, *arguments)


def main(
    connection: Connection[Any, Any],
    parent: int,
    slot: int,
    threads: int,
    trainer_name: str,
    command: str | None,
    storage: str,
    directory: str,
    scratch: str | None,
) -> None:
    """Serve one slot until the connection closes.

    Args:
        connection: pipe to the engine.
        parent: process that the worker must not outlive.
        slot: number of the slot, which picks the GPU where there are several.
        threads: CPU threads that the trainer may use.
        trainer_name: see `load_trainer`.
        command: a `Command` as JSON, which is run instead of that trainer.
        storage: the manifest's storage, as JSON.
        directory: the experiment's place below the storage.
        scratch: folder for the worker's log and the lock that it holds as long as it lives.
    """
    if command is not None:
        _lead(parent)
    _die_with_parent(parent, signal.SIGKILL if command is None else signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's to handle
    held = _settle(Path(scratch), slot) if scratch is not None else None
    # before the numeric libraries are imported, which read these once
    for variable in THREADS:
        os.environ[variable] = str(threads)
    os.environ["KINASE_SLOT"] = str(slot)
    try:
        place = Storage.model_validate_json(storage)
        store = open_store(place).sub(directory)
        trainer: Any
        if command is None:
            trainer = load_trainer(trainer_name)
        else:
            own = Command.model_validate_json(command)
            trainer = CommandTrainer(own, store, None if scratch is None else Path(scratch), held)
        os.environ.update({**_cache(place, scratch), **_service(place), **os.environ})
    except (Exception, SystemExit) as error:  # also of a trainer that calls sys.exit
        connection.send(("error", None, _describe(error), False))
        return
    connection.send(("ready",))
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            break
        match message:
            case ("describe", str(task), str(training), space):
                _describe_task(connection, trainer, store, task, training, space)
            case ("run", str(job)):
                _run(connection, trainer, store, TrialJob.model_validate_json(job))
            case _:  # a stop that came too late
                pass
    if held is not None:
        os.close(held)


def _cache(storage: Storage, scratch: str | None) -> dict[str, str]:
    """Cache that the workers share, unless the environment names one: only for a remote store,
    since a cache does not help if the store is a folder on this machine."""
    if scratch is None or not is_shared(storage.uri):
        return {}
    return {"KINASE_CACHE_DIR": f"{scratch}/cache", "KINASE_CACHE_BYTES": str(2 * 10**9)}


def _service(storage: Storage) -> dict[str, str]:
    """Environment variables of S3, as in a pod, for other data that a trainer reads there."""
    found = {"KINASE_STORE_ENDPOINT": storage.endpoint, "KINASE_STORE_REGION": storage.region}
    return {name: value for name, value in found.items() if value}


def _settle(scratch: Path, slot: int) -> int:
    """Write what the trainer prints to a log, not over the user's terminal; hold the lock."""
    log = os.open(scratch / f"worker-{slot}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    descriptor = os.open(scratch / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _describe_task(
    connection: Connection[Any, Any],
    trainer: Any,
    store: Store,
    task: str,
    training: str,
    space: str | None,
) -> None:
    asked: tuple[Any, ...] = Task.model_validate_json(task), Training.model_validate_json(training)
    try:
        if space is not None:
            asked += Space.model_validate_json(space), store
        info = trainer.describe(*asked)
        if not isinstance(info, TaskInfo):
            raise TypeError(f"the trainer's describe gave {info!r:.200}; it must give a TaskInfo")
        connection.send(("described", info.model_dump_json()))
    except (Exception, SystemExit) as error:  # also of a trainer that calls sys.exit
        traceback.print_exc()  # to the worker's log
        connection.send(("error", None, _describe(error), False))


def _run(connection: Connection[Any, Any], trainer: Any, store: Any, job: TrialJob) -> None:
    stopped = False

    def notify(point: Point) -> bool:
        nonlocal stopped
        connection.send(("point", job.trial, point.model_dump_json()))
        while connection.poll():
            stopped = connection.recv() == ("stop",) or stopped
        return not stopped

    answer: tuple[Any, ...]
    try:
        result = trainer.run(job, store, notify)
        if not isinstance(result, TrialResult):
            raise TypeError(f"the trainer's run gave {result!r:.200}; it must give a TrialResult")
        answer = ("result", job.trial, result.model_dump_json())
    except AttemptLost as lost:
        answer = ("lost", job.trial, str(lost)[:4000], lost.fields)
    except CheckpointGone as gone:
        fields = {"crash": False, "checkpoint_gone": True}
        answer = ("lost", job.trial, str(gone)[:4000], fields)
    except MemoryError:
        answer = ("error", job.trial, "out of memory", True)
    except (Exception, SystemExit) as error:  # also of a trainer that calls sys.exit
        traceback.print_exc()
        answer = ("error", job.trial, _describe(error), False)
    connection.send(answer)


def _describe(error: BaseException) -> str:
    """An error in words; one whose message is written for people says all by itself."""
    if getattr(error, "for_people", False):
        return str(error)[:4000]
    return raised(error)[:4000]
