"""Callbacks: a caller's own code that is called while a search runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinase.client.result import Result
    from kinase.client.search import Search

LOG = logging.getLogger("kinase")

TrialFunction = Callable[["Search", dict[str, Any]], None]
"""A plain function instead of a `Callback`; it is called as `on_trial`."""


class Callback:
    """Base class of callbacks. Derive from it and override what you need. The thread that runs the
    search calls one method at a time and waits for it, so keep methods short.

    `search.stop()` ends the search cleanly. An exception is logged with its traceback and kept in
    `Result.callback_errors`; the search continues, and so do later calls.
    """

    def on_start(self, search: Search) -> None:
        """The search starts or resumes."""

    def on_epoch(self, search: Search, trial: int, epoch: int, metrics: dict[str, float]) -> None:
        """A running trial ended an epoch, counted from 1."""

    def on_pause(self, search: Search, trial: dict[str, Any]) -> None:
        """A trial reached the end of a rung, and pauses until it is trained further or ends.
        `trial` is its row in `Result.trials()`."""

    def on_trial(self, search: Search, trial: dict[str, Any]) -> None:
        """A trial ended; `trial` is its row in `Result.trials()`."""

    def on_end(self, search: Search, result: Result) -> None:
        """The search ended, or was stopped or interrupted: `result.status` says which."""


class _Function(Callback):
    """A function as a callback."""

    def __init__(self, function: TrialFunction) -> None:
        self.on_trial = function  # type: ignore[method-assign,assignment]


class Callbacks:
    """Several callbacks as one. Their failures do not affect the search."""

    def __init__(
        self, given: Iterable[Callback | TrialFunction] | Callback | TrialFunction
    ) -> None:
        """Combine callbacks and functions.

        Raises:
            TypeError: an item is neither a callback nor a function.
        """
        single = callable(given) or isinstance(given, Callback)
        if not single and not isinstance(given, Iterable):
            raise TypeError(
                f"callbacks is {given!r}; use a kinase.Callback, a function of the search and a "
                "trial, or a list of these"
            )
        each_given: Sequence[Any] = (
            (given,) if single else tuple(given)  # type: ignore[arg-type]
        )
        for each in each_given:
            if isinstance(each, type) or not (isinstance(each, Callback) or callable(each)):
                raise TypeError(
                    f"callbacks has {each!r}; use an instance of kinase.Callback, or a function "
                    "of the search and a trial"
                )
        self._all = [c if isinstance(c, Callback) else _Function(c) for c in each_given]
        self.errors: list[Exception] = []
        """What they raised."""

    def call(self, method: str, *arguments: Any) -> None:
        """Call a method of each."""
        for each in self._all:
            try:
                getattr(each, method)(*arguments)
            except Exception as error:
                self.errors.append(error)
                name = type(each).__name__
                if isinstance(each, _Function):
                    name = getattr(each.on_trial, "__name__", repr(each.on_trial))
                LOG.exception("the callback %s failed in %s; the search continues", name, method)
