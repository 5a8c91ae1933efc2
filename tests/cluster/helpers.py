"""Small things that tests on a cluster need."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def wait_for(
    what: Callable[[], T], timeout: float = 30, *, message: str = "", every: float = 0.05
) -> T:
    """The first value of `what()` that is true. Exceptions count as not yet.

    When time is up the message holds what was seen last.
    """
    deadline = time.monotonic() + timeout
    seen: Any = None
    while True:
        try:
            seen = value = what()
        except Exception as problem:
            seen, value = problem, None  # type: ignore[assignment]
        if value:
            return value
        if time.monotonic() > deadline:
            name = message or getattr(what, "__doc__", None) or getattr(what, "__name__", "it")
            raise AssertionError(f"{name}: not within {timeout:g} s; seen last: {seen!r}")
        time.sleep(every)
