"""A store that counts the bytes that go through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kinase.store.base import Store


@dataclass
class Traffic:
    """Counts shared by all views of a store."""

    read: int = 0
    """Bytes of objects that were read."""
    written: int = 0
    """Bytes of objects that were written."""


class CountingStore(Store):
    """Another store, and how many bytes of objects were read and written."""

    def __init__(self, store: Store, traffic: Traffic | None = None) -> None:
        """Wrap `store`; a view shares the `traffic` of its parent."""
        self.uri = store.uri
        self.traffic = traffic if traffic is not None else Traffic()
        self._store = store

    def get(self, key: str, limit: int | None = None) -> bytes:
        """Read an object."""
        data = self._store.get(key, limit)
        self.traffic.read += len(data)
        return data

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Read a part of an object."""
        data = self._store.get_range(key, start, end)
        self.traffic.read += len(data)
        return data

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object."""
        self._store.put(key, data, if_absent=if_absent)
        self.traffic.written += len(data)

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the store; no bytes are counted."""
        self._store.copy(source, target)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys below a prefix."""
        return self._store.list(prefix)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._store.delete(key)

    def sub(self, prefix: str) -> Store:
        """A view below a prefix, with the same counts."""
        return CountingStore(self._store.sub(prefix), self.traffic)

    def exists(self, key: str) -> bool:
        """Whether the object exists."""
        return self._store.exists(key)
