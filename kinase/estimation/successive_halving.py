"""Successive halving: many candidates trained a little, the best of them more."""

from __future__ import annotations

from kinase.api.estimation import SuccessiveHalvingEstimation
from kinase.estimation._synchronous import Synchronous


class SuccessiveHalving(Synchronous):
    """Successive halving (Karnin et al. 2013; Jamieson & Talwalkar 2016, section 3), bracket after
    bracket, each from the lowest rung. A bracket that waits for its last trials lets the next one
    begin."""

    options: SuccessiveHalvingEstimation

    def first(self, bracket: int) -> int:
        """The rung at which a bracket begins."""
        return 0

    def size(self, bracket: int) -> int:
        """Candidates that begin it."""
        return self.options.initial or int(self.options.eta ** (len(self.ladder) - 1))
