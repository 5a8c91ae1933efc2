"""The arithmetic behind two recipes; the trainer and the tests share it."""

from __future__ import annotations

import math

import numpy as np

from kinase.morphism.plan import Reals

_erf = np.vectorize(math.erf, otypes=[np.float64])


def rectified(mean: Reals, deviation: Reals) -> tuple[Reals, Reals]:
    """Mean and variance of max(0, z) for normal z of this mean and deviation."""
    deviation = np.abs(deviation)
    safe = np.where(deviation > 0, deviation, 1.0)
    ratio = mean / safe
    density = np.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + _erf(ratio / math.sqrt(2)))
    first = mean * below + safe * density
    second = (mean**2 + safe**2) * below + mean * safe * density
    variance = np.maximum(second - first**2, 0.0)
    alive = deviation > 0
    return np.where(alive, first, np.maximum(mean, 0.0)), np.where(alive, variance, 0.0)


ROUNDS = 30
"""Power iterations; the weights are trained further anyway."""


def separate(weight: Reals) -> tuple[Reals, Reals]:
    """The nearest depthwise and pointwise pair of a convolution, in the least-squares sense.

    The pair's kernel from input i to output o is p[o, i] d[i]; so for each input the best is the
    rank-1 approximation of its (outputs, pixels) matrix, found here by power iteration on the
    pixels' Gram matrix, from the mean kernel.

    Args:
        weight: (outputs, inputs, height, width).

    Returns:
        depthwise (inputs, 1, height, width) with unit norm for each input, and pointwise
        (outputs, inputs, 1, 1).
    """
    outputs, inputs, height, width = weight.shape
    stack = np.ascontiguousarray(weight.transpose(1, 0, 2, 3)).reshape(inputs, outputs, -1)
    gram = np.einsum("iop,ioq->ipq", stack, stack)
    kernel = gram.sum(axis=2) + 1e-30
    for _ in range(ROUNDS):
        kernel = kernel / np.maximum(np.linalg.norm(kernel, axis=1, keepdims=True), 1e-30)
        step = np.einsum("ipq,iq->ip", gram, kernel)
        dead = np.linalg.norm(step, axis=1, keepdims=True) == 0
        kernel = np.where(dead, kernel, step)
    kernel = kernel / np.maximum(np.linalg.norm(kernel, axis=1, keepdims=True), 1e-30)
    point = np.einsum("iop,ip->oi", stack, kernel)
    return kernel.reshape(inputs, 1, height, width), point.reshape(outputs, inputs, 1, 1)
