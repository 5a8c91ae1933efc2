"""Losses on a separate scale, without outliers."""

from __future__ import annotations

import numpy as np

from kinase.predict.curve import Floats


class Bounded:
    """Turns losses into values around 0 with deviation 1. Losses far above most of them, those of
    trainings that are about to diverge, are moved to a limit, at which they still rank last."""

    def __init__(self, losses: Floats) -> None:
        """`losses`: finite, at least one."""
        low, high = np.quantile(losses, [0.05, 0.95])
        self.limit = float(high + (high - low))
        """The greatest loss."""
        kept = np.minimum(losses, self.limit)
        self.unit = float(kept.std()) or 1.0
        """The deviation of the losses."""
        self._mean = float(kept.mean())

    def up(self, losses: Floats) -> Floats:
        """Losses on the scale."""
        return np.asarray((np.minimum(losses, self.limit) - self._mean) / self.unit)

    def down(self, values: Floats) -> Floats:
        """The losses of values on the scale."""
        return np.asarray(self._mean + self.unit * values)
