"""Graphs from data that nobody vouches for."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from kinase.api.space import Space as SpaceModel
from kinase.space import (
    Frame,
    GraphBuilder,
    GraphError,
    InfeasibleError,
    dump_graph,
    load_graph,
    make_space,
)


def small() -> dict[str, Any]:
    g = GraphBuilder((3, 8, 8))
    x = g.relu("relu", g.batch_norm("bn", g.conv("conv", g.input, 4, (1, 7))))
    x = g.unary("dropout", "dropout", g.global_avg_pool("pool", x), rate=0.5)
    return dump_graph(g.build(g.linear("classifier", x, 10)))


@pytest.mark.parametrize(
    "space", ["Chain", "MultiBranch", "Cell", "Macro", "ChoiceBlocks", "Fabric"]
)
def test_graphs_of_every_space_go_there_and_back(space: str) -> None:
    rng = np.random.default_rng(0)
    field = space[0].lower() + space[1:]
    made = make_space(SpaceModel.model_validate({"type": space, field: {}}))
    for _ in range(5):
        try:
            graph = made.graph(made.sample(rng), Frame((3, 32, 32), 10, made.scale(final=False)))
        except InfeasibleError:
            continue
        assert load_graph(json.loads(json.dumps(dump_graph(graph)))) == graph


def test_a_rate_stays_a_number_that_is_not_whole() -> None:
    [dropout] = [node for node in load_graph(small()) if node.op == "dropout"]
    assert dropout.attrs == {"rate": 0.5}


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    data = copy.deepcopy(small())
    place: Any = data
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"graph is \[\]; use an object with nodes, output"),
        ({"nodes": []}, "graph has no output"),
        ({**small(), "more": 1}, "graph.more is not a field"),
        (changed(["nodes"], []), "nodes is 0; use a list of 1 to 10000"),
        (changed(["nodes", 1], 5), r"nodes\[1\] is 5; use an object"),
        (changed(["nodes", 1, "name"], "a b"), r"nodes\[1\].name is 'a b'"),
        (changed(["nodes", 1, "name"], "x" * 101), "use up to 100 letters"),
        (
            changed(["nodes", 1, "op"], "eval"),
            "conv: op is 'eval'; use one of adaptive_avg_pool, add",
        ),
        (changed(["nodes", 1, "inputs"], "input"), "conv: inputs is 'input'; use a list"),
        (changed(["nodes", 1, "inputs"], []), "conv: conv has 0 inputs; use 1"),
        (changed(["nodes", 1, "inputs"], ["nothing"]), "conv: its input 'nothing' is not a node"),
        (changed(["nodes", 2, "name"], "conv"), "two nodes have the name conv"),
        (changed(["nodes", 1, "attrs", "out"], 0), "conv: out is 0; use a whole number of 1 to"),
        (changed(["nodes", 1, "attrs", "out"], 2**40), "conv: out is 1099511627776"),
        (changed(["nodes", 1, "attrs", "out"], 1e308), "conv: out is 1e[+]308"),
        (changed(["nodes", 1, "attrs", "out"], float("nan")), "conv: out is nan"),
        (changed(["nodes", 1, "attrs", "out"], True), "conv: out is True"),
        (changed(["nodes", 1, "attrs", "out"], "4"), "conv: out is '4'"),
        (changed(["nodes", 1, "attrs", "more"], 1), "conv.attrs.more is not a field"),
        (changed(["nodes", 1, "attrs", "groups"], 2), "conv: 2 groups do not divide 3 inputs"),
        (changed(["nodes", 1, "attrs", "in"], 4), "conv: 3 input channels, built for 4"),
        (changed(["nodes", 5, "attrs", "rate"], 1.5), "dropout: rate is 1.5; use a number of 0.0"),
        (changed(["nodes", 5, "attrs"], {}), "dropout.attrs has no rate"),
        (
            changed(["nodes", 3], {"name": "relu", "op": "leaky_relu", "inputs": ["bn"]}),
            "relu.attrs has no slope",
        ),
        (
            changed(
                ["nodes", 3],
                {"name": "relu", "op": "shuffle", "inputs": ["bn"], "attrs": {"groups": 3}},
            ),
            r"relu: input of shape \(4, 8, 8\) does not fit",
        ),
        (changed(["nodes", 6, "attrs", "in"], 5), r"classifier: input of shape \(4,\)"),
        (changed(["output"], "nowhere"), "output is 'nowhere'; use the name of a node"),
        (changed(["auxiliary"], 3), "auxiliary is 3"),
        (changed(["nodes", 0, "op"], "relu"), "input: relu has 0 inputs"),
        (changed(["nodes", 6, "inputs"], ["conv"]), "classifier: input of shape"),
    ],
)
def test_data_that_is_no_graph_is_refused(data: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        load_graph(data)


def test_a_cycle_is_named() -> None:
    with pytest.raises(GraphError, match=r"the graph has a cycle: (relu|bn|conv) -> "):
        load_graph(changed(["nodes", 1, "inputs"], ["relu"]))


def test_an_order_that_is_not_topological_is_told_from_a_cycle() -> None:
    data = small()
    data["nodes"][1], data["nodes"][2] = data["nodes"][2], data["nodes"][1]
    with pytest.raises(GraphError, match="bn: its input conv comes after it"):
        load_graph(data)


def test_a_map_that_vanishes_is_infeasible() -> None:
    data = changed(["nodes", 1, "attrs", "padding_w"], 0)
    data["nodes"][0]["attrs"]["width"] = 5
    with pytest.raises(InfeasibleError, match="a window of 7 with stride 1"):
        load_graph(data)


def test_a_graph_that_is_too_large_is_refused() -> None:
    data = small()
    data["nodes"][1]["attrs"]["out"] = data["nodes"][2]["attrs"]["channels"] = 2**20
    data["nodes"][6]["attrs"] |= {"in": 2**20, "out": 2**20}
    with pytest.raises(GraphError, match=r"parameters; at most 100,000,000,000"):
        load_graph(data)
