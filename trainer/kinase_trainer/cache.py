"""Files of weights that the trials of one node share, by their digests.

A file appears whole, by a rename; the ones used longest ago go when there is no room. Nothing here
is believed: who reads a file checks it, and drops it if it is damaged. Whatever goes wrong with the
folder, a trial goes on without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

FOLDER = "KINASE_CACHE_DIR"
"""Variable of the environment that names the folder; without it there is no cache."""
SIZE = "KINASE_CACHE_BYTES"
"""How much the files may take together."""
MOST = 10 * 10**9
"""Bytes, where nothing else is said."""
WAIT = 120.0
"""Most seconds that one process waits for another to fetch the same file."""
STALE = 3600.0
"""Seconds after which a file that was never finished is a killed process's."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Cache:
    """A folder that many processes use at once."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        """Use `folder`, which is made if it is not there, for at most so many bytes."""
        self.folder, self._most = folder, most
        self.bytes_read = 0
        """What came from here and not from the store."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Cache | None:
        """As the environment says; None where there is no folder."""
        folder, most = environ.get(FOLDER), environ.get(SIZE) or str(MOST)
        if not folder:
            return None
        if not most.isdecimal():
            print(f"kinase_trainer: {SIZE} is {most!r}, no number of bytes", file=sys.stderr)
            most = str(MOST)
        return cls(Path(folder), int(most))

    @contextlib.contextmanager
    def alone(self, digest: str) -> Iterator[None]:
        """Keep other processes from fetching the same file; they find it afterwards."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # no such folder, or one that knows no locks
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f".{self._name(digest)[:2]}.lock"
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                stack.callback(os.close, descriptor)
                _lock(descriptor)
            yield

    @contextlib.contextmanager
    def open(self, digest: str) -> Iterator[BinaryIO | None]:
        """A file, or None; from now on it is the one that was used last."""
        with contextlib.ExitStack() as stack:
            file: BinaryIO | None = None
            with contextlib.suppress(OSError):
                path = self.folder / self._name(digest)
                file = stack.enter_context(open(path, "rb", opener=_opened))
                os.utime(path)
            yield file

    def keep(self, digest: str, pieces: Iterable[bytes]) -> None:
        """Add a file that was just checked, and make room for it."""
        temporary = self.folder / f".{uuid.uuid4().hex}.part"
        try:
            pieces = list(pieces)
            size = sum(map(len, pieces))
            if size > self._most:
                return
            self._make_room(size)
            with temporary.open("xb") as file:
                for piece in pieces:
                    file.write(piece)
            temporary.replace(self.folder / self._name(digest))
        except OSError as error:
            print(f"kinase_trainer: {self.folder} keeps no weights: {error}", file=sys.stderr)
            with contextlib.suppress(OSError):
                temporary.unlink()

    def drop(self, digest: str) -> None:
        """Remove a file that is damaged."""
        with contextlib.suppress(OSError):
            (self.folder / self._name(digest)).unlink()

    def _make_room(self, size: int) -> None:
        files, now = [], time.time()
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):  # another process has made room
                about = entry.stat(follow_symlinks=False)
                if _DIGEST.fullmatch(entry.name):
                    files.append((about.st_mtime, about.st_size, entry.path))
                elif entry.name.endswith(".part") and now - about.st_mtime > STALE:
                    os.unlink(entry.path)
        left = self._most - size - sum(taken for _, taken, _ in files)
        for _, taken, path in sorted(files):
            if left >= 0:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            left += taken

    @staticmethod
    def _name(digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise OSError(f"{digest!r} is not a digest")
        return digest


def _opened(path: str, flags: int) -> int:
    """Whatever lies there, opening it must not wait, as for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _lock(descriptor: int) -> None:
    """Wait for others, but not for ever: one of them may hang."""
    deadline = time.monotonic() + WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return
            time.sleep(0.05)
        else:
            return
