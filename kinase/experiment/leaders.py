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
        self._ranks: dict[int, tuple[float, ...]] = {}
        """What a leader had when it was last compared, by number."""
        self.wronged: set[int] = set()
        """Trials that a rule would have stopped, and that became the best when they continued."""

    def take(self, trial: TrialRecord) -> None:
        """Compare a trial that has another value."""
        before = self.best, self.control
        self.best = self._better(trial, self.best, *SEARCHING)
        if trial.kind is Kind.CONTROL:
            self.control = self._better(trial, self.control, Kind.CONTROL)
        for leader, earlier in zip((self.best, self.control), before, strict=True):
            if leader is not None and (leader is trial or leader is not earlier):
                self._ranks[leader.number] = self._record.rank(leader)
        if trial.spared and trial is self.best:
            self.wronged.add(trial.number)

    def _better(
        self, trial: TrialRecord, best: TrialRecord | None, *kinds: Kind
    ) -> TrialRecord | None:
        record = self._record
        if trial is not best:
            better = best is None or record.rank(trial) < record.rank(best)
            return trial if record.usable(trial) and better else best
        if record.usable(trial) and record.rank(trial) <= self._ranks[trial.number]:
            return trial
        # at a look it can be worse than before, and at a higher rung without a value
        others = filter(record.usable, record.state.of_kind(*kinds))
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
