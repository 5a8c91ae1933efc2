"""Support vector regression of curves, against scikit-learn's on the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.svm import NuSVR as Regressor

from kinase.predict.curve import Curve
from kinase.predict.nu_svr import NuSVR, inputs


def straight(count: int, epochs: int = 10) -> list[Curve]:
    rng = np.random.default_rng(0)
    return [
        Curve((2.0 - rng.uniform(0.05, 0.15) * np.arange(1, epochs + 1)).tolist())
        for _ in range(count)
    ]


def test_the_inputs_are_the_curve_its_differences_and_the_features() -> None:
    found = inputs(Curve([5.0, 3.0, 2.0, 1.5, 1.0], (7.0, 8.0)), 4)
    assert found.tolist() == [5, 3, 2, 1.5, -2, -1, -0.5, 1, 0.5, 7, 8]
    assert inputs(Curve([5.0, 3.0]), 1).tolist() == [5]


def test_a_gap_is_the_value_before_it() -> None:
    assert inputs(Curve([math.nan, 3.0, math.inf, 2.0]), 4)[:4].tolist() == [3, 3, 3, 2]
    with pytest.raises(ValueError, match="has no 2 to use"):
        inputs(Curve([math.nan, math.inf]), 2)


def test_it_is_scikit_learns_on_standardised_numbers() -> None:
    rng = np.random.default_rng(1)
    curves = [Curve(rng.normal(3, 2, 8).tolist(), tuple(rng.normal(9, 4, 2))) for _ in range(30)]
    model = NuSVR(3, 8, draws=4, rng=rng)
    model.fit(curves)
    x = np.stack([inputs(curve, 3) for curve in curves])
    y = np.array([curve.losses[7] - curve.losses[2] for curve in curves])
    c, gamma, nu = (model.model.get_params()[name] for name in ("C", "gamma", "nu"))
    plain = Regressor(C=c, gamma=gamma, nu=nu)
    plain.fit((x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std())
    change = y.mean() + y.std() * plain.predict((x - x.mean(0)) / x.std(0))
    found = [model.predict(curve, 8).mean for curve in curves]
    assert found == pytest.approx(x[:, 2] + change, rel=1e-6)
    assert 0.3 * y.std() < model.deviation < 3 * y.std()


def test_straight_lines_are_learned() -> None:
    curves = straight(60)
    model = NuSVR(4, 10, draws=12, rng=np.random.default_rng(2))
    model.fit(curves[:40])
    found = np.array([model.predict(Curve(c.losses[:4]), 10).mean for c in curves[40:]])
    wanted = np.array([curve.losses[9] for curve in curves[40:]])
    assert 1 - ((found - wanted) ** 2).mean() / wanted.var() > 0.99
    assert model.deviation < 0.1 * wanted.std()
    with pytest.raises(ValueError, match="predicts epoch 10, not 9"):
        model.predict(curves[0], 9)


def test_a_curve_that_explodes_moves_no_other() -> None:
    curves = straight(30)
    wild = Curve([2.0, 2.0, 2.0, 1e30, 1e35, 1e36, 1e37, 1e38, 1e38, 1e38])
    model = NuSVR(4, 10, draws=6, rng=np.random.default_rng(2))
    model.fit([*curves, wild])
    assert model.deviation < 1.0
    assert abs(model.predict(curves[0], 10).mean - curves[0].losses[9]) < 0.2
