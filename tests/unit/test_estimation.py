"""At which fidelity candidates are scored, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api import Fidelity, Scale
from kinase.api.estimation import Estimation
from kinase.api.fidelity import Grant
from kinase.api.space import Space as SpaceModel
from kinase.estimation import (
    Estimator,
    InheritanceRule,
    Left,
    Sample,
    Setting,
    make_estimator,
)
from kinase.experiment.budget import sample_passes
from kinase.history import History
from kinase.registry import UnknownMember
from kinase.space import Frame, make_space

FULL = Fidelity(epochs=100, resolution=32, scale=Scale(cells=20, filters=36))
SETTING = Setting(
    FULL,
    make_space(SpaceModel.model_validate({"type": "Cell", "cell": {}})),
    Frame((3, 32, 32), 10, FULL.scale),
)


def made(**model: Any) -> Estimator:
    return make_estimator(Estimation.model_validate(model), SETTING)


def first(estimator: Estimator) -> Fidelity:
    """What a candidate is granted, which is all of its fidelity."""
    [grant] = estimator.ladder
    assert estimator.next(History(), Left(None, None)) == Sample(grant, estimator.child)
    assert (grant.until, grant.final) == (grant.fidelity.epochs, True)
    return grant.fidelity


def lower(**options: Any) -> Fidelity:
    return first(made(type="LowerFidelity", lowerFidelity=options))


def test_full_is_full() -> None:
    assert first(made(type="Full")) == FULL


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
    return made(type="Morphism", morphism=options)


def test_who_has_no_parent_is_trained_in_full() -> None:
    assert first(morphism()) == FULL
    child = FULL.model_copy(update={"epochs": 34})
    assert morphism().child == Grant(fidelity=child, until=34)
    assert morphism(epochsPerChild=7).child.until == 7


def test_weights_pass_as_the_options_say() -> None:
    assert made(type="Full").inheritance is None
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
    with pytest.raises(UnknownMember, match=r"'crystal-ball' is not registered.*known:.* Full"):
        made(type="Custom", custom={"name": "crystal-ball"})
