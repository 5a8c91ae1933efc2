"""The median stopping rule, and other percentiles."""

from __future__ import annotations

import numpy as np

from kinase.api.stopping import MedianStopping
from kinase.estimation.rules.base import Rule, Verdict, alike
from kinase.history import History, Trial
from kinase.predict.curve import Curve
from kinase.words import counted


class Median(Rule):
    """Stops a trial whose best value so far is worse than the median of the other trials' running
    means after as many epochs (Golovin et al. 2017, section 3.2). It fits no model."""

    options: MedianStopping

    def verdict(self, trial: Trial, history: History, bar: float) -> Verdict | None:
        """Compare with the trials that came as far; None if there are too few."""
        means = [
            float(Curve(other.curve[: trial.done]).measured()[1].mean())
            for other in alike(trial, history)
            if len(other.curve) >= trial.done and np.isfinite(other.curve[: trial.done]).any()
        ]
        if len(means) < self.options.trials:
            return None
        best = float(Curve(trial.curve).measured()[1].min())
        limit = float(np.percentile(means, self.options.percentile))
        better = sum(mean < best for mean in means)
        why = (
            f"the running mean of {better} of {counted(len(means), 'other trial')} is better than "
            f"its best value in {counted(trial.done, 'epoch')}"
        )
        return Verdict(best > limit, why)
