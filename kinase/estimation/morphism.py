"""Inheritance of weights: a child starts from its parent's trained weights."""

from __future__ import annotations

from typing import Any

from kinase.api.estimation import MorphismEstimation
from kinase.api.fidelity import Fidelity, Grant
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
        self.inheritance = inheritance_rule(self.options)

    @property
    def child(self) -> Grant:
        """The full fidelity for fewer epochs."""
        return child_grant(self.options, self.setting.full)


def inheritance_rule(options: MorphismEstimation) -> InheritanceRule:
    """How a child inherits, by the manifest."""
    return InheritanceRule(
        noise=options.noise,
        rule=options.rule,
        matching=options.fallback == "matching",
        learning_rate_factor=options.learning_rate_factor,
        optimizer=options.optimizer_state == "inherit",
        approximate=options.approximate,
        distil=options.distil_epochs if options.approximate else 0,
    )


def child_grant(options: MorphismEstimation, full: Fidelity) -> Grant:
    """The whole training of a child: the full fidelity for fewer epochs."""
    epochs = options.child_epochs(full.epochs)
    return Grant(fidelity=full.model_copy(update={"epochs": epochs}), until=epochs)
