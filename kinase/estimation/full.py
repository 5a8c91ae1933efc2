"""Full training of every candidate."""

from __future__ import annotations

from kinase.api.trial import Fidelity
from kinase.estimation.base import Estimator


class Full(Estimator):
    """Every candidate is trained as `spec.training` says."""

    def fidelity(self, full: Fidelity) -> Fidelity:
        """The full fidelity itself."""
        return full
