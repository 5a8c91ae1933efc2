"""Makes the estimator that a manifest describes."""

from __future__ import annotations

from kinase import registry
from kinase.api.estimation import Estimation as EstimationModel
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.inherit import Inherit
from kinase.estimation.rules import make_rule
from kinase.estimation.screen import Screen
from kinase.estimation.stopping import Stopping


def make_estimator(model: EstimationModel, setting: Setting) -> Estimator:
    """The estimator that a manifest describes, with what wraps it.

    Raises:
        UnknownMember: an entry point that no package registers.
    """
    made: Estimator = registry.make(
        "kinase.estimators", model, Estimator, lambda cls, options: cls(options, setting)
    )
    if model.inherit is not None:
        made = Inherit(model.inherit, setting, made)
    if model.screen is not None:
        made = Screen(model.screen, setting, made)
    if model.stopping is not None:
        rule = make_rule(model.stopping, setting.seed)
        made = Stopping(model.stopping, setting, made, rule)
    return made
