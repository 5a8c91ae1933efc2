"""Recipes for a child's tensors from its parent's, as plain data.

A plan contains the tensors that change; the others are copied from the parent by name. The trainer
only needs a small interpreter, and other states follow the same plan:

- averages of weights are made like the weights; - an optimizer's slots are gathered like the
weights, but scaled like the gradients, and are zero for new tensors or parts of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinase.space.nodes import Shape

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
Norms = Callable[[str, int], Reals]
"""(tensor, axis) -> sum of the absolute values for each index of the axis, of the parent's."""


# -- sources of a tensor ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent's tensor with this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Fill:
    """A constant tensor."""

    shape: Shape
    value: float
    whole: bool = False
    """Whole numbers, such as a count of batches."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The weights of a convolution (the centre tap) or a linear layer that passes its input on."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Normal:
    """Drawn from a normal distribution."""

    shape: Shape
    std: float
    seed: int


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean, variance or standard deviation of the output of the parent's batch normalization, from
    its scale and shift; after a ReLU, those of a rectified normal variable."""

    part: str
    """mean, var, or std: the root of the variance and `eps`."""
    channels: int
    scale: str | None
    """Tensors of the normalization, or None."""
    shift: str | None
    rectified: bool
    eps: float


@dataclass(frozen=True, slots=True)
class Separable:
    """Part of the best separable approximation of a convolution's weights (`numbers.py`)."""

    part: str
    """depthwise or pointwise."""
    name: str


@dataclass(frozen=True, slots=True)
class Factor:
    """Weights of one of the two factors of a layer (`factoring.py`)."""

    part: str
    """first or second."""
    name: str
    """Weights of the layer."""
    width: int
    """Channels between the two."""
    first: Shape
    """Window of the first: (height, width), or () for a linear layer."""
    second: Shape
    groups: int
    seed: int


Base = Parent | Fill | Identity | Normal | Moments | Separable | Factor


# -- steps -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    """Select entries of an axis by index; -1 is zero."""

    axis: int
    indices: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Multiply entries of an axis by factors. `slots` is the factor for gradients: each of m copies
    of a unit gets an m-th of the gradient, weights that were divided by m get all of it."""

    axis: int
    factors: Reals
    slots: Reals


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Select columns and factors separately for every row. A grouped convolution needs this,
    because its columns are a different input in each group."""

    rows: Ints
    columns: Ints
    """(rows, columns)."""
    factors: Reals
    slots: Reals


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Add normal noise: `std` times the tensor's standard deviation, or absolute."""

    std: float
    relative: bool
    seed: int
    axis: int | None = None
    at: Ints | None = None
    """Indices of the axis. None: all."""


@dataclass(frozen=True, slots=True, eq=False)
class Put:
    """Set a value at some indices of an axis."""

    axis: int
    at: Ints
    value: float


Step = Take | Scale | Pairs | Noise | Put


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """A tensor's source, and the steps to apply in order."""

    base: Base
    steps: tuple[Step, ...] = ()


Plan = Mapping[str, Recipe]
"""Recipes of the child's tensors (``node.tensor``) that differ from the parent's."""


def seed_for(seed: int, name: str) -> int:
    """The seed for a tensor's random numbers."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
    return int(sequence.generate_state(1)[0])


def normal(shape: Shape, seed: int) -> Reals:
    """Standard normal random numbers, the same with any version of NumPy and on any device."""
    draws: Reals = np.random.RandomState(seed).standard_normal(shape)
    return draws


def shape_of(recipe: Recipe, parent: Mapping[str, Shape]) -> Shape:
    """Shape of a recipe's result, given the shapes of the parent's tensors.

    Raises:
        ValueError: the recipe does not fit them.
    """
    shape = list(_begin(recipe.base, parent))
    for step in recipe.steps:
        match step:
            case Take(axis, indices):
                if len(indices) and int(indices.max()) >= shape[axis]:
                    raise ValueError(f"index {indices.max()} of an axis of {shape[axis]}")
                shape[axis] = len(indices)
            case Scale(axis, factors, slots):
                if not len(factors) == len(slots) == shape[axis]:
                    raise ValueError(f"{len(factors)} factors for an axis of {shape[axis]}")
            case Pairs(rows, columns):
                if int(rows.max()) >= shape[0] or int(columns.max()) >= shape[1]:
                    raise ValueError(f"pairs beyond {shape[:2]}")
                shape[:2] = columns.shape
            case Noise(axis=axis, at=at) if axis is not None and at is not None:
                if len(at) and int(at.max()) >= shape[axis]:
                    raise ValueError(f"noise at {at.max()} of an axis of {shape[axis]}")
            case Put(axis, at):
                if len(at) and int(at.max()) >= shape[axis]:
                    raise ValueError(f"a value at {at.max()} of an axis of {shape[axis]}")
    return tuple(shape)


def _begin(base: Base, parent: Mapping[str, Shape]) -> Shape:
    match base:
        case Parent(name):
            return parent[name]
        case Fill(shape) | Identity(shape) | Normal(shape):
            return shape
        case Moments(channels=channels):
            return (channels,)
        case Separable("depthwise", name):
            return (parent[name][1], 1, *parent[name][2:])
        case Separable(_, name):
            return (*parent[name][:2], 1, 1)
        case Factor("first", name, width, first):
            return (width, parent[name][1], *first)
        case Factor(_, name, width, _, second, groups):
            return (parent[name][0], width // groups, *second)
