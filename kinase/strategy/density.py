"""A density of points, and sampling in proportion to its inverse, which prefers isolated points."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kinase.space import Rng

Reals = NDArray[np.float64]


class Density:
    """Kernel density estimate: a normal density at each point. Its deviation in a dimension follows
    the rule of Scott (1992), `s n**(-1 / (d + 4))` with the sample deviation `s` of the n points;
    it is 1 where all agree. Without dimensions the density is constant.
    """

    def __init__(self, points: Reals) -> None:
        """`points` are (n, d), n at least 1."""
        self.points = points
        number, dimensions = points.shape
        spread = points.std(axis=0, ddof=1) if number > 1 else np.zeros(dimensions)
        scale = number ** (-1 / (dimensions + 4))
        self.bandwidth = np.where(spread > 0, spread * scale, 1.0)

    def log(self, points: Reals) -> Reals:
        """Logarithm of the density at points (m, d)."""
        apart = (points[:, None, :] - self.points[None, :, :]) / self.bandwidth
        exponents = -0.5 * (apart**2).sum(axis=2)
        constant = np.log(self.bandwidth).sum() + 0.5 * len(self.bandwidth) * math.log(2 * math.pi)
        top = exponents.max(axis=1)
        sums: Reals = np.exp(exponents - top[:, None]).sum(axis=1)
        result: Reals = top + np.log(sums) - math.log(len(self.points)) - constant
        return result


def draw_sparse(log_density: Reals, number: int, rng: Rng) -> list[int]:
    """Draw `number` different indices, each in proportion to the inverse density of the remaining
    ones; all indices, in that order, if there are not more.

    The largest of -log p + g, with g from Gumbel's distribution, is drawn with a probability in
    proportion to 1 / p, and the next ones as without replacement (Yellott 1977; Vieira 2014); so no
    density is too small to be inverted.
    """
    keys = -log_density + rng.gumbel(size=len(log_density))
    return [int(i) for i in np.argsort(-keys, kind="stable")[:number]]
