"""The folder of an experiment on this machine, and the process that runs it there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kinase.engine.worker import LOCK
from kinase.store import Store, StoreError

RUN_LOCK = "run.lock"
"""File that is locked by the process that runs the experiment."""


class BusyError(StoreError):
    """Another process on this machine runs the experiment."""


def scratch(store: Store) -> Path:
    """Folder on this machine for the run's lock and its workers' logs."""
    folder = scratch_place(store)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def scratch_place(store: Store) -> Path:
    """Path of that folder, which need not exist."""
    return scratch_at(store.uri)


def scratch_at(uri: str) -> Path:
    """The same, by the store's URI."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://")) / "local"
    digest = hashlib.sha256(uri.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"kinase-{os.getuid()}" / digest


def holder(folder: Path) -> int | None:
    """ID of the process on this machine that runs the experiment of this folder, or None.

    The recorded ID may belong to another process by now, so the lock is tried for a moment, unless
    no process has the ID.
    """
    number = None
    try:
        with (folder / RUN_LOCK).open("rb") as file:
            number = int(file.read(32).strip() or 0)
            if number <= 0:
                return None
            os.kill(number, 0)
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return number
    except PermissionError:  # another user's process
        return number
    except (OSError, ValueError):
        pass
    return None


@contextlib.contextmanager
def exclusive(folder: Path, patience: float = 10.0) -> Iterator[None]:
    """Lock the experiment for this process, and wait until the workers of an earlier one are gone.

    The kernel releases the lock when the process ends, even if it is killed. Between machines, the
    journal's conditional put prevents two processes from running the experiment.

    Raises:
        BusyError: another process holds the lock.
    """
    run = os.open(folder / RUN_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(run, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(run, 32, 0).decode(errors="replace").strip() or "unknown"
            raise BusyError(
                f"process {holder} already runs this experiment; stop it first (Ctrl-C keeps "
                "everything), or give this one another metadata.name"
            ) from None
        os.ftruncate(run, 0)
        os.pwrite(run, str(os.getpid()).encode(), 0)
        _await_workers(folder, patience)
        yield
    finally:
        os.close(run)


def _await_workers(folder: Path, patience: float) -> None:
    workers = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(workers, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BusyError(
                        "workers of an earlier run are still alive; stop them first"
                    ) from None
                time.sleep(0.02)
    finally:
        os.close(workers)
