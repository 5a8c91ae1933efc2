"""Inheritance of weights: a child starts from its parent's trained weights."""

from __future__ import annotations

from kinase.api.estimation import MorphismEstimation
from kinase.api.trial import Fidelity
from kinase.estimation.base import Estimator, InheritanceRule


class Morphism(Estimator):
    """A candidate without a parent is trained in full. A child starts from its parent's trained
    weights, by network morphisms (Chen et al. 2016; Elsken et al. 2017, 2019) or otherwise by
    matching tensors (Real et al. 2017, section 3.4), and is trained for a few epochs."""

    options: MorphismEstimation

    def fidelity(self, full: Fidelity) -> Fidelity:
        """The full fidelity itself."""
        return full

    @property
    def inheritance(self) -> InheritanceRule:
        """The options of the manifest as a rule."""
        o = self.options
        return InheritanceRule(
            noise=o.noise,
            rule=o.rule,
            matching=o.fallback == "matching",
            learning_rate_factor=o.learning_rate_factor,
            optimizer=o.optimizer_state == "inherit",
            approximate=o.approximate,
            distil=o.distil_epochs if o.approximate else 0,
        )

    def child(self, full: Fidelity) -> Fidelity:
        """The full fidelity for fewer epochs."""
        epochs = self.options.epochs_per_child or -(-full.epochs // 3)
        return full.model_copy(update={"epochs": epochs})
