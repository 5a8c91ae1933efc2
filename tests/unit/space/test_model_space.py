"""The space of what morphisms make of a network that is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kinase.api.space import Space as SpaceModel
from kinase.morphism.bridge import bridge
from kinase.morphism.identity import identity
from kinase.morphism.model import Model
from kinase.morphism.same import renaming
from kinase.space import (
    ArchitectureError,
    Frame,
    Graph,
    GraphBuilder,
    InfeasibleError,
    Size,
    dump_graph,
    make_space,
)
from kinase.space.retarget import retarget
from kinase.strategy import derive_rng
from tests.unit.space.test_every_space import network

ROOT = {"morphisms": []}
FRAME = Frame((3, 8, 8), 10)


def model(**options: Any) -> Model:
    own = {"from": "graph", "graph": dump_graph(network()), **options}
    made = make_space(SpaceModel.model_validate({"type": "Model", "model": own}))
    assert isinstance(made, Model)
    return made


def of(*morphisms: dict[str, Any]) -> dict[str, Any]:
    return {"morphisms": list(morphisms)}


# -- one network, one key ----------------------------------------------------------------


def test_the_key_of_a_network_stays_as_journals_have_it() -> None:
    assert model().key(ROOT) == "2b8111a8a3e071c5"


def test_keys_are_equal_for_one_network_and_for_no_others() -> None:
    """Against the pairing of nodes that inheritance goes by."""
    space = model(operations=["widen", "prune", "skip", "branch", "cut", "remove"], steps=2)
    drawn = [space.sample(derive_rng(seed)) for seed in range(40)]
    drawn += [of(*reversed(each["morphisms"])) for each in drawn if len(each["morphisms"]) > 1]
    graphs = []
    for each in drawn:
        try:
            graphs.append((space.key(each), space.graph(each, FRAME)))
        except (ArchitectureError, InfeasibleError, ValueError):  # the order mattered
            continue
    pairs = same = 0
    for i, (key, graph) in enumerate(graphs):
        for other_key, other in graphs[:i]:
            one = renaming(graph, other) is not None and renaming(other, graph) is not None
            assert one == (key == other_key)
            pairs, same = pairs + 1, same + one
    assert same > 10
    assert pairs - same > 1000


def test_the_order_of_independent_morphisms_does_not_matter() -> None:
    space = model()
    one = {"op": "widen", "node": "conv1", "to": 9}
    two = {"op": "deepen", "node": "relu3", "layer": "conv"}
    three = {"op": "deepen", "node": "stem_relu", "layer": "sepconv"}
    keys = {space.key(of(*order)) for order in ((one, two, three), (three, one, two))}
    assert len(keys) == 1
    assert space.key(of(one)) != space.key(of(two))


def test_a_copy_is_not_a_layer_that_is_read_twice() -> None:
    def built(copies: int) -> Graph:
        g = GraphBuilder((1, 4, 4))
        parts = [g.conv(f"c{i}", g.input, 2, 3) for i in range(copies)]
        x = g.add("add", [parts[0], g.relu("relu", parts[-1])])
        return g.build(g.linear("out", g.global_avg_pool("pool", x), 3))

    assert identity(built(1)) != identity(built(2))
    assert identity(built(2)) == identity(built(2))


# -- moving ------------------------------------------------------------------------------


def test_a_bridge_is_what_the_list_has_more() -> None:
    space = model(operations=["widen", "deepen", "kernel", "skip", "branch"], steps=3)
    for seed in range(8):
        parent = space.sample(derive_rng(seed))
        child = space.mutate(space.mutate(parent, derive_rng(seed, 1)), derive_rng(seed, 2))
        found = bridge(space, parent, child, FRAME)
        assert found is not None
        assert found.exact
        assert len(found.morphisms) == 2
        assert bridge(space, child, parent, FRAME) is None


def test_a_bridge_has_the_rule_of_the_list() -> None:
    space = model(operations=["widen"])
    for written in ({}, {"rule": "replicate"}, {"rule": "zero"}):
        child = of({"op": "widen", "node": "conv1", "to": 9, **written})
        for rule in ("zero", "replicate"):
            found = bridge(space, ROOT, child, FRAME, rule=rule)  # type: ignore[arg-type]
            assert found is not None
            assert found.morphisms[0].model_dump()["rule"] == written.get("rule", "replicate")


def test_a_shrunken_child_has_an_approximate_bridge() -> None:
    space = model()
    child = of({"op": "prune", "node": "conv1", "to": 3})
    assert space.exact_morphisms(ROOT, child, FRAME) is None
    assert bridge(space, ROOT, child, FRAME) is None
    found = bridge(space, ROOT, child, FRAME, approximate=True)
    assert found is not None
    assert not found.exact


def test_mutations_use_every_operation_that_fits_anywhere() -> None:
    operations = ["widen", "heads", "deepen", "kernel", "factor", "crop", "skip", "branch", "path"]
    space = model(operations=[*operations, "cut", "prune", "remove", "separate", "unfold"])
    ops = {space.mutate(ROOT, derive_rng(seed))["morphisms"][0]["op"] for seed in range(120)}
    assert ops == {*operations, "cut", "prune", "remove", "separate", "unfold"} - {"heads"}
    moves = space.moves(ROOT)
    assert set(moves) == ops
    assert {"morphisms": [{"op": "widen", "node": "conv1", "to": 9}]} in moves["widen"]
    assert {"morphisms": [{"op": "prune", "node": "conv3", "to": 6}]} in moves["prune"]


def test_where_nothing_more_may_be_done_the_last_is_taken_back() -> None:
    space = model(maxMorphisms=2)
    architecture = ROOT
    for seed in range(2):
        architecture = space.mutate(architecture, derive_rng(seed))
    assert len(architecture["morphisms"]) == 2
    assert space.mutate(architecture, derive_rng(3)) == of(*architecture["morphisms"][:1])
    assert space.moves(architecture) == {}


def test_the_last_is_taken_back_without_a_look_at_all_that_is_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large network has thousands of neighbours."""
    grown = of(
        {"op": "widen", "node": "conv1", "to": 9}, {"op": "widen", "node": "conv3", "to": 18}
    )
    most = model().graph(grown, FRAME).params()
    space = model(operations=["widen"], maxParams=most)
    monkeypatch.setattr(Model, "edits", lambda self, architecture: pytest.fail("all were made"))
    assert space.mutate(grown, derive_rng(1)) == of(*grown["morphisms"][:1])


def test_limits_hold_for_what_is_drawn_and_for_what_is_given() -> None:
    params = network().params()
    wide = of({"op": "widen", "node": "conv3", "to": 18})
    for limit in ({"maxParams": params + 10}, {"maxMacs": network().macs() + 10}, {"maxNodes": 23}):
        space = model(**limit)
        with pytest.raises(ArchitectureError, match="at most"):
            space.validate(
                of({"op": "branch", "node": "relu3", "layer": "conv"}, *wide["morphisms"])
            )
        for seed in range(6):
            drawn = space.sample(derive_rng(seed))
            graph = space.graph(drawn, FRAME)
            assert graph.params() <= limit.get("maxParams", graph.params())
            assert graph.macs() <= limit.get("maxMacs", graph.macs())
            assert len(graph.nodes) <= limit.get("maxNodes", len(graph.nodes))
    smaller = model(maxParams=1)  # the network itself is always allowed
    smaller.validate(of({"op": "prune", "node": "conv1", "to": 3}))
    assert smaller.mutate(ROOT, derive_rng(1)) != ROOT


@pytest.mark.parametrize(
    ("morphisms", "message"),
    [
        ([{"op": "widen", "node": "nowhere", "to": 9}], r"morphisms\[0\]: 'nowhere' is not a node"),
        ([{"op": "widen", "node": "conv1", "to": 3}], "conv1 has 6 channels; to is 3, use more"),
        ([{"op": "melt", "node": "conv1"}], "'melt'"),
        ([{"op": "heads", "node": "conv1", "to": 3}], r"\[0\].op is heads; this space has widen"),
        ([{"op": "widen", "node": "conv1", "to": 9, "seed": 3}], "seed is set by the trial"),
        ([{"op": "prune", "node": "conv1", "to": 1, "keep": [0]}], "keep is set by the trial"),
        ([{"op": "widen", "node": "conv1", "to": 9.0}], "to is 9.0; write it as 9"),
        ([{"op": "deepen", "node": "relu1", "into": None}], "into is None; .* leave it out"),
        ([{"op": "kernel", "node": "conv1", "to": 5}] * 65, "use a list of at most 64"),
    ],
)
def test_what_is_no_architecture(morphisms: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        model().validate({"morphisms": morphisms})


# -- the root ----------------------------------------------------------------------------


def test_before_the_trainer_has_told_the_form_alone_is_known() -> None:
    plain = {"type": "Model", "model": {"from": "torchvision", "name": "resnet18"}}
    space = make_space(SpaceModel.model_validate(plain))
    assert space.begins_with is None
    space.validate(of({"op": "widen", "node": "whatever", "to": 9}))
    with pytest.raises(ArchitectureError, match="this space has"):
        space.validate(of({"op": "cut", "node": "a", "input": "b"}))
    with pytest.raises(
        ArchitectureError, match="the network that the search starts from is not known"
    ):
        space.sample(derive_rng(0))
    rooted = make_space(SpaceModel.model_validate(plain), network())
    assert rooted.begins_with == network()
    assert rooted.graph(ROOT, FRAME) == network()
    with pytest.raises(TypeError, match="Chain does not start from a network"):
        make_space(SpaceModel.model_validate({"type": "Chain"}), network())


def test_a_network_is_made_one_for_another_task() -> None:
    changed = retarget(network(), (1, 20, 12), 4)
    before, after = {n.name: n for n in network()}, {n.name: n for n in changed}
    differing = {name for name in before if before[name] != after[name]}
    assert differing == {"input", "stem", "classifier"}
    assert after["stem"].attrs["in"] == 1
    assert changed.shapes()["classifier"] == (4,)

    g = GraphBuilder((3, 8, 8))
    flat = g.build(g.linear("out", g.flatten("flat", g.conv("conv", g.input, 2, 3)), 5))
    assert retarget(flat, (1, 8, 8), 7).shapes()["out"] == (7,)
    with pytest.raises(InfeasibleError, match="out: input of shape"):
        retarget(flat, (3, 9, 9), 5)

    g = GraphBuilder((4, 8, 8))
    x = g.conv("groups", g.input, 4, 3, groups=2)
    grouped = g.build(g.linear("out", g.global_avg_pool("pool", x), 5))
    with pytest.raises(InfeasibleError, match=r"groups \(conv\) sees them and cannot be changed"):
        retarget(grouped, (2, 8, 8), 5)

    g = GraphBuilder((1, 8, 8))
    convolutional = g.build(g.global_avg_pool("pool", g.conv("conv", g.input, 5, 3)))
    assert retarget(convolutional, (1, 9, 9), 5).shapes()["pool"] == (5,)
    assert retarget(convolutional, (1, 8, 8), 6).shapes()["pool"] == (6,)
    g = GraphBuilder((5, 8, 8))
    depthwise = g.build(g.global_avg_pool("pool", g.conv("conv", g.input, 5, 3, groups=5)))
    with pytest.raises(InfeasibleError, match="must end in a linear layer, or in a convolution"):
        retarget(depthwise, (5, 8, 8), 6)


def test_how_many_there_are_is_a_bound() -> None:
    size = model(operations=["kernel"], maxNodes=20, maxMorphisms=1, factors=[2]).size()
    assert size == Size(401, exact=False)
    assert str(model().size()).startswith("at most ")
    json.dumps(str(model(maxMorphisms=200).size()))
