"""The estimation of a search whose manifest names none."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.auto import INHERITING, chosen
from kinase.api.estimation import Estimation
from kinase.api.spec import ExperimentSpec


def spec(**fields: Any) -> ExperimentSpec:
    manifest = {"space": {"type": "Chain"}, "strategy": {"type": "Random"}, "budget": {"trials": 9}}
    return ExperimentSpec.model_validate(manifest | fields)


def grower(kind: str) -> dict[str, Any]:
    """A search by a strategy that grows networks."""
    space = "Tree" if kind == "PathLevel" else "Chain"
    also = [{"metric": "params"}] if kind == "LEMONADE" else []
    return {"strategy": {"type": kind}, "space": {"type": space}, "objective": {"also": also}}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "ASHA"),
        ({"estimation": {}}, "ASHA"),
        ({"strategy": {"type": "Evolution"}}, "ASHA"),
        ({"training": {"epochs": 9}}, "ASHA"),
        ({"training": {"epochs": 8}}, "Full"),
        ({"strategy": {"type": "BOHB"}}, "ASHA"),
        ({"strategy": {"type": "BOHB"}, "training": {"epochs": 8}}, "Full"),
        ({"trialTemplate": {"command": ["train"]}}, "Full"),
        ({"trialTemplate": {"command": ["train"]}, "strategy": {"type": "NASH"}}, "Full"),
        ({"objective": {"also": [{"metric": "params"}]}}, "Full"),
        ({"estimation": {"stopping": {"type": "Median"}}}, "Full"),
        *((grower(each), "ASHA" if each == "NASH" else "Morphism") for each in INHERITING),
        (grower("NASH") | {"training": {"epochs": 8}}, "Morphism"),
        ({"estimation": {"type": "Full"}}, "Full"),
        ({"estimation": {"type": "LowerFidelity"}}, "LowerFidelity"),
    ],
)
def test_the_choice(fields: dict[str, Any], kind: str) -> None:
    assert chosen(spec(**fields)).type == kind


@pytest.mark.parametrize(
    ("strategy", "kind"), [("Random", "Full"), ("BOHB", "Full"), ("NASH", "Morphism")]
)
def test_a_trainer_that_cannot_pause_gets_no_ladder(strategy: str, kind: str) -> None:
    assert chosen(spec(strategy={"type": strategy}), supports=()).type == kind


def test_what_stands_beside_the_type_stays() -> None:
    screen = {"proxies": ["params"], "pool": 4}
    stopped = chosen(spec(estimation={"stopping": {"type": "Median"}, "screen": screen}))
    assert stopped == Estimation.model_validate(
        {"type": "Full", "stopping": {"type": "Median"}, "screen": screen}
    )
    assert chosen(spec(estimation={"screen": screen})).screen == stopped.screen


def test_a_type_that_is_named_is_not_touched() -> None:
    given = spec(estimation={"type": "Hyperband", "hyperband": {"eta": 4}})
    assert given.settled() is given


def test_the_budget_is_counted_by_what_is_chosen() -> None:
    assert spec().search_epochs == 1
    assert spec(estimation={"type": "Full"}).search_epochs == 20
    asha = spec(estimation={"type": "ASHA"})
    assert spec().epochs_for(30) == asha.epochs_for(30)
    short = {"training": {"epochs": 8}}
    assert spec(strategy={"type": "NASH"}, **short).epochs_for(30) == 3 * 8 + 30 * 3


def test_children_of_nash_inherit_on_a_ladder() -> None:
    found = chosen(spec(strategy={"type": "NASH"}))
    assert found.inherit is not None
    assert found.inherit.child_epochs(20) == 7
    assert chosen(spec()).inherit is None
