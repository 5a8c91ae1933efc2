"""The interface of a store: bytes by key, with a conditional put."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator

_NAME = r"(?!\.)[^/\x00-\x1f\x7f\ud800-\udfff]+"
_KEY = re.compile(rf"{_NAME}(?:/{_NAME})*")


class StoreError(Exception):
    """The store could not be used; the message names the URI and what to do."""


class StoreUnavailable(StoreError):
    """The store is unavailable: unreachable, overloaded or full. The same call can succeed later,
    with the same manifest."""


class NotFound(StoreError):
    """There is no object with that key."""


class Conflict(StoreError):
    """A conditional put found an object already there."""


class TooLarge(StoreError):
    """An object has more bytes than its reader allows."""

    @classmethod
    def at(cls, where: str, limit: int, size: int | None = None) -> TooLarge:
        """The error for an object at `where`; `size` is None if the store did not report it."""
        has = "more" if size is None else f"{size:,} bytes"
        return cls(f"{where} is too large: {has}, of at most {limit:,} bytes")


def is_key(key: str) -> bool:
    """Whether a store can hold an object with that key."""
    return _KEY.fullmatch(key) is not None


def check_key(key: str) -> str:
    """The key, if it is valid.

    Raises:
        StoreError: it is not a valid key.
    """
    if _KEY.fullmatch(key) is None:
        raise StoreError(
            f"{key!r} is not a key of a store; use names joined by single slashes, none of which "
            "begins with a dot or holds a control character"
        )
    return key


def check_prefix(prefix: str) -> str:
    """The prefix, if it is valid.

    Raises:
        StoreError: no key begins with it.
    """
    if prefix and not is_key(f"{prefix}x" if prefix.endswith("/") else prefix):
        raise StoreError(
            f"{prefix!r} is not a prefix of a store's keys; use the beginning of a key"
        )
    return prefix


def check_range(start: int, end: int) -> None:
    """Reject an invalid range of bytes."""
    if not 0 <= start < end:
        raise ValueError(f"bytes {start} to {end} are not a range; use 0 <= start < end")


class Store(ABC):
    """Objects below one prefix.

    A key is relative: names joined by single slashes, none of which begins with a dot or contains a
    control character. Other keys raise `StoreError`. No key can be below another (`a` and `a/b`),
    because a folder could not hold both.

    A put is atomic: a reader sees the old object, the new one, or (before the first) none, never a
    part. A reader that starts after a put returned sees it. Of several concurrent conditional puts
    exactly one succeeds. Methods may be called from several threads.

    A temporary failure is a `StoreUnavailable`; one that needs another manifest, other credentials
    or other permissions is a plain `StoreError`.
    """

    uri: str
    """URI of this store, without a trailing slash."""

    @abstractmethod
    def get(self, key: str, limit: int | None = None) -> bytes:
        """Read an object.

        Args:
            key: of the object.
            limit: maximum size in bytes. At most one byte more than that is read. None: no limit,
                for trusted objects.

        Raises:
            NotFound: the object does not exist.
            TooLarge: it has more bytes than `limit`.
            StoreError: it cannot be read.
        """

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Read the bytes of an object from `start` up to, but not including, `end`; fewer, or none,
        if the object ends before. A store that can read a range reads no other bytes.

        Raises:
            NotFound: the object does not exist.
            StoreError: it cannot be read.
        """
        check_range(start, end)
        return self.get(key)[start:end]

    @abstractmethod
    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object.

        Raises:
            Conflict: `if_absent` is set and the object exists already; it is not changed.
            StoreError: it cannot be written.
        """

    def copy(self, source: str, target: str) -> None:
        """Copy an object from `source` to `target`. A store that can do so copies the bytes itself,
        so that the size does not matter to this process.

        Raises:
            NotFound: there is no object at `source`.
            StoreError: it cannot be copied.
        """
        check_key(target)
        self.put(target, self.get(source))

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that begin with `prefix`, sorted by code point."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object. It is not an error if it does not exist."""

    @abstractmethod
    def sub(self, prefix: str) -> Store:
        """A view of this store below `prefix`, which has the form of a key."""

    def exists(self, key: str) -> bool:
        """Whether an object with that key exists."""
        try:
            self.get(key)
        except NotFound:
            return False
        return True
