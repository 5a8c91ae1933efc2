"""A child by a morphism is the function that its parent is: in evaluation whatever the statistics,
in training where the batch's own statistics allow it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from kinase.api.fidelity import Scale
from kinase.api.space import Space as SpaceModel
from kinase.morphism import Base, MorphismError, candidates, load_chain, tensors
from kinase.morphism.bridge import bridge
from kinase.space import Frame, Graph, GraphBuilder, make_space
from kinase_trainer.morphism import Inherited, calibrate, inherit
from tests.trainer.morphism_graphs import (
    BUILT,
    EXACT,
    KINDS_OF_GRAPH,
    SHAPE,
    draw_chain,
    images,
    network_of,
    numbers,
    random_graph,
    trained,
    transformer,
)

CHAINS = 26
"""Of each of eight kinds of graphs: 208."""
LIMIT = {torch.float64: 1e-10, torch.float32: 1e-5}
State = dict[str, Tensor]
ABSENT = {"residual": {"heads", "join"}, "dense": {"heads"}, "transformer": {"unfold", "join"}}
ABSENT["modern"] = {"heads", "join"}
"""Morphisms that a graph has no place for."""


def cast(state: State, dtype: torch.dtype) -> State:
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}


@torch.no_grad()
def difference(graph: Graph, state: State, child: Inherited, *, train: bool = False) -> float:
    """max |child - parent| on a batch."""
    dtype = state["mean"].dtype
    x = images(graph, dtype)
    outputs = []
    for each, weights in ((graph, state), (child.graph, child.state)):
        network = network_of(each, weights, dtype).train(train)
        output = network(x)
        outputs.append(torch.cat(output) if isinstance(output, tuple) else output)
    return float((outputs[0] - outputs[1]).abs().max())


@pytest.mark.parametrize("kind", BUILT)
def test_each_morphism_on_each_kind_of_layer(kind: str) -> None:
    """For every operation that a place's node has, one place of each morphism."""
    rng = np.random.default_rng(1)
    graph = random_graph(kind, rng).needed()
    state = trained(graph)
    by_name = {node.name: node for node in graph}
    tried = set()
    for op in EXACT:
        for place in candidates(graph, op):
            node = by_name[place["node"]]
            rest = tuple(v for k, v in place.items() if k not in ("node", "source", "into"))
            grouped = int(node.attrs.get("groups", 1)), "kernel_h" in node.attrs
            case = (op, node.op, grouped, rest)
            if case in tried:
                continue
            try:
                child = inherit(graph, state, [numbers(op, graph, place, rng)])
            except MorphismError as error:
                assert re.search("use a multiple of|an even number", str(error))  # noqa: PT017
                continue
            tried.add(case)
            assert difference(graph, state, child) <= LIMIT[torch.float64], case
    assert {case[0] for case in tried} >= set(EXACT) - ABSENT.get(kind, set())


@pytest.mark.parametrize("part", range(CHAINS))
def test_chains_of_ten_on_random_graphs(part: int) -> None:
    for index, kind in enumerate(KINDS_OF_GRAPH):
        rng = np.random.default_rng([part, index])
        graph = random_graph(kind, rng).needed()
        end, chain = draw_chain(graph, rng, 10)
        state = trained(graph, part)
        for dtype, limit in LIMIT.items():
            parent = cast(state, dtype)
            child = inherit(graph, parent, chain)
            assert child.graph == end
            child.state = load(save(child.state))
            assert difference(graph, parent, child) <= limit, (kind, chain)


# -- what each rule does in training -----------------------------------------------------------


def plain() -> Graph:
    """Normalizations, a depthwise convolution, a sum and two vectors; nothing random."""
    g = GraphBuilder(SHAPE)
    x = g.relu("r1", g.batch_norm("n1", g.conv("c1", g.input, 6, 3)))
    y = g.conv("c2", g.conv("dw", x, 6, 3, groups=6), 6, 1)
    x = g.relu("r2", g.add("sum", [x, g.batch_norm("n2", y)]))
    x = g.pool("pool", x, "max", 3, 2)
    x = g.relu("r3", g.linear("hidden", g.flatten("flat", x), 8))
    return g.build(g.linear("classifier", x, 5))


EXACT_IN_TRAINING: list[dict[str, Any]] = [
    {"op": "widen", "node": "c1", "to": 9},
    {"op": "widen", "node": "c1", "to": 9, "rule": "zero"},
    {"op": "widen", "node": "hidden", "to": 12},
    {"op": "kernel", "node": "dw", "to": 5},
    {"op": "deepen", "node": "r1", "norm": False},
    {"op": "deepen", "node": "r3", "layer": "linear", "activation": "tanh"},
    {"op": "factor", "node": "c1", "first": 2, "norm": False},
    {"op": "factor", "node": "dw", "first": 3, "second": 3, "norm": False, "activation": "tanh"},
    {"op": "factor", "node": "hidden", "first": 1},
    {"op": "skip", "source": "r1", "node": "r2"},
    {"op": "skip", "source": "r1", "node": "pool"},
    {"op": "skip", "source": "r1", "node": "hidden", "merge": "concat"},
    {"op": "branch", "node": "r2", "source": "r1"},
    {"op": "unfold", "node": "pool"},
    {"op": "path", "node": "c1", "branches": 3, "segment": True},
    {"op": "path", "node": "c1", "scheme": "split_add"},
    {"op": "path", "node": "dw", "scheme": "split_concat"},
    {"op": "path", "node": "c2", "scheme": "replicate_concat"},
]


@pytest.mark.parametrize("morphism", EXACT_IN_TRAINING, ids=lambda m: str(list(m.values())))
def test_exact_in_training_too(morphism: dict[str, Any]) -> None:
    graph = plain()
    state = trained(graph)
    child = inherit(graph, state, load_chain([morphism]))
    assert difference(graph, state, child) <= 1e-12
    assert difference(graph, state, child, train=True) <= 1e-12


@pytest.mark.parametrize(
    "morphism",
    [
        {"op": "heads", "node": "att0", "to": 3},
        {"op": "heads", "node": "att1", "to": 5, "rule": "replicate"},
        {"op": "widen", "node": "h0", "to": 20},
        {"op": "widen", "node": "h1", "to": 13, "rule": "zero"},
        {"op": "deepen", "node": "a0", "layer": "block"},
        {"op": "deepen", "node": "b1", "layer": "linear", "activation": "gelu"},
        {"op": "factor", "node": "patches", "first": 2, "norm": False},
        {"op": "factor", "node": "o0", "first": 1, "activation": "gelu"},
        {"op": "branch", "node": "b0", "layer": "mlp"},
        {"op": "branch", "node": "b0", "layer": "attention", "source": "a0"},
        {"op": "skip", "source": "a0", "node": "b1"},
        {"op": "skip", "source": "a0", "node": "h1", "merge": "concat"},
        {"op": "path", "node": "h0", "scheme": "replicate_concat", "branches": 3},
        {"op": "path", "node": "o1", "scheme": "split_add"},
    ],
    ids=lambda m: str(list(m.values())),
)
def test_a_transformer_grows_exactly_in_training_too(morphism: dict[str, Any]) -> None:
    graph = transformer()
    state = trained(graph)
    child = inherit(graph, state, load_chain([morphism]))
    assert child.graph.params() >= graph.params()
    assert difference(graph, state, child) <= 1e-12
    assert difference(graph, state, child, train=True) <= 1e-12


def test_an_inserted_normalization_is_exact_in_training_once_it_is_calibrated() -> None:
    """Before, it holds the moments that the scale and shift before it promise, or none."""
    graph = plain()
    state = trained(graph)
    morphisms = load_chain([{"op": "deepen", "node": "r1"}, {"op": "deepen", "node": "pool"}])
    child = inherit(graph, state, morphisms)
    assert child.norms == ("m1_bn", "m2_bn")
    assert difference(graph, state, child) <= 1e-12
    assert difference(graph, state, child, train=True) > 1e-3
    network = network_of(child.graph, child.state, torch.float64)
    x = images(graph, torch.float64)
    before = network(x)
    calibrate(network, x, child.norms)
    assert torch.allclose(network(x), before, atol=1e-12, rtol=0)
    # on the batch that it was calibrated with, with all else held, it stays an identity in training
    for name in child.norms:
        network.nodes[name].train()
    assert torch.allclose(network(x), before, atol=1e-12, rtol=0)


def test_the_moments_behind_a_relu_are_those_of_the_data() -> None:
    """Mean and variance of what BN and ReLU put out, without looking at data: for inputs that are
    normal after the normalization."""
    g = GraphBuilder((4, 32, 32))
    x = g.relu("relu", g.batch_norm("bn", g.input))
    graph = g.build(g.linear("classifier", g.global_avg_pool("pool", x), 2))
    state = trained(graph)
    state |= {"mean": state["mean"][:, :1] * 0, "deviation": state["deviation"][:, :1] * 0 + 1}
    state["nodes.bn.weight"][0] = 0.0
    child = inherit(graph, state, load_chain([{"op": "deepen", "node": "relu"}]))
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(64, 4, 32, 32, generator=generator, dtype=torch.float64)
    held = {name: state[f"nodes.bn.{name}"].view(1, -1, 1, 1) for name in ("weight", "bias")}
    after = F.relu(draws * held["weight"] + held["bias"])
    variance, mean = torch.var_mean(after, dim=(0, 2, 3))
    assert torch.allclose(child.state["nodes.m1_bn.running_mean"], mean, atol=0.01)
    assert torch.allclose(child.state["nodes.m1_bn.running_var"], variance, atol=0.02)


# -- gradients and symmetry --------------------------------------------------------------------


def step(graph: Graph, state: State) -> dict[str, Tensor]:
    """Parameters after one step of SGD; asserts that all gradients are finite."""
    network = network_of(graph, state, torch.float64).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x = images(graph, torch.float64)
    output = network(x)
    logits = output[0] if isinstance(output, tuple) else output
    F.cross_entropy(logits, torch.arange(len(x)) % 5).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    optimizer.step()
    return {name: p.detach().clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("kind", KINDS_OF_GRAPH)
def test_gradients_are_finite_and_what_is_new_learns(kind: str) -> None:
    rng = np.random.default_rng(5)
    graph = random_graph(kind, rng).needed()
    _, chain = draw_chain(graph, rng, 6)
    child = inherit(graph, trained(graph), chain)
    before = {n: t.clone() for n, t in child.state.items()}
    after = step(child.graph, child.state)
    new = [name for name in after if name.removeprefix("nodes.") not in tensors(graph)]
    assert not new or any(not torch.equal(after[n], before[n]) for n in new)


def copies(noise: float) -> tuple[Tensor, Tensor]:
    """The rows of a convolution that are copies of one another, after one step."""
    graph = plain()
    morphism: Base = load_chain([{"op": "widen", "node": "hidden", "to": 9, "noise": noise}])[0]
    child = inherit(graph, trained(graph), [morphism])
    after = step(child.graph, child.state)["nodes.hidden.weight"]
    plain_child = inherit(
        graph, trained(graph), load_chain([{**morphism.model_dump(), "noise": 0}])
    )
    rows = plain_child.state["nodes.hidden.weight"]
    [pair] = [(i, j) for i in range(9) for j in range(i + 1, 9) if torch.equal(rows[i], rows[j])]
    return after[pair[0]], after[pair[1]]


def test_copies_stay_equal_without_noise_and_part_ways_with_it() -> None:
    one, other = copies(0.0)
    assert torch.allclose(one, other, atol=1e-15, rtol=0)
    one, other = copies(1e-2)
    assert float((one - other).abs().max()) > 1e-4


def test_noise_is_as_large_as_it_says() -> None:
    graph = plain()
    state = trained(graph)
    quiet, noisy = (
        inherit(graph, state, load_chain([{"op": "widen", "node": "c1", "to": 200, "noise": n}]))
        for n in (0.0, 0.05)
    )
    name = "nodes.c1.weight"
    added = noisy.state[name] - quiet.state[name]
    assert not added[:, :, 0, 0].eq(0).all()
    changed = added.flatten(1).abs().sum(1) > 0
    assert int(changed.sum()) == 200 - 6
    relative = float(added[changed].std() / quiet.state[name].std())
    assert relative == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("train", [False, True])
def test_more_that_cells_concatenate_changes_nothing_at_first(train: bool) -> None:
    """The cells after it and the classifier have weights of zero for it."""
    space = make_space(
        SpaceModel.model_validate(
            {"type": "Cell", "cell": {"preset": "nasnet", "nodes": 3, "concat": "chosen"}}
        )
    )
    cell = [
        [["sep_conv_3x3", 0], ["skip_connect", 1]],
        [["max_pool_3x3", 1], ["conv_7x1_1x7", 2]],
        [["skip_connect", 2], ["avg_pool_3x3", 3]],
    ]
    cells = {"normal": cell, "reduction": cell}
    parent = {**cells, "concat": {"normal": [4], "reduction": [3, 4]}}
    child = {**cells, "concat": {"normal": [2, 3, 4], "reduction": [2, 3, 4]}}
    frame = Frame(SHAPE, 5, Scale(cells=4, filters=4))
    found = bridge(space, parent, child, frame)
    assert found is not None
    assert found.exact
    graph = space.graph(parent, frame).needed()
    state = trained(graph)
    made = inherit(graph, state, found.morphisms)
    assert made.graph.params() == space.graph(child, frame).params() > graph.params()
    assert difference(graph, state, made, train=train) <= LIMIT[torch.float64]
