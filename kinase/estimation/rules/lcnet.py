"""Stopping by a neural network over learning curves."""

from __future__ import annotations

import math

from kinase.api.stopping import LCNetStopping
from kinase.estimation.rules.base import (
    Rule,
    Verdict,
    alike,
    as_curves,
    begun,
    features,
    finished,
    sample,
)
from kinase.history import History, Trial
from kinase.predict.features import Features
from kinase.predict.lcnet import LCNet as Model


class LCNet(Rule):
    """Stops a trial if a network, fitted to the curves of all trials, gives it too small a chance
    of the bar (Klein et al. 2017)."""

    options: LCNetStopping
    needs = ("scipy",)
    slow = True
    _cache: tuple[object, Features, Model] | None = None

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
        others = list(sample(others))
        key = (done, until, tuple((o.number, len(o.curve)) for o in others))
        if self._cache is None or self._cache[0] != key:
            known = features(others)
            o, rng = self.options, self.rng(done, until, len(others))
            model = Model(done, until, networks=o.networks, steps=o.steps, rng=rng)
            model.fit(as_curves(others, known))
            self._cache = key, known, model
        _, known, model = self._cache
        [curve] = as_curves([trial], known)
        return self.judged(model.predict(curve, until), trial, bar)
