"""Freeze-thaw: trials are paused and continued by a model of their learning curves."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from kinase.api.estimation import FreezeThawEstimation
from kinase.api.fidelity import Grant
from kinase.estimation._waiting import pays, wait_or_end
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, End, Left, Promote, Sample, Wait
from kinase.estimation.rules.base import as_curves, features
from kinase.history import History, Trial
from kinase.predict import require
from kinase.predict.curve import Floats, normal_cdf
from kinase.predict.freeze_thaw import FreezeThaw as Model
from kinase.predict.freeze_thaw import decaying, information

_MOST = 150
"""Trials that the model is fitted to: those with the least losses."""
_NOTHING = 1e-3
"""Nats of information below which a look is not worth its epochs."""


class FreezeThaw(Estimator):
    """Freeze-thaw (Swersky et al. 2014, section 4). A basket holds the paused trials with the
    greatest expected improvement and some new ones; entropy search picks the one whose next epochs
    tell most about which of them is best in the end.

    A new trial in the basket is one drawn from the prior of the ends: what the strategy will
    propose is not known before it is asked. In the paper, new candidates are drawn by their
    expected improvement.
    """

    options: FreezeThawEstimation
    slow = True

    def __init__(self, options: Any, setting: Setting) -> None:
        """`options` is the manifest's `FreezeThawEstimation`.

        Raises:
            UnusableMember: scipy is not installed.
        """
        require("FreezeThaw", "scipy")
        super().__init__(options, setting)

    @cached_property
    def ladder(self) -> tuple[Grant, ...]:
        """A rung after each so many epochs, the full fidelity last."""
        full = self.setting.full
        every = max(self.options.every or -(-full.epochs // 20), -(-full.epochs // 1000))
        ends = [*range(every, full.epochs, every), full.epochs]
        return tuple(
            Grant(fidelity=full, until=end, rung=rung, final=end == full.epochs)
            for rung, end in enumerate(ends)
        )

    def next(self, history: History, left: Left) -> Decision:
        """Begin trials until there are enough; then continue or begin what tells most."""
        fresh = left.trials != 0 and pays(left, self.ladder[0].until)
        paused = [trial for trial in history.resting() if self._can_go_on(trial, left)]
        known = _known(history)
        few = history.begun < self.options.initial or len(known) < 2
        if fresh and (few or not paused):
            return Sample(self.ladder[0])
        if not paused:
            return wait_or_end(history, left)
        found, gain = self._pick(history, known, paused, fresh)
        if not fresh and gain < _NOTHING:
            if history.running:
                return Wait()
            return End("no trial is left to begin, and no epochs would tell which is the best")
        return Sample(self.ladder[0]) if found is None else self._promote(found)

    def _can_go_on(self, trial: Trial, left: Left) -> bool:
        rung = trial.grant.rung
        if not trial.rests_at(rung) or not trial.usable:
            return False
        return pays(left, self.ladder[rung + 1].until - trial.done)

    def _promote(self, trial: Trial) -> Promote:
        return Promote(trial.number, self.ladder[trial.grant.rung + 1])

    def _pick(
        self, history: History, known: list[Trial], paused: list[Trial], fresh: bool
    ) -> tuple[Trial | None, float]:
        """The trial to continue, None for a new one, and the information that is expected."""
        known = sorted(known, key=lambda trial: (trial.losses, trial.number))[:_MOST]
        known.sort(key=lambda trial: trial.number)
        model = Model(as_curves(known, features(known)))
        ends, hyper = model.posterior, model.posterior.hyper
        place = {trial.number: index for index, trial in enumerate(known)}
        deviation = np.sqrt(np.maximum(np.diag(ends.cov), 1e-12))
        promise = _improvement(ends.mean, deviation, float(ends.mean.min()))
        basket = sorted(
            (trial for trial in paused if trial.number in place),
            key=lambda trial: (-promise[place[trial.number]], trial.number),
        )[: self.options.paused]
        # Of the trials that cannot continue, the best may still be the best in the end.
        at = [place[trial.number] for trial in basket]
        best = int(np.argmin(ends.mean))
        rows = at if best in at else [*at, best]
        new = self.options.fresh if fresh else 0
        size = len(rows) + new
        mean, cov = np.full(size, hyper.mean), hyper.spread**2 * np.eye(size)
        mean[: len(rows)] = ends.mean[rows]
        cov[: len(rows), : len(rows)] = ends.cov[np.ix_(rows, rows)]
        looks = []
        for index, trial in enumerate(basket):
            epochs = self.ladder[trial.grant.rung + 1].until
            _, variance, omega = ends.ahead(at[index], epochs / model.every)
            looks.append((index, variance, omega))
        if new:
            begun = np.array(max(1.0, self.ladder[0].until / model.every))
            variance = float(decaying(begun, begun, hyper)) + hyper.spread**2 + hyper.noise**2
            looks.append((len(rows), variance, 1.0))
        if not looks:  # all that are paused are worse than the ones that the model is fitted to
            return None, 0.0
        draws = self.rng(4, history.version).standard_normal((self.options.draws, size))
        gains = information(mean, cov, looks, draws)
        chosen = int(np.argmax(gains))
        return (basket[chosen] if chosen < len(basket) else None), gains[chosen]


def _known(history: History) -> list[Trial]:
    """The trials whose curves say something."""
    return [t for t in history.asked if t.usable and any(math.isfinite(x) for x in t.curve)]


def _improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """Expected improvement on the best mean."""
    z = (best - mean) / deviation
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return np.asarray(deviation * (z * normal_cdf(z) + density), dtype=np.float64)
