"""Factor filters: the weights of a layer as those of two layers.

Two convolutions in a row equal one convolution whose filter from input i to output o is the sum,
over the channels c between them, of ``second[o, c] * first[c, i]``, where filters are multiplied
like polynomials: windows of K1 and K2 give one of K1 + K2 - 1. Wei et al. 2016 find both by
alternating least squares, starting from noise. Here one is drawn such that it divides any filter,
and the other is the quotient, so the first half of their first iteration is exact.

What is drawn is a staircase between random orthogonal matrices, which make it dense. Along an axis
the channels between share out the taps of all inputs, K2 to each: one whose taps are of one input
looks at that alone, one whose taps are the last of an input and the first of the next looks at the
last tap of its window of the one and at the first of the other. So each tap is separated from the
others by a few subtractions, however wide the layer is, and the quotient is about as large as the
filter. Completely random filters would also work, but they are badly conditioned: the quotient is
large, so its products are rounded coarsely. A second axis is distributed among the channels of the
first.

Everything is computed elementwise in double precision, so the bits are the same on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kinase.morphism.plan import Factor, Reals, normal

Window = Sequence[int]
BLOCK = 256
"""Numbers of an entry that are mixed at once, so that a wide layer fits in the CPU cache."""


def least_width(inputs: int, outputs: int, first: Window, second: Window) -> int:
    """The minimum number of channels between two layers that can represent any layer of this
    size."""
    return min(_steps(inputs, first, second), _steps(outputs, second, first))


def factor(part: Factor, weight: Reals) -> Reals:
    """The weights of the first or second of two layers that together equal a layer with these
    weights.

    Args:
        part: which of the two, and their width and windows.
        weight: weights of the layer: (outputs, inputs of a group, and its window, if it has one).
    """
    groups, inputs = part.groups, weight.shape[1]
    outputs, width = len(weight) // groups, part.width // groups
    first, second, is_first = part.first, part.second, part.part == "first"
    each = (groups, *[1] * (weight.ndim - 1))
    if _steps(inputs, first, second) <= _steps(outputs, second, first):  # the first is random
        if is_first:
            return np.tile(_divisor(inputs, width, first, second, part.seed), each)
        return _quotient(weight, width, first, second, part.seed)
    if is_first:
        turned = _quotient(_exchanged(weight, groups), width, second, first, part.seed)
        return _exchanged(turned, groups)
    return np.tile(_divisor(outputs, width, second, first, part.seed).swapaxes(0, 1), each)


def _exchanged(weight: Reals, groups: int) -> Reals:
    """Outputs for inputs."""
    parts = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    return parts.reshape(-1, *parts.shape[2:])


def _steps(inputs: int, drawn: Window, other: Window) -> int:
    """Of the staircase."""
    for before, after in zip(drawn, other, strict=True):
        inputs = -(-inputs * (before + after - 1) // after)
    return inputs


def _stairs(inputs: int, before: int, after: int) -> list[tuple[int, int, int]]:
    """For each channel between: an input, at which tap of its window it looks at that, and how
    many of the taps that are its own are those of the next input, at which it looks at the first
    tap."""
    taps = before + after - 1
    starts = [divmod(start, taps) for start in range(0, inputs * taps, after)]
    return [(index, min(tap, before - 1), max(0, tap - before + 1)) for index, tap in starts]


def _divisor(inputs: int, width: int, drawn: Window, other: Window, seed: int) -> Reals:
    """(width, inputs, *drawn): what is drawn of the two."""
    filters: Reals = np.eye(inputs)
    for before, after in zip(drawn, other, strict=True):
        stairs = _stairs(len(filters), before, after)
        grown = np.zeros((len(stairs), *filters.shape[1:], before))
        for new, (index, tap, over) in zip(grown, stairs, strict=True):
            new[..., tap] = filters[index]
            if over and index + 1 < len(filters):
                new[..., 0] = filters[index + 1]
        filters = grown
    return _spread(_mixed(_wider(filters, 0, width), 0, seed), drawn, seed)


def _quotient(weight: Reals, width: int, drawn: Window, other: Window, seed: int) -> Reals:
    """(outputs, width, *other): with `_divisor` it makes the weight, in the middle of zeros where
    the windows make more than its own."""
    sides = [
        ((before + after - 1 - size) // 2,) * 2
        for size, before, after in zip(weight.shape[2:], drawn, other, strict=True)
    ]
    parts = _spread(np.pad(weight, ((0, 0), (0, 0), *sides)), drawn, seed)
    for axis, (before, after) in enumerate(zip(drawn, other, strict=True), start=2):
        parts = _divided(np.moveaxis(parts, (1, axis), (0, 1)), before, after)
        parts = np.moveaxis(parts, (0, 1), (1, axis))
    return _mixed(_wider(parts, 1, width), 1, seed)


def _divided(left: Reals, before: int, after: int) -> Reals:
    """(channels between, `after`, ...) of (inputs, taps, ...), along one axis. Where a channel
    looks at a tap that is another's, what it makes there is taken from what is left for that."""
    stairs = _stairs(len(left), before, after)
    left = np.concatenate([left, np.zeros_like(left[:1])])
    found = np.zeros((len(stairs), after, *left.shape[2:]))
    for made, (index, tap, over) in zip(found[::-1], stairs[::-1], strict=True):
        made[:over] = left[index + 1, :over]
        left[index, tap : tap + over] -= made[:over]
    for made, (index, tap, over) in zip(found, stairs, strict=True):
        made[over:] = left[index, tap + over : tap + after]
        if over:
            left[index + 1, over:after] -= made[over:]
    return found


def _wider(filters: Reals, axis: int, width: int) -> Reals:
    """With channels of zero after the last."""
    sides = [(0, 0)] * filters.ndim
    sides[axis] = (0, width - filters.shape[axis])
    return np.pad(filters, sides)


def _spread(filters: Reals, drawn: Window, seed: int) -> Reals:
    """Each tap over all inputs; where there is just one tap, mixing the channels between does."""
    return _mixed(filters, 1, seed + 1) if max(drawn, default=1) > 1 else filters


def _mixed(filters: Reals, axis: int, seed: int) -> Reals:
    """An axis times a random orthogonal matrix that is its own inverse: reflections of all pairs
    of entries 1, 2, 4, ... apart, up and down again."""
    moved = np.moveaxis(filters, axis, 0)
    mixed = moved.reshape(len(moved), -1).copy()
    entries, pairs = np.arange(len(mixed)), []
    powers = (len(mixed) - 1).bit_length()
    turns = normal((powers, 2, len(mixed), 1), seed)
    turns /= np.sqrt((turns**2).sum(axis=1, keepdims=True))
    for power, turn in enumerate(turns):
        one = entries[(entries >> power & 1 == 0) & (entries + (1 << power) < len(mixed))]
        pairs.append((one, one + (1 << power), *turn[:, one]))
    for start in range(0, mixed.shape[1], BLOCK):
        part = mixed[:, start : start + BLOCK]
        for one, other, cos, sin in (*pairs, *pairs[-2::-1]):
            left, right = part[one], part[other]
            part[one] = cos * left + sin * right
            part[other] = sin * left - cos * right
    return np.moveaxis(mixed.reshape(moved.shape), 0, axis)
