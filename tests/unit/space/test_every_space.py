"""What holds for every search space."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import numpy as np
import pytest

from kinase.api.fidelity import Scale
from kinase.api.space import Space as SpaceModel
from kinase.space import (
    ArchitectureError,
    Frame,
    Graph,
    GraphBuilder,
    InfeasibleError,
    Space,
    dump_graph,
    make_space,
)
from kinase.strategy import derive_rng


def network() -> Graph:
    """A small residual network with a squeeze-and-excitation."""
    g = GraphBuilder((3, 8, 8))
    x = g.relu("stem_relu", g.batch_norm("stem_bn", g.conv("stem", g.input, 6, 3)))
    y = g.relu("relu1", g.batch_norm("bn1", g.conv("conv1", x, 6, 3)))
    gate = g.unary("squeeze", "adaptive_avg_pool", y, height=1, width=1)
    gate = g.relu("gate_relu", g.conv("gate1", gate, 3, 1, bias=True))
    gate = g.unary("excite", "hard_sigmoid", g.conv("gate2", gate, 6, 1, bias=True))
    x = g.add("add", [x, g.batch_norm("bn2", g.conv("conv2", g.gate("gated", y, gate), 6, 3))])
    x = g.relu("relu3", g.batch_norm("bn3", g.conv("conv3", x, 9, 3, 2)))
    return g.build(g.linear("classifier", g.global_avg_pool("pool", x), 10))


SPACES: dict[str, dict[str, Any]] = {
    "chain": {"type": "Chain", "chain": {}},
    "chain with skips": {"type": "Chain", "chain": {"skips": True, "minDepth": 2}},
    "multi-branch": {"type": "MultiBranch", "multiBranch": {"minNodes": 2}},
    "darts": {"type": "Cell", "cell": {"preset": "darts"}},
    "darts, three nodes": {"type": "Cell", "cell": {"preset": "darts", "nodes": 3}},
    "nasbench201": {"type": "Cell", "cell": {"preset": "nasbench201"}},
    "nasnet": {"type": "Cell", "cell": {"preset": "nasnet"}},
    "nasnet, searched ends": {
        "type": "Cell",
        "cell": {"preset": "nasnet", "nodes": 3, "concat": "chosen"},
    },
    "tree": {"type": "Tree", "tree": {}},
    "macro": {"type": "Macro", "macro": {"layers": 6}},
    "choice blocks": {"type": "ChoiceBlocks"},
    "choice blocks, one operation": {
        "type": "ChoiceBlocks",
        "choiceBlocks": {"blocks": 3, "maxInputs": 4, "maxOps": 1},
    },
    "fabric": {"type": "Fabric", "fabric": {"layers": 5, "scales": 4}},
    "mobilenet": {"type": "MobileNet", "mobileNet": {}},
    "mobilenet, elastic in all": {
        "type": "MobileNet",
        "mobileNet": {
            "preset": "proxyless",
            "stages": [{"width": 8, "maxDepth": 2}, {"width": 12, "stride": 2}],
            "multipliers": [1, 1.5],
            "resolutions": [4, 6],
            "head": 16,
        },
    },
    "chain with training": {
        "type": "Chain",
        "training": {"learningRate": {"min": 0.001, "max": 1}, "crop": {"values": [0, 2]}},
    },
    "training alone": {
        "type": "Cell",
        "architecture": {"named": "DARTS_V2"},
        "training": {
            "learningRate": {"min": 0.001, "max": 1},
            "batchSize": {"values": [16, 64]},
            "cutout": {"min": 0, "max": 16},
        },
    },
    "model": {"type": "Model", "model": {"from": "graph", "graph": dump_graph(network())}},
}
SEEDS = range(25)


@pytest.fixture(params=SPACES.values(), ids=SPACES.keys())
def space(request: pytest.FixtureRequest) -> Space:
    return make_space(SpaceModel.model_validate(request.param))


def draw(space: Space, seed: int) -> dict[str, Any]:
    return space.sample(derive_rng(seed))


def test_samples_are_valid_plain_data(space: Space) -> None:
    for seed in SEEDS:
        architecture = draw(space, seed)
        space.validate(architecture)
        assert json.loads(json.dumps(architecture)) == architecture
        assert re.fullmatch(r"[0-9a-f]{16}", space.key(architecture))
        assert draw(space, seed) == architecture


def test_samples_differ(space: Space) -> None:
    assert len({space.key(draw(space, seed)) for seed in range(100)}) > 60


def test_a_mutation_is_valid_and_another_network(space: Space) -> None:
    for seed in SEEDS:
        architecture = draw(space, seed)
        before = copy.deepcopy(architecture)
        mutated = space.mutate(architecture, derive_rng(seed, 1))
        space.validate(mutated)
        assert space.key(mutated) != space.key(architecture)
        assert architecture == before


def test_neighbours_are_valid_different_and_each_once(space: Space) -> None:
    for seed in range(4):
        architecture = draw(space, seed)
        keys = [space.key(architecture)]
        for neighbour in space.neighbours(architecture):
            space.validate(neighbour)
            keys.append(space.key(neighbour))
        assert len(keys) > 5
        assert len(keys) == len(set(keys))


def test_a_mutation_is_a_neighbour_most_of_the_time(space: Space) -> None:
    architecture = draw(space, 3)
    around = {space.key(n) for n in space.neighbours(architecture)}
    mutated = [space.key(space.mutate(architecture, derive_rng(s, 2))) for s in range(40)]
    # a multi-branch node may come with several inputs at once, which no neighbour does
    assert sum(key in around for key in mutated) >= 20


def test_crossover_mixes_where_it_has_a_meaning(space: Space) -> None:
    for seed in SEEDS:
        one, other = draw(space, seed), draw(space, seed + 100)
        if not space.crosses:
            with pytest.raises(NotImplementedError):
                space.crossover(one, other, derive_rng(seed))
            continue
        space.validate(space.crossover(one, other, derive_rng(seed)))
        assert space.key(space.crossover(one, one, derive_rng(seed))) is not None


def test_encodings(space: Space) -> None:
    vectors = [space.vector(draw(space, seed)) for seed in SEEDS]
    assert len({v.shape for v in vectors}) == 1
    assert all(v.ndim == 1 and v.min() >= 0 and v.max() <= 1 for v in vectors)
    for seed in SEEDS:
        a, b = draw(space, seed), draw(space, seed + 1)
        if space.key(a) != space.key(b):
            assert not np.array_equal(space.vector(a), space.vector(b))
        assert isinstance(space.paths(a), frozenset)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 15, 17), (1, 28, 28)])
def test_networks_end_in_the_classes(space: Space, shape: tuple[int, int, int]) -> None:
    built = 0
    for seed in SEEDS:
        frame = Frame(shape, 7, Scale(cells=4, filters=6, filter_fraction=0.5))
        try:
            graph = space.graph(draw(space, seed), frame)
        except InfeasibleError:
            continue
        built += 1
        assert graph.shapes()[graph.output] == (7,)
        assert graph.params() > 0
        assert graph.macs() > 0
        assert len({node.name for node in graph}) == len(graph.nodes)
        assert all(re.fullmatch(r"\w+", node.name) for node in graph)
    assert built > 5


def sizes_of(space: Space, seed: int, shape: tuple[int, int, int]) -> tuple[int, int] | None:
    """Parameters and multiply-adds; None where there is no such network."""
    try:
        graph = space.graph(draw(space, seed), Frame(shape, 7, Scale(cells=3, filters=4)))
    except InfeasibleError:
        return None
    return graph.params(), graph.macs()


@pytest.mark.parametrize(("high", "wide"), [(6, 32), (4, 17)])
def test_a_network_of_turned_images_is_the_turned_network(
    space: Space, high: int, wide: int
) -> None:
    built = 0
    for seed in SEEDS:
        one, other = (sizes_of(space, seed, (1, *size)) for size in ((high, wide), (wide, high)))
        if one is not None and other is not None and "conv_7x1_1x7" in str(draw(space, seed)):
            one, other = one[:1], other[:1]  # it goes across first, and then down
        assert one == other
        built += one is not None
    assert built > 3


def test_more_filters_are_more_parameters(space: Space) -> None:
    for seed in SEEDS:
        architecture = draw(space, seed)
        try:
            sizes = [
                space.graph(
                    architecture,
                    Frame((3, 32, 32), 10, Scale(cells=5, filters=8, filter_fraction=f)),
                ).params()
                for f in (0.25, 0.5, 1.0)
            ]
        except InfeasibleError:
            continue
        assert sizes == sorted(sizes)


def test_the_sketch_is_a_graph(space: Space) -> None:
    for seed in SEEDS:
        sketch = space.sketch(draw(space, seed))
        names = [name for name, _ in sketch.nodes]
        assert len(names) == len(set(names))
        place = {name: i for i, name in enumerate(names)}
        assert all(place[a] < place[b] for a, b, _ in sketch.edges)


@pytest.mark.parametrize(
    "junk",
    [
        None,
        3,
        "x",
        [],
        {},
        {"layers": 3},
        {"nodes": [{}]},
        {"normal": [[["none"]]]},
        {"layers": [{"op": "conv"}]},
    ],
)
def test_junk_is_refused(space: Space, junk: Any) -> None:
    with pytest.raises(ArchitectureError):
        space.validate(junk)


def _leaves(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(data, dict):
        return [leaf for k, v in data.items() for leaf in _leaves(v, (*path, k))]
    if isinstance(data, list):
        return [leaf for i, v in enumerate(data) for leaf in _leaves(v, (*path, i))]
    return [path]


@pytest.mark.parametrize("junk", ["conv99", -7, 1e9, True, None, [1], {"a": 1}, "x" * 10_000])
def test_every_field_is_checked(space: Space, junk: Any) -> None:
    architecture = draw(space, 5)
    for leaf in _leaves(architecture):
        damaged = copy.deepcopy(architecture)
        place = damaged
        for part in leaf[:-1]:
            place = place[part]
        if leaf[-1] == "skip" and junk is None:
            continue
        place[leaf[-1]] = junk
        with pytest.raises(ArchitectureError) as error:
            space.validate(damaged)
        assert len(str(error.value)) < 500
