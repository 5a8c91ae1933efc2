"""Decisions that take seconds, off the path of events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait

from kinase.estimation import Decision

PATIENCE = 0.05
"""Seconds for which a caller waits before it turns to something else."""


class Thinking:
    """One decision at a time, made in a thread. What it is made from must not change meanwhile."""

    def __init__(self) -> None:
        """Nothing is thought about."""
        self._about: tuple[int, Hashable] = (-1, None)
        self._pending: Future[Decision] | None = None
        self._version = -1
        self._known: dict[Hashable, Decision] = {}
        """What was decided at that version: an arm can be asked more than once for it."""

    @property
    def busy(self) -> bool:
        """Whether a decision is being made, or was made and not asked for since."""
        return self._pending is not None

    def ask(self, version: int, left: Hashable, decide: Callable[[], Decision]) -> Decision | None:
        """The decision; None while one is being made: to be asked again.

        Args:
            version: of the history that it is made from.
            left: what else it is made from.
            decide: makes it. What this raises, `ask` raises.
        """
        if version != self._version:
            self._version, self._known = version, {}
        if self._pending is None and left in self._known:
            return self._known[left]
        if self._pending is None:
            self._about, self._pending = (version, left), self._begin(decide)
        if not wait([self._pending], PATIENCE).done:
            return None
        made, self._pending = self._pending, None
        if self._about[0] == version:
            self._known[self._about[1]] = made.result()
        return self.ask(version, left, decide)

    @staticmethod
    def _begin(decide: Callable[[], Decision]) -> Future[Decision]:
        found: Future[Decision] = Future()

        def think() -> None:
            try:
                found.set_result(decide())
            except BaseException as error:
                found.set_exception(error)

        # a daemon: an interrupted search does not wait for it
        threading.Thread(target=think, name="estimator", daemon=True).start()
        return found
