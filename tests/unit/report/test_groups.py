"""Which experiments are one group, what groups are called, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from kinase.report import Incomparable, ReportData, named
from kinase.report.groups import Group, differences, grouped
from tests.unit.report.searches import (
    EVOLUTION,
    FULL,
    INHERIT,
    METHODS,
    NASH,
    RANDOM,
    SHRINK,
    search,
)


def one(strategy: Any = RANDOM, estimation: Any = FULL, seed: int = 0, **more: Any) -> ReportData:
    return search([0.5], strategy, estimation, seed, more=more)


def labels(*runs: ReportData) -> list[str]:
    return [label for label, _ in named(runs)]


def test_runs_that_differ_in_the_seed_alone_are_one_group() -> None:
    runs = [
        one(seed=3),
        one(NASH),
        replace(one(seed=1), name="other"),
        one(
            seed=2,
            storage={"uri": "file://elsewhere"},
            suspend=True,
            controller={"serviceAccountName": "search"},
        ),
    ]
    groups = grouped(named(runs))
    assert [(g.label, [r.spec["seed"] for r in g.runs]) for g in groups] == [
        ("Random", [1, 2, 3]),
        ("NASH", [0]),
    ]


def test_the_strategy_is_the_name_and_no_more_where_that_is_enough() -> None:
    assert labels(*(one(*method) for method in METHODS)) == [
        "Random",
        "Evolution, Full",
        "Evolution, Morphism",
        "NASH",
        "LEMONADE",
    ]
    assert labels(one(EVOLUTION), one(EVOLUTION, seed=1)) == ["Evolution"] * 2


def evolution(population: int, sample: int) -> Any:
    return {"type": "Evolution", "evolution": {"population": population, "sample": sample}}


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (
            [one(NASH), one({"type": "NASH", "nash": {"initial": 2, "morphisms": 2}})],
            ["NASH, morphisms 5", "NASH, morphisms 2"],
        ),
        (  # one field is enough, the one with the most values
            [one(evolution(10, 3)), one(evolution(20, 3)), one(evolution(30, 5))],
            ["Evolution, population 10", "Evolution, population 20", "Evolution, population 30"],
        ),
        (
            [one(evolution(10, 3)), one(evolution(20, 3)), one(evolution(20, 5))],
            [f"Evolution, population {p}" for p in ("10", "20, sample 3", "20, sample 5")],
        ),
        (
            [one(NASH, INHERIT), one(NASH, SHRINK), one(NASH)],
            ["NASH, Morphism, approximate false", "NASH, Morphism, approximate true", "NASH, Full"],
        ),
        (
            [one(budget={"epochs": 600}), one(budget={"trials": 40})],
            ["Random, budget.epochs 600", "Random, no budget.epochs"],
        ),
        (
            [one(space={"type": "Chain", "chain": {"widths": w}}) for w in ([4, 8], [16])],
            ["Random, widths 4 8", "Random, widths 16"],
        ),
        (
            [one(), one(space={"type": "Cell", "cell": {"preset": "darts"}})],
            ["Random, Chain", "Random, Cell"],
        ),
        (
            [
                one({"type": "Custom", "custom": {"name": "mine", "options": {"a": {"b": n}}}})
                for n in (1, 2)
            ]
            + [one({"type": "Custom", "custom": {"name": "yours"}})],
            ["mine, a.b 1", "mine, a.b 2", "yours"],
        ),
        (  # values that begin alike
            [
                one(space={"type": "Chain", "chain": {"widths": [*range(1, 30), last]}})
                for last in (40, 50)
            ],
            [f"Random, widths 1 2 3 4 5 6 7 8 9 10 11 12 … ({n})" for n in (1, 2)],
        ),
    ],
)
def test_as_few_fields_as_tell_groups_apart(runs: list[ReportData], names: list[str]) -> None:
    assert labels(*runs) == names


def test_labels_of_ones_own() -> None:
    runs = [one(NASH), one(), one(NASH, seed=1)]
    assert [label for label, _ in named(runs, ["ours", "chance"])] == ["ours", "chance", "ours"]
    with pytest.raises(Incomparable, match=r"1 label for 2 groups; .* they are: NASH; Random"):
        named(runs, ["ours"])
    with pytest.raises(Incomparable, match="two groups have the same label: x; x"):
        named(runs, ["x", "x"])


def test_what_differs_is_told_whole() -> None:
    groups = [Group("a", (one(evolution(10, 3)),)), Group("b", (one(NASH, INHERIT),))]
    found = dict(differences(groups))
    assert list(found)[:2] == ["strategy.type", "estimation.type"]
    assert found["strategy.type"] == ["Evolution", "NASH"]
    assert found["strategy.evolution.population"] == ["10", "–"]
    assert found["strategy.nash.includeParent"] == ["–", "true"]
    assert "training.epochs" not in found
    assert "seed" not in found


SMALLER = {"type": "LowerFidelity", "lowerFidelity": {"epochs": 3}}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            replace(one(NASH), metric="val_loss"),
            r'spec.objective.metric: "val_accuracy" in random-full-0, "val_loss" in nash',
        ),
        (
            replace(one(NASH), goal="minimize"),
            r'spec.objective.goal: "maximize" in .*, "minimize" in',
        ),
        (one(NASH, task={"dataset": "mnist"}), r'spec.task.dataset: "digits" in .*, "mnist" in'),
        (one(NASH, task={"split": {"seed": 4}}), r"spec.task.split.seed: 0 in .*, 4 in nash"),
        (one(NASH, task={"path": "/other"}), r'spec.task.path: not set in .*, "/other" in nash'),
        (
            one(NASH, training={"epochs": 12, "labelSmoothing": 0.1}),
            r"spec.training.labelSmoothing: 0.0 in .*, 0.1 in nash",
        ),
        (one(NASH, SMALLER), r"spec.estimation.lowerFidelity.epochs: 12 in .*, 3 in nash"),
        (one(NASH, finalists={"epochs": 30}), r"spec.finalists.epochs: 12 in .*, 30 in nash"),
    ],
)
def test_values_that_do_not_mean_the_same_are_refused(other: ReportData, message: str) -> None:
    with pytest.raises(Incomparable, match=message):
        grouped([("a", one()), ("b", one(seed=1)), ("c", other)])


def test_children_that_inherit_are_trained_for_less_and_that_is_their_merit() -> None:
    same = {"type": "LowerFidelity", "lowerFidelity": {"epochs": 12}}
    cpu = one(NASH, training={"epochs": 12, "device": "cpu"})
    assert len(grouped(named([one(), one(NASH, INHERIT), one(EVOLUTION, same), cpu]))) == 4


def test_the_data_is_known_by_its_checksum_where_there_is_one() -> None:
    here, there = one(), one(seed=1, task={"path": "/there"})
    with pytest.raises(Incomparable, match=r"spec\.task\.path"):
        grouped(named([here, there]))
    same = [replace(run, checksum="a1") for run in (here, there)]
    assert [group.label for group in grouped(named(same))] == ["Random"]
    with pytest.raises(Incomparable, match=r"the data's checksum: \"a1\" in .*, \"b2\" in"):
        grouped(named([same[0], replace(one(seed=1), checksum="b2")]))


def test_experiments_of_one_name_are_told_apart_by_their_place() -> None:
    places = ["file:///a/search", "file:///b/search"]
    here, there = (replace(one(), name="search", store_uri=place) for place in places)
    with pytest.raises(Incomparable, match=re.escape(f"in {places[0]}, ") + ".*" + places[1]):
        grouped([("a", here), ("b", replace(there, goal="minimize"))])
    assert [group.label for group in grouped(named([here, there]))] == ["Random"]


def test_one_that_is_given_twice_is_refused() -> None:
    with pytest.raises(Incomparable, match="random-full-0 is given twice: file:///home/ada"):
        grouped(named([one(), one(NASH), one()]))
