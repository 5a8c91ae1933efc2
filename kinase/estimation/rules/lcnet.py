"""Stopping by a neural network over learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kinase.api.stopping import LCNetStopping
from kinase.estimation.rules.base import (
    Fitted,
    Rule,
    RuleSetting,
    Verdict,
    alike,
    as_curves,
    begun,
    finished,
    sample,
)
from kinase.history import History, Trial
from kinase.predict.curve import Curve
from kinase.predict.lcnet import LCNet as Model


class LCNet(Rule):
    """Stops a trial if a network, fitted to the curves of all trials, gives it too small a chance
    of the bar (Klein et al. 2017)."""

    options: LCNetStopping
    needs = ("scipy",)
    slow = True

    def __init__(self, options: Any, setting: RuleSetting) -> None:
        """See `Rule`."""
        super().__init__(options, setting)
        self._fitted: Fitted[Model] = Fitted()

    def verdict(self, trial: Trial, history: History, bar: float) -> Verdict | None:
        """None until enough trials have finished."""
        done, until = trial.done, trial.grant.until
        if len(finished(trial, history)) < self.options.trials:
            return None
        others = [
            other
            for other in alike(trial, history)
            if begun(other, done) and any(math.isfinite(x) for x in other.curve[done:until])
        ]

        def fit(curves: Sequence[Curve]) -> Model:
            o, rng = self.options, self.rng(done, until, len(curves))
            model = Model(done, until, networks=o.networks, steps=o.steps, rng=rng)
            model.fit(curves)
            return model

        known, model = self._fitted.get(trial, sample(others), fit)
        [curve] = as_curves([trial], known)
        return self.judged(model.predict(curve, until), trial, bar)
