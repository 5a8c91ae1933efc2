"""Signals that stop a search."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kinase.experiment.loop import Loop


@contextmanager
def interruptible(loop: Loop, received: list[int]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) stops the run cleanly, the second one immediately. Only the
    main thread receives signals; a run in another thread is stopped with `Loop.interrupt`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        loop.interrupt()
        signal.signal(number, signal.default_int_handler)

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
