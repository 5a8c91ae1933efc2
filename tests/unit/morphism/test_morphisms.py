"""Edits of graphs and the plans of their tensors, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kinase.morphism import (
    KINDS,
    Limits,
    MorphismError,
    apply,
    apply_all,
    candidates,
    dump_chain,
    load_chain,
)
from kinase.morphism.channels import Channels
from kinase.morphism.numbers import rectified
from kinase.space import Graph, GraphBuilder
from tests.unit.morphism.numpy_plan import follow, random_state, run

SHAPE = (2, 5, 4)


def network() -> Graph:
    """A residual stage with a grouped and a depthwise convolution, a concatenation, two vectors."""
    g = GraphBuilder(SHAPE)
    x = g.relu("r1", g.batch_norm("n1", g.conv("c1", g.input, 4, 3)))
    y = g.conv("grouped", g.conv("dw", x, 8, 3, groups=4), 4, 3, groups=2, bias=True)
    x = g.relu("r2", g.add("sum", [x, g.batch_norm("n2", y)]))
    x = g.concat("cat", [x, g.unary("tanh", "tanh", g.conv("c3", x, 3, (1, 3)))])
    x = g.conv("c4", x, 4, 3, 2)
    x = g.relu("r3", g.linear("hidden", g.flatten("flat", x), 6))
    return g.build(g.linear("classifier", x, 3))


def morphism(**fields: Any) -> Any:
    return load_chain([fields])[0]


CASES: list[dict[str, Any]] = [
    {"op": "widen", "node": "c1", "to": 6},
    {"op": "widen", "node": "c1", "to": 8, "rule": "zero"},
    {"op": "widen", "node": "grouped", "to": 10},
    {"op": "widen", "node": "c3", "to": 5},
    {"op": "widen", "node": "c4", "to": 7, "rule": "zero"},
    {"op": "widen", "node": "hidden", "to": 15},
    {"op": "deepen", "node": "r1", "norm": False},
    {"op": "deepen", "node": "cat", "kernel": 5, "activation": "tanh", "norm": False},
    {"op": "deepen", "node": "r3", "layer": "linear"},
    {"op": "deepen", "node": "r1", "into": "dw", "layer": "sepconv", "norm": False},
    {"op": "factor", "node": "c1", "first": 1},
    {"op": "factor", "node": "c1", "first": 2, "width": 8, "activation": "tanh"},
    {"op": "factor", "node": "c1", "first": 3, "second": 3},
    {"op": "factor", "node": "c1", "first": 3, "second": 3, "width": 7},
    {"op": "factor", "node": "c1", "first": 4, "second": 6, "activation": "none"},
    {"op": "factor", "node": "c4", "first": 2},
    {"op": "factor", "node": "c4", "first": 3},
    {"op": "factor", "node": "c3", "first": 2},
    {"op": "factor", "node": "c3", "first": 3, "second": 3},
    {"op": "factor", "node": "grouped", "first": 2},
    {"op": "factor", "node": "dw", "first": 2, "width": 20},
    {"op": "factor", "node": "hidden", "first": 1, "width": 9},
    {"op": "factor", "node": "classifier", "first": 1},
    {"op": "kernel", "node": "dw", "to": 5},
    {"op": "kernel", "node": "c3", "to": 3},
    {"op": "skip", "source": "r1", "node": "r2"},
    {"op": "skip", "source": "r1", "node": "hidden"},
    {"op": "skip", "source": "r1", "node": "c4", "merge": "concat"},
    {"op": "join", "node": "cat", "source": "r1"},
    {"op": "join", "node": "cat", "source": "dw", "at": 1},
    {"op": "branch", "node": "r2", "source": "r1", "norm": False},
    {"op": "unfold", "node": "r1", "into": "sum", "norm": False},
    {"op": "path", "node": "c1", "branches": 3},
    {"op": "path", "node": "c4", "scheme": "split_add"},
    {"op": "path", "node": "c4", "scheme": "replicate_concat"},
    {"op": "path", "node": "dw", "scheme": "split_concat"},
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(str(v) for v in c.values()))
def test_the_child_is_the_same_function(case: dict[str, Any]) -> None:
    """Plan and function are carried out in numpy, with convolutions by their definition."""
    graph = network()
    state = random_state(graph)
    change = apply(graph, morphism(**case))
    assert change.plan is not None
    images = np.random.default_rng(1).normal(size=(2, *SHAPE))
    child = follow(change.graph, change.plan, state)
    parent = run(graph, state, images)
    assert np.abs(run(change.graph, child, images) - parent).max() <= 1e-10 * np.abs(parent).max()
    assert change.graph != graph


def test_paths_end_before_what_gives_the_logits() -> None:
    g = GraphBuilder(SHAPE)
    x = g.linear("linear", g.flatten("flat", g.input), 3)
    graph = g.build(g.unary("end", "identity", x))
    change = apply(graph, morphism(op="path", node="linear", segment=True))
    [end] = [node for node in change.graph if node.name == change.graph.output]
    assert (end.name, end.inputs) == ("end", ("m1_add",))


def test_no_layer_loses_all_of_its_inputs() -> None:
    g = GraphBuilder(SHAPE)
    x = g.conv("conv", g.input, 4, 3)
    last = g.conv("last", g.unary("slice", "slice", x, start=3, size=1), 2, 1)
    x = g.concat("cat", [x, last])
    graph = g.build(g.linear("classifier", g.global_avg_pool("pool", x), 3))
    with pytest.raises(MorphismError, match="slice: size is 0; use a whole number of 1"):
        apply(graph, morphism(op="prune", node="conv", to=2, keep=[0, 1]))


@pytest.mark.parametrize("op", KINDS)
def test_every_candidate_fits(op: str) -> None:
    graph = network()
    more: dict[str, dict[str, Any]] = {
        "widen": {"to": 32},
        "kernel": {"to": 7},
        "prune": {"to": 2},
        "crop": {"to": 1},
    }
    places = candidates(graph, op)
    assert places == candidates(graph, op)
    assert bool(places) == (op not in ("heads", "remove"))
    for place in places:
        change = apply(graph, morphism(op=op, **place, **more.get(op, {})))
        assert (change.plan is None) == (op == "prune")
        assert {node.name for node in graph if node.op == "input"} == {"input"}


def test_the_windows_of_two_layers_fill_as_far_as_there_are_channels() -> None:
    """Two layers of 3x3 that begin as one of 3x3: the first as one of a pixel, within zeros, until
    there are channels enough for any of 5x5 (Wei et al. 2016, algorithm 2)."""
    graph = network()
    state = random_state(graph)
    filled = {}
    for width in (2, 6, 7):
        case = {"op": "factor", "node": "c1", "first": 3, "second": 3, "width": width}
        change = apply(graph, morphism(**case))
        assert change.plan is not None
        child = follow(change.graph, change.plan, state)
        filled[width] = tuple(
            int((child[f"{name}.weight"] != 0).any(axis=(0, 1)).sum()) for name in ("m1_conv", "c1")
        )
        assert change.graph.shapes()["m1_conv"] == (width, 7, 6)
        assert change.graph.shapes()["c1"] == (4, 5, 4)
    assert filled == {2: (1, 9), 6: (1, 9), 7: (8, 9)}


def test_the_first_of_two_layers_is_stepped_only_if_the_second_sees_one_pixel() -> None:
    steps = {
        first: [n.attrs["stride"] for n in graph if n.name in ("m1_conv", "c4")]
        for first in (1, 2, 3)
        for graph in (apply(network(), morphism(op="factor", node="c4", first=first)).graph,)
    }
    assert steps == {1: [1, 2], 2: [1, 2], 3: [2, 1]}


@pytest.mark.parametrize(
    "case",
    [
        *(
            {"op": "factor", "first": first, "norm": False, "activation": "none"}
            for first in (1, 2, 7)
        ),
        {"op": "kernel", "to": 9},
        {"op": "widen", "to": 6},
    ],
    ids=lambda case: " ".join(map(str, case.values())),
)
@pytest.mark.parametrize("node", ["across", "down"])
def test_a_layer_that_steps_one_way_is_the_same_function(node: str, case: dict[str, Any]) -> None:
    g = GraphBuilder((2, 8, 7))
    x = g.conv("across", g.input, 4, (1, 7), (1, 2))
    x = g.global_avg_pool("pool", g.conv("down", x, 4, (7, 1), (2, 1)))
    graph = g.build(g.linear("end", x, 3))
    change = apply(graph, morphism(**case, node=node))
    assert change.plan is not None
    state = random_state(graph)
    child = follow(change.graph, change.plan, state)
    images = np.random.default_rng(0).normal(size=(2, 2, 8, 7))
    assert np.allclose(run(change.graph, child, images), run(graph, state, images), atol=1e-9)


def test_cropping_a_window_that_has_grown_gives_the_parent_back() -> None:
    graph = network()
    state = random_state(graph)
    for node in ("dw", "c4"):
        grown = apply(graph, morphism(op="kernel", node=node, to=7))
        back = apply(grown.graph, morphism(op="crop", node=node, to=3))
        assert back.graph == graph
        assert grown.plan is not None
        assert back.plan is not None
        made = follow(grown.graph, back.plan, follow(graph, grown.plan, state))
        assert all(np.array_equal(made[name], state[name]) for name in state)


def test_a_window_without_padding_is_not_cropped() -> None:
    g = GraphBuilder((1, 5, 5))
    x = g.conv("c", g.input, 2, 3, padding=0)
    graph = g.build(g.linear("end", g.global_avg_pool("pool", x), 2))
    assert candidates(graph, "crop") == []
    with pytest.raises(MorphismError, match="a padding of 0; a window of 1"):
        apply(graph, morphism(op="crop", node="c", to=1))


def test_the_channels_of_a_stage_are_one() -> None:
    channels = Channels(network())
    first = channels.of("c1").classes.tolist()
    for name in ("n1", "r1", "grouped", "n2", "sum", "r2"):
        assert channels.of(name).classes.tolist() == first, name
    assert channels.of("dw").classes.tolist() == first
    assert channels.of("dw").sizes.tolist() == [2, 2, 2, 2]
    assert channels.of("cat").classes.tolist()[:4] == first
    assert channels.of("flat").sizes.tolist() == [6] * 4
    assert channels.fixed("classifier") == "the number of classes is the task's"
    assert channels.fixed("c1") is None


def test_widening_touches_all_that_shares_the_width() -> None:
    change = apply(network(), morphism(op="widen", node="c1", to=6))
    attrs = {node.name: dict(node.attrs) for node in change.graph}
    assert attrs["dw"] | {"in": 6, "out": 12, "groups": 6} == attrs["dw"]
    assert attrs["grouped"] | {"in": 12, "out": 6, "groups": 2} == attrs["grouped"]
    assert attrs["n2"]["channels"] == 6
    assert attrs["c3"]["in"] == 6
    assert attrs["c4"]["in"] == 9
    assert [node.name for node in change.graph] == [node.name for node in network()]


def test_new_nodes_are_numbered_by_the_morphism() -> None:
    graph = apply(network(), morphism(op="deepen", node="r1")).graph
    graph = apply(graph, morphism(op="path", node="c1", branches=3)).graph
    new = {node.name for node in graph} - {node.name for node in network()}
    assert new == {"m1_conv", "m1_bn", "m1_relu", "m2_conv1", "m2_conv2", "m2_add"}
    again = apply(
        apply(network(), morphism(op="deepen", node="r1")).graph,
        morphism(op="path", node="c1", branches=3),
    )
    assert again.graph == graph


def test_a_relu_behind_a_relu_needs_no_parameter() -> None:
    """max(0, max(0, x)) = max(0, x); but tanh(tanh(x)) is not tanh(x) (Wei et al. 2016)."""
    ops = {
        name: [n.op for n in apply(network(), m).graph if n.name.startswith("m1")]
        for name, m in {
            "idempotent": morphism(op="deepen", node="r1", norm=False),
            "may be negative": morphism(op="deepen", node="cat", norm=False),
            "not idempotent": morphism(op="deepen", node="r1", norm=False, activation="tanh"),
        }.items()
    }
    assert ops == {
        "idempotent": ["conv", "relu"],
        "may be negative": ["conv", "relu", "mix"],
        "not idempotent": ["conv", "tanh", "mix"],
    }


def test_moments_of_a_rectified_normal_variable() -> None:
    """Against the mean and variance of many draws, and the closed form of the standard one."""
    mean, deviation = np.array([0.0, -1.0, 2.0, 0.5, -1.0]), np.array([1.0, 0.5, -1.0, 0.0, 0.0])
    first, variance = rectified(mean, deviation)
    assert first[0] == pytest.approx(1 / np.sqrt(2 * np.pi))
    assert variance[0] == pytest.approx(0.5 - 1 / (2 * np.pi))
    draws = np.maximum(mean + deviation * np.random.default_rng(0).normal(size=(400_000, 5)), 0)
    assert np.allclose(first, draws.mean(axis=0), atol=0.01)
    assert np.allclose(variance, draws.var(axis=0), atol=0.02)


# -- data --------------------------------------------------------------------------------------


def test_a_chain_is_json_and_back() -> None:
    data = [
        {"op": "widen", "node": "c1", "to": 6, "seed": 3},
        {"op": "deepen", "node": "r1", "layer": "sepconv", "kernel": 5, "noise": 0.001},
        {"op": "factor", "node": "c1", "first": 2, "width": 8, "activation": "tanh"},
        {"op": "prune", "node": "c4", "to": 2, "keep": [0, 3]},
    ]
    assert dump_chain(load_chain(data)) == data
    graph = apply_all(network(), load_chain(data))
    assert graph.shapes()["c4"][0] == 2
    assert [KINDS[op].exact for op in ("widen", "deepen", "prune")] == [True, True, False]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"op": "widen"}, "morphisms is {'op': 'widen'}: Input should be a valid tuple"),
        ([{"op": "grow", "node": "c1"}], r"morphisms.0 is .*'deepen', 'widen'"),
        ([{"op": "widen", "node": "c1"}], r"morphisms.0.widen.to .*Field required"),
        ([{"op": "factor", "node": "c1", "first": 0}], r"morphisms.0.factor.first is 0"),
        ([{"op": "widen", "node": "c1", "to": "6"}], r"morphisms.0.widen.to is '6'"),
        ([{"op": "widen", "node": "c1", "to": 10**9}], r"to is 1000000000"),
        ([{"op": "widen", "node": "c1", "to": 6, "rate": 1}], r"rate is 1: Extra inputs"),
        ([{"op": "widen", "node": "../c1", "to": 6}], r"node is '../c1'"),
        ([{"op": "widen", "node": "c1", "to": 6, "noise": float("nan")}], r"noise is nan"),
        ([{"op": "widen", "node": "c1", "to": 6}] * 1001, "1,001 morphisms; at most 1000"),
    ],
)
def test_data_that_is_no_chain_is_refused(data: Any, message: str) -> None:
    with pytest.raises(MorphismError, match=message):
        load_chain(data)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({"op": "widen", "node": "c9", "to": 6}, "'c9' is not a node of the graph"),
        ({"op": "widen", "node": "n2", "to": 6}, "n2 is batch_norm.*its width is that of grouped"),
        ({"op": "widen", "node": "dw", "to": 6}, "dw is conv.*its width is that of c1"),
        ({"op": "widen", "node": "classifier", "to": 6}, "the number of classes is the task's"),
        ({"op": "widen", "node": "c1", "to": 4}, "c1 has 4 channels; to is 4, use more"),
        ({"op": "widen", "node": "c1", "to": 5}, "in 2 groups; to is 5, use a multiple of 2"),
        ({"op": "heads", "node": "c1", "to": 5}, "c1 is conv; use an attention"),
        ({"op": "deepen", "node": "r3"}, r"r3 gives no map but shape \(6,\); use layer linear"),
        ({"op": "deepen", "node": "r1", "layer": "linear"}, "use layer conv or sepconv"),
        ({"op": "deepen", "node": "r1", "kernel": 4}, "kernel is 4; an identity needs an odd one"),
        ({"op": "deepen", "node": "classifier"}, "classifier gives the logits"),
        ({"op": "deepen", "node": "r1", "into": "c4"}, "c4 does not take r1; use one of dw, sum"),
        ({"op": "deepen", "node": "r1", "layer": "block"}, "a block needs tokens"),
        (
            {"op": "factor", "node": "n1", "first": 1},
            "n1 is batch_norm; use a convolution or a lin",
        ),
        ({"op": "factor", "node": "hidden", "first": 3}, "hidden is linear, without a window; use"),
        ({"op": "factor", "node": "c1", "first": 5}, "window of 3x3; first is 5, use at most 3"),
        ({"op": "factor", "node": "c1", "first": 2, "second": 1}, "make one of 2, which must be"),
        ({"op": "factor", "node": "c1", "first": 3, "second": 2}, "make one of 4, which must be"),
        (
            {"op": "factor", "node": "c1", "first": 2, "width": 4},
            "c1: width is 4; between windows of 2 and 2 use 5 or more",
        ),
        (
            {"op": "factor", "node": "grouped", "first": 1, "width": 9},
            "width is 9; between windows of 1 and 3 use 8 or more, a multiple of 2",
        ),
        ({"op": "kernel", "node": "c1", "to": 4}, "must differ by an even number"),
        ({"op": "kernel", "node": "c1", "to": 3}, "a window of 3x3; to is 3, use more"),
        ({"op": "kernel", "node": "hidden", "to": 3}, "hidden is linear; only a convolution"),
        ({"op": "skip", "source": "r2", "node": "r1"}, "r2 depends on r1: .*a cycle"),
        ({"op": "skip", "source": "r1", "node": "input"}, "r1 depends on input"),
        ({"op": "branch", "node": "input"}, "input is the graph's input; use a node after it"),
        ({"op": "skip", "source": "hidden", "node": "c4", "merge": "concat"}, "depends on c4"),
        ({"op": "skip", "source": "c1", "node": "dw", "merge": "concat"}, "grouped convolution"),
        ({"op": "join", "node": "cat", "source": "c4"}, "c4 depends on cat: .*a cycle"),
        ({"op": "join", "node": "sum", "source": "c1"}, "sum is add; use a concatenation"),
        ({"op": "join", "node": "cat", "source": "r2"}, "cat has r2 as an input already"),
        (
            {"op": "join", "node": "cat", "source": "c1", "at": 3},
            "2 inputs; at is 3, use at most 2",
        ),
        ({"op": "branch", "node": "c1", "source": "sum"}, "sum depends on c1"),
        ({"op": "branch", "node": "r3"}, r"hidden has shape \(6,\): no conv takes that"),
        ({"op": "unfold", "node": "r1"}, "use a pool or an identity, or name the node"),
        ({"op": "path", "node": "n1"}, "a batch_norm, which replicate_add does not fit"),
        ({"op": "path", "node": "grouped", "scheme": "split_add"}, "a conv of 2 groups"),
        ({"op": "path", "node": "c4", "scheme": "replicate_concat", "branches": 5}, "at most that"),
        ({"op": "prune", "node": "c4", "to": 4}, "c4 has 4 channels; to is 4, use fewer"),
        ({"op": "prune", "node": "c4", "to": 2, "keep": [0, 9]}, "keep has 2 channels up to 9"),
        ({"op": "prune", "node": "c4", "to": 2, "keep": [1]}, "keep has 1 channels"),
        ({"op": "crop", "node": "c1", "to": 2}, "must differ by an even number"),
        ({"op": "crop", "node": "c1", "to": 3}, "a window of 3x3; to is 3, use less"),
        ({"op": "crop", "node": "hidden", "to": 1}, "hidden is linear; only a convolution"),
        ({"op": "remove", "node": "c4"}, "only a layer that keeps the shape can be taken out"),
        ({"op": "remove", "node": "sum"}, "sum is add; use a node with one input"),
        (
            {"op": "cut", "node": "sum", "input": "c1"},
            "c1 is not an input of sum; use one of r1, n2",
        ),
        (
            {"op": "cut", "node": "c4", "input": "r2"},
            "c4 is conv; use an addition, a mix or a conc",
        ),
        ({"op": "separate", "node": "dw"}, "dw is not a dense convolution"),
    ],
)
def test_a_morphism_that_does_not_fit_says_what_would(case: dict[str, Any], message: str) -> None:
    with pytest.raises(MorphismError, match=message):
        apply(network(), morphism(**case))


def joins(last: str) -> Graph:
    """A concatenation, read through what treats every channel alone, and by `last`."""
    g = GraphBuilder((2, 4, 4))
    other = g.conv("other", g.input, 2, 1)
    one = g.conv("one", other, 3, 3)
    x = g.concat("cat", [one, g.relu("relu", one)])
    match last:
        case "flatten":
            x = g.flatten("flat", g.conv("depthwise", g.batch_norm("norm", x), 6, 3, groups=6))
            return g.build(g.linear("classifier", x, 2))
        case "concat":
            x = g.conv("conv", g.concat("outer", [other, x, other]), 2, 1, 2)
            x = g.concat("mixed", [x, g.conv("small", other, 2, 1, 2)])
        case "sum":
            x = g.add("sum", [x, g.conv("wide", g.input, 6, 1)])
        case "output":
            return g.build(g.global_avg_pool("mean", x))
    return g.build(g.linear("classifier", g.global_avg_pool("mean", x), 2))


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("last", ["mean", "flatten", "concat"])
def test_what_reads_a_concatenation_passes_over_a_new_input(last: str, at: int) -> None:
    graph = joins(last)
    state = random_state(graph)
    change = apply(graph, morphism(op="join", node="cat", source="other", at=at))
    assert change.plan is not None
    images = np.random.default_rng(1).normal(size=(2, 2, 4, 4))
    wanted = run(graph, state, images)
    child = follow(change.graph, change.plan, state)
    assert np.abs(run(change.graph, child, images) - wanted).max() <= 1e-12
    # what was put in is taken away again: every tensor is what it was
    back = apply(change.graph, morphism(op="cut", node="cat", input="other"))
    assert back.plan is not None
    assert back.graph == graph
    again = follow(back.graph, back.plan, child)
    assert all(np.array_equal(again[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("last", "source", "message"),
    [
        ("concat", "small", r"small has shape \(2, 2, 2\), cat has \(6, 4, 4\); they must agree"),
        ("sum", "other", "sum is add, and reads the channels of cat"),
        ("output", "other", "mean: the number of classes is the task's"),
    ],
)
def test_a_concatenation_that_cannot_take_more(last: str, source: str, message: str) -> None:
    with pytest.raises(MorphismError, match=message):
        apply(joins(last), morphism(op="join", node="cat", source=source))
    assert {p["node"] for p in candidates(joins(last), "join")} <= {"cat", "outer", "mixed"}
    assert last == "concat" or not candidates(joins(last), "join")


def test_limits_are_kept() -> None:
    wide = morphism(op="widen", node="hidden", to=1000)
    for limits, message in (
        (Limits(params=5000), "after widen there would be .* parameters; at most 5,000"),
        (Limits(nodes=3), "nodes; at most 3"),
    ):
        with pytest.raises(MorphismError, match=message):
            apply(network(), wide, limits=limits)
    with pytest.raises(MorphismError, match=r"morphisms\[1\]: after widen"):
        apply_all(network(), [morphism(op="deepen", node="r1"), wide], Limits(params=5000))
    assert apply(network(), wide, limits=Limits(nodes=99)).graph.shapes()["r3"] == (1000,)


def test_an_unknown_morphism_has_no_candidates() -> None:
    with pytest.raises(MorphismError, match="'grow' is not a morphism; use one of deepen, widen"):
        candidates(network(), "grow")


def test_a_layer_normalization_holds_its_width() -> None:
    g = GraphBuilder((3, 4, 4))
    x = g.unary("tokens", "tokens", g.conv("patches", g.input, 8, 2, 2, padding=0))
    y = g.attention("attention", g.layer_norm("norm", x), 2, 4)
    x = g.global_avg_pool("mean", g.add("sum", [x, y]))
    graph = g.build(g.linear("classifier", x, 3))
    with pytest.raises(MorphismError, match="norm normalizes over this width"):
        apply(graph, morphism(op="widen", node="patches", to=16))
    assert candidates(graph, "heads") == [{"node": "attention"}]
    assert {p["layer"] for p in candidates(graph, "deepen")} >= {"block", "linear"}
