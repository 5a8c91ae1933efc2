"""A queue of keys: each key is in the queue at most once, and processed by one worker at a time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys to reconcile, in order of arrival.

    A key that is added while it waits stays in the queue once; if it is added while it is
    processed, it is processed again afterwards. `retry` waits longer each time, `forget` resets the
    wait.
    """

    def __init__(
        self,
        base: float = 0.05,
        most: float = 30.0,
        waited: Callable[[K, float], None] = lambda key, seconds: None,
    ) -> None:
        """Retries wait from `base` up to `most` seconds. `waited` is called with the time that each
        key was in the queue."""
        self._waited = waited
        self._base, self._most = base, most
        self._waiting: asyncio.Queue[K] = asyncio.Queue()
        self._queued: dict[K, float] = {}
        self._active: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._queued) + len(self._active)

    def add(self, key: K) -> None:
        """Add a key."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued[key] = time.monotonic()
            self._waiting.put_nowait(key)

    def add_after(self, key: K, delay: float) -> None:
        """Add a key after `delay` seconds, unless it is already scheduled earlier."""
        if delay <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self._ring, key)

    def _ring(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def get(self) -> K:
        """The next key; call `done` afterwards."""
        key = await self._waiting.get()
        self._waited(key, time.monotonic() - self._queued.pop(key))
        self._active.add(key)
        return key

    def done(self, key: K) -> None:
        """The key was processed."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def retry(self, key: K) -> float:
        """Schedule a retry of the key; return the seconds until then."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._most, self._base * 2.0 ** min(failures, 30)) * random.uniform(0.8, 1.2)
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key was processed successfully."""
        self._failures.pop(key, None)

    def close(self) -> None:
        """Stop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
