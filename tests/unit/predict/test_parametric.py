"""The ensemble of parametric curves: its posterior, against what generated the data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kinase.predict.curve import Curve, Prediction, normal
from kinase.predict.parametric import Parametric, scale_of

SHORT = {"steps": 120, "burn_in": 120}


def accuracies(kind: int, rng: np.random.Generator, epochs: int) -> np.ndarray:
    x, end = np.arange(1, epochs + 1), rng.uniform(0.6, 0.95)
    match kind % 3:
        case 0:
            clean = end - rng.uniform(0.2, 0.6) * x ** -rng.uniform(0.3, 1.2)
        case 1:
            clean = end - 0.4 * np.exp(-rng.uniform(0.05, 0.3) * x**0.8)
        case _:
            clean = end / (1 + (x / rng.uniform(1, 4)) ** -rng.uniform(0.8, 1.5))
    return np.asarray(clean + 0.01 * rng.standard_normal(epochs))


def test_it_recovers_a_known_curve() -> None:
    x = np.arange(1, 41)
    clean = 0.9 - 0.5 * x**-0.8
    y = clean + 0.005 * np.random.default_rng(3).standard_normal(40)
    model = Parametric(np.random.default_rng(0), **SHORT)
    found = model.predict(Curve((-y[:20]).tolist()), 40)
    assert abs(found.mean + clean[-1]) < 3 * found.deviation
    assert 0.003 < found.deviation < 0.03


@pytest.mark.soak
def test_ninety_percent_intervals_cover_ninety_percent() -> None:
    inside = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y = accuracies(seed, rng, 40)
        known = int(rng.choice([8, 15, 25]))
        found = Parametric(rng).predict(Curve((-y[:known]).tolist()), 40)
        inside.append(0.05 < found.below(-y[-1]) < 0.95)
    assert 0.82 <= np.mean(inside) <= 0.98


def test_the_same_generator_gives_the_same_prediction() -> None:
    curve = Curve((-accuracies(0, np.random.default_rng(1), 10)).tolist())
    first, second = (
        Parametric(np.random.default_rng(5), steps=20, burn_in=20).predict(curve, 30)
        for _ in range(2)
    )
    assert (first.means == second.means).all()


def test_a_gap_in_the_curve_is_left_out() -> None:
    y = -accuracies(0, np.random.default_rng(1), 12)
    y[[2, 5, 11]] = math.nan, math.inf, math.nan
    found = Parametric(np.random.default_rng(0), steps=40, burn_in=40).predict(
        Curve(y.tolist()), 30
    )
    assert math.isfinite(found.mean)
    assert 0 < found.deviation < 0.5


@pytest.mark.parametrize(
    ("losses", "values", "top"),
    [
        ([-0.2, -0.9], [0.2, 0.9], 1.0),  # accuracies, turned
        ([4.0, 1.0], [0.2, 0.8], 1.0),  # not negative: 0 is the best
        ([-3.0, -5.0, 1.0], [0.25 + 4 / 9, 0.25 + 6 / 9, 0.25], 2.0),
    ],
)
def test_losses_become_values_that_rise(
    losses: list[float], values: list[float], top: float
) -> None:
    scale = scale_of(np.array(losses))
    assert scale.up(np.array(losses)) == pytest.approx(values)
    assert scale.down(scale.up(np.array(losses))) == pytest.approx(losses)
    assert scale.top == top


def test_a_curve_that_no_family_fits_keeps_its_last_value() -> None:
    model = Parametric(np.random.default_rng(0), families=())
    found = model.predict(Curve([1.0, 2.0, 3.0]), 9)
    assert found.mean == 3.0
    assert found.deviation == pytest.approx(np.std([1, 2, 3]))


def test_a_mixture_of_normals() -> None:
    both = Prediction(np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    assert (both.mean, both.deviation) == (1.0, pytest.approx(math.sqrt(2)))
    assert both.below(1.0) == pytest.approx(0.5)
    assert [both.below(bar) for bar in (-9.0, 11.0)] == pytest.approx([0, 1])
    probabilities = [both.below(bar) for bar in np.linspace(-3, 5, 20)]
    assert probabilities == sorted(probabilities)
    assert [normal(1.0, 0.0).below(bar) for bar in (0.9, 1.0)] == [0.0, 1.0]
