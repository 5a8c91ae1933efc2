"""Primitive operations: the nodes of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Shape = tuple[int, ...]
"""(channels, height, width) of a feature map, (tokens, features) of a sequence, or (features,) of
a vector; no batch axis."""


def channels_of(shape: Shape) -> int:
    """Channels of a map, features of a sequence or a vector."""
    return shape[-1] if len(shape) == 2 else shape[0]


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive operation.

    `op` is one of `OPS`; `attrs` are its numbers. Names are unique, consist of letters, digits and
    underscores, and are the same for the same layer in different architectures of a space (weights
    are inherited by name).
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, int | float] = field(default_factory=dict)


ACTIVATIONS = frozenset(
    {
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "gelu",
        "gelu_tanh",
        "silu",
        "mish",
        "hard_swish",
        "hard_sigmoid",
        "sigmoid",
        "tanh",
    }
)
"""Elementwise operations without parameters."""

OPS = ACTIVATIONS | frozenset(
    {
        "input",
        "conv",
        "batch_norm",
        "group_norm",
        "layer_norm",
        "layer_scale",
        "shuffle",
        "max_pool",
        "avg_pool",
        "global_avg_pool",
        "adaptive_avg_pool",
        "flatten",
        "linear",
        "add",
        "mix",
        "choice",
        "scale",
        "concat",
        "slice",
        "tokens",
        "class_token",
        "position",
        "attention",
        "select",
        "identity",
        "zero",
        "shift",
        "unpool",
        "drop_path",
        "dropout",
    }
)
"""Every primitive operation.

`shift` moves a feature map by one pixel up and left and pads with zeros (the second path of a
factorized reduction); `unpool` doubles a map, with zeros between its pixels, and cuts it to
`height` by `width`; `zero` is the zero map at a stride; `drop_path` drops a sample's whole map in
training, at its own `rate` or, without one, at that of the experiment's training. `leaky_relu` has
a `slope` below zero, `elu` an `alpha`; `gelu_tanh` is GELU's approximation. `layer_norm` normalizes
over the channels or features of each place, `group_norm` over groups of channels and all pixels;
`layer_scale` has a learned factor for each channel; `shuffle` writes the channels of `groups`
groups in turns. A pool with `ceil` rounds its size up, an average with `count_pad` counts the zeros
of its padding. `adaptive_avg_pool` averages a map of any size to one of `height` by `width`.
`scale` is a map times a gate, of its shape or one number a channel. `mix` is (1 - l) a + l b of two
maps, with l learned: an added skip, or an activation that starts as an identity. `choice` is a
weighted sum of maps, or one of them: only in a supernet, which says how. `slice` takes some
channels. `tokens` makes a sequence of a map's pixels, `class_token` puts a learned token before it,
`position` adds a learned embedding, `attention` is multi-head self-attention, `select` takes one
token.
"""
