"""Who is told of what the loop does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kinase.api.trial import Point
from kinase.experiment.trial_record import TrialRecord

if TYPE_CHECKING:
    from kinase.experiment.loop import Loop


class Listener(Protocol):
    """Told of what happens; for the terminal, never for the search."""

    def started(self, loop: Loop) -> None:
        """The journal is replayed; trials begin."""

    def progressed(self, loop: Loop, trial: int, point: Point) -> None:
        """A trial ended an epoch."""

    def rested(self, loop: Loop, trial: TrialRecord) -> None:
        """A trial paused, at the end of its grant or at a look: `trial.rests[-1]`. It may have been
        granted more since."""

    def told(self, loop: Loop, trial: TrialRecord) -> None:
        """A trial ended."""

    def tick(self, loop: Loop) -> None:
        """Time has passed."""
