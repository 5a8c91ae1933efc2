"""The Gaussian process by blocks, against the dense one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import gamma, multivariate_normal

from kinase.predict.curve import Curve
from kinase.predict.freeze_thaw import (
    FreezeThaw,
    Hyper,
    Posterior,
    decaying,
    information,
    matern,
)

HYPER = Hyper(mean=0.3, spread=0.8, length=1.3, decay=0.9, alpha=1.4, beta=2.5, noise=0.15)
RNG = np.random.default_rng(0)
LENGTHS = (4, 7, 1, 5)
CURVES = [RNG.normal(size=n) for n in LENGTHS]
FEATURES = RNG.normal(size=(4, 2))


class Dense:
    """Kernel K_x(x, x') + 1[x = x'] (k(t, t') + noise 1[t = t'])."""

    def __init__(self) -> None:
        self.which = np.repeat(np.arange(4), LENGTHS)
        self.t = np.concatenate([np.arange(1.0, n + 1) for n in LENGTHS])
        own = self.which[:, None] == self.which[None, :]
        self.ends = matern(FEATURES, FEATURES, HYPER)
        self.k = self.ends[np.ix_(self.which, self.which)]
        self.k = self.k + own * decaying(self.t[:, None], self.t[None, :], HYPER)
        self.k = self.k + HYPER.noise**2 * np.eye(len(self.t))
        self.y = np.concatenate(CURVES)

    def condition(self, cross: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        solved = np.linalg.solve(self.k, cross)
        return HYPER.mean + solved.T @ (self.y - HYPER.mean), own - cross.T @ solved


def test_the_blocks_are_the_dense_process() -> None:
    blocks, dense = Posterior(CURVES, FEATURES, HYPER), Dense()
    wanted = multivariate_normal(np.full(17, HYPER.mean), dense.k).logpdf(dense.y)
    assert blocks.log_evidence == pytest.approx(wanted, abs=1e-8)
    mean, cov = dense.condition(dense.ends[dense.which], dense.ends)
    assert blocks.mean == pytest.approx(mean, abs=1e-8)
    assert blocks.cov == pytest.approx(cov, abs=1e-8)


@pytest.mark.parametrize("curve", range(4))
@pytest.mark.parametrize("ahead", [1, 30])
def test_a_curve_goes_on_as_in_the_dense_process(curve: int, ahead: int) -> None:
    blocks, dense = Posterior(CURVES, FEATURES, HYPER), Dense()
    epoch = float(LENGTHS[curve] + ahead)
    cross = dense.ends[dense.which, curve] + (dense.which == curve) * decaying(
        dense.t, np.array(epoch), HYPER
    )
    own = HYPER.spread**2 + decaying(np.array(epoch), np.array(epoch), HYPER) + HYPER.noise**2
    wanted, variance = dense.condition(cross, own)
    mean, found, omega = blocks.ahead(curve, epoch)
    assert (mean, found) == (pytest.approx(wanted, abs=1e-8), pytest.approx(variance, abs=1e-8))
    # omega: the covariance with the ends, for each unit of theirs
    _, joint = dense.condition(
        np.column_stack([cross, dense.ends[dense.which]]),
        np.block([[np.array([[own]]), dense.ends[[curve]]], [dense.ends[:, [curve]], dense.ends]]),
    )
    assert omega * blocks.cov[curve] == pytest.approx(joint[0, 1:], abs=1e-8)


def test_a_new_curves_end_is_that_of_the_dense_process() -> None:
    blocks, dense = Posterior(CURVES, FEATURES, HYPER), Dense()
    new = np.array([[0.2, -0.4], [3.0, 1.0]])
    cross = matern(FEATURES, new, HYPER)
    wanted, cov = dense.condition(cross[dense.which], matern(new, new, HYPER))
    mean, variance = blocks.end_of(new)
    assert mean == pytest.approx(wanted, abs=1e-8)
    assert variance == pytest.approx(np.diag(cov), abs=1e-8)


@pytest.mark.parametrize(("t", "u"), [(1.0, 1.0), (2.0, 7.0), (20.0, 3.0)])
def test_the_kernel_is_the_integral_over_speeds(t: float, u: float) -> None:
    density = gamma(HYPER.alpha, scale=1 / HYPER.beta).pdf
    wanted, _ = quad(lambda speed: math.exp(-speed * (t + u)) * density(speed), 0, np.inf)
    found = float(decaying(np.array(t), np.array(u), HYPER)) / HYPER.decay**2
    assert found == pytest.approx(wanted, rel=1e-6)


def test_curves_tend_to_their_ends() -> None:
    blocks = Posterior(CURVES, FEATURES, HYPER)
    mean, variance, omega = blocks.ahead(1, 1e9)
    assert (mean, omega) == (pytest.approx(blocks.mean[1], abs=1e-6), pytest.approx(1, abs=1e-6))
    assert variance == pytest.approx(blocks.cov[1, 1] + HYPER.noise**2, abs=1e-6)


def test_it_extrapolates_exponential_curves() -> None:
    rng, x = np.random.default_rng(1), np.arange(1, 31)
    ends = rng.uniform(0.2, 0.8, 8)
    curves = [end + 0.6 * np.exp(-0.25 * x) + 0.005 * rng.standard_normal(30) for end in ends]
    known = [Curve(c[: 8 + i].tolist()) for i, c in enumerate(curves)]
    model = FreezeThaw(known)
    for place, curve in enumerate(curves):
        found = model.after(place, 30)
        assert abs(found.mean - curve[-1]) < max(3 * found.deviation, 0.02)
        assert found.deviation < 0.15
    assert FreezeThaw(known, longest=5).every == 3


def test_a_look_at_what_may_be_the_best_tells_most() -> None:
    draws = np.random.default_rng(0).standard_normal((2000, 3))
    mean, cov = np.array([0.0, 0.1, 3.0]), np.diag([0.1, 0.1, 0.1])
    near, far = information(mean, cov, [(1, 0.11, 1.0), (2, 0.11, 1.0)], draws)
    assert near > 0.1
    assert abs(far) < 0.01
    [blind] = information(mean, cov, [(1, 5.0, 0.0)], draws)
    assert blind == pytest.approx(0.0, abs=1e-12)
