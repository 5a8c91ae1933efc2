"""A store in a folder."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from kinase.store.base import (
    Conflict,
    NotFound,
    Store,
    StoreError,
    StoreUnavailable,
    TooLarge,
    check_key,
    check_prefix,
    check_range,
    is_key,
)

_counter = itertools.count()
_token = os.urandom(6).hex()

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space, then run the same command again",
    errno.EDQUOT: "the quota is used up; free some space, then run the same command again",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file; choose another folder",
    errno.EISDIR: "it is a folder; remove that, or choose another folder",
    errno.ENAMETOOLONG: "the path is too long; choose a folder nearer to the root",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ESTALE: "the network file system lost the folder; mount it again",
}
_PASSING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ESTALE,
    errno.EIO,
    errno.EAGAIN,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
}
"""Errors of a full disk or a network file system that can be temporary."""


class FileStore(Store):
    """Objects are files below a folder.

    A put writes a temporary file and renames it, a conditional put links it: both are atomic on a
    POSIX file system. Nothing is flushed to the disk explicitly, so written objects survive the
    death of the process at any moment, but not that of the machine. Files get mode rw-rw-rw-,
    restricted by the umask.
    """

    def __init__(self, folder: str | Path) -> None:
        """Use `folder`, which is created at the first put.

        Raises:
            StoreError: it is not a path.
        """
        if "\0" in str(folder):
            raise StoreError(
                f"file://{folder!s:.80} has a NUL character; give a path (storage.uri)"
            )
        self.folder = Path(folder).absolute()
        self._root = str(self.folder)
        self.uri = f"file://{self._root}"

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    @staticmethod
    def _temporary(path: str) -> str:
        # No other process on any machine uses this name: a pid can recur, the token cannot.
        return f"{path.rpartition('/')[0]}/.{_token}.{os.getpid()}.{next(_counter)}"

    def get(self, key: str, limit: int | None = None) -> bytes:
        """Read a file."""
        try:
            with open(self._path(key), "rb", buffering=0) as file:
                if limit is None:
                    return file.read()
                size = os.fstat(file.fileno()).st_size
                data = b"" if size > limit else _read(file, min(limit, size) + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound(f"{self.uri}/{key} does not exist") from None
        except OSError as error:
            raise self._failure("read", key, error) from error
        if max(size, len(data)) > limit:
            raise TooLarge.at(f"{self.uri}/{key}", limit, max(size, len(data)))
        return data

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Read a part of a file."""
        check_range(start, end)
        try:
            with open(self._path(key), "rb", buffering=0) as file:
                file.seek(start)
                # the caller may not know the size, and the whole range would take memory
                return _read(file, min(end, os.fstat(file.fileno()).st_size) - start)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound(f"{self.uri}/{key} does not exist") from None
        except OSError as error:
            raise self._failure("read", key, error) from error

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write a file whole."""
        path = self._path(key)
        folder, temporary = path.rpartition("/")[0], self._temporary(path)
        try:
            try:
                _write(temporary, data)
            except FileNotFoundError:
                os.makedirs(folder, exist_ok=True)
                _write(temporary, data)
            if if_absent:
                self._link(temporary, path, key)
            else:
                os.replace(temporary, path)
        except BaseException as error:
            _unlink(temporary)
            if isinstance(error, OSError):
                raise self._failure("write", key, error) from error
            raise

    def _link(self, temporary: str, path: str, key: str) -> None:
        try:
            os.link(temporary, path)
        except FileExistsError:
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
            # Over a network the link may be made but the reply lost: then the file is ours.
            if os.stat(temporary).st_nlink != 2:
                raise Conflict(f"{self.uri}/{key} already exists") from None
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise StoreError(
                    f"cannot write {self.uri}/{key}: the file system has no hard links, which a "
                    "conditional put needs; choose a folder on another one (storage.uri)"
                ) from error
            raise
        _unlink(temporary)

    def copy(self, source: str, target: str) -> None:
        """Copy a file, piece by piece."""
        path, wanted = self._path(source), self._path(target)
        if not self.exists(source):
            raise NotFound(f"{self.uri}/{source} does not exist")
        temporary = self._temporary(wanted)
        try:
            os.makedirs(temporary.rpartition("/")[0], exist_ok=True)
            shutil.copyfile(path, temporary)
            os.replace(temporary, wanted)
        except BaseException as error:
            _unlink(temporary)
            if isinstance(error, OSError):
                raise self._failure("write", target, error) from error
            raise

    def list(self, prefix: str = "") -> Iterator[str]:
        """Files below the folder, without temporary ones."""
        found: list[str] = []
        folders = [check_prefix(prefix).rpartition("/")[0]]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(f"{self._root}/{folder}") as entries:
                    for entry in entries:
                        key = f"{folder}/{entry.name}" if folder else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            if is_key(key) and f"{key}/".startswith(prefix[: len(key) + 1]):
                                folders.append(key)
                        elif key.startswith(prefix) and is_key(key) and entry.is_file():
                            found.append(key)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise self._failure("list", folder, error) from error
        return iter(sorted(found))

    def delete(self, key: str) -> None:
        """Remove a file."""
        path = self._path(key)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            pass
        except OSError as error:
            if not os.path.isdir(path):
                raise self._failure("delete", key, error) from error

    def sub(self, prefix: str) -> Store:
        """The folder below."""
        return FileStore(self._path(prefix))

    def exists(self, key: str) -> bool:
        """Whether the file exists."""
        try:
            return stat.S_ISREG(os.stat(self._path(key)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._failure("read", key, error) from error

    def _failure(self, verb: str, key: str, error: OSError) -> StoreError:
        if error.errno in (errno.EACCES, errno.EPERM):
            advice = (
                f"permission is denied to user {os.getuid()} in {self._nearest(key)}; choose a "
                "folder that you may read and write, or change its owner or mode"
            )
        else:
            advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        kind = StoreUnavailable if error.errno in _PASSING else StoreError
        return kind(f"cannot {verb} {self.uri}/{key}: {advice} (storage.uri)")

    def _nearest(self, key: str) -> Path:
        """The nearest existing and readable folder above a key."""
        path = self.folder / key
        return next((p for p in path.parents if os.path.isdir(p)), self.folder)


def _read(file: io.FileIO, size: int) -> bytes:
    """Up to `count` bytes from the current position; a single read can return fewer."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        written = os.write(descriptor, data)
        while written < len(data):
            written += os.write(descriptor, memoryview(data)[written:])
    finally:
        os.close(descriptor)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
