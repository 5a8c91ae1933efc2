"""A store that waits until another one is available again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from kinase.store.base import Conflict, NotFound, Store, StoreUnavailable, TooLarge

FIRST_PAUSE = 0.5
"""Seconds until an operation is retried. They double up to `LONGEST_PAUSE`."""
LONGEST_PAUSE = 15.0

T = TypeVar("T")


@dataclass
class Outage:
    """State shared by all views of a store."""

    lasting: bool = False
    """Whether an operation failed and has not succeeded since."""


class PatientStore(Store):
    """Retries operations that fail with `StoreUnavailable`, until they succeed or the patience is
    over.

    A conditional put is not retried: if its reply was lost, the retry would find its own object and
    report a conflict. Other errors are not retried either.
    """

    def __init__(
        self,
        store: Store,
        patience: float,
        tell: Callable[[str], None] = lambda text: None,
        outage: Outage | None = None,
    ) -> None:
        """Wrap `store`.

        Args:
            store: the store to wait for.
            patience: seconds after the first failure of an operation during which it is retried.
            tell: called once for each outage, and when it is over.
            outage: shared by the views of a store.
        """
        self.uri = store.uri
        self.outage = outage if outage is not None else Outage()
        self._store = store
        self._patience = patience
        self._tell = tell

    def _repeat(self, operation: Callable[[], T]) -> T:
        deadline, pause = None, FIRST_PAUSE
        while True:
            try:
                answer = operation()
            except StoreUnavailable as error:
                now = time.monotonic()
                if deadline is None:
                    deadline = now + self._patience
                if now >= deadline:
                    raise
                if not self.outage.lasting:
                    self.outage.lasting = True
                    self._tell(f"{error}; tried again for {self._patience:g} s")
                time.sleep(min(deadline - now, pause * random.uniform(0.5, 1)))
                pause = min(2 * pause, LONGEST_PAUSE)
            except (NotFound, Conflict, TooLarge):
                self._over()
                raise
            else:
                self._over()
                return answer

    def _over(self) -> None:
        """The store has answered, with success or an error."""
        if self.outage.lasting:
            self.outage.lasting = False
            self._tell(f"{self.uri} can be used again")

    def get(self, key: str, limit: int | None = None) -> bytes:
        """Read an object."""
        return self._repeat(lambda: self._store.get(key, limit))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Read a part of an object."""
        return self._repeat(lambda: self._store.get_range(key, start, end))

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object."""
        if if_absent:
            self._store.put(key, data, if_absent=True)
        else:
            self._repeat(lambda: self._store.put(key, data))

    def copy(self, source: str, target: str) -> None:
        """Copy an object."""
        self._repeat(lambda: self._store.copy(source, target))

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys, all read before the first one is returned."""
        return self._repeat(lambda: iter([*self._store.list(prefix)]))

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._repeat(lambda: self._store.delete(key))

    def sub(self, prefix: str) -> Store:
        """A view below a prefix, with the same patience."""
        return PatientStore(self._store.sub(prefix), self._patience, self._tell, self.outage)

    def exists(self, key: str) -> bool:
        """Whether the object exists."""
        return self._repeat(lambda: self._store.exists(key))
