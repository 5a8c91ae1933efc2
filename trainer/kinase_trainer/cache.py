"""Cache of weight files by digest, shared by the trials on a node.

A file is written atomically, by a rename. The least recently used files are deleted when the cache
is full. The cache is not trusted: readers check a file, and drop it if it is damaged. If the folder
fails, a trial continues without it.
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
"""Environment variable with the folder. Without it, there is no cache."""
SIZE = "KINASE_CACHE_BYTES"
"""Environment variable with the maximum total size."""
MOST = 10 * 10**9
"""Default maximum size in bytes."""
WAIT = 120.0
"""Maximum seconds that a process waits for another to fetch the same file."""
STALE = 3600.0
"""Age in seconds after which an unfinished file counts as left by a killed process."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Cache:
    """A cache folder that several processes use concurrently."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        """Use `folder`, which is created if it does not exist, for at most `size` bytes."""
        self.folder, self._most = folder, most
        self.bytes_read = 0
        """Bytes read from the cache instead of the store."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Cache | None:
        """The cache given by the environment, or None."""
        folder, most = environ.get(FOLDER), environ.get(SIZE) or str(MOST)
        if not folder:
            return None
        if not most.isdecimal():
            print(f"kinase_trainer: {SIZE} is {most!r}, no number of bytes", file=sys.stderr)
            most = str(MOST)
        return cls(Path(folder), int(most))

    @contextlib.contextmanager
    def alone(self, digest: str) -> Iterator[None]:
        """Lock a file, so that only one process fetches it and others find it afterwards."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # no such folder, or one without locks
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f".{self._name(digest)[:2]}.lock"
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                stack.callback(os.close, descriptor)
                _lock(descriptor)
            yield

    @contextlib.contextmanager
    def open(self, digest: str) -> Iterator[BinaryIO | None]:
        """A file, or None. This marks it as the most recently used one."""
        with contextlib.ExitStack() as stack:
            file: BinaryIO | None = None
            with contextlib.suppress(OSError):
                path = self.folder / self._name(digest)
                file = stack.enter_context(open(path, "rb", opener=_opened))
                os.utime(path)
            yield file

    def keep(self, digest: str, pieces: Iterable[bytes]) -> None:
        """Add a checked file, and make space for it."""
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
        """Remove a damaged file."""
        with contextlib.suppress(OSError):
            (self.folder / self._name(digest)).unlink()

    def _make_room(self, size: int) -> None:
        files, now = [], time.time()
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):  # another process has made space
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
    """Open a file without blocking, even if it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _lock(descriptor: int) -> None:
    """Wait for other processes, with a timeout in case one hangs."""
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
