"""Stopping by support vector regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kinase.api.stopping import BakerStopping
from kinase.estimation.rules.base import (
    Fitted,
    Rule,
    RuleSetting,
    Verdict,
    as_curves,
    finished,
    sample,
)
from kinase.history import History, Trial
from kinase.predict.curve import Curve
from kinase.predict.nu_svr import NuSVR


class Baker(Rule):
    """Stops a trial if a nu-SVR for curves of its length gives it too small a chance of the bar
    (Baker et al. 2017, section 3)."""

    options: BakerStopping
    needs = ("scipy", "sklearn")

    def __init__(self, options: Any, setting: RuleSetting) -> None:
        """See `Rule`."""
        super().__init__(options, setting)
        self._fitted: Fitted[NuSVR] = Fitted()

    def verdict(self, trial: Trial, history: History, bar: float) -> Verdict | None:
        """None until enough trials have finished, or where the model explains nothing."""
        done, until = trial.done, trial.grant.until
        others = finished(trial, history)
        if len(others) < self.options.trials:
            return None

        def fit(curves: Sequence[Curve]) -> NuSVR:
            rng = self.rng(done, until, len(curves))
            model = NuSVR(done, until, draws=self.options.draws, rng=rng)
            model.fit(curves)
            return model

        known, model = self._fitted.get(trial, sample(others), fit)
        [curve] = as_curves([trial], known)
        return self.judged(model.predict(curve, until), trial, bar)
