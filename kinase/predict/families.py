"""The eleven families of learning curves of Domhan et al. 2015 (table 1).

Each is a function of the epoch, from 1, that tends to rise: of an accuracy, or of something that
is turned and scaled like one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kinase.predict.curve import Floats


@dataclass(frozen=True, slots=True)
class Family:
    """One family."""

    name: str
    value: Callable[..., Floats]
    """Of the epochs and each parameter; they broadcast."""
    start: tuple[float, ...]
    """Parameters at which a fit begins: those that the authors' code has for typical networks."""

    def at(self, x: Floats, parameters: Floats) -> Floats:
        """Values at `x`, shape (n,), for each row of `parameters`, shape (rows, k): (rows, n)."""
        return self.value(x, *parameters.T[:, :, None])


def _vapor_pressure(x: Floats, a: Floats, b: Floats, c: Floats) -> Floats:
    return np.exp(a + b / x + c * np.log(x))


def _pow3(x: Floats, c: Floats, a: Floats, alpha: Floats) -> Floats:
    return c - a * x**-alpha


def _log_log_linear(x: Floats, a: Floats, b: Floats) -> Floats:
    return np.log(a * np.log(x) + b)


def _hill3(x: Floats, theta: Floats, eta: Floats, kappa: Floats) -> Floats:
    power = x**eta
    return theta * power / (kappa**eta + power)


def _log_power(x: Floats, a: Floats, b: Floats, c: Floats) -> Floats:
    return a / (1.0 + (x / np.exp(b)) ** c)


def _pow4(x: Floats, c: Floats, a: Floats, b: Floats, alpha: Floats) -> Floats:
    return c - (a * x + b) ** -alpha


def _mmf(x: Floats, alpha: Floats, beta: Floats, kappa: Floats, delta: Floats) -> Floats:
    return alpha - (alpha - beta) / (1.0 + (kappa * x) ** delta)


def _exp4(x: Floats, c: Floats, a: Floats, b: Floats, alpha: Floats) -> Floats:
    return c - np.exp(b - a * x**alpha)


def _janoschek(x: Floats, alpha: Floats, beta: Floats, kappa: Floats, delta: Floats) -> Floats:
    return alpha - (alpha - beta) * np.exp(-kappa * x**delta)


def _weibull(x: Floats, alpha: Floats, beta: Floats, kappa: Floats, delta: Floats) -> Floats:
    return alpha - (alpha - beta) * np.exp(-((kappa * x) ** delta))


def _ilog2(x: Floats, c: Floats, a: Floats) -> Floats:
    return c - a / np.log(x + 1.0)


FAMILIES = (
    Family("vapor pressure", _vapor_pressure, (-0.622028, -0.470050, 0.042322)),
    Family("pow3", _pow3, (0.84, 0.52, 0.01)),
    Family("log log linear", _log_log_linear, (1.0, 1.0)),
    Family("Hill3", _hill3, (0.772320, 0.586449, 2.460843)),
    Family("log power", _log_power, (0.77, 2.98, -0.51)),
    Family("pow4", _pow4, (0.8, 200.0, 0.0, 0.1)),
    Family("MMF", _mmf, (0.7, 0.1, 0.01, 5.0)),
    Family("exp4", _exp4, (0.7, 0.8, -0.8, 0.3)),
    Family("Janoschek", _janoschek, (0.73, 0.07, 0.355, 0.46)),
    Family("Weibull", _weibull, (0.7, 0.1, 0.01, 1.0)),
    Family("ilog2", _ilog2, (0.78, 0.43)),
)
