"""Extrapolation by an ensemble of parametric curves (Domhan et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinase.predict.curve import Curve, Floats, Prediction
from kinase.predict.families import FAMILIES, Family
from kinase.space import Rng

_THIN = 10
"""Of the sampler's steps, one in so many is used to predict."""
_LIMIT = 1000.0
"""Of a parameter's size."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Turns losses into values like accuracies: greater is better, mostly between 0 and 1."""

    offset: float
    unit: float
    top: float
    """The greatest value that a curve may end at."""

    def up(self, losses: Floats) -> Floats:
        """Of losses."""
        return (self.offset - losses) / self.unit

    def down(self, values: Floats) -> Floats:
        """The losses of values."""
        return self.offset - self.unit * values


def scale_of(losses: Floats) -> Scale:
    """The scale of a curve. Losses between -1 and 0 are accuracies, turned. Others that are not
    negative end at 0 at best. Any others have no natural end."""
    low, high = float(losses.min()), float(losses.max())
    if low >= -1.0 and high <= 0.0:
        return Scale(0.0, 1.0, 1.0)
    if low >= 0.0:
        unit = 1.25 * high
        return Scale(unit, unit, 1.0)
    unit = 1.5 * (high - low) or 1.0
    return Scale(high + 0.25 * unit, unit, 2.0)


class Parametric:
    """The weighted sum of eleven families with normal noise: the posterior of the parameters, the
    weights and the noise by Markov chain Monte Carlo (section 3).

    The prior is flat where the weights are positive with sum 1, the noise is at most 1, and each
    family is no lower at the predicted epoch than at the second one and within bounds there.
    """

    def __init__(
        self,
        rng: Rng,
        *,
        walkers: int = 100,
        steps: int = 300,
        burn_in: int = 200,
        families: Sequence[Family] = FAMILIES,
    ) -> None:
        """
        Args:
            rng: of the sampler.
            walkers: at least two per parameter.
            steps: of each walker that are kept.
            burn_in: steps before them that are dropped.
            families: to combine.
        """
        self._rng = rng
        self._walkers = walkers
        self._steps = steps
        self._burn_in = burn_in
        self._families = families

    def predict(self, curve: Curve, epoch: int) -> Prediction:
        """As `CurveModel`. Where no family fits, the last loss with the curve's own deviation."""
        x, losses = curve.measured()
        scale = scale_of(losses)
        posterior = _Posterior(x, scale.up(losses), float(epoch), scale.top, self._families)
        if not posterior.families:
            return Prediction(losses[-1:], np.array([float(losses.std()) or scale.unit]))
        theta = self._sample(posterior)
        values, sigma = posterior.predict(theta, np.array([float(epoch)]))
        finite = np.isfinite(values[:, 0])
        return Prediction(scale.down(values[finite, 0]), scale.unit * sigma[finite])

    def _sample(self, posterior: _Posterior) -> Floats:
        """Samples of the posterior, shape (n, parameters)."""
        import emcee

        walkers = max(self._walkers, 2 * posterior.size + 2)
        start = posterior.ball(walkers, self._rng)
        seed = np.random.RandomState(int(self._rng.integers(2**32)))
        state = emcee.State(start, random_state=seed.get_state())
        moves = [(emcee.moves.StretchMove(), 0.5), (emcee.moves.DEMove(), 0.5)]
        sampler = emcee.EnsembleSampler(
            walkers, posterior.size, posterior.log, moves=moves, vectorize=True
        )
        sampler.run_mcmc(state, self._burn_in + self._steps, skip_initial_state_check=True)
        chain = sampler.get_chain(discard=self._burn_in, thin=_THIN, flat=True)
        return np.asarray(chain, dtype=np.float64)


class _Posterior:
    """Log density of a parameter vector: each family's parameters, the logarithm of the noise's
    deviation, the weights before they are divided by their sum."""

    def __init__(
        self, x: Floats, y: Floats, end: float, top: float, families: Sequence[Family]
    ) -> None:
        self.x, self.y, self.end, self.top = x, y, end, top
        self.families: list[Family] = []
        self._start: list[float] = []
        wrong = []
        for family in families:
            best = _least_squares(family, x, y)
            if np.isfinite(self._prior(family, best[None])[0]):
                self.families.append(family)
                self._start.extend(best)
                wrong.append(float(np.std(family.at(x, best[None])[0] - y)))
        self._noise = min(max(min(wrong, default=0.0), 1e-3), 0.5)
        self.size = len(self._start) + 1 + len(self.families)

    def ball(self, walkers: int, rng: Rng) -> Floats:
        """Starting points around the best fit of each family, all with a finite density."""
        weights = np.ones(len(self.families))
        centre = np.concatenate([self._start, [np.log(self._noise)], weights])
        spread = 1e-2
        rows = np.repeat(centre[None], walkers, axis=0)
        bad = np.ones(walkers, dtype=bool)
        while bad.any():
            noise = rng.standard_normal((int(bad.sum()), self.size))
            rows[bad] = centre + spread * noise * (np.abs(centre) + 1e-2)
            bad = ~np.isfinite(self.log(rows))
            spread /= 2
            if spread < 1e-12:
                rows[bad] = centre + 1e-12 * rng.standard_normal((int(bad.sum()), self.size))
                break
        return rows

    def log(self, theta: Floats) -> Floats:
        """Log posterior density of each row, minus infinity outside the prior."""
        weights = theta[:, -len(self.families) :]
        log_sigma = theta[:, -len(self.families) - 1]
        points = np.concatenate([self.x, [2.0, self.end]])
        total = np.zeros((len(theta), len(self.x)))
        # Weights that are exponential before they are normalized are uniform on the simplex. A
        # flat prior of sigma is one of log sigma times sigma.
        log = np.where((weights > 0).all(axis=1), -weights.sum(axis=1), -np.inf) + log_sigma
        log[(log_sigma > 0) | (log_sigma < -12)] = -np.inf
        shares = weights / weights.sum(axis=1, keepdims=True)
        with np.errstate(all="ignore"):
            for k, (family, part) in enumerate(zip(self.families, self._parts(theta), strict=True)):
                values = family.at(points, part)
                log += self._bounds(part, values[:, -2], values[:, -1])
                total += shares[:, k, None] * values[:, :-2]
            wrong = (((total - self.y) / np.exp(log_sigma)[:, None]) ** 2).sum(axis=1)
            log -= 0.5 * wrong + len(self.y) * log_sigma
        return np.where(np.isfinite(log), log, -np.inf)

    def predict(self, theta: Floats, x: Floats) -> tuple[Floats, Floats]:
        """The values at `x`, shape (rows, n), and the noise's deviation of each row."""
        weights = theta[:, -len(self.families) :]
        shares = weights / weights.sum(axis=1, keepdims=True)
        total = np.zeros((len(theta), len(x)))
        with np.errstate(all="ignore"):
            for k, (family, part) in enumerate(zip(self.families, self._parts(theta), strict=True)):
                total += shares[:, k, None] * family.at(x, part)
        return total, np.exp(theta[:, -len(self.families) - 1])

    def _parts(self, theta: Floats) -> list[Floats]:
        cuts = np.cumsum([len(family.start) for family in self.families])
        return np.split(theta[:, : cuts[-1]], cuts[:-1], axis=1)

    def _prior(self, family: Family, parameters: Floats) -> Floats:
        with np.errstate(all="ignore"):
            values = family.at(np.array([2.0, self.end]), parameters)
        return self._bounds(parameters, values[:, 0], values[:, 1])

    def _bounds(self, parameters: Floats, second: Floats, end: Floats) -> Floats:
        fine = (end >= second) & (end >= 0.0) & (end <= self.top)
        fine &= (np.abs(parameters) <= _LIMIT).all(axis=1)
        return np.where(fine, 0.0, -np.inf)


def _least_squares(family: Family, x: Floats, y: Floats) -> Floats:
    """The parameters with the least squared error, from the family's starting point."""
    from scipy.optimize import least_squares

    def wrong(parameters: Floats) -> Floats:
        with np.errstate(all="ignore"):
            found = family.at(x, parameters[None])[0] - y
        return np.where(np.isfinite(found), found, 1e3)

    fit = least_squares(wrong, np.array(family.start), method="trf", max_nfev=200)
    return np.asarray(fit.x, dtype=np.float64)
