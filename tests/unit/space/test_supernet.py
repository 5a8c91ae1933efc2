"""A slice of a supernet is, node by node, the network that the space builds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace, ChoiceBlocksSpace, FabricSpace, MacroSpace
from kinase.space import ArchitectureError, Frame, Space, derive_rng
from kinase.space.cell import Cell
from kinase.space.choice_blocks import ChoiceBlocks
from kinase.space.fabric import Fabric
from kinase.space.graph import Graph
from kinase.space.macro import Macro
from kinase.space.supernet import Choice, Supernet, match

CELLS = {
    "darts": CellSpace(preset="darts"),
    "nasbench201": CellSpace(preset="nasbench201"),
    "nasnet": CellSpace(preset="nasnet", concat="all", nodes=3),
    "few operations": CellSpace(preset="darts", ops=("skip_connect", "sep_conv_3x3"), nodes=2),
}
SPACES: dict[str, Space] = {
    **{name: Cell(options) for name, options in CELLS.items()},
    "macro": Macro(MacroSpace(layers=4)),
    "macro, two layers": Macro(MacroSpace(layers=2, ops=("conv_3x3", "avg_pool_3x3"))),
    "choice blocks": ChoiceBlocks(ChoiceBlocksSpace(blocks=3, max_inputs=3)),
    "choice blocks, one operation": ChoiceBlocks(ChoiceBlocksSpace(blocks=2, max_ops=1)),
    "fabric": Fabric(FabricSpace(layers=4, scales=3)),
    "fabric, two layers": Fabric(FabricSpace(layers=2, scales=4)),
    "fabric, one scale": Fabric(FabricSpace(layers=3, scales=1)),
}
SMALL = Frame((3, 8, 8), 10, Scale(cells=3, filters=4), searching=True)


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> Space:
    """A space with a supernet."""
    return SPACES[request.param]


def supernet_of(space: Space, frame: Frame = SMALL) -> Supernet:
    """The supernet of a space that has one."""
    found = space.supernet(frame)
    assert found is not None
    return found


def test_darts_has_the_parameters_of_its_authors_network() -> None:
    # `param size` of train_search.py of quark0/darts, without the 224 alphas
    supernet = supernet_of(
        Cell(CELLS["darts"]), replace(SMALL, input=(3, 32, 32), scale=Scale(cells=8, filters=16))
    )
    assert supernet.graph.params() == 1_930_618
    assert len(supernet.groups) == 2 * 14
    assert {len(options) for options in supernet.groups.values()} == {8}


@pytest.mark.parametrize(
    ("space", "size", "params"),
    [
        (Macro(MacroSpace()), "1.61e+29", 697_870),
        (ChoiceBlocks(ChoiceBlocksSpace()), "7.02e+11", 1_494_170),
        (Fabric(FabricSpace()), "2.58e+33", 909_343),
    ],
)
def test_supernets_of_the_defaults(space: Space, size: str, params: int) -> None:
    """As the pages of the spaces say."""
    assert str(space.size()) == size
    frame = Frame((3, 32, 32), 10, space.scale(final=False), searching=True)
    assert supernet_of(space, frame).graph.params() == params


def test_a_slice_is_the_network_that_the_space_builds(space: Space) -> None:
    supernet = supernet_of(space)
    for draw in range(12):
        architecture = space.sample(derive_rng(0, draw))
        own = space.graph(architecture, SMALL).needed()
        cut = supernet.slice(space.path(architecture))
        found = match(own, cut)
        assert set(found) == {node.name for node in own if leads_to_output(own, node.name)}
        assert cut.params() == own.params()
        assert cut.macs() == own.macs()


def leads_to_output(graph: Graph, name: str) -> bool:
    """Whether a node is one of those that are trained."""
    return name in {node.name for node in graph.without_auxiliary()}


def test_a_path_is_the_architecture(space: Space) -> None:
    for draw in range(12):
        architecture = space.sample(derive_rng(1, draw))
        path = space.path(architecture)
        supernet_of(space).check(path)
        assert space.key(space.architecture(path)) == space.key(architecture)


def test_a_cell_without_any_operation_is_zero() -> None:
    space = Cell(CELLS["nasbench201"])
    nothing = {
        "normal": [[["none", s] for s in range(before)] for before in range(1, 4)],
    }
    own = space.graph(nothing, SMALL).needed()
    match(own, supernet_of(space).slice(space.path(nothing)))


def test_a_node_with_a_third_input_is_no_architecture() -> None:
    space = Cell(CELLS["darts"])
    path = space.path(space.sample(derive_rng(0)))
    edge = next(g for g in path if g.startswith("normal_1_") and path[g] == 0)
    with pytest.raises(ArchitectureError, match=r"normal\[1\] is .* must be a list of 2 pairs"):
        space.architecture({**path, edge: 1})


def test_cells_that_end_in_different_nodes_have_no_supernet() -> None:
    assert Cell(CellSpace(preset="nasnet")).supernet(SMALL) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal_0_0": 99}, "path.normal_0_0 is 99; use 0 to 4"),
        ({"normal_0_0": True}, "path.normal_0_0 is True; use 0 to 4"),
        ({"other": 0}, "unknown: other"),
        ({"normal_0_0": None}, "missing: normal_0_0"),
    ],
)
def test_a_path_is_untrusted(change: dict[str, int | None], message: str) -> None:
    space = Cell(CELLS["nasbench201"])
    path = space.path(space.sample(derive_rng(0))) | change
    given = {name: option for name, option in path.items() if option is not None}
    with pytest.raises(ValueError, match=message):
        supernet_of(space).slice(given)


def test_networks_that_differ_do_not_match() -> None:
    space = Cell(CELLS["nasbench201"])
    path = space.path(space.sample(derive_rng(0)))
    cut = supernet_of(space).slice(path)
    wider = replace(SMALL, scale=Scale(cells=3, filters=5))
    with pytest.raises(ValueError, match="is not"):
        match(space.graph(space.architecture(path), wider), cut)


def test_choices_of_a_group_have_the_same_options() -> None:
    graph = supernet_of(Cell(CELLS["nasbench201"])).graph
    choices = (Choice("a", ("none", "x"), "g"), Choice("b", ("x",), "g"))
    with pytest.raises(ValueError, match="group g"):
        _ = Supernet(graph, choices).groups


def test_the_best_path_is_always_an_architecture(space: Space) -> None:
    supernet = supernet_of(space)
    for draw in range(12):
        rng = derive_rng(2, draw)
        scores = {g: rng.normal(size=len(options)) for g, options in supernet.groups.items()}
        space.validate(space.architecture(supernet.best(scores)))


def test_a_path_that_scores_best_is_found_again(space: Space) -> None:
    supernet = supernet_of(space)
    for draw in range(12):
        architecture = space.sample(derive_rng(3, draw))
        path = space.path(architecture)
        scores = {
            g: [float(path[g] == number) for number in range(len(options))]
            for g, options in supernet.groups.items()
        }
        found = space.architecture(supernet.best(scores))
        assert space.path(found) == path


def test_none_takes_part_and_is_never_found_where_a_node_has_two_inputs() -> None:
    # as `genotype` of quark0/darts: the best operation of an edge is chosen without none, and the
    # two edges by it
    supernet = supernet_of(Cell(CellSpace(preset="darts", ops=("skip_connect", "sep_conv_3x3"))))
    scores = {g: [9.0, 0.1, 0.2] for g in supernet.groups}
    scores["normal_1_0"] = [9.0, 0.5, 0.0]
    scores["normal_1_2"] = [0.0, 0.0, 0.3]
    path = supernet.best(scores)
    assert [path[f"normal_1_{source}"] for source in range(3)] == [1, 0, 2]


def test_scores_that_are_not_numbers_are_refused() -> None:
    supernet = supernet_of(Cell(CELLS["nasbench201"]))
    scores = {g: [0.0] * 5 for g in supernet.groups}
    with pytest.raises(ValueError, match="normal_1_1"):
        supernet.best(scores | {"normal_1_1": [0.0, float("nan"), 0.0, 0.0, 0.0]})
    with pytest.raises(ValueError, match="normal_1_1"):
        supernet.best(scores | {"normal_1_1": [0.0]})
