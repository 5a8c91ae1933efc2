"""Parts of a fabric."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kinase.api.fidelity import Scale
from kinase.api.space import FabricSpace
from kinase.space import ArchitectureError, Frame, InfeasibleError, Space, derive_rng
from kinase.space.fabric import Fabric
from kinase.space.trellis import Place, Trellis

SIZES = [(2, 1), (2, 3), (3, 2), (4, 1), (3, 3), (5, 2)]
SPACE = Fabric(FabricSpace(layers=4, scales=3))


def chains(trellis: Trellis, place: Place) -> Iterator[list[tuple[Place, str]]]:
    """Every chain of edges from the first layer to a node, walked through one by one."""
    if place[0] == 0:
        yield []
        return
    for name in trellis.inputs[place]:
        for chain in chains(trellis, trellis.source(place, name)):
            yield [*chain, (place, name)]


def test_the_number_of_paths_is_what_walks_find() -> None:
    for size in SIZES:
        trellis = Trellis(*size)
        assert trellis.paths() == len([*chains(trellis, trellis.output)])
    # of one scale there is one; of two, each node of a layer reads both of the layer before, and
    # the last step within the last layer doubles once more
    assert [Trellis(*size).paths() for size in ((4, 1), (2, 2), (3, 2), (9, 2))] == [1, 4, 8, 512]
    assert Trellis(9, 6).paths() == 20_844


@pytest.mark.parametrize("size", SIZES)
def test_the_size_is_what_is_enumerated(size: tuple[int, int]) -> None:
    space = Fabric(FabricSpace(layers=size[0], scales=size[1]))
    found = list(space.enumerate())
    assert len({space.key(each) for each in found}) == len(found) == space.size().count
    for each in found[:50]:
        space.validate(each)


def test_every_edge_of_a_part_is_on_a_path() -> None:
    every = [*chains(SPACE.trellis, SPACE.trellis.output)]
    for draw in range(20):
        part = SPACE.sample(derive_rng(0, draw))
        edges = {
            ((layer + 1, scale), name)
            for layer, nodes in enumerate(part["layers"])
            for scale, names in enumerate(nodes)
            for name in names
        }
        within = [chain for chain in every if edges.issuperset(chain)]
        assert within
        assert {edge for chain in within for edge in chain} == edges


def convolutions(space: Space, architecture: dict[str, object], frame: Frame) -> int:
    """Weights of the convolutions alone."""
    graph = space.graph(architecture, frame).needed()
    return sum(
        int(node.attrs["in"]) * int(node.attrs["out"]) * 9 for node in graph if node.op == "conv"
    )


def test_an_edge_has_nine_c_squared_weights() -> None:
    """3x3 kernels between all channels (Saxena & Verbeek 2016, section 3.2)."""
    c, frame = 5, Frame((3, 8, 8), 10, Scale(filters=5))
    whole = SPACE.named["whole"]
    SPACE.validate(whole)
    edges = sum(len(names) for layer in whole["layers"] for names in layer)
    # of the first layer the image, then the two nodes below; in the second to last there are
    # three inputs of the node in the middle, two of those at the ends; two are within the last
    assert edges == 3 * (2 + 3 + 2) + 2
    assert convolutions(SPACE, whole, frame) == 27 * c + (2 + edges) * 9 * c * c
    for draw in range(5):
        part = SPACE.sample(derive_rng(0, draw))
        count = sum(len(names) for layer in part["layers"] for names in layer)
        scales = {scale for scale, names in enumerate(part["layers"][0]) if names}
        read = max(
            scale + {"finer": -1, "same": 0, "coarser": 1}[name]
            for scale in scales
            for name in part["layers"][0][scale]
        )
        assert convolutions(SPACE, part, frame) == 27 * c + (read + count) * 9 * c * c


def test_the_whole_fabric_is_its_supernet() -> None:
    frame = Frame((3, 8, 8), 10, Scale(filters=3), searching=True)
    supernet = SPACE.supernet(frame)
    assert supernet is not None
    assert SPACE.graph(SPACE.named["whole"], frame).params() == supernet.graph.params()
    assert set(SPACE.path(SPACE.named["whole"]).values()) == {1}


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (28, 28), (1, 9)])
def test_a_coarser_map_comes_back_to_the_size_it_was_halved_from(size: tuple[int, int]) -> None:
    graph = SPACE.graph(SPACE.named["whole"], Frame((1, *size), 10, Scale(filters=2)))
    shapes = graph.shapes()
    for scale in range(3):
        high, wide = (-(-side // 2**scale) for side in size)
        assert {shapes[f"layer{n}_scale{scale}_relu"] for n in range(3)} == {(2, high, wide)}


def test_an_image_without_so_many_scales_is_refused() -> None:
    space = Fabric(FabricSpace(scales=6))
    with pytest.raises(InfeasibleError, match=r"scale 3 of the image is one pixel.* at most 4"):
        space.graph(space.sample(derive_rng(0)), Frame((1, 8, 8), 10))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([[["same"]] * 3] * 2, r"layers is 2; use a list of 3 layers"),
        ([[["same"]] * 2] * 3, r"layers\[0\] is .* use a list of 3 nodes"),
        ([[["coarser"]] * 3] * 3, r"layers\[0\]\[2\] is \['coarser'\]; use some of finer, same"),
        ([[["same", "same"]] * 3] * 3, r"layers\[0\]\[0\] is \['same', 'same'\]"),
        ([[[]] * 3] * 3, r"layers\[2\]\[2\] has no inputs, but it is read"),
        ([[["same"]] * 3] * 3, r"layers\[0\]\[0\] has inputs, but it leads nowhere"),
        ([[["above"]] * 3] * 3, r"layers\[0\]\[0\] is \['above'\]; use some of same, coarser"),
    ],
)
def test_what_is_no_part_is_named(layers: object, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        SPACE.validate({"layers": layers})


def test_children_have_edges_of_their_parents() -> None:
    for draw in range(20):
        one, other = (SPACE.sample(derive_rng(n, draw)) for n in (1, 2))
        child = SPACE.path(SPACE.crossover(one, other, derive_rng(3, draw)))
        parents = [SPACE.path(each) for each in (one, other)]
        assert all(not taken or max(p[edge] for p in parents) for edge, taken in child.items())


def test_a_path_that_does_not_reach_the_image_is_no_architecture() -> None:
    path = dict.fromkeys(SPACE.path(SPACE.named["whole"]), 0)
    with pytest.raises(ArchitectureError, match=r"the path is no architecture: layers\[2\]\[2\]"):
        SPACE.architecture(path)


def test_edges_of_a_path_that_lead_nowhere_are_left_out() -> None:
    path = dict.fromkeys(SPACE.path(SPACE.named["whole"]), 0)
    path |= {"layer1_scale0_same": 1, "layer3_scale2_same": 1, "layer2_scale2_finer": 1}
    path |= {"layer1_scale1_finer": 1, "layer2_scale0_coarser": 1}
    found = SPACE.architecture(path)
    assert found == {"layers": [[[], ["finer"], []], [[], [], ["finer"]], [[], [], ["same"]]]}
