"""The parameters of a policy: arrays by name, and their initialization."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parameters = dict[str, Array]
"""Arrays by name. They are never changed in place."""


def uniform(rng: np.random.Generator, shape: tuple[int, ...], limit: float) -> Array:
    """Uniform between -limit and limit."""
    return rng.uniform(-limit, limit, size=shape)


def glorot(rng: np.random.Generator, inputs: int, outputs: int) -> Array:
    """A matrix of Glorot & Bengio (2010, equation 16)."""
    return uniform(rng, (inputs, outputs), math.sqrt(6 / (inputs + outputs)))


def embedding(rng: np.random.Generator, tokens: int, size: int) -> Array:
    """Vectors of variance 1, one per token."""
    return uniform(rng, (tokens, size), math.sqrt(3))


def linear(rng: np.random.Generator, name: str, inputs: int, outputs: int) -> Parameters:
    """A linear layer, with a bias of 0."""
    return {f"{name}.w": glorot(rng, inputs, outputs), f"{name}.b": np.zeros(outputs)}


def lstm(rng: np.random.Generator, name: str, inputs: int, units: int) -> Parameters:
    """An LSTM; the bias of its forget gate is 1, so that it initially remembers."""
    both = glorot(rng, inputs + units, 4 * units)
    bias = np.zeros(4 * units)
    bias[units : 2 * units] = 1
    return {f"{name}.x": both[:inputs], f"{name}.h": both[inputs:], f"{name}.b": bias}
