"""Cells of choice blocks."""

from __future__ import annotations

from itertools import combinations

import pytest

from kinase.api.fidelity import Scale
from kinase.api.space import CellScale, ChoiceBlocksSpace
from kinase.space import Frame, derive_rng
from kinase.space.choice_blocks import ChoiceBlocks
from kinase.space.supernet import NONE

OPS = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
SPACE = ChoiceBlocks(ChoiceBlocksSpace(blocks=2, ops=OPS))
BLOCKS = [
    {"inputs": [0, 1], "ops": ["sep_conv_3x3", "skip_connect"]},
    {"inputs": [2], "ops": ["max_pool_3x3"]},
]


def test_the_size_is_the_number_of_subsets() -> None:
    found = [
        [{"inputs": [*inputs], "ops": [*ops]} for inputs in wirings for ops in operations]
        for wirings, operations in [
            (
                [i for few in (1, 2) for i in combinations(range(2 + index), few)],
                [o for some in (1, 2, 3) for o in combinations(OPS, some)],
            )
            for index in range(2)
        ]
    ]
    assert SPACE.size().count == len(found[0]) * len(found[1]) == (3 * 7) * (6 * 7)
    keys = {SPACE.key({"blocks": [a, b]}) for a in found[0] for b in found[1]}
    every = list(SPACE.enumerate())
    assert {SPACE.key(each) for each in every} == keys
    assert len(every) == len(keys) < SPACE.size().count


def test_the_order_of_blocks_and_of_what_they_hold_does_not_matter() -> None:
    space = ChoiceBlocks(ChoiceBlocksSpace(blocks=3, ops=OPS))
    pool = {"inputs": [0], "ops": ["max_pool_3x3"]}
    one = {"blocks": [*BLOCKS, pool]}
    moved = {
        "blocks": [
            pool,
            {"inputs": [1, 0], "ops": ["skip_connect", "sep_conv_3x3"]},
            {"inputs": [3], "ops": ["max_pool_3x3"]},
        ]
    }
    other = {"blocks": [*moved["blocks"][:2], {"inputs": [2], "ops": ["max_pool_3x3"]}]}
    for each in (one, moved, other):
        space.validate(each)
    assert space.key(one) == space.key(moved) != space.key(other)
    assert space.paths(one) == space.paths(moved) != space.paths(other)


def test_parameters_by_hand() -> None:
    c = 4

    def project(inside: int, out: int) -> int:
        return inside * out + 2 * out

    def separable(width: int) -> int:
        return 2 * (9 * width + width * width + 2 * width)

    frame = Frame((3, 8, 8), 10, Scale(cells=2, filters=c))
    first = 2 * project(c, c) + separable(c) + project(c, c)
    # the second cell is of the next stage: twice the filters, on maps of half the size
    second = project(c, 2 * c) + project(2 * c, 2 * c) + separable(2 * c) + project(2 * c, 2 * c)
    graph = SPACE.graph({"blocks": BLOCKS}, frame)
    assert graph.params() == 27 * c + 2 * c + first + second + 4 * c * 10 + 10
    assert graph.shapes()["cell1_out"] == (4 * c, 4, 4)


def test_the_supernet_has_every_input_and_operation() -> None:
    space = ChoiceBlocks(ChoiceBlocksSpace())
    supernet = space.supernet(Frame((3, 8, 8), 10, Scale(cells=3, filters=2), searching=True))
    assert supernet is not None
    assert len(supernet.groups) == 2 + 3 + 4 + 5 + 4 * 7
    assert {options[0] for options in supernet.groups.values()} == {NONE}
    assert len(supernet.choices) == 3 * len(supernet.groups)


def test_blocks_keep_the_strongest_inputs_and_at_least_one_operation() -> None:
    space = ChoiceBlocks(ChoiceBlocksSpace(blocks=2, max_inputs=2, ops=OPS))
    supernet = space.supernet(Frame((3, 8, 8), 10, Scale(cells=3, filters=2), searching=True))
    assert supernet is not None
    scores = {group: [0.9, 0.1] for group in supernet.groups}
    scores |= {f"input_1_{source}": [0.1, 0.7 + source / 10] for source in range(3)}
    scores["op_0_sep_conv_3x3"] = [0.8, 0.2]  # the best of those that are best left out
    scores |= {f"op_1_{op}": [0.2, 0.8] for op in OPS[:2]}
    blocks = space.architecture(supernet.best(scores))["blocks"]
    assert blocks == [
        {"inputs": [0], "ops": ["sep_conv_3x3"]},
        {"inputs": [1, 2], "ops": ["skip_connect", "sep_conv_3x3"]},
    ]


def test_a_space_without_another_member_keeps_it() -> None:
    space = ChoiceBlocks(ChoiceBlocksSpace(blocks=1, max_inputs=1, ops=OPS[:1]))
    one = space.sample(derive_rng(0))
    assert space.key(space.mutate(one, derive_rng(1))) != space.key(one)  # the other input
    assert space.size().count == 2


@pytest.mark.parametrize("final", [False, True])
def test_finalists_have_their_own_scale(final: bool) -> None:
    evaluation = CellScale(cells=6, filters=9)
    space = ChoiceBlocks(ChoiceBlocksSpace(evaluation=evaluation))
    assert space.scale(final) == (
        Scale(cells=6, filters=9) if final else Scale(cells=8, filters=16)
    )
    assert SPACE.scale(final=True) == SPACE.scale(final=False)
