"""What is said of the verdict before the search is what the verdict says after it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kinase.api.spec import ExperimentSpec
from kinase.api.trial import Kind
from kinase.experiment.stage import owes_control
from kinase.report.foresight import foresight
from kinase.report.verdict import verdict
from tests.unit.report import samples
from tests.unit.report.test_verdict import trial


def spec(trials: int | None, **changes: Any) -> ExperimentSpec:
    fields: dict[str, Any] = {
        "space": {"type": "Chain"},
        "strategy": {"type": "Evolution", "evolution": {"population": 4}},
        "estimation": {"type": "Full"},
        "budget": {"trials": trials},
        **changes,
    }
    return ExperimentSpec.model_validate(fields)


def best_case(trials: int, start: int, **manifest: Any) -> str:
    """The verdict on a strategy whose every network after its start beats all random ones."""
    made, ours, controls = [], 0, 0
    for n in range(trials):
        if owes_control(n, controls, 0.2):
            controls += 1
            made.append(trial(n, Kind.CONTROL, 0.1 + n / 1e6))
        else:
            parents = (0,) if ours >= start else ()
            made.append(trial(n, Kind.SEARCH, 0.9 + n / 1e6, parents=parents))
            ours += 1
    found = verdict(samples.empty(trials=tuple(made), also=(), spec=manifest))
    return "none" if found is None else found.word


@pytest.mark.parametrize(
    ("strategy", "start"),
    [
        ({"type": "Evolution", "evolution": {"population": 4, "sample": 2}}, 4),
        ({"type": "LocalSearch", "localSearch": {"initial": 7}}, 7),
        ({"type": "NASH"}, 8),
    ],
)
@pytest.mark.parametrize("trials", [4, 10, 14])
def test_the_budget_that_would_do_is_the_first_that_does(
    strategy: dict[str, Any], start: int, trials: int
) -> None:
    said = foresight(spec(trials, strategy=strategy))
    assert said is not None
    found = re.search(r"; budget\.trials (\d+) would do$", said)
    assert found is not None, said
    enough = int(found[1])
    assert best_case(enough, start) == "better"
    assert best_case(enough - 1, start) != "better"
    assert foresight(spec(enough, strategy=strategy)) is None


@pytest.mark.parametrize("trials", [10, 14])
def test_of_children_that_inherit_on_a_ladder_the_start_counts(trials: int) -> None:
    """What the type Auto chooses for NASH. Children and random networks take 5 epochs on average:
    3 and a third of 4; 2, a third of 4 and a ninth of 14."""
    auto = spec(trials, strategy={"type": "NASH"}, estimation={})
    assert auto.epochs_for(30) - auto.epochs_for(0) == 30 * 5
    found = re.search(r"; budget\.trials (\d+) would do$", str(foresight(auto)))
    assert found is not None
    enough, ladder = int(found[1]), {"type": "ASHA", "inherit": {"eta": 3}}
    assert best_case(enough, 8, estimation=ladder) == "better"
    assert best_case(enough - 1, 8, estimation=ladder) != "better"


def test_what_the_budget_pays_for_is_said() -> None:
    assert foresight(spec(10)) == (
        "there will be no verdict that the strategy is better than random search: the budget pays "
        "for 4 trials of the strategy after its random start of 4 and for 2 of the random control; "
        "budget.trials 20 would do"
    )
    assert "for 0 of the random control" in str(foresight(spec(4)))
    epochs = foresight(spec(None, budget={"epochs": 160}, training={"epochs": 10}))
    assert str(epochs).endswith("; budget.epochs 230 would do")  # 20 trials and 3 finalists of 10


def test_nothing_is_said_where_there_is_nothing_to_say() -> None:
    assert foresight(spec(10, strategy={"type": "Random"})) is None
    assert foresight(spec(300)) is None
    assert foresight(spec(None, budget={"duration": "1h"})) is None
    none = foresight(spec(10, control={"share": 0}))
    assert none == "there will be no verdict on the strategy: control.share is 0"
