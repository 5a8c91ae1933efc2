"""A Gaussian process over learning curves and their ends (Swersky et al. 2014, freeze-thaw)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinase.predict.bounded import Bounded
from kinase.predict.curve import Curve, Floats, Prediction, normal


@dataclass(frozen=True, slots=True)
class Hyper:
    """Hyper-parameters, for losses on the scale of `Bounded`."""

    mean: float = 0.0
    """Of the curves' ends."""
    spread: float = 1.0
    """Deviation of the ends."""
    length: float = 1.0
    """Length scale of the features."""
    decay: float = 1.0
    """Deviation of a curve from its end where it begins."""
    alpha: float = 1.0
    """Shape of the distribution of the speeds."""
    beta: float = 1.0
    """Its rate, in epochs."""
    noise: float = 0.1
    """Deviation of the noise."""


def decaying(first: Floats, second: Floats, hyper: Hyper) -> Floats:
    """The covariance of exponentially decaying curves at two epochs: that of exp(-lambda t) with a
    Gamma distribution of lambda (section 3.1), b^a / (t + t' + b)^a."""
    return hyper.decay**2 * (hyper.beta / (first + second + hyper.beta)) ** hyper.alpha


def matern(first: Floats, second: Floats, hyper: Hyper) -> Floats:
    """The covariance of ends, by features: Matern 5/2, shape (n, m)."""
    squares = ((first[:, None, :] - second[None, :, :]) ** 2).sum(axis=-1)
    r = math.sqrt(5.0) * np.sqrt(squares) / hyper.length
    return np.asarray(hyper.spread**2 * (1.0 + r + r * r / 3.0) * np.exp(-r))


class Posterior:
    """What curves say of their ends, by blocks: no matrix is greater than the number of curves or
    of epochs (section 3.2).

    All curves begin at epoch 1, so each one's covariance is a leading block of the longest one's,
    and so are the Cholesky factors.
    """

    def __init__(self, curves: Sequence[Floats], features: Floats, hyper: Hyper) -> None:
        """
        Args:
            curves: values after epoch 1, 2, ..., at least one each.
            features: of each, shape (curves, columns).
            hyper: the hyper-parameters.
        """
        self.hyper = hyper
        self.features = features
        self.lengths = np.array([len(curve) for curve in curves])
        longest = int(self.lengths.max())
        self._times = np.arange(1.0, longest + 1)
        inside = self._times[:, None] <= self.lengths  # (epochs, curves)
        values = np.zeros((longest, len(curves)))
        for column, curve in enumerate(curves):
            values[: len(curve), column] = curve
        time = decaying(self._times[:, None], self._times[None, :], hyper)
        self._factor = np.linalg.cholesky(time + hyper.noise**2 * np.eye(longest))
        solved = _triangular(self._factor, np.column_stack([np.ones(longest), values]))
        self._one = solved[:, :1]
        self._value = np.where(inside, solved[:, 1:], 0.0)
        rest = np.where(inside, solved[:, 1:] - hyper.mean * self._one, 0.0)
        self._precision = np.where(inside, self._one**2, 0.0).sum(axis=0)
        gamma = (self._one * rest).sum(axis=0)
        self._prior = matern(features, features, hyper)
        joint = self._prior + np.diag(1.0 / self._precision)
        self._joint = np.linalg.cholesky(joint)
        shown = self._prior @ gamma
        shift = shown - self._prior @ self._solve(self._solve(shown), transposed=True)
        self.mean: Floats = hyper.mean + shift
        """Of the ends."""
        # K_x^-1 (mean - m) = gamma - Lambda (mean - m), without an inverse of K_x
        self._dual = gamma - self._precision * (self.mean - hyper.mean)
        diagonal = np.log(np.diag(self._factor))
        log_det = (
            2.0 * np.where(inside, diagonal[:, None], 0.0).sum()
            + 2.0 * np.log(np.diag(self._joint)).sum()
            + np.log(self._precision).sum()
        )
        square = (rest**2).sum() - gamma @ shift
        count = self.lengths.sum()
        self.log_evidence = float(-0.5 * (square + log_det + count * math.log(2 * math.pi)))
        """Logarithm of the density of all values."""

    @cached_property
    def cov(self) -> Floats:
        """Covariance of the ends."""
        half = self._solve(self._prior)
        return np.asarray(self._prior - half.T @ half)

    def _solve(self, right: Floats, *, transposed: bool = False) -> Floats:
        """By the Cholesky factor of the ends' covariance with what the curves leave open."""
        return _triangular(self._joint, right, transposed)

    def ahead(self, curve: int, epoch: float) -> tuple[float, float, float]:
        """A curve's value after a later epoch: mean, variance with the noise, and how much of a
        change of its end it shows (section 3.2, Omega)."""
        n = int(self.lengths[curve])
        cross = decaying(self._times[:n], np.array([epoch]), self.hyper)
        v = _triangular(self._factor[:n, :n], cross)
        omega = 1.0 - float(v @ self._one[:n, 0])
        mean = float(v @ self._value[:n, curve]) + omega * float(self.mean[curve])
        own = float(decaying(np.array(epoch), np.array(epoch), self.hyper)) - float(v @ v)
        variance = own + omega**2 * float(self.cov[curve, curve]) + self.hyper.noise**2
        return mean, variance, omega

    def end_of(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of the ends of new curves, of shape (n,), by their features."""
        cross = matern(self.features, features, self.hyper)
        half = self._solve(cross)
        return self.hyper.mean + cross.T @ self._dual, self.hyper.spread**2 - (half**2).sum(axis=0)


def _triangular(factor: NDArray[Any], right: Floats, transposed: bool = False) -> Floats:
    from scipy.linalg import solve_triangular

    trans = "T" if transposed else "N"
    solved = solve_triangular(factor, right, lower=True, trans=trans, check_finite=False)
    return np.asarray(solved, dtype=np.float64)


_LOW = np.array([-2.0, 0.1, 0.1, 0.05, 0.2, 0.1, 0.01])
_HIGH = np.array([2.0, 3.0, 10.0, 5.0, 5.0, 30.0, 0.5])
_DRAWS = 48
_STEPS = 6
_SUBSET = 32
"""Curves that the hyper-parameters are fitted to."""


def _hyper(place: Floats) -> Hyper:
    """Hyper-parameters at a place of the unit cube: the mean is linear, the others logarithmic."""
    logs = np.exp(np.log(_HIGH[1:]) * place[1:] + np.log(_LOW[1:]) * (1 - place[1:]))
    return Hyper(float(_LOW[0] + (_HIGH[0] - _LOW[0]) * place[0]), *logs.tolist())


def likeliest(curves: Sequence[Floats], features: Floats) -> Posterior:
    """The posterior with the hyper-parameters of the greatest evidence from 32 of the curves,
    evenly spaced: the best of 48 draws, climbed from by L-BFGS within the bounds. (Swersky et al.
    average over slice samples.)"""
    from scipy.optimize import minimize

    some = np.unique(np.linspace(0, len(curves) - 1, _SUBSET).round().astype(int))
    few, their = [curves[n] for n in some], features[some]

    def cost(place: Floats) -> float:
        try:
            return -Posterior(few, their, _hyper(place)).log_evidence
        except np.linalg.LinAlgError:
            return 1e10

    draws = np.random.Generator(np.random.PCG64(0)).uniform(0, 1, (_DRAWS, len(_LOW)))
    start = min(draws, key=cost)
    found = minimize(
        cost,
        start,
        method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * len(_LOW),
        options={"maxiter": _STEPS},
    )
    return Posterior(curves, features, _hyper(np.asarray(found.x)))


class FreezeThaw:
    """The Gaussian process as a model of curves."""

    def __init__(self, curves: Sequence[Curve], longest: int = 200) -> None:
        """
        Args:
            curves: each with a finite value; to be predicted by their place.
            longest: epochs of a curve that count at most; a longer one is thinned.
        """
        losses = [curve.filled(len(curve.losses)) for curve in curves]
        self.every = -(-max(len(row) for row in losses) // longest)
        self.bounded = Bounded(np.concatenate(losses))
        thin = [self.bounded.up(row)[:: -self.every][::-1] for row in losses]
        features = np.array([curve.features for curve in curves], dtype=np.float64)
        self.posterior = likeliest(thin, features.reshape(len(curves), -1))

    def after(self, curve: int, epochs: int) -> Prediction:
        """The loss of a curve after so many epochs, more than it has."""
        mean, variance, _ = self.posterior.ahead(curve, epochs / self.every)
        return normal(
            float(self.bounded.down(np.array(mean))), self.bounded.unit * math.sqrt(variance)
        )


def information(
    mean: Floats, cov: Floats, looks: Sequence[tuple[int, float, float]], draws: Floats
) -> list[float]:
    """By how much each look is expected to lower the entropy of which end is the least (section
    3.4; Hennig & Schuler 2012).

    Args:
        mean: of the ends, shape (n,).
        cov: of the ends, shape (n, n).
        looks: for each: which curve, the variance of the value that is seen, and omega.
        draws: standard normal, shape (draws, n); the same for all, so that they compare.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / weights.sum()
    before = _entropy(mean + draws @ _root(cov).T)
    gains = []
    for curve, variance, omega in looks:
        shift = omega * cov[:, curve] / math.sqrt(variance)
        after = cov - np.outer(shift, shift)
        around = draws @ _root(after).T
        entropy = [_entropy(mean + shift * node + around) for node in nodes]
        gains.append(before - float(weights @ np.array(entropy)))
    return gains


def _root(cov: Floats) -> Floats:
    values, vectors = np.linalg.eigh(cov)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _entropy(ends: Floats) -> float:
    """Entropy of the place of the minimum, in nats, from draws of the ends, shape (draws, n)."""
    shares = np.bincount(np.argmin(ends, axis=1)) / len(ends)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
