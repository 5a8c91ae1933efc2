"""Stopping by support vector regression."""

from __future__ import annotations

from kinase.api.stopping import BakerStopping
from kinase.estimation.rules.base import Rule, Verdict, as_curves, features, finished, sample
from kinase.history import History, Trial
from kinase.predict.features import Features
from kinase.predict.nu_svr import NuSVR


class Baker(Rule):
    """Stops a trial if a nu-SVR for curves of its length gives it too small a chance of the bar
    (Baker et al. 2017, section 3)."""

    options: BakerStopping
    needs = ("scipy", "sklearn")
    _cache: tuple[object, Features, NuSVR] | None = None

    def verdict(self, trial: Trial, history: History, bar: float) -> Verdict | None:
        """None until enough trials have finished, or where the model explains nothing."""
        others = finished(trial, history)
        if len(others) < self.options.trials:
            return None
        others = list(sample(others))
        key = (trial.done, trial.grant.until, tuple((o.number, len(o.curve)) for o in others))
        if self._cache is None or self._cache[0] != key:
            known = features(others)
            rng = self.rng(trial.done, trial.grant.until, len(others))
            model = NuSVR(trial.done, trial.grant.until, draws=self.options.draws, rng=rng)
            model.fit(as_curves(others, known))
            self._cache = key, known, model
        _, known, model = self._cache
        [curve] = as_curves([trial], known)
        return self.judged(model.predict(curve, trial.grant.until), trial, bar)
