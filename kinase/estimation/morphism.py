"""Inheritance of weights: a child starts from its parent's trained weights."""

from __future__ import annotations

from typing import Any

from kinase.api.estimation import MorphismEstimation
from kinase.api.fidelity import Grant
from kinase.estimation.base import InheritanceRule, Setting
from kinase.estimation.full import Full


class Morphism(Full):
    """A candidate without a parent is trained in full; a child begins with its parent's trained
    weights, by network morphisms (Chen et al. 2016; Elsken et al. 2017, 2019) or else by matching
    tensors (Real et al. 2017, section 3.4), and is trained for a few epochs."""

    options: MorphismEstimation

    def __init__(self, options: Any, setting: Setting) -> None:
        """`options` is the manifest's `MorphismEstimation`."""
        super().__init__(options, setting)
        o = self.options
        self.inheritance = InheritanceRule(
            noise=o.noise,
            rule=o.rule,
            matching=o.fallback == "matching",
            learning_rate_factor=o.learning_rate_factor,
            optimizer=o.optimizer_state == "inherit",
            approximate=o.approximate,
            distil=o.distil_epochs if o.approximate else 0,
        )

    @property
    def child(self) -> Grant:
        """The full fidelity for fewer epochs."""
        full = self.setting.full
        epochs = self.options.epochs_per_child or -(-full.epochs // 3)
        return Grant(fidelity=full.model_copy(update={"epochs": epochs}), until=epochs)
