"""Stopping by parametric learning curves."""

from __future__ import annotations

from kinase.api.stopping import DomhanStopping
from kinase.estimation.rules.base import Rule, Verdict
from kinase.history import History, Trial
from kinase.predict.curve import Curve
from kinase.predict.parametric import Parametric

_LEAST = 4
"""Points of a curve below which no family has a curvature to fit."""


class Domhan(Rule):
    """Stops a trial if eleven parametric curves, fitted to its own, give it too small a chance of
    the bar (Domhan et al. 2015, section 4)."""

    options: DomhanStopping
    needs = ("emcee", "scipy")
    slow = True

    def verdict(self, trial: Trial, history: History, bar: float) -> Verdict | None:
        """None with less than four values."""
        curve = Curve(trial.curve)
        if len(curve.measured()[0]) < _LEAST:
            return None
        o = self.options
        model = Parametric(
            self.rng(trial.number, trial.done), walkers=o.walkers, steps=o.steps, burn_in=o.burn_in
        )
        return self.judged(model.predict(curve, trial.grant.until), trial, bar)
