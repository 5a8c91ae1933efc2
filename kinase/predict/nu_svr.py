"""Support vector regression of a curve's later value (Baker et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kinase.predict.bounded import Bounded
from kinase.predict.curve import Curve, Floats, Prediction, normal
from kinase.space import Rng

FOLDS = 3
"""Of the cross-validation."""


def inputs(curve: Curve, length: int) -> Floats:
    """A curve's first losses, their first and second differences, and its features (Baker et al.
    2017, section 3.2), shape (n,)."""
    losses = curve.filled(length)
    first = np.diff(losses)
    return np.concatenate([losses, first, np.diff(first), np.asarray(curve.features)])


class NuSVR:
    """Predicts the loss after `epoch` epochs from the first `length` losses, by nu-SVR with a
    radial kernel on standardized inputs and targets. The target is the change from the last of
    the known losses, so that where nothing is learned the loss stays as it is. The hyper-parameters
    are the best of `draws` by cross-validation; the deviation is that of the residuals out of the
    folds (Baker et al. 2017, sections 3.2 and 3.3)."""

    def __init__(self, length: int, epoch: int, *, draws: int, rng: Rng) -> None:
        """`length` and `epoch`: from 1; `length` is the smaller one."""
        self.length = length
        self.epoch = epoch
        self.draws = draws
        self.deviation = math.inf
        """Of the predictions."""
        self._rng = rng
        self.model: Any = None
        """Of scikit-learn, on standardized numbers."""

    def fit(self, curves: Sequence[Curve]) -> None:
        """Learn from curves with a finite value after `epoch` epochs. There are at least as many
        as folds."""
        self._bounded = Bounded(np.concatenate([c.measured()[1] for c in curves]))
        x = np.stack([self._inputs(curve) for curve in curves])
        y = self._bounded.up(np.array([curve.losses[self.epoch - 1] for curve in curves]))
        self._x, self._y = Standard(x), Standard(y - x[:, self.length - 1])
        x, y = self._x.up(x), self._y.up(y - x[:, self.length - 1])
        folds = self._rng.permutation(len(y)) % FOLDS
        best = math.inf
        for _ in range(self.draws):
            model = self._draw()
            wrong = _residuals(model, x, y, folds)
            error = float(np.mean(wrong**2))
            if error < best:
                best, self.model = error, model
        unit = self._bounded.unit * float(self._y.deviation)
        self.deviation = unit * math.sqrt(best * len(y) / (len(y) - 1))
        self.model.fit(x, y)

    def predict(self, curve: Curve, epoch: int) -> Prediction:
        """As `CurveModel`; only for the epoch that it was fitted for.

        Raises:
            ValueError: another epoch.
        """
        if epoch != self.epoch:
            raise ValueError(f"the model predicts epoch {self.epoch}, not {epoch}")
        x = self._inputs(curve)
        change = self._y.down(self.model.predict(self._x.up(x[None])))
        return normal(float(self._bounded.down(x[self.length - 1] + change)[0]), self.deviation)

    def _inputs(self, curve: Curve) -> Floats:
        losses = self._bounded.up(curve.filled(self.length))
        return inputs(Curve(losses.tolist(), curve.features), self.length)

    def _draw(self) -> Any:
        """A model with drawn hyper-parameters: C and gamma log-uniform, nu uniform."""
        from sklearn.svm import NuSVR as Regressor

        c = 10 ** self._rng.uniform(-2, 3)
        gamma = 10 ** self._rng.uniform(-4, 0.5)
        return Regressor(C=c, gamma=gamma, nu=self._rng.uniform(0.05, 1.0))


class Standard:
    """Brings each column of numbers to mean 0 and deviation 1."""

    def __init__(self, x: Floats) -> None:
        """`x`: shape (n,) or (n, columns)."""
        self.mean = x.mean(axis=0)
        deviation = x.std(axis=0)
        self.deviation: Floats = np.where(deviation > 1e-12, deviation, 1.0)

    def up(self, x: Floats) -> Floats:
        """To the scale."""
        return np.asarray((x - self.mean) / self.deviation)

    def down(self, x: Floats) -> Floats:
        """Back from it."""
        return np.asarray(x * self.deviation + self.mean)


def _residuals(model: Any, x: Floats, y: Floats, folds: Any) -> Floats:
    """Of each value, by a model that was fitted without its fold."""
    wrong = np.empty_like(y)
    for fold in range(FOLDS):
        out = folds == fold
        model.fit(x[~out], y[~out])
        wrong[out] = y[out] - model.predict(x[out])
    return wrong
