"""Trees of branches: how many there are, which are one, and what unfolds into what."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest

from kinase.api.fidelity import Scale
from kinase.api.space import TreeSpace
from kinase.api.trial import Architecture
from kinase.morphism.bridge import bridge
from kinase.space import ArchitectureError, Frame, InfeasibleError
from kinase.space.tree import Tree
from kinase.strategy import derive_rng

FRAME = Frame((1, 16, 16), 10)
SMALL = TreeSpace(widths=(8, 16), cells=1)
CONVS = SMALL.model_copy(update={"ops": ("conv_1x1", "sep_conv_3x3", "sep_conv_5x5")})
LAYER: dict[str, Any] = {"op": "layer"}
EMPTY: dict[str, Any] = {"op": "identity"}
SEP: dict[str, Any] = {"op": "sep_conv_3x3"}
POINT: dict[str, Any] = {"op": "conv_1x1"}
POOL: dict[str, Any] = {"op": "max_pool_3x3"}


def node(merge: str, *branches: dict[str, Any]) -> dict[str, Any]:
    return {"merge": merge, "branches": list(branches)}


def then(branch: dict[str, Any], merge: str, *branches: dict[str, Any]) -> dict[str, Any]:
    return {**branch, "node": node(merge, *branches)}


def cell(merge: str, *branches: dict[str, Any]) -> Architecture:
    return {"cell": node(merge, *branches)}


START = cell("none", LAYER)


# -- how many, and which are one -----------------------------------------------------------


@pytest.mark.parametrize(
    "space",
    [
        TreeSpace(max_depth=1),
        TreeSpace(max_depth=2, max_branches=2, ops=("conv_1x1",), widths=(4,)),
        TreeSpace(max_depth=3, max_branches=2, ops=("conv_1x1",), merges=("concat",), widths=(4,)),
        TreeSpace(max_depth=2, max_branches=3, ops=("conv_1x1",), merges=("add",)),
    ],
)
def test_the_size_is_what_is_enumerated(space: TreeSpace) -> None:
    tree = Tree(space)
    every = list(tree._trees(1, 0))
    assert tree.size().count == len(every)
    assert len({repr(each) for each in every}) == len(every)
    for each in every[:: 1 + len(every) // 500]:
        tree.validate({"cell": each})
    found = list(tree.enumerate())
    assert {tree.key(each) for each in found} == {tree.key({"cell": each}) for each in every}
    assert len({tree.key(each) for each in found}) == len(found) <= len(every)


def test_sizes_by_hand() -> None:
    """Of one layer: alone, two or three added, two joined. Behind each there may be a node of one
    branch, which has two operations: 3 + 3^2 for a sum of two."""
    assert Tree(TreeSpace(max_depth=1)).size().count == 4
    narrow = TreeSpace(max_depth=2, max_branches=2, ops=("conv_1x1",), merges=("add",))
    below = 2 + 2**2  # nodes of the second level
    assert Tree(narrow).size().count == (1 + below) + (1 + below) ** 2


def turned(tree: Any) -> Any:
    """The branches of every sum the other way round."""
    branches = [
        {**each, **({"node": turned(each["node"])} if "node" in each else {})}
        for each in tree["branches"]
    ]
    return {
        "merge": tree["merge"],
        "branches": branches[::-1] if tree["merge"] == "add" else branches,
    }


def test_the_order_of_a_sum_does_not_matter_and_that_of_a_join_does() -> None:
    tree, differ = Tree(SMALL), 0
    for seed in range(100):
        architecture = tree.sample(derive_rng(seed))
        other = {"cell": turned(architecture["cell"])}
        differ += other != architecture
        assert tree.key(other) == tree.key(architecture)
        assert tree.paths(other) == tree.paths(architecture)
        graphs = [tree.graph(each, FRAME) for each in (architecture, other)]
        assert graphs[0].params() == graphs[1].params()
        assert graphs[0].macs() == graphs[1].macs()
    assert differ > 30
    joined = [then(LAYER, "concat", *each) for each in ((SEP, POOL), (POOL, SEP))]
    assert tree.key(cell("none", joined[0])) != tree.key(cell("none", joined[1]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (then(LAYER, "none", EMPTY), LAYER),
        (then(LAYER, "concat", EMPTY, EMPTY), LAYER),
        (then(LAYER, "none", then(EMPTY, "none", SEP)), then(LAYER, "none", SEP)),
        (then(LAYER, "none", then(EMPTY, "add", SEP, EMPTY)), then(LAYER, "add", EMPTY, SEP)),
        (
            then(LAYER, "add", then(EMPTY, "add", SEP, POOL), EMPTY),
            then(LAYER, "add", SEP, POOL, EMPTY),
        ),
    ],
)
def test_what_does_nothing_does_not_count(one: dict[str, Any], other: dict[str, Any]) -> None:
    tree = Tree(SMALL)
    architectures = [cell("none", each) for each in (one, other)]
    assert len({tree.key(each) for each in architectures}) == 1
    graphs = [tree.graph(each, FRAME) for each in architectures]
    assert graphs[0].params() == graphs[1].params()
    assert tree.key(cell("concat", LAYER, LAYER)) == tree.key(START)
    assert tree.key(cell("none", then(LAYER, "add", EMPTY, EMPTY))) != tree.key(START)


def test_parameters_by_hand() -> None:
    """A stem of 1 -> 8 channels, one cell of 8 -> 8 and one of 8 -> 16, a linear layer."""
    tree = Tree(SMALL)
    around = 9 * 8 + 16 + 16 * 10 + 10
    layers = [9 * 8 * 8 + 16, 9 * 8 * 16 + 32]
    assert tree.graph(START, FRAME).params() == around + sum(layers)
    assert tree.graph(cell("add", LAYER, LAYER), FRAME).params() == around + 2 * sum(layers)
    half = [9 * n + n * n + 2 * n for n in (4, 8)]
    joined = cell("none", then(LAYER, "concat", SEP, EMPTY))
    assert tree.graph(joined, FRAME).params() == around + sum(layers) + sum(half)


# -- networks ------------------------------------------------------------------------------


def test_stages_and_the_finalists_cells() -> None:
    tree = Tree(TreeSpace(widths=(4, 8), cells=2, evaluation_cells=3, stem=6))
    graph, shapes = tree.graph(START, FRAME), tree.graph(START, FRAME).shapes()
    assert shapes["stem_conv"] == (6, 16, 16)
    assert [shapes[f"cell{i}_0_conv"] for i in range(4)] == [(4, 16, 16)] * 2 + [(8, 8, 8)] * 2
    assert "cell4_0_conv" not in shapes
    assert tree.scale(final=False) == Scale()
    large = Frame((1, 16, 16), 10, tree.scale(final=True))
    assert tree.graph(START, large).shapes()["cell5_0_conv"] == (8, 8, 8)
    assert graph.params() < tree.graph(START, large).params()


def test_small_images_and_few_channels_are_infeasible() -> None:
    tree = Tree(TreeSpace(widths=(2, 4, 8)))
    with pytest.raises(InfeasibleError, match="cell2: stride 2 on a feature map of 1x9"):
        tree.graph(START, Frame((1, 1, 9), 10))
    joined = cell("none", then(LAYER, "concat", SEP, EMPTY))
    tree.graph(joined, FRAME)
    with pytest.raises(InfeasibleError, match="1 channel cannot be divided"):
        tree.graph(joined, Frame((1, 16, 16), 10, Scale(filter_fraction=0.5)))


# -- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (cell("sum", LAYER), r"cell.merge is 'sum'; use one of none, add, concat"),
        (cell("none", LAYER, LAYER), r"cell.branches is 2; none takes a list of 1$"),
        (cell("add", *[LAYER] * 4), r"cell.branches is 4; add takes a list of 2 to 3"),
        (cell("none", SEP), r"cell.branches\[0\].op is 'sep_conv_3x3'; use layer"),
        (
            cell("none", then(LAYER, "none", LAYER)),
            r"cell.branches\[0\].node.branches\[0\].op is 'layer'; use one of identity, conv_1x1",
        ),
        (cell("none", then(LAYER, "none", then(SEP, "none", SEP))), r"maxDepth is 2"),
        (cell("none", {**LAYER, "kernel": 3}), r"a branch is an object with op and perhaps node"),
        (
            cell("concat", LAYER, then(LAYER, "concat", SEP, SEP)),
            r"divides the channels 2 times: the narrowest stage has 2",
        ),
    ],
)
def test_errors_say_where_and_what(architecture: Any, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        Tree(TreeSpace(max_depth=2, widths=(2, 4))).validate(architecture)


def test_no_move_divides_what_cannot_be_divided() -> None:
    tree = Tree(TreeSpace(widths=(5,), ops=("conv_1x1",)))
    for seed in range(30):
        architecture = tree.sample(derive_rng(seed))
        tree.validate(architecture)
        tree.graph(architecture, FRAME)
        for edit in list(tree.edits(architecture))[:: 1 + seed]:
            tree.validate(edit)


# -- what unfolds into what ----------------------------------------------------------------


def leads(one: Architecture, other: Architecture, space: TreeSpace = SMALL) -> bool:
    found = bridge(Tree(space), one, other, FRAME)
    return found is not None and found.exact


@pytest.mark.parametrize(
    "layer",
    [
        then(LAYER, "none", SEP),
        then(LAYER, "none", then(POINT, "none", SEP)),
        then(LAYER, "add", EMPTY, SEP),
        then(LAYER, "add", SEP, POINT, EMPTY),
        then(LAYER, "add", SEP, POINT),
        then(LAYER, "add", then(EMPTY, "concat", SEP, POINT), POINT),
        then(LAYER, "concat", SEP, EMPTY),
        then(LAYER, "concat", then(SEP, "concat", EMPTY, POINT), then(EMPTY, "add", SEP, EMPTY)),
    ],
)
def test_motifs_keep_the_function(layer: dict[str, Any]) -> None:
    assert leads(START, cell("none", layer))
    assert leads(START, cell("add", LAYER, layer, LAYER))
    assert leads(START, cell("concat", layer, LAYER))


def test_what_changes_a_map_does_not() -> None:
    for branch in (
        then(LAYER, "none", POOL),
        then(LAYER, "add", EMPTY, EMPTY),  # twice the map
        then(LAYER, "add", SEP, POOL),
        then(LAYER, "add", then(SEP, "none", SEP), then(POINT, "none", SEP)),
    ):
        assert not leads(START, cell("none", branch))
    assert not leads(cell("add", LAYER, LAYER), START)
    assert not leads(cell("none", then(LAYER, "none", SEP)), cell("add", LAYER, LAYER))


def test_a_tree_goes_on_growing() -> None:
    line = [
        START,
        cell("concat", LAYER, then(LAYER, "none", SEP)),
        cell("concat", then(LAYER, "add", EMPTY, SEP), then(LAYER, "none", SEP)),
        cell("concat", then(LAYER, "add", EMPTY, SEP, POINT), then(LAYER, "none", SEP)),
        cell(
            "concat",
            then(LAYER, "add", then(EMPTY, "concat", EMPTY, SEP), SEP, POINT),
            then(LAYER, "none", SEP),
        ),
    ]
    for one, other in pairwise(line):
        assert leads(one, other)
    # a convolution at the end has no ReLU, which a node behind it would need
    assert not leads(line[1], cell("concat", LAYER, then(LAYER, "none", then(SEP, "none", SEP))))


def test_copies_of_a_layer_part_ways_by_noise() -> None:
    found = bridge(Tree(SMALL), START, cell("add", LAYER, LAYER), FRAME, noise=0.006)
    assert found is not None
    assert {(each.op, each.noise) for each in found.morphisms} == {("path", 0.006)}  # type: ignore[attr-defined]


def test_every_proposal_is_right() -> None:
    """The bridge accepts all that `exact_morphisms` proposes from the start network, and from one
    tree to its neighbours."""
    tree, proposed = Tree(CONVS), 0
    pairs = [(START, tree.sample(derive_rng(seed))) for seed in range(60)]
    for seed in range(4):
        architecture = tree.sample(derive_rng(100 + seed))
        around = list(tree.neighbours(architecture))
        pairs += [(architecture, each) for each in around[:: 1 + len(around) // 10]]
    for one, other in pairs:
        before = copy.deepcopy((one, other))
        if tree.exact_morphisms(one, other, FRAME) is not None:
            proposed += 1
            assert leads(one, other, CONVS)
        assert (one, other) == before
    assert proposed > 50
