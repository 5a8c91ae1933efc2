"""Sizes, parameters and multiply-adds against published figures and closed forms."""

from __future__ import annotations

from math import comb, prod
from typing import Literal

import pytest

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace, ChainSpace, MultiBranchSpace
from kinase.space import Frame, InfeasibleError
from kinase.space.cell import Cell
from kinase.space.chain import Chain
from kinase.space.multibranch import MultiBranch
from kinase.space.nasbench201 import from_nasbench201

CIFAR10 = Frame((3, 32, 32), 10)


@pytest.mark.parametrize(
    ("preset", "name", "params"),
    [
        ("darts", "DARTS_V1", 3_169_414),
        ("darts", "DARTS_V2", 3_349_342),
        ("nasnet", "NASNet-A", 3_830_950),
        ("nasnet", "AmoebaNet-A", 3_145_078),
    ],
)
def test_params_of_published_cells(
    preset: Literal["darts", "nasnet"], name: str, params: int
) -> None:
    """The CIFAR-10 network of 20 cells and 36 filters: published as 3.3 M for DARTS_V2 (README of
    quark0/darts); the digits follow from the definitions published there."""
    space = Cell(CellSpace(preset=preset))
    genotype = space.resolve({"named": name})
    space.validate(genotype)
    assert space.scale(final=True) == Scale(cells=20, filters=36)
    graph = space.graph(genotype, CIFAR10)
    assert graph.params() == params
    with_head = space.graph(genotype, Frame((3, 32, 32), 10, auxiliary=True))
    assert with_head.params() == params
    assert with_head.auxiliary is not None
    assert with_head.shapes()[with_head.auxiliary] == (10,)


def test_params_of_the_nasbench201_network() -> None:
    """The benchmark's record of one cell on CIFAR-10, as NASLib's tests quote it
    (automl/NASLib, tests of the NAS-Bench-201 space): 0.129306 M parameters, 15.64737 M FLOPs.
    The benchmark counts the classifier's ten bias additions, too."""
    text = (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
        "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    graph = Cell(CellSpace(preset="nasbench201")).graph(from_nasbench201(text), CIFAR10)
    assert graph.params() == 129_306
    assert graph.macs() + 10 == 15_647_370


def test_size_of_the_darts_space() -> None:
    """Two cells; of one there are 1,037,664,180, with seven operations and two inputs a node."""
    cell = prod(comb(n, 2) * 7**2 for n in range(2, 6))
    assert cell == 1_037_664_180
    size = Cell(CellSpace(preset="darts")).size()
    assert (size.count, size.exact) == (cell**2, True)


def test_size_of_the_nasnet_space() -> None:
    """Five blocks of two inputs and two operations, of which the order means nothing: of the first
    there are 136 with eight operations (Liu et al. 2018, PNAS, section 3.1)."""
    sizes = [Cell(CellSpace(preset="nasnet", nodes=n)).size().count for n in (1, 5)]
    assert sizes[0] == 136**2
    assert sizes[1] == prod(8 * n * (8 * n + 1) // 2 for n in range(2, 7)) ** 2


def test_size_of_nasbench201() -> None:
    assert Cell(CellSpace(preset="nasbench201")).size().count == 15_625


@pytest.mark.parametrize("skips", [False, True])
def test_a_chain_space_counts_what_it_enumerates(skips: bool) -> None:
    space = Chain(
        ChainSpace(max_depth=3, ops=("conv", "maxpool"), widths=(4, 8), kernels=(3,), skips=skips)
    )
    found = list(space.enumerate())
    assert len(found) == space.size().count
    assert space.size().exact
    assert len({space.key(a) for a in found}) == len(found)
    for architecture in found:
        space.validate(architecture)


def test_a_large_space_is_not_enumerated() -> None:
    with pytest.raises(NotImplementedError, match="too many to enumerate"):
        next(Chain(ChainSpace()).enumerate())


def test_the_bound_of_a_branching_space_holds() -> None:
    space = MultiBranch(
        MultiBranchSpace(max_nodes=2, ops=("conv",), widths=(4,), kernels=(3,), strides=(1,))
    )
    # one node; two nodes, the second with one of two inputs, or both by either merge
    assert space.size().count == 1 + 1 * (2 + 2)
    assert not space.size().exact


def test_a_chain_by_hand() -> None:
    layers = [
        {"op": "conv", "width": 8, "kernel": 3, "stride": 1},
        {"op": "maxpool", "kernel": 3, "stride": 2},
        {"op": "sepconv", "width": 16, "kernel": 5, "stride": 2},
    ]
    graph = Chain(ChainSpace()).graph({"layers": layers}, Frame((1, 8, 8), 10))
    conv, sep, head = 1 * 8 * 9 + 16, 8 * 25 + 8 * 16 + 32, 16 * 10 + 10
    assert graph.params() == conv + sep + head
    assert graph.macs() == 72 * 64 + (200 + 128) * 4 + 160


def test_a_skip_is_projected_where_shapes_differ() -> None:
    layers = [
        {"op": "conv", "width": 8, "kernel": 3, "stride": 1, "skip": None},
        {"op": "conv", "width": 16, "kernel": 3, "stride": 2, "skip": -1},
        {"op": "conv", "width": 16, "kernel": 3, "stride": 1, "skip": None},
        {"op": "conv", "width": 16, "kernel": 3, "stride": 1, "skip": 1},
    ]
    space = Chain(ChainSpace(skips=True))
    space.validate({"layers": layers})
    graph = space.graph({"layers": layers}, Frame((3, 9, 9), 10))
    plain = space.graph(
        {"layers": [{**layer, "skip": None} for layer in layers]}, Frame((3, 9, 9), 10)
    )
    assert graph.params() - plain.params() == 3 * 16 + 32  # one projection, one plain sum


def test_a_map_that_vanishes_is_infeasible_by_name() -> None:
    layers = [{"op": "conv", "width": 4, "kernel": 3, "stride": 2}] * 4
    with pytest.raises(InfeasibleError, match="layer3: stride 2 on a feature map of 1x1"):
        Chain(ChainSpace()).graph({"layers": layers}, Frame((1, 8, 8), 10))
