"""Small random graphs of every kind, networks with statistics that mean something, and random
morphisms that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinase.api.space import Space as SpaceModel
from kinase.morphism import Base, Limits, MorphismError, apply, candidates, load_chain
from kinase.morphism.chain import KINDS
from kinase.space import Frame, Graph, GraphBuilder, make_space
from kinase.space.errors import InfeasibleError
from kinase_trainer.network import Network

SHAPE = (3, 9, 8)
EXACT = [op for op, kind in KINDS.items() if kind.exact]
SMALL = Limits(params=60_000, nodes=400)
"""Bounds of the random children, so that the tests stay quick."""
SPACES: dict[str, dict[str, Any]] = {
    "chain": {
        "type": "Chain",
        "chain": {
            "maxDepth": 5,
            "ops": ["conv", "sepconv", "maxpool", "avgpool"],
            "widths": [4, 6],
            "skips": True,
        },
    },
    "multibranch": {"type": "MultiBranch", "multiBranch": {"maxNodes": 5, "widths": [4, 6]}},
    "darts": {
        "type": "Cell",
        "cell": {"preset": "darts", "nodes": 2, "search": {"cells": 3, "filters": 3}},
    },
    "nasbench201": {
        "type": "Cell",
        "cell": {"preset": "nasbench201", "search": {"cells": 3, "filters": 4}},
    },
}


def from_space(name: str, rng: np.random.Generator) -> Graph:
    """A random network of one of the spaces."""
    space = make_space(SpaceModel.model_validate(SPACES[name]))
    scale = space.scale(final=False)
    while True:
        try:
            frame = Frame(SHAPE, 5, scale, auxiliary=name == "darts")
            graph = space.graph(space.sample(rng), frame)
            graph.shapes()
        except InfeasibleError:
            continue
        return graph


def residual() -> Graph:
    """Two residual stages with grouped and depthwise convolutions, a head of linear layers behind
    `flatten`, activations that are not idempotent, and an auxiliary head."""
    g = GraphBuilder(SHAPE)
    x = g.relu("stem_relu", g.batch_norm("stem_bn", g.conv("stem", g.input, 8, 3, bias=True)))
    for stage, (out, stride) in enumerate(((8, 1), (12, 2))):
        for block in range(2):
            name = f"s{stage}b{block}"
            first = stride if block == 0 else 1
            y = g.conv(f"{name}_c1", x, 8, 3, first, groups=2)
            y = g.unary(f"{name}_act", "silu" if stage else "relu", g.batch_norm(f"{name}_n1", y))
            y = g.conv(f"{name}_dw", y, 16, 3, groups=8)  # two filters a channel
            y = g.batch_norm(f"{name}_n2", g.conv(f"{name}_c2", y, out, 1))
            if g.shape(y) != g.shape(x):
                x = g.batch_norm(f"{name}_ns", g.conv(f"{name}_cs", x, out, 1, first))
            x = g.relu(f"{name}_relu", g.add(f"{name}_add", [x, y]))
    wide = g.conv("wide", x, 6, (1, 7))
    x = g.add("joined", [g.unary("tanh", "tanh", wide), g.conv("dilated", x, 6, 3, dilation=2)])
    aux = g.linear("aux", g.global_avg_pool("aux_pool", x), 5)
    x = g.flatten("flat", g.pool("last", x, "avg", 2, 2, 0))
    x = g.unary("gelu", "gelu", g.linear("hidden", x, 10))
    x = g.relu("relu2", g.linear("hidden2", g.unary("dropout", "dropout", x, rate=0.5), 8))
    return g.build(g.linear("classifier", x, 5), aux)


def dense() -> Graph:
    """Concatenations of concatenations, of one map twice, and slices."""
    g = GraphBuilder(SHAPE)
    x = g.conv("stem", g.input, 4, 3)
    for i in range(3):
        y = g.relu(f"relu{i}", g.batch_norm(f"bn{i}", x, affine=i != 1))
        x = g.concat(f"cat{i}", [x, g.conv(f"conv{i}", y, 3, 3)])
    x = g.pool("pool", x, "max", 3, 2)
    x = g.concat("twice", [x, x])
    x = g.conv("mid", x, 8, 3, groups=2)
    left = g.unary("left", "slice", x, start=0, size=4)
    right = g.unary("right", "slice", x, start=4, size=4)
    x = g.concat("swapped", [g.unary("sigmoid", "sigmoid", right), left])
    x = g.unary("moved", "shift", g.unary("same", "identity", g.conv("last", x, 6, 1)))
    x = g.add("with_zero", [x, g.unary("zero", "zero", x, stride=1)])
    return g.build(g.linear("classifier", g.global_avg_pool("gap", x), 5))


def transformer() -> Graph:
    """A small ViT."""
    g = GraphBuilder((3, 8, 8))
    x = g.unary("tokens", "tokens", g.conv("patches", g.input, 8, 4, 4, padding=0, bias=True))
    x = g.position("position", g.class_token("class_token", x))
    for i in range(2):
        x = g.add(f"a{i}", [x, g.attention(f"att{i}", g.layer_norm(f"n{i}", x), 2, 4)])
        y = g.linear(f"h{i}", g.layer_norm(f"m{i}", x), 12)
        x = g.add(f"b{i}", [x, g.linear(f"o{i}", g.unary(f"gelu{i}", "gelu", y), 8)])
    x = g.unary("first", "select", g.layer_norm("ln", x), index=0)
    return g.build(g.linear("classifier", x, 5))


def modern() -> Graph:
    """Parts of ShuffleNet, SqueezeNet and ConvNeXt: normalizations of channels and of groups, pools
    that round up or count their padding, a shuffle, factors of channels, a skip with drop path."""
    g = GraphBuilder(SHAPE)
    x = g.conv("stem", g.input, 8, 2, 2, padding=0, bias=True)
    x = g.unary("norm", "layer_norm", x, dim=8)
    y = g.conv("dw", x, 8, 3, groups=8, bias=True)
    y = g.conv("up", g.unary("norm1", "layer_norm", y, dim=8, eps=1e-6), 12, 1, bias=True)
    y = g.conv("down", g.unary("act", "gelu_tanh", y), 8, 1, bias=True)
    y = g.unary("drop", "drop_path", g.unary("factor", "layer_scale", y, channels=8), rate=0.2)
    x = g.unary("pool", "max_pool", g.add("sum", [x, y]), kernel=3, stride=2, padding=0, ceil=1)
    left = g.unary("left", "slice", x, start=0, size=4)
    right = g.unary("right", "slice", x, start=4, size=4)
    right = g.unary("leaky", "leaky_relu", g.conv("grouped", right, 6, 3, groups=2), slope=0.1)
    right = g.conv("back", g.unary("mish", "mish", right), 4, 1)
    right = g.unary("groups", "group_norm", right, channels=4, groups=2, affine=1)
    x = g.unary("shuffle", "shuffle", g.concat("joined", [left, right]), groups=2)
    free = g.unary("free", "layer_scale", g.conv("free_conv", x, 6, 1), channels=6)
    free = g.unary("mean", "avg_pool", free, kernel=3, stride=1, padding=1, count_pad=1)
    free = g.conv("last", g.unary("elu", "elu", free, alpha=0.7), 8, 3)
    x = g.add("end", [free, g.unary("plain", "group_norm", x, channels=8, groups=4, affine=0)])
    x = g.linear("hidden", g.global_avg_pool("gap", x), 9)
    x = g.unary("hidden_norm", "layer_norm", g.unary("selu", "selu", x), dim=9)
    return g.build(g.linear("classifier", x, 5))


BUILT = {"residual": residual, "dense": dense, "transformer": transformer, "modern": modern}
KINDS_OF_GRAPH = [*SPACES, *BUILT]


def random_graph(kind: str, rng: np.random.Generator) -> Graph:
    return from_space(kind, rng) if kind in SPACES else BUILT[kind]()


def trained(graph: Graph, seed: int = 0) -> dict[str, Tensor]:
    """The state, in double precision, of a network whose statistics and scales are not trivial."""
    torch.manual_seed(seed)
    network = Network(graph, (0.4, 0.5, 0.6), (0.3, 0.2, 0.3)).double()
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        drawn = torch.rand(like.shape, generator=generator, dtype=torch.float64)
        return drawn * (high - low) + low

    state = {}
    for name, tensor in network.state_dict().items():
        part = name.rpartition(".")[2]
        if part == "running_var" or (part == "weight" and tensor.ndim == 1):
            tensor = uniform(tensor, 0.5, 1.5)
        elif part == "share":
            tensor = uniform(tensor, 0.2, 0.8)
        elif part in ("running_mean", "bias", "token"):
            tensor = uniform(tensor, -0.4, 0.4)
        elif part == "weight":
            fan_in = tensor[0].numel()
            tensor = uniform(tensor, -1, 1) * (3 / fan_in) ** 0.5
        elif part == "num_batches_tracked":
            tensor = torch.tensor(7)
        state[name] = tensor
    return state


def network_of(graph: Graph, state: dict[str, Tensor], dtype: torch.dtype) -> Network:
    network = Network(graph).to(dtype)
    shape = state["mean"].shape  # as many channels as the parent's network was told of
    network.mean = network.mean.new_zeros(shape)
    network.deviation = network.deviation.new_zeros(shape)
    network.load_state_dict(state)
    return network.eval()


def images(graph: Graph, dtype: torch.dtype, count: int = 4) -> Tensor:
    first = graph.nodes[0].attrs
    shape = (count, *(int(first[n]) for n in ("channels", "height", "width")))
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(
        dtype
    )


def numbers(op: str, graph: Graph, place: dict[str, Any], rng: np.random.Generator) -> Any:
    """Fill in a place's other fields at random."""
    node = next(n for n in graph if n.name == place["node"])

    def pick(*choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    more: dict[str, Any] = {"seed": int(rng.integers(1000))}
    match op:
        case "widen":
            width = int(node.attrs["out"])
            more |= {"to": width + pick(1, 2, 4, width), "rule": pick("replicate", "zero")}
        case "heads":
            more |= {"to": int(node.attrs["heads"]) + pick(1, 2), "rule": pick("replicate", "zero")}
        case "kernel":
            size = max(int(node.attrs["kernel"]), int(node.attrs.get("kernel_w", 1)))
            more |= {"to": size + pick(2, 4), "dense": pick(False, True)}
        case "crop":
            more["to"] = max(int(node.attrs["kernel"]), int(node.attrs.get("kernel_w", 1))) - 2
        case "deepen":
            more |= {
                "kernel": pick(1, 3, 5),
                "dilation": pick(1, 2),
                "norm": pick(True, False),
                "activation": pick("none", "relu", "gelu", "tanh"),
            }
        case "factor":
            more |= {"norm": pick(True, False), "activation": pick("none", "relu", "gelu", "tanh")}
        case "branch" | "unfold":
            more |= {"kernel": pick(1, 3), "norm": pick(True, False), "relu": pick(True, False)}
        case "path":
            more |= {"branches": pick(2, 3), "segment": pick(True, False)}
        case "prune":
            more["to"] = max(1, int(node.attrs["out"]) // 2)
    return load_chain([{"op": op, **place, **more}])[0]


def draw(graph: Graph, rng: np.random.Generator, ops: list[str]) -> tuple[Graph, Base]:
    """A random morphism that fits, and its child."""
    while True:
        op = ops[int(rng.integers(len(ops)))]
        places = candidates(graph, op)
        if not places:
            continue
        morphism = numbers(op, graph, places[int(rng.integers(len(places)))], rng)
        try:
            return apply(graph, morphism, limits=SMALL).graph, morphism
        except MorphismError:  # groups that do not divide, a network that is large enough
            continue


def draw_chain(graph: Graph, rng: np.random.Generator, length: int) -> tuple[Graph, list[Base]]:
    chain = []
    for _ in range(length):
        graph, morphism = draw(graph, rng, EXACT)
        chain.append(morphism)
    return graph, chain
