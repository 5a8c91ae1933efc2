"""A plan carried out in numpy, and a linear network's function: an oracle without torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kinase.morphism import factoring
from kinase.morphism.plan import (
    Factor,
    Fill,
    Identity,
    Noise,
    Normal,
    Pairs,
    Parent,
    Plan,
    Put,
    Recipe,
    Scale,
    Take,
    normal,
)
from kinase.space import Graph
from kinase.space.tensors import tensors

Array = NDArray[np.float64]
State = dict[str, Array]


def random_state(graph: Graph, seed: int = 0) -> State:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape) for name, shape in tensors(graph).items()}


def follow(graph: Graph, plan: Plan, state: Mapping[str, Array]) -> State:
    """The child's state."""
    return {
        name: carry_out(plan[name], state) if name in plan else state[name]
        for name in tensors(graph)
    }


def carry_out(recipe: Recipe, state: Mapping[str, Array]) -> Array:
    match recipe.base:
        case Parent(name):
            value = state[name].copy()
        case Fill(shape, number):
            value = np.full(shape, float(number))
        case Identity(shape):
            value = np.zeros(shape)
            for row in range(shape[0]):
                value[(row, row % shape[1], *(size // 2 for size in shape[2:]))] = 1.0
        case Normal(shape, std, seed):
            value = std * normal(shape, seed)
        case Factor(name=name):
            value = factoring.factor(recipe.base, state[name])
        case base:
            raise NotImplementedError(base)
    for step in recipe.steps:
        match step:
            case Take(axis, indices):
                empty = np.zeros_like(value.take([0], axis))
                value = np.concatenate([value, empty], axis).take(indices, axis)
            case Scale(axis, factors):
                value = np.moveaxis(np.moveaxis(value, axis, -1) * factors, -1, axis)
            case Pairs(rows, columns, factors):
                value = np.stack([value[r][c] for r, c in zip(rows, columns, strict=True)])
                value *= factors.reshape(*factors.shape, *[1] * (value.ndim - 2))
            case Put(axis, at, number):
                np.moveaxis(value, axis, 0)[at] = number
            case Noise(std, relative, seed, axis, at):
                factor = std * (value.std() if relative else 1.0)
                if axis is None or at is None:
                    value = value + factor * normal(value.shape, seed)
                else:
                    shape = list(value.shape)
                    shape[axis] = len(at)
                    moved = np.moveaxis(factor * normal(tuple(shape), seed), axis, 0)
                    np.moveaxis(value, axis, 0)[at] += moved
    return value


def run(graph: Graph, state: State, images: Array) -> Array:
    """The output of a graph of a few operations, convolutions by their definition.

    Args:
        images: (N, C, H, W).
    """
    maps: dict[str, Array] = {}
    for node in graph:
        xs = [maps[each] for each in node.inputs]
        a = {name: int(value) for name, value in node.attrs.items()}
        match node.op:
            case "input":
                out = images
            case "conv":
                out = convolve(xs[0], state[f"{node.name}.weight"], a)
                if a["bias"]:
                    out = out + state[f"{node.name}.bias"][:, None, None]
            case "batch_norm":
                mean, var, scale, shift = (
                    state[f"{node.name}.{part}"][:, None, None]
                    for part in ("running_mean", "running_var", "weight", "bias")
                )
                out = (xs[0] - mean) / np.sqrt(np.abs(var) + 1e-5) * scale + shift
            case "relu":
                out = np.maximum(xs[0], 0)
            case "tanh":
                out = np.tanh(xs[0])
            case "linear":
                out = xs[0] @ state[f"{node.name}.weight"].T + state[f"{node.name}.bias"]
            case "global_avg_pool":
                out = xs[0].mean(axis=(2, 3))
            case "flatten":
                out = xs[0].reshape(len(xs[0]), -1)
            case "add":
                out = np.sum(xs, axis=0)
            case "mix":
                share = state[f"{node.name}.share"]
                out = (1 - share) * xs[0] + share * xs[1]
            case "concat":
                out = np.concatenate(xs, axis=1)
            case "slice":
                out = xs[0][:, a["start"] : a["start"] + a["size"]]
            case op:
                raise NotImplementedError(op)
        maps[node.name] = out
    return maps[graph.output]


def convolve(x: Array, weight: Array, a: Mapping[str, int]) -> Array:
    out, inside, high, wide = weight.shape
    pads = (a.get("padding_h", a["padding"]), a.get("padding_w", a["padding"]))
    x = np.pad(x, ((0, 0), (0, 0), *((pad, pad) for pad in pads)))
    gap, groups = a["dilation"], a["groups"]
    down, across = (a.get(f"stride_{axis}", a["stride"]) for axis in "hw")
    rows = (x.shape[2] - gap * (high - 1) - 1) // down + 1
    columns = (x.shape[3] - gap * (wide - 1) - 1) // across + 1
    result = np.zeros((len(x), out, rows, columns))
    for o in range(out):
        first = o // (out // groups) * inside
        for i in range(inside):
            for h in range(high):
                for w in range(wide):
                    part = x[:, first + i, h * gap :, w * gap :][:, ::down, ::across]
                    result[:, o] += weight[o, i, h, w] * part[:, :rows, :columns]
    return result
