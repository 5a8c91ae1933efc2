"""What made a child of its parent, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kinase.report.edits import changes, morphism
from kinase.report.importance import choices
from kinase.report.lineage import ancestors, edits, lineage
from tests.unit.report import samples

CONV = {"op": "conv", "width": 8}
POOL = {"op": "maxpool", "width": 8}


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (
            {"op": "widen", "node": "layer2", "to": 48, "rule": "zero", "seed": 3},
            "widen layer2 to 48",
        ),
        (
            {"op": "deepen", "node": "a", "layer": "conv", "kernel": 5},
            "deepen a, layer conv, kernel 5",
        ),
        ({"op": "skip", "node": "b", "source": "a", "merge": "mix"}, "skip b, source a, merge mix"),
        ({"op": "prune", "node": "b", "to": 4, "keep": [0, 1]}, "prune b to 4"),
        ({}, "?"),
    ],
)
def test_a_morphism_is_named_with_its_place_and_size(edit: dict[str, Any], text: str) -> None:
    assert morphism(edit) == text


@pytest.mark.parametrize(
    ("parent", "child", "found"),
    [
        ({"layers": [CONV]}, {"layers": [{**CONV, "width": 16}]}, ["layers[0] width 8 -> 16"]),
        ({"layers": [CONV]}, {"layers": [CONV, POOL]}, ["layers[1]: added maxpool w8"]),
        ({"layers": [POOL, CONV]}, {"layers": [CONV]}, ["layers[0]: removed maxpool w8"]),
        (
            {"layers": [CONV, POOL]},
            {"layers": [POOL, CONV, POOL]},
            ["layers[0]: added maxpool w8"],
        ),
        (
            {"layers": [CONV]},
            {"layers": [{**CONV, "op": "sep"}, POOL]},
            ["layers[0] op conv -> sep", "layers[1]: added maxpool w8"],
        ),
        ({"skip": None}, {"skip": 1}, ["skip none -> 1"]),
        ({"n": [[["a", 0]]]}, {"n": [[["b", 0]]]}, ["n[0][0][0] a -> b"]),
        ({"a": 1}, {"a": 1}, []),
        ("x", {"a": 1}, ["x -> a1"]),
    ],
)
def test_differences_of_genotypes_by_hand(parent: Any, child: Any, found: list[str]) -> None:
    assert changes(parent, child) == found


def test_the_lineage_names_edits() -> None:
    """Morphisms where the journal has them, else what differs; the first has no parent."""
    made = samples.digits()
    assert made.winner is not None
    wider = {"layers": [{**CONV, "width": 16}]}
    trials = (
        replace(made.trials[0], number=0, architecture={"layers": [CONV]}, operation=""),
        replace(made.trials[0], number=1, architecture=wider, parents=(0,), operation="mutate"),
        replace(
            made.trials[0],
            number=2,
            parents=(1,),
            operation="morphism",
            morphisms=("widen a to 9", "deepen <b>"),
        ),
    )
    winner = replace(made.winner, found_by=2)
    data = samples.empty(trials=trials, winner=winner)
    line = ancestors(data)
    assert edits(data, line) == {
        0: [],
        1: ["layers[0] width 8 -> 16"],
        2: ["widen a to 9", "deepen <b>"],
    }
    points = lineage(data, line).data[1]
    assert points.text == ("random", "layers[0] width 8 -&gt; 16", "morphism, 2 edits")
    assert points.hovertext[2].endswith("widen a to 9<br>deepen &lt;b&gt;")


def test_the_lineage_names_settings_that_changed_with_the_network() -> None:
    """Morphisms say nothing of them; a child with other settings alone has no morphisms."""
    made = samples.digits()
    assert made.winner is not None
    rates = (0.1, 0.2, 0.4)
    trials = tuple(
        replace(
            made.trials[0],
            number=number,
            architecture={"layers": [CONV], "training": {"learningRate": rate}},
            parents=(number - 1,) if number else (),
            morphisms=("widen a to 9",) if number == 2 else (),
        )
        for number, rate in enumerate(rates)
    )
    data = samples.empty(trials=trials, winner=replace(made.winner, found_by=2))
    assert edits(data, ancestors(data)) == {
        0: [],
        1: ["training learningRate 0.1 -> 0.2"],
        2: ["widen a to 9", "training learningRate 0.2 -> 0.4"],
    }


def test_settings_are_choices_whose_importance_is_measured() -> None:
    found = choices({"layers": [CONV], "training": {"learningRate": 0.1, "flip": True}})
    assert found["training learningRate"] == 0.1
    assert found["training flip"] == "true"
