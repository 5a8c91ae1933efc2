"""The best trials of a search, and what they say of a rule that stops trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinase.api.trial import Kind
from kinase.estimation.calibration import Calibration
from kinase.experiment.state import SEARCHING
from kinase.experiment.trial_record import TrialRecord

if TYPE_CHECKING:
    from kinase.experiment.record import Record


class Leaders:
    """The best trials of the search and of its control, of the highest rung that was reached."""

    def __init__(self, record: Record) -> None:
        """Of a record that is read from its first entry on."""
        self._record = record
        self.best: TrialRecord | None = None
        """The best of the search, the control's included."""
        self.control: TrialRecord | None = None
        """The best of the control."""
        self.wronged: set[int] = set()
        """Trials that a rule would have stopped, and that became the best when they continued."""

    def take(self, trial: TrialRecord) -> None:
        """Compare a trial that has another value."""
        self.best = self._better(trial, self.best, *SEARCHING)
        if trial.kind is Kind.CONTROL:
            self.control = self._better(trial, self.control, Kind.CONTROL)
        if trial.spared and trial is self.best:
            self.wronged.add(trial.number)

    def _better(
        self, trial: TrialRecord, best: TrialRecord | None, *kinds: Kind
    ) -> TrialRecord | None:
        record = self._record
        if record.usable(trial):
            return trial if best is None or record.rank(trial) < record.rank(best) else best
        if trial is not best:
            return best
        others = filter(record.usable, record.state.of_kind(*kinds))  # it diverged at a higher rung
        return min(others, key=record.rank, default=None)

    @property
    def calibration(self) -> Calibration | None:
        """How far the rule that stops trials can be trusted; None without one."""
        if self._record.spec.estimation.stopping is None:
            return None
        searched = list(self._record.state.of_kind(*SEARCHING))
        spared = [t for t in searched if t.spared and (t.outcome is not None or t.paused)]
        won = sum(trial.number in self.wronged for trial in spared)
        return Calibration(sum(trial.ruled for trial in searched), len(spared), won)
