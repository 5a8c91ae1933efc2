"""At which fidelity candidates are scored, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api import Fidelity, Scale
from kinase.api.estimation import Estimation
from kinase.estimation import InheritanceRule, make_estimator
from kinase.experiment.budget import sample_passes
from kinase.registry import UnknownMember

FULL = Fidelity(epochs=100, resolution=32, scale=Scale(cells=20, filters=36))


def lower(**options: Any) -> Fidelity:
    model = Estimation.model_validate({"type": "LowerFidelity", "lowerFidelity": options})
    return make_estimator(model).fidelity(FULL)


def test_full_is_full() -> None:
    assert make_estimator(Estimation(type="Full")).fidelity(FULL) == FULL


def test_nothing_reduced_is_full() -> None:
    assert lower() == FULL


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"epochs": 5}, {"epochs": 5}),
        ({"dataFraction": 0.25}, {"data_fraction": 0.25}),
        ({"resolution": 16}, {"resolution": 16}),
        ({"cells": 8}, {"scale": Scale(cells=8, filters=36)}),
        ({"filterFraction": 0.5}, {"scale": Scale(cells=20, filters=36, filter_fraction=0.5)}),
    ],
)
def test_each_reduction_changes_its_own_part(
    options: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert lower(**options) == FULL.model_copy(update=wanted)


def morphism(**options: Any) -> Any:
    return make_estimator(Estimation.model_validate({"type": "Morphism", "morphism": options}))


def test_who_has_no_parent_is_trained_in_full() -> None:
    assert morphism().fidelity(FULL) == FULL
    assert morphism().child(FULL) == FULL.model_copy(update={"epochs": 34})
    assert morphism(epochsPerChild=7).child(FULL).epochs == 7


def test_weights_pass_as_the_options_say() -> None:
    assert make_estimator(Estimation(type="Full")).inheritance is None
    inheritance = morphism(
        fallback="scratch",
        noise=0,
        rule="replicate",
        learningRateFactor=0.1,
        optimizerState="inherit",
    ).inheritance
    assert inheritance == InheritanceRule(
        noise=0.0, matching=False, learning_rate_factor=0.1, optimizer=True
    )
    assert morphism().inheritance == InheritanceRule(noise=0.01, rule="zero")
    near = morphism(approximate=True).inheritance
    assert near == InheritanceRule(noise=0.01, rule="zero", approximate=True, distil=5)
    assert morphism(approximate=True, distilEpochs=2).inheritance.distil == 2


def test_the_cost_follows_the_fidelity() -> None:
    assert sample_passes(FULL, 50_000) == 5_000_000
    assert sample_passes(lower(epochs=5, dataFraction=0.1), 50_000) == 25_000


def test_an_estimator_that_nobody_registers() -> None:
    model = Estimation.model_validate({"type": "Custom", "custom": {"name": "crystal-ball"}})
    with pytest.raises(UnknownMember, match=r"'crystal-ball' is not registered.*known: Full"):
        make_estimator(model)
