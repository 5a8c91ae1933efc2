"""Maps that are not square, and strides that are not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace, MultiBranchSpace
from kinase.space import (
    Frame,
    Graph,
    GraphBuilder,
    InfeasibleError,
    cell_ops,
    dump_graph,
    load_graph,
)
from kinase.space.cell import Cell
from kinase.space.multibranch import MultiBranch
from kinase.strategy import derive_rng


def test_branches_of_a_flat_image_come_to_one_size_as_those_of_a_turned_one() -> None:
    space, rng = MultiBranch(MultiBranchSpace()), np.random.default_rng(0)
    architectures = [space.sample(rng) for _ in range(400)]
    refused: dict[tuple[int, int], list[str]] = {(6, 32): [], (32, 6): []}
    for architecture, (size, found) in itertools.product(architectures, refused.items()):
        try:
            space.graph(architecture, Frame((1, *size), 10))
        except InfeasibleError as error:
            found.append(str(error))
    assert len(refused[6, 32]) == len(refused[32, 6]) == 4
    assert all("leaves nothing" in each for each in refused[6, 32])


def test_a_stride_is_the_one_that_both_sides_took() -> None:
    """Of a side of 6 that came down to 2 it may have been 3 or 4, of one of 32 to 8 only 4."""
    step = {"op": "maxpool", "kernel": 3, "stride": 2, "merge": "concat"}
    nodes = [
        {**step, "inputs": [-1]},
        {**step, "inputs": [0]},
        {**step, "inputs": [-1, 1], "stride": 1},
    ]
    for size in ((6, 32), (32, 6), (6, 6)):
        graph = MultiBranch(MultiBranchSpace()).graph({"nodes": nodes}, Frame((1, *size), 10))
        [pool] = [node for node in graph if node.name == "node2_in0_pool"]
        assert pool.attrs["stride"] == (4 if 32 in size else 3)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1), (1, 8), (5, 8)])
def test_stages_of_the_benchmark_halve_maps_of_a_single_row(size: tuple[int, int]) -> None:
    space = Cell(CellSpace(preset="nasbench201"))
    frame = Frame((3, *size), 10, Scale(cells=3, filters=4))
    shapes = space.graph(space.sample(derive_rng(0)), frame).shapes()
    assert shapes["reduce2"] == (16, *(-(-side // 4) for side in size))


@pytest.mark.parametrize("size", [(32, 32), (24, 56), (56, 24), (4, 40)])
def test_the_auxiliary_head_sees_the_whole_map_at_once(size: tuple[int, int]) -> None:
    space = Cell(CellSpace(preset="darts"))
    frame = Frame((3, *size), 10, Scale(cells=6, filters=4), auxiliary=True)
    shapes = space.graph(space.sample(derive_rng(0)), frame).shapes()
    assert shapes["auxiliary_conv2"] == (768, 1, 1)


def op_graph(op: str, stride: int, shape: tuple[int, int, int]) -> Graph:
    g = GraphBuilder(shape)
    x = cell_ops.apply(g, "op", op, g.input, shape[0], stride)
    return g.build(x)


def test_multiply_adds_of_two_windows_that_each_step_along_themselves() -> None:
    graph = op_graph("conv_7x1_1x7", 2, (4, 16, 16))
    # (1, 7) with stride (1, 2) gives 16 x 8 pixels, then (7, 1) with (2, 1) 8 x 8
    assert graph.macs() == 4 * 4 * 7 * (16 * 8 + 8 * 8) == 21_504
    assert [graph.shapes()[n] for n in ("op_conv1", "op_conv2")] == [(4, 16, 8), (4, 8, 8)]
    assert graph.params() == 2 * 4 * 4 * 7 + 2 * 4
    assert load_graph(dump_graph(graph)) == graph


def test_a_padding_that_is_given_holds_for_windows_that_are_not_square() -> None:
    g = GraphBuilder((3, 5, 9))
    assert g.shape(g.conv("whole", g.input, 4, (5, 9), padding=0)) == (4, 1, 1)
    assert g.shape(g.conv("same", g.input, 4, (5, 9))) == (4, 5, 9)
