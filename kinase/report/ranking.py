"""How well scores rank networks: Kendall's rank correlation, and a bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 8
"""Minimum number of pairs for a rank correlation: of fewer the interval says next to nothing, and
pairs that agree in all orders by chance are not rare."""
MOST = 1000
"""Maximum number of pairs."""
DRAWS = 1000
"""Resamples of the bootstrap."""
LEVEL = 0.9
"""Coverage of the interval."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Agreement of two rankings."""

    pairs: int
    """Networks that have both values."""
    tau: float | None
    """Kendall's tau-b (Kendall 1945); None for fewer than `FEWEST` pairs, or if all values of a
    side are equal."""
    interval: tuple[float, float] | None
    """90 % percentile interval of the bootstrap over pairs (Efron & Tibshirani 1993, chapter 13);
    None where resampling shows no spread, as if all pairs agree."""


def ranking(first: Sequence[float], second: Sequence[float]) -> Ranking:
    """The agreement of two lists of values of the same networks, of which `MOST` count."""
    count = len(first)
    if count < FEWEST:
        return Ranking(count, None, None)
    a, b = (np.asarray(values[:MOST], np.float64) for values in (first, second))
    agree, untied_a, untied_b = _signs(a, b)
    once = np.ones((1, len(a)))
    [tau] = _taus(once, agree, untied_a, untied_b)
    if not np.isfinite(tau):
        return Ranking(count, None, None)
    draws = np.random.default_rng(0).multinomial(len(a), np.full(len(a), 1 / len(a)), DRAWS)
    taus = _taus(draws.astype(np.float64), agree, untied_a, untied_b)
    taus = taus[np.isfinite(taus)]  # a resample of one value has none
    low, high = np.quantile(taus, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    interval = (float(low), float(high)) if high - low > 1e-12 else None
    return Ranking(count, float(tau), interval)


def _signs(a: Floats, b: Floats) -> tuple[Floats, Floats, Floats]:
    """For each two networks, (n, n): 1 if both sides order them alike and -1 if not, and for each
    side 1 if it orders them at all."""
    x, y = (np.sign(side[:, None] - side[None, :]) for side in (a, b))
    return x * y, np.abs(x), np.abs(y)


def _taus(counts: Floats, agree: Floats, untied_a: Floats, untied_b: Floats) -> Floats:
    """Tau-b of samples in which the networks occur so often, (samples, n)."""

    def total(matrix: Floats) -> Floats:
        found: Floats = np.einsum("ij,ij->i", counts @ matrix, counts)
        return found

    with np.errstate(invalid="ignore", divide="ignore"):
        taus: Floats = total(agree) / np.sqrt(total(untied_a) * total(untied_b))
    return taus
