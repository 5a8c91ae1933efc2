"""A store in a folder."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from kinase.store.base import Conflict, NotFound, Store, StoreError

_counter = itertools.count()


class FileStore(Store):
    """Objects are files below a folder.

    A put writes a temporary file and renames it, a conditional put links it: both are atomic
    on a POSIX file system. Nothing is flushed to the disk by force, so what was written
    survives the death of the process at any moment, but not that of the machine.
    """

    def __init__(self, folder: str | Path) -> None:
        """Use `folder`, which is made at the first put."""
        self.folder = Path(folder).absolute()
        self.uri = f"file://{self.folder}"

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not key or key.startswith("/") or any(part in ("", ".", "..") for part in parts):
            raise StoreError(f"{key!r} is no key: use names joined by single slashes, without ..")
        return self.folder.joinpath(*parts)

    def get(self, key: str) -> bytes:
        """Read a file."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"{self.uri}/{key} is not there") from None
        except OSError as error:
            raise self._failure("read", key, error) from error

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write a file whole."""
        path = self._path(key)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_counter)}")
        try:
            try:
                temporary.write_bytes(data)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(data)
            if if_absent:
                os.link(temporary, path)
                os.unlink(temporary)
            else:
                os.replace(temporary, path)
        except FileExistsError:
            temporary.unlink(missing_ok=True)
            raise Conflict(f"{self.uri}/{key} is there already") from None
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise self._failure("write", key, error) from error

    def list(self, prefix: str = "") -> Iterator[str]:
        """Files below the folder, temporary ones left out."""
        base = self.folder / prefix.rpartition("/")[0]
        found = []
        for folder, _, names in os.walk(base):
            for name in names:
                if not name.startswith("."):
                    key = os.path.relpath(os.path.join(folder, name), self.folder)
                    found.append(key.replace(os.sep, "/"))
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        """Remove a file."""
        try:
            self._path(key).unlink(missing_ok=True)
        except NotADirectoryError:
            pass
        except OSError as error:
            raise self._failure("delete", key, error) from error

    def sub(self, prefix: str) -> Store:
        """The folder below."""
        return FileStore(self._path(prefix))

    def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        return self._path(key).is_file()

    def _failure(self, verb: str, key: str, error: OSError) -> StoreError:
        advice = {
            errno.ENOSPC: "the disk is full; free some space, then run the same command again",
            errno.EDQUOT: "the quota is used up; free some space, then run the same command again",
            errno.EACCES: "permission is denied; choose a folder that you may write to",
            errno.EROFS: "the file system is read-only; choose another folder",
            errno.ENOTDIR: "a part of the path is a file; choose another folder",
        }.get(error.errno or 0, error.strerror or str(error))
        return StoreError(f"cannot {verb} {self.uri}/{key}: {advice} (storage.uri)")
