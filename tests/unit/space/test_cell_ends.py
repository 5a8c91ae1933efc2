"""Cells of the NASNet kind: two inputs from one source, and what is concatenated."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.space import ArchitectureError, Frame
from kinase.space.cell import Cell
from kinase.strategy import derive_rng

NASNET = Cell(CellSpace(preset="nasnet"))
CHOSEN = Cell(CellSpace(preset="nasnet", concat="chosen"))
TINY = CellSpace(preset="nasnet", nodes=2, ops=("skip_connect", "sep_conv_3x3"))
FRAME = Frame((3, 8, 8), 10, Scale(cells=3, filters=4))


def params(space: Cell, architecture: dict[str, Any]) -> int:
    space.validate(architecture)
    return space.graph(architecture, FRAME).params()


def lists(normal: list[int], reduction: list[int]) -> dict[str, list[int]]:
    return {"normal": normal, "reduction": reduction}


@pytest.mark.parametrize(
    ("name", "concat"),
    [
        ("NASNet-A", lists([2, 3, 4, 5, 6], [4, 5, 6])),
        ("AmoebaNet-A", lists([4, 5, 6], [3, 4, 6])),
    ],
)
def test_a_cell_ends_in_what_no_node_takes(name: str, concat: dict[str, list[int]]) -> None:
    """The lists are those of the authors of DARTS (cnn/genotypes.py of their code)."""
    cell = NASNET.named[name]
    listed = {**cell, "concat": concat}
    assert NASNET.key(cell) == NASNET.key(listed) == CHOSEN.key(listed)
    assert NASNET.graph(cell, FRAME) == NASNET.graph(listed, FRAME)
    assert np.array_equal(NASNET.vector(cell), NASNET.vector(listed))
    assert NASNET.paths(cell) == NASNET.paths(listed)
    ends = {(a, b) for a, b, _ in NASNET.sketch(cell).edges if b.endswith("out")}
    assert ends == {(f"{p}{n}", f"{p}out") for p, nodes in concat.items() for n in nodes}


def test_another_list_is_another_network() -> None:
    cell = NASNET.named["NASNet-A"]
    fewer = {**cell, "concat": {"normal": [5, 6]}}
    assert NASNET.key(fewer) != NASNET.key(cell)
    assert params(NASNET, fewer) < params(NASNET, cell)
    shapes = NASNET.graph(fewer, FRAME).shapes()
    assert (shapes["cell0_out"][0], shapes["cell1_out"][0]) == (2 * 4, 3 * 8)
    # a node that is neither listed nor leads to one that is: nothing of it is left
    other = [*cell["normal"][:2], [["sep_conv_7x7", 0], ["sep_conv_7x7", 1]], *cell["normal"][3:]]
    assert NASNET.key({**fewer, "normal": other}) == NASNET.key(fewer)
    assert params(NASNET, {**fewer, "normal": other}) == params(NASNET, fewer)


def test_the_order_of_two_inputs_from_one_source_means_nothing() -> None:
    node = [["sep_conv_3x3", 0], ["max_pool_3x3", 0]]
    cells = {
        name: {"normal": [first] * 5, "reduction": [first] * 5}
        for name, first in {
            "there": node,
            "back": node[::-1],
            "once": [node[0], ["max_pool_3x3", 1]],
            "twice": [node[0], node[0]],
        }.items()
    }
    for cell in cells.values():
        NASNET.validate(cell)
    keys = {name: NASNET.key(cell) for name, cell in cells.items()}
    assert keys.pop("back") == keys["there"]
    assert len(set(keys.values())) == 3
    vectors = {name: tuple(NASNET.vector(cell)) for name, cell in cells.items()}
    assert vectors.pop("back") == vectors["there"]
    assert len(set(vectors.values())) == 3
    with pytest.raises(ArchitectureError, match=r"normal\[0\] takes node 0 twice"):
        Cell(CellSpace(preset="nasnet", same_source=False)).validate(cells["there"])


@pytest.mark.parametrize("concat", ["unused", "chosen"])
def test_every_architecture_of_a_small_space_is_counted_and_drawn(concat: Any) -> None:
    space = Cell(TINY.model_copy(update={"concat": concat, "nodes": 1}))
    found = list(space.enumerate())
    assert space.size().count == 10**2  # two operations from two inputs: 4 pairs, of which two
    assert len(found) == 10**2
    for architecture in found:
        space.validate(architecture)
    drawn = {space.key(space.sample(derive_rng(seed))) for seed in range(1500)}
    assert drawn == {space.key(architecture) for architecture in found}


def test_a_space_of_two_nodes_counts_what_differs() -> None:
    """By hand: nodes as multisets of (operation, source), and any of the two concatenated."""
    space = Cell(TINY.model_copy(update={"concat": "chosen"}))
    pairs = [[*itertools.product(TINY.ops or (), range(before))] for before in (2, 3)]
    nodes = [[*itertools.combinations_with_replacement(each, 2)] for each in pairs]
    assert space.size().count == (len(nodes[0]) * len(nodes[1]) * 3) ** 2 == (10 * 21 * 3) ** 2


def test_edits_of_what_is_concatenated_are_a_kind_of_their_own() -> None:
    assert NASNET.kinds == ("operation", "source")
    assert CHOSEN.kinds == ("operation", "source", "concat")
    assert not any("concat" in each for each in NASNET.neighbours(NASNET.named["NASNet-A"]))
    cell = CHOSEN.named["NASNet-A"]
    kinds = [CHOSEN.kind(cell, other) for other in CHOSEN.neighbours(cell)]
    assert {kind: kinds.count(kind) for kind in ("concat",)} == {"concat": 10}  # each of ten nodes
    assert {"operation", "source"} <= set(kinds)
    made = {CHOSEN.kind(cell, CHOSEN.mutate(cell, derive_rng(seed))) for seed in range(40)}
    assert made == set(CHOSEN.kinds)


def test_lists_are_passed_on() -> None:
    one = {**NASNET.named["NASNet-A"], "concat": lists([6], [5, 6])}
    other = NASNET.named["AmoebaNet-A"]
    for seed in range(10):
        child = NASNET.crossover(one, other, derive_rng(seed))
        NASNET.validate(child)
        assert child["concat"] == one["concat"]
        assert NASNET.mutate(one, derive_rng(seed))["concat"] == one["concat"]
        assert "concat" not in NASNET.crossover(other, other, derive_rng(seed))


def test_a_node_that_nothing_reaches_is_not_concatenated() -> None:
    space = Cell(CellSpace(preset="nasnet", nodes=2, ops=("none", "sep_conv_3x3")))
    nothing, conv = [["none", 0], ["none", 1]], [["sep_conv_3x3", 0], ["sep_conv_3x3", 1]]

    def both(*nodes: Any) -> dict[str, Any]:
        return {"normal": list(nodes), "reduction": list(nodes)}

    assert params(space, both(conv, nothing)) == params(space, both(nothing, conv))
    assert space.key(both(conv, nothing)) == space.key(both(nothing, conv))
    shapes = space.graph(both(nothing, nothing), FRAME).shapes()
    assert shapes["cell2_out"] == (16, 2, 2)


@pytest.mark.parametrize(
    ("concat", "message"),
    [
        ([2], r"concat is \[2\]; it may have the fields normal, reduction"),
        ({"other": [2]}, "it may have the fields normal, reduction"),
        ({"normal": []}, r"concat.normal is \[\]; use a list of different nodes of the cell, 2 to"),
        ({"normal": [1]}, "2 to 6"),
        ({"normal": [7]}, "2 to 6"),
        ({"normal": [2, 2]}, "different nodes"),
        ({"normal": [2.0]}, "different nodes"),
        ({"normal": [True]}, "different nodes"),
        ({"reduction": "2"}, "concat.reduction is '2'"),
    ],
)
def test_a_list_that_is_none_is_refused_by_name(concat: Any, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        NASNET.validate({**NASNET.named["NASNet-A"], "concat": concat})


def test_a_space_whose_cells_end_in_all_nodes_takes_no_list() -> None:
    darts = Cell(CellSpace())
    with pytest.raises(ArchitectureError, match=r"must have the fields normal, reduction$"):
        darts.validate({**darts.named["DARTS_V1"], "concat": {"normal": [2]}})


@pytest.mark.parametrize("field", [{"sameSource": True}, {"concat": "all"}])
def test_the_benchmark_has_neither(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"; remove (sameSource|concat)"):
        CellSpace.model_validate({"preset": "nasbench201", **field})


def test_published_cells_are_found_by_their_names() -> None:
    assert NASNET.resolve({"named": "NASNet-A"}) is NASNET.named["NASNet-A"]
    own = NASNET.named["AmoebaNet-A"]
    assert NASNET.resolve(own) is own
    for name in ("DARTS_V2", 3, None, "x" * 1000):
        with pytest.raises(ArchitectureError, match=r"^named is .{1,80}; use one of NASNet-A, Amo"):
            NASNET.resolve({"named": name})


@pytest.mark.parametrize(
    ("preset", "keys"),
    [
        ("darts", ["43c9843b396029a9", "57f2af3ba6e03d95", "06ea31457af8a248"]),
        ("nasbench201", ["3ec64deb97f5cce6", "e858ad5f1aea6456", "3a05819eee2f3182"]),
    ],
)
def test_searches_that_have_begun_go_on_with_the_same_architectures(
    preset: Any, keys: list[str]
) -> None:
    """A draw, a mutation and a crossover by the build before the preset nasnet."""
    space = Cell(CellSpace(preset=preset))
    drawn = space.sample(derive_rng(0))
    mixed = space.crossover(drawn, space.sample(derive_rng(2)), derive_rng(3))
    assert [space.key(a) for a in (drawn, space.mutate(drawn, derive_rng(1)), mixed)] == keys
