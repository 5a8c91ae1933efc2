"""Full training of every candidate."""

from __future__ import annotations

from kinase.api.fidelity import Grant
from kinase.estimation.base import Estimator
from kinase.estimation.decision import Left, Sample
from kinase.history import History


class Full(Estimator):
    """Every candidate is trained as `spec.training` says."""

    @property
    def ladder(self) -> tuple[Grant, ...]:
        """One rung: the full fidelity."""
        return (Grant(fidelity=self.setting.full, until=self.setting.full.epochs),)

    def next(self, history: History, left: Left) -> Sample:
        """A free slot gets a new candidate."""
        return Sample(self.ladder[0], self.child)
