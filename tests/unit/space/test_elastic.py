"""A network's tensors are slices of the shared ones."""

from __future__ import annotations

from itertools import islice
from math import prod

import numpy as np
import pytest

from kinase.api.mobile import MobileNetSpace
from kinase.api.space import ChainSpace, MultiBranchSpace, TreeSpace
from kinase.space import Frame, GraphBuilder, InfeasibleError, Space, derive_rng
from kinase.space.chain import Chain
from kinase.space.elastic import Elastic, Layered, largest
from kinase.space.mobilenet import MobileNet
from kinase.space.multibranch import MultiBranch
from kinase.space.tensors import tensors
from kinase.space.tree import Tree

FRAME = Frame((3, 16, 16), 7)
SPACES: dict[str, Space] = {
    "chain": Chain(ChainSpace()),
    "chain with skips": Chain(ChainSpace(skips=True, min_depth=2)),
    "narrower than the image": Chain(ChainSpace(skips=True, widths=(1, 2), max_depth=5)),
    "multi-branch": MultiBranch(MultiBranchSpace(min_nodes=2)),
    "mobilenet": MobileNet(MobileNetSpace()),
    "mobilenet, all sizes": MobileNet(
        MobileNetSpace(preset="proxyless", multipliers=(0.5, 1.0), resolutions=(8, 16))
    ),
    "three inputs": MultiBranch(MultiBranchSpace(max_inputs=3, ops=("conv", "avgpool"))),
}


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> Space:
    """A space whose networks share tensors."""
    return SPACES[request.param]


def elastic_of(space: Space) -> Elastic:
    """The shared tensors of a space that has some."""
    found = space.elastic(FRAME)
    assert found is not None
    return found


def test_every_network_is_a_slice(space: Space) -> None:
    elastic, built = elastic_of(space), 0
    for draw in range(60):
        architecture = space.sample(derive_rng(0, draw))
        try:
            own = space.graph(architecture, FRAME).needed()
        except InfeasibleError:
            continue
        built += 1
        sliced = elastic.slice(architecture)
        assert sliced.graph == own
        assert {name: cut.shape for name, cut in sliced.cuts.items()} == tensors(own)
        for name, cut in sliced.cuts.items():
            for axis, size in zip(cut.axes, elastic.tensors[name], strict=True):
                assert min(axis) >= 0
                assert max(axis) < size
        trained = (c for n, c in sliced.cuts.items() if not n.endswith(("mean", "var", "tracked")))
        assert sum(prod(cut.shape) for cut in trained) == own.params()
    assert built > 40


def test_a_tensor_is_as_large_as_the_largest_that_a_chain_has() -> None:
    space = Chain(ChainSpace(max_depth=2, widths=(2, 5), kernels=(1, 3), skips=True))
    found: dict[str, tuple[int, ...]] = {}
    for architecture in space.enumerate():
        for name, cut in elastic_of(space).slice(architecture).cuts.items():
            found[name] = tuple(map(max, found.get(name, cut.shape), cut.shape))
    assert found == elastic_of(space).tensors


def test_the_first_channels_and_the_centre_of_a_window() -> None:
    layers = [
        {"op": "conv", "width": 8, "kernel": 3, "stride": 1},
        {"op": "maxpool", "kernel": 3, "stride": 2},
        {"op": "sepconv", "width": 16, "kernel": 3, "stride": 1},
    ]
    cuts = elastic_of(SPACES["chain"]).slice({"layers": layers}).cuts
    assert cuts["layer0_conv.weight"].axes == (range(8), range(3), range(1, 4), range(1, 4))
    assert cuts["layer2_depthwise.weight"].axes == (
        *(range(8), range(1)),
        *(range(1, 4), range(1, 4)),
    )
    assert cuts["layer2_pointwise.weight"].axes[:2] == (range(16), range(8))
    assert cuts["layer2_bn.running_var"].axes == (range(16),)
    assert cuts["classifier.weight"].axes == (range(7), range(16))


def test_joined_channels_have_the_places_of_their_sources() -> None:
    layer = {"op": "conv", "kernel": 3, "stride": 1, "merge": "concat"}
    nodes = [
        {**layer, "width": 8, "inputs": [-1]},
        {**layer, "width": 16, "inputs": [-1]},
        {**layer, "op": "maxpool", "inputs": [1]},
        {**layer, "width": 8, "inputs": [0, 2]},
    ]
    nodes[2].pop("width", None)
    cuts = elastic_of(SPACES["multi-branch"]).slice({"nodes": nodes}).cuts
    # the image has 3 channels, each node up to 32
    expected = [*range(3, 3 + 8), *range(3 + 32, 3 + 32 + 16)]
    assert np.array_equal(cuts["node3_conv.weight"].axes[1], expected)
    assert cuts["classifier.weight"].axes[1] == range(3 + 3 * 32, 3 + 3 * 32 + 8)


def test_a_flattened_map_keeps_its_pixels() -> None:
    def network(width: int) -> GraphBuilder:
        g = GraphBuilder((2, 3, 3))
        x = g.flatten("flat", g.conv("conv", g.input, width, 3))
        g.linear("classifier", x, 4)
        return g

    nodes = largest(network(5).build("classifier"))
    shared = Layered(nodes, lambda each: network(each["width"]).build("classifier"), {}, {})
    cuts = shared.slice({"width": 2}).cuts
    assert cuts["classifier.weight"].axes == (range(4), range(2 * 9))


def test_what_is_no_part_is_refused() -> None:
    narrow = Chain(ChainSpace(widths=(8,), kernels=(3,)))
    wide = SPACES["chain"]
    shared = narrow.elastic(FRAME)
    layer = {"op": "conv", "width": 8, "kernel": 5, "stride": 1}
    mixed = Layered(shared.nodes, lambda each: wide.graph(each, FRAME), {}, {})
    with pytest.raises(ValueError, match="layer0_conv: a window of 5"):
        mixed.slice({"layers": [layer]})
    with pytest.raises(ValueError, match=r"layer0_conv.weight of shape \(16, 3, 3, 3\)"):
        mixed.slice({"layers": [{**layer, "kernel": 3, "width": 16}]})


def test_layers_of_one_name_are_alike() -> None:
    g = GraphBuilder((2, 3, 3))
    g.conv("x", g.input, 4, 1)
    other = GraphBuilder((2, 3, 3))
    other.batch_norm("x", other.input)
    with pytest.raises(ValueError, match="x is a conv in one network, a batch_norm in another"):
        largest([*g.build("x"), *islice(other.build("x"), 1, None)])


def test_a_space_that_shares_nothing_says_why() -> None:
    space = Tree(TreeSpace())
    assert space.elastic(FRAME) is None
    assert space.supernet(FRAME) is None
    assert "Tree" in space.unshared
