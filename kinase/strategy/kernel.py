"""A kernel density over numbers and choices together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
LEAST = 1e-3
"""Least bandwidth by default (Falkner et al. 2018, section 4)."""


class MixedDensity:
    """Product kernels at each point: normal for a number, and for a choice of c options that of
    Aitchison & Aitken (1976), which gives the point's own option 1 - h and each other h / (c - 1).

    Bandwidths follow the normal reference rule, `1.06 s n**(-1 / (4 + d))` with the deviation s of
    the n points in a dimension; at least `least`, and for a choice at most (c - 1) / c, at which
    all options are alike. The deviation of a choice must not depend on how its options are
    numbered: it is the root of half the chance that two of the points differ, which for two options
    is the deviation of 0 and 1.
    """

    def __init__(
        self,
        points: Reals,
        options: Sequence[int],
        bandwidth: Reals | None = None,
        least: float = LEAST,
    ) -> None:
        """`points` are (n, d), choices as numbers from 0; `options` are of each dimension, 0 for a
        number; `bandwidth` is (d,), by default that of the rule."""
        self.points = points
        self.options = tuple(options)
        number, dimensions = points.shape
        if bandwidth is None:
            spread = [
                _diversity(column) if c else column.std()
                for column, c in zip(points.T, self.options, strict=True)
            ]
            bandwidth = 1.06 * np.array(spread) * number ** (-1 / (4 + dimensions))
            most = [(c - 1) / c if c else math.inf for c in self.options]
            bandwidth = np.clip(bandwidth, np.minimum(least, most), most)
        self.bandwidth = bandwidth

    def log(self, points: Reals) -> Reals:
        """Logarithm of the density at points (m, d)."""
        found = np.zeros((len(points), len(self.points)))
        for place, options in enumerate(self.options):
            h = self.bandwidth[place]
            here, there = points[:, place, None], self.points[None, :, place]
            if options == 0:
                found -= 0.5 * ((here - there) / h) ** 2 + math.log(h * math.sqrt(2 * math.pi))
            elif options > 1:
                found += np.where(here == there, math.log1p(-h), math.log(h / (options - 1)))
        top = found.max(axis=1)
        sums: Reals = np.exp(found - top[:, None]).sum(axis=1)
        result: Reals = top + np.log(sums) - math.log(len(self.points))
        return result


def _diversity(column: Reals) -> float:
    shares = np.unique(column, return_counts=True)[1] / len(column)
    return math.sqrt((1 - float((shares**2).sum())) / 2)
