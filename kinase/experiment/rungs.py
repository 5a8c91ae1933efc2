"""How the trials of the search stand on the ladder: counts by rung, as a fold over the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kinase.api.trial import Cost, Kind, Outcome
from kinase.experiment.entries import Granted, Rested, Told

if TYPE_CHECKING:
    from kinase.experiment.trial_record import TrialRecord

OVER = "the search is over"
"""Why a trial ends that rests when the search ends. No one decided against it."""


@dataclass(slots=True)
class RungCount:
    """The trials of one rung, the random control's included."""

    rung: int
    until: int = 0
    """Epochs after which a trial pauses or ends here."""
    entered: int = 0
    """Trials that were granted it."""
    reached: int = 0
    """Those that got to its end with a value or without one."""
    paused: int = 0
    """Those that rest at its end."""
    promoted: int = 0
    """Those that rested at its end and continued."""
    stopped: int = 0
    """Those that were stopped at its end or on the way to it. That the search ended does not
    count."""
    failed: int = 0
    """Those that failed in it, or were infeasible."""
    cost: Cost = Cost()
    """What was spent in it."""
    ended: int = 0
    """Those that ended in it, however."""

    @property
    def running(self) -> int:
        """Those that have not come to its end: they run, or rest at a look."""
        return self.entered - self.paused - self.promoted - self.ended


class Rungs(dict[int, RungCount]):
    """Counts by rung."""

    def entered(self, trial: TrialRecord) -> None:
        """A trial was granted its rung."""
        if trial.kind in (Kind.SEARCH, Kind.CONTROL) and not trial.excluded:
            count = self._of(trial)
            count.entered += 1
            count.until = max(count.until, trial.grant.until)

    def take(self, trial: TrialRecord, entry: Rested | Granted | Told) -> None:
        """Count an entry about a trial, which is as it was before."""
        if trial.kind not in (Kind.SEARCH, Kind.CONTROL) or trial.excluded:
            return
        count = self._of(trial)
        paused = trial.paused
        match entry:
            case Rested():
                count.cost = count.cost + entry.cost - trial.cost
                if entry.done >= trial.grant.until:
                    count.reached += 1
                    count.paused += 1
            case Granted():
                if paused:
                    count.paused -= 1
                    count.promoted += 1
            case Told():
                count.cost = count.cost + entry.cost - trial.cost
                count.ended += 1
                count.paused -= paused
                if entry.outcome is Outcome.STOPPED:
                    count.stopped += entry.message != OVER
                elif entry.outcome is Outcome.SUCCEEDED:
                    count.reached += 1
                else:
                    count.failed += 1

    def _of(self, trial: TrialRecord) -> RungCount:
        rung = trial.grant.rung
        return self.setdefault(rung, RungCount(rung))
