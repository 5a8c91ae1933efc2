"""A Bayesian neural network over learning curves (Klein et al. 2017, LC-Net)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import autograd.numpy as np
import numpy
from autograd import value_and_grad

from kinase.predict.bounded import Bounded
from kinase.predict.curve import Curve, Floats, Prediction
from kinase.space import Rng

BASES = 4
"""Number of basis functions."""
PARAMETERS = 11
"""Of the basis functions together."""
_OUTPUTS = PARAMETERS + BASES + 2
_UNITS = 64
_RATE = 5e-3
_CURVES, _POINTS = 32, 6
"""Curves of a gradient step, and points of each."""
_PREFIX = 6
"""Most points of the curve so far that are an input."""


def bases(t: Floats, p: Floats) -> list[Floats]:
    """The basis functions at `t`, each 0 where `t` is 1, so that what is added to them is the
    curve's end (section 3.2): vapor pressure, power, log power, exponential. Hill3 is the log power
    with another sign of its exponent, and left out.

    Args:
        t: share of the epochs, in (0, 1]; broadcasts with the leading dimensions of `p`.
        p: their parameters in (0, 1), shape (..., 11).
    """
    log_t = np.log(t)
    a, b, c = p[..., 0], p[..., 1] / 10.0, p[..., 2]
    vapor = np.exp(-a + b / t - c * log_t) - np.exp(-a + b)
    a, b = p[..., 3], 2.0 * p[..., 4]
    power = a * (np.exp(-b * log_t) - 1.0)
    a, b, c = p[..., 5], 5.0 * p[..., 6], 5.0 * p[..., 7]
    log_power = a / (1.0 + np.exp(c * (log_t + b))) - a / (1.0 + np.exp(c * b))
    a, b, c = p[..., 8], 20.0 * p[..., 9], 0.2 + p[..., 10]
    exponential = a * (np.exp(-b * np.exp(c * log_t)) - np.exp(-b))
    return [vapor, power, log_power, exponential]


class LCNet:
    """Predicts a curve from the features of its architecture and its first `length` losses: a
    network with three hidden layers gives the end of the curve, the basis functions' parameters
    and weights, and the noise. It learns from each point of each curve, of unfinished ones too.

    The posterior is an ensemble whose members are drawn to different draws of the prior (Pearce et
    al. 2020, anchored ensembles), where Klein et al. sample by Hamiltonian Monte Carlo. That the
    first losses are an input, and that the end is relative to the last of them, is an addition:
    without them, curves of trials with equal features would be predicted alike.
    """

    def __init__(
        self, length: int, epoch: int, *, networks: int = 5, steps: int = 300, rng: Rng
    ) -> None:
        """
        Args:
            length: epochs that are known of the curves to predict; 0: their features alone.
            epoch: the last that can be predicted, greater than `length`.
            networks: members of the ensemble.
            steps: gradient steps (Adam) of each.
            rng: of the weights and the batches.
        """
        self.length = length
        self.epoch = epoch
        self.networks = networks
        self.steps = steps
        self._rng = rng
        self._known = (
            numpy.unique(numpy.geomspace(1, length, _PREFIX).round().astype(int) - 1)
            if length
            else numpy.zeros(0, dtype=int)
        )

    def fit(self, curves: Sequence[Curve]) -> None:
        """Learn from curves that are longer than `length`."""
        self._bounded = Bounded(numpy.concatenate([c.measured()[1] for c in curves]))
        x = numpy.stack([self._inputs(curve) for curve in curves])
        self._mean, self._deviation = x.mean(axis=0), numpy.maximum(x.std(axis=0), 1e-9)
        x = (x - self._mean) / self._deviation
        points = [self._later(curve) for curve in curves]
        total = sum(len(times) for times, _ in points)
        self._weights = anchors = self._draw(x.shape[1])
        self._weights = [w.copy() for w in anchors]
        first = [numpy.zeros_like(w) for w in anchors]
        second = [numpy.zeros_like(w) for w in anchors]
        step = value_and_grad(_objective)
        for n in range(1, self.steps + 1):
            rows = self._rng.integers(len(curves), size=_CURVES)
            at = [self._rng.integers(len(points[row][0]), size=_POINTS) for row in rows]
            t = numpy.stack([points[row][0][i] for row, i in zip(rows, at, strict=True)])
            y = numpy.stack([points[row][1][i] for row, i in zip(rows, at, strict=True)])
            _, gradients = step(self._weights, anchors, x[rows], t, y, total)
            rate = _RATE * 0.5 * (1.0 + math.cos(math.pi * n / self.steps))
            for w, g, m, v in zip(self._weights, gradients, first, second, strict=True):
                m += 0.1 * (g - m)
                v += 0.01 * (g * g - v)
                w -= rate * (m / (1 - 0.9**n)) / (numpy.sqrt(v / (1 - 0.99**n)) + 1e-8)

    def predict(self, curve: Curve, epoch: int) -> Prediction:
        """As `CurveModel`."""
        x = (self._inputs(curve) - self._mean) / self._deviation
        means, log_noise = _curves(
            self._weights, x[None], numpy.array([[epoch / self.epoch]], dtype=numpy.float64)
        )
        deviations = self._bounded.unit * numpy.exp(log_noise[:, 0])
        return Prediction(self._bounded.down(self._last(curve) + means[:, 0, 0]), deviations)

    def _inputs(self, curve: Curve) -> Floats:
        features = numpy.asarray(curve.features, dtype=numpy.float64)
        if not self.length:
            return numpy.concatenate([features, numpy.ones(1)])
        losses = self._bounded.up(curve.filled(self.length))
        return numpy.concatenate([features, losses[self._known]])

    def _later(self, curve: Curve) -> tuple[Floats, Floats]:
        """Times and values of a curve after those that are known, up to the last epoch."""
        epochs, losses = curve.measured()
        later = (epochs > self.length) & (epochs <= self.epoch)
        return epochs[later] / self.epoch, self._bounded.up(losses[later]) - self._last(curve)

    def _last(self, curve: Curve) -> float:
        """The last known loss; 0, the mean of all, where none is."""
        return float(self._bounded.up(curve.filled(self.length))[-1]) if self.length else 0.0

    def _draw(self, inputs: int) -> list[Floats]:
        """Weights and biases of each layer from the prior, the ensemble's members first."""
        sizes = [inputs, _UNITS, _UNITS, _UNITS, _OUTPUTS]
        shapes = [
            (self.networks, rows, out)
            for into, out in itertools.pairwise(sizes)
            for rows in (into, 1)
        ]
        return [
            self._rng.standard_normal(shape) / math.sqrt(precision)
            for shape, precision in zip(shapes, _precisions(shapes), strict=True)
        ]


def _precisions(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Precision of the normal prior of each layer's weights, then of its biases: the number of
    inputs, a bias being the weight of one more, so that an output has variance 1 if its inputs
    have. As in the authors' code, weights and biases have the same prior.

    Args:
        shapes: of the weights and biases, each (networks, inputs or 1, outputs).
    """
    return [inputs + 1 for _, inputs, _ in shapes[::2] for _ in range(2)]


def _curves(weights: list[Floats], x: Floats, t: Floats) -> tuple[Floats, Floats]:
    """Means, shape (networks, rows, points), and the logarithm of the noise's deviation, shape
    (networks, rows)."""
    hidden = x
    for layer in range(0, len(weights) - 2, 2):
        hidden = np.tanh(np.matmul(hidden, weights[layer]) + weights[layer + 1])
    out = np.matmul(hidden, weights[-2]) + weights[-1]
    parameters = 1.0 / (1.0 + np.exp(-out[..., None, :PARAMETERS]))
    mean = out[..., None, PARAMETERS] + 0.0 * t
    for k, basis in enumerate(bases(t, parameters)):
        mean = mean + out[..., None, PARAMETERS + 1 + k] * basis
    return mean, 3.0 * np.tanh(out[..., -1] / 3.0) - 2.0


def _objective(
    weights: list[Floats], anchors: list[Floats], x: Floats, t: Floats, y: Floats, total: int
) -> Floats:
    """Negative log posterior density for each point, summed over the networks."""
    mean, log_noise = _curves(weights, x, t)
    wrong = 0.5 * ((y - mean) / np.exp(log_noise)[..., None]) ** 2 + log_noise[..., None]
    precisions = _precisions([a.shape for a in anchors])
    prior = sum(
        0.5 * precision * np.sum((w - a) ** 2)
        for w, a, precision in zip(weights, anchors, precisions, strict=True)
    )
    loss: Floats = np.mean(wrong) * mean.shape[0] + prior / total
    return loss
