"""How a search is shown: in a notebook, on a terminal, as lines, or not at all."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol, Self

from kinase.api.trial import Point
from kinase.client import html
from kinase.console import Progress
from kinase.experiment.loop import Loop
from kinase.experiment.trial_record import TrialRecord

REFRESH = 0.5
"""Minimum seconds between two updates in a notebook."""


class Shown(Protocol):
    """Shows a search. Use it as a context manager around the run."""

    def __enter__(self) -> Shown:
        """Start."""

    def __exit__(self, *error: object) -> None:
        """Stop, and leave the last state visible."""

    def say(self, text: str) -> None:
        """Show a step that takes time before the search starts."""

    def started(self, loop: Loop) -> None:
        """See `Listener`, also for the next methods."""

    def progressed(self, loop: Loop, trial: int, point: Point) -> None:
        """See above."""

    def rested(self, loop: Loop, trial: TrialRecord) -> None:
        """See above."""

    def told(self, loop: Loop, trial: TrialRecord) -> None:
        """See above."""

    def tick(self, loop: Loop) -> None:
        """See above."""


def shown(wanted: bool | None, wait: bool) -> Shown:
    """How to show a search here.

    Args:
        wanted: whether to show it; None chooses by the environment.
        wait: whether the caller waits for the search; otherwise its output would mix with ours.
    """
    if wanted is False:
        return Silent()
    if in_notebook():
        return Notebook()
    return Progress() if wanted or wait else Silent()


def in_notebook() -> bool:
    """Whether this is a kernel that shows HTML. IPython is not imported for this."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, text: str) -> None:
        """Nothing."""

    def started(self, loop: Loop) -> None:
        """Nothing."""

    def progressed(self, loop: Loop, trial: int, point: Point) -> None:
        """Nothing."""

    def rested(self, loop: Loop, trial: TrialRecord) -> None:
        """Nothing."""

    def told(self, loop: Loop, trial: TrialRecord) -> None:
        """Nothing."""

    def tick(self, loop: Loop) -> None:
        """Nothing."""


class Notebook:
    """One output of a cell, which is replaced while the search runs."""

    def __init__(self) -> None:
        """Display it immediately, in the cell that creates it. Another thread replaces it later,
        and a kernel shows output of that thread in the cell that runs at that moment."""
        self._handle: Any = None
        self._loop: Loop | None = None
        self._points: dict[int, Point] = {}
        self._recent: list[TrialRecord] = []
        self._last = 0.0
        self._show(html.note("starting ..."))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._loop is not None:
            self._draw(self._loop, force=True)

    def say(self, text: str) -> None:
        """Show a line until the search begins."""
        self._show(html.note(text))

    def started(self, loop: Loop) -> None:
        """Show the table."""
        self._recent = loop.state.told[-html.RECENT :]
        self._draw(loop, force=True)

    def progressed(self, loop: Loop, trial: int, point: Point) -> None:
        """Note a running trial's last epoch."""
        self._points[trial] = point
        self._draw(loop)

    def rested(self, loop: Loop, trial: TrialRecord) -> None:
        """Show a trial that pauses."""
        self._points.pop(trial.number, None)
        grant, rest = trial.rests[-1]
        if rest.done >= grant.until:
            self._note(trial)
        self._draw(loop)

    def told(self, loop: Loop, trial: TrialRecord) -> None:
        """Show a trial that ended."""
        self._points.pop(trial.number, None)
        self._note(trial)
        self._draw(loop)

    def _note(self, trial: TrialRecord) -> None:
        """Keep the trials that had a result last."""
        self._recent = [*(t for t in self._recent if t is not trial), trial][-html.RECENT :]

    def tick(self, loop: Loop) -> None:
        """Update the clock."""
        self._draw(loop)

    def _draw(self, loop: Loop, force: bool = False) -> None:
        self._loop = loop
        now = time.monotonic()
        if force or now - self._last >= REFRESH:
            self._last = now
            self._show(html.progress(loop, self._points, self._recent))

    def _show(self, text: str) -> None:
        from IPython.display import HTML, display

        if self._handle is None:
            self._handle = display(HTML(text), display_id=True)
        else:
            self._handle.update(HTML(text))
