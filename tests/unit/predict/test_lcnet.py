"""The network over learning curves."""

from __future__ import annotations

import numpy as np
import pytest
from autograd.test_util import check_grads

from kinase.predict.curve import Curve
from kinase.predict.lcnet import BASES, PARAMETERS, LCNet, _objective, bases


def test_each_basis_function_vanishes_at_the_end() -> None:
    parameters = np.random.default_rng(0).uniform(0, 1, (200, PARAMETERS))
    ends = bases(np.ones(200), parameters)
    assert len(ends) == BASES
    assert all(np.abs(end).max() < 1e-12 for end in ends)
    early = bases(np.full(200, 0.1), parameters)
    assert all(np.isfinite(value).all() and value.std() > 0.01 for value in early)


def exponential(count: int, epochs: int = 20) -> list[Curve]:
    """Their end and their speed are functions of the features."""
    rng, x = np.random.default_rng(0), np.arange(1, epochs + 1)
    made = []
    for a, b in rng.uniform(-1, 1, (count, 2)):
        losses = 1 + 0.5 * a + np.exp(-(0.2 + 0.1 * b) * x) + 0.01 * rng.standard_normal(epochs)
        made.append(Curve(losses.tolist(), (a, b)))
    return made


@pytest.mark.parametrize("known", [0, 5])
def test_exponential_curves_are_learned(known: int) -> None:
    curves = exponential(70)
    model = LCNet(known, 20, networks=3, steps=200, rng=np.random.default_rng(1))
    model.fit(curves[:50])
    ends = np.array([curve.losses[-1] for curve in curves[50:]])
    found = [model.predict(Curve(c.losses[:known], c.features), 20) for c in curves[50:]]
    wrong = np.array([prediction.mean for prediction in found]) - ends
    assert np.sqrt((wrong**2).mean()) < 0.35 * ends.std()
    z = wrong / np.array([prediction.deviation for prediction in found])
    assert 0.1 < z.std() < 2.5


def test_its_gradients_are_those_of_differences() -> None:
    rng = np.random.default_rng(0)
    model = LCNet(2, 9, networks=2, rng=rng)
    weights, anchors = model._draw(3), model._draw(3)
    x, t, y = rng.normal(size=(4, 3)), rng.uniform(0.2, 1, (4, 5)), rng.normal(size=(4, 5))
    for place in (0, len(weights) - 1):

        def one(w: np.ndarray, place: int = place) -> np.ndarray:
            return _objective([*weights[:place], w, *weights[place + 1 :]], anchors, x, t, y, 9)

        check_grads(one, modes=["rev"], order=1)(weights[place])


def test_weights_and_biases_are_drawn_from_the_prior_that_holds_them() -> None:
    """The penalty of a draw is half its number of parameters, in each layer."""
    model = LCNet(2, 9, networks=300, rng=np.random.default_rng(0))
    anchors = [np.zeros_like(w) for w in model._draw(3)]
    x, t, y = np.zeros((1, 3)), np.ones((1, 1)), np.zeros((1, 1))
    for place, drawn in enumerate(model._draw(3)):
        weights = [*anchors[:place], drawn, *anchors[place + 1 :]]
        one, none = (_objective(weights, anchors, x, t, y, total) for total in (1, 10**9))
        assert (one - none) / (drawn.size / 2) == pytest.approx(1.0, abs=0.05)


def test_the_same_generator_gives_the_same_prediction() -> None:
    curves = exponential(12)
    found = []
    for _ in range(2):
        model = LCNet(3, 20, networks=2, steps=15, rng=np.random.default_rng(1))
        model.fit(curves)
        found.append(model.predict(curves[0], 20).mean)
    assert found[0] == found[1]
