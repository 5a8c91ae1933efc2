"""What a store is: bytes by key, with a conditional put."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator


class StoreError(Exception):
    """The store could not be used; the message names the URI and what would help."""


class NotFound(StoreError):
    """There is no object of that key."""


class Conflict(StoreError):
    """A conditional put found an object already there."""


class Store(ABC):
    """Objects below one prefix. Keys are relative, with `/` between their parts.

    A put is atomic: a reader sees the old object, the new one, or (before the first) none,
    never a part. A reader that starts after a put returned sees it. Methods may be called
    from several threads.
    """

    uri: str
    """Where this store lies; ends without a slash."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Read an object.

        Raises:
            NotFound: there is none.
        """

    @abstractmethod
    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object.

        Raises:
            Conflict: `if_absent` is set and there is one already; it stays as it was.
            StoreError: it cannot be written.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that begin with `prefix`, sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; none there is no error."""

    @abstractmethod
    def sub(self, prefix: str) -> Store:
        """The same store, seen from below `prefix`."""

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        try:
            self.get(key)
        except NotFound:
            return False
        return True
