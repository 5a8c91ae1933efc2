"""A store in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from kinase.store.base import Conflict, NotFound, Store, TooLarge, check_key, check_prefix


class MemoryStore(Store):
    """Objects in a dict."""

    def __init__(
        self,
        uri: str = "memory://",
        objects: dict[str, bytes] | None = None,
        prefix: str = "",
        lock: threading.Lock | None = None,
    ) -> None:
        """An empty store, or a view of the objects of another store."""
        self.uri = uri.rstrip("/")
        self._objects = objects if objects is not None else {}
        self._prefix = prefix
        self._lock = lock or threading.Lock()

    def get(self, key: str, limit: int | None = None) -> bytes:
        """Read an object."""
        try:
            data = self._objects[self._prefix + check_key(key)]
        except KeyError:
            raise NotFound(f"{self.uri}/{key} does not exist") from None
        if limit is not None and len(data) > limit:
            raise TooLarge.at(f"{self.uri}/{key}", limit, len(data))
        return data

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object."""
        whole = self._prefix + check_key(key)
        with self._lock:
            if if_absent and whole in self._objects:
                raise Conflict(f"{self.uri}/{key} already exists")
            self._objects[whole] = bytes(data)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys, sorted."""
        whole = self._prefix + check_prefix(prefix)
        with self._lock:
            keys = sorted(k for k in self._objects if k.startswith(whole))
        return iter([k[len(self._prefix) :] for k in keys])

    def delete(self, key: str) -> None:
        """Remove an object."""
        whole = self._prefix + check_key(key)
        with self._lock:
            self._objects.pop(whole, None)

    def sub(self, prefix: str) -> Store:
        """A view below a prefix."""
        whole = f"{self._prefix}{check_key(prefix)}/"
        return MemoryStore(f"{self.uri}/{prefix}", self._objects, whole, self._lock)
