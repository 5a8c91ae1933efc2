"""Learning curves, and what a model predicts of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted value: a mixture of normal distributions in equal shares."""

    means: Floats
    """Of each, shape (n,)."""
    deviations: Floats
    """Standard deviation of each, shape (n,)."""

    @property
    def mean(self) -> float:
        """Expected value."""
        return float(self.means.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return math.sqrt(float((self.deviations**2).mean() + self.means.var()))

    def below(self, bar: float) -> float:
        """Probability that the value is at most `bar`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (bar - self.means) / self.deviations
        z = np.where(self.deviations > 0, z, np.where(self.means <= bar, np.inf, -np.inf))
        return float(normal_cdf(z).mean())


def normal(mean: float, deviation: float) -> Prediction:
    """A normal distribution as a prediction."""
    return Prediction(np.array([mean]), np.array([deviation]))


def normal_cdf(z: Floats) -> Floats:
    """Distribution function of the standard normal distribution."""
    from scipy.special import ndtr

    return np.asarray(ndtr(z), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Curve:
    """A trial's losses after each epoch, less is better, and what else is known of it."""

    losses: Sequence[float]
    """After epoch 1, 2, ...; infinity or NaN where there is no value."""
    features: Sequence[float] = ()
    """Of the architecture and its training; as many for each curve."""

    def measured(self) -> tuple[Floats, Floats]:
        """The epochs with a finite value, from 1, and the losses there."""
        losses = np.asarray(self.losses, dtype=np.float64)
        finite = np.isfinite(losses)
        return np.asarray(np.flatnonzero(finite) + 1.0, dtype=np.float64), losses[finite]

    def filled(self, length: int) -> Floats:
        """The first `length` losses, each gap with the value before it (the first with the one
        after it).

        Raises:
            ValueError: no value is finite, or the curve is shorter.
        """
        losses = np.asarray(self.losses[:length], dtype=np.float64)
        finite = np.isfinite(losses)
        if len(losses) < length or not finite.any():
            raise ValueError(f"a curve of {len(self.losses)} values has no {length} to use")
        last = np.maximum.accumulate(np.where(finite, np.arange(length), -1))
        return losses[np.where(last < 0, int(np.argmax(finite)), last)]


class CurveModel(Protocol):
    """Predicts how a learning curve continues."""

    def predict(self, curve: Curve, epoch: int) -> Prediction:
        """The loss after `epoch` epochs, from a curve that is shorter.

        Args:
            curve: has a finite value.
            epoch: from 1.
        """
