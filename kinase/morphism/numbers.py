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


SQUARINGS = 12
"""The matrix is raised to the power of 2 ** 12, which separates singular values that differ by a
thousandth."""


def separate(weight: Reals) -> tuple[Reals, Reals]:
    """The nearest depthwise and pointwise pair of a convolution, in the least-squares sense.

    The pair's kernel from input i to output o is p[o, i] d[i]; so for each input the best is the
    rank-1 approximation of its (outputs, pixels) matrix: d[i] is the first eigenvector of the
    pixels' Gram matrix, found here by powers of it.

    Args:
        weight: (outputs, inputs, height, width).

    Returns:
        depthwise (inputs, 1, height, width) with unit norm for each input, and pointwise
        (outputs, inputs, 1, 1).
    """
    outputs, inputs, height, width = weight.shape
    stack = np.ascontiguousarray(weight.transpose(1, 0, 2, 3)).reshape(inputs, outputs, -1)
    pixels = float(height * width)
    gram = np.einsum("iop,ioq->ipq", stack, stack)
    power = gram
    for _ in range(SQUARINGS):
        largest = np.abs(power).max(axis=(1, 2), keepdims=True)
        power = power / np.where(largest > 0, largest, 1.0)
        power = np.einsum("ipq,iqr->ipr", power, power)
    column = np.argmax(np.einsum("ipp->ip", power), axis=1)
    kernel = power[np.arange(inputs), :, column]
    length = np.linalg.norm(kernel, axis=1, keepdims=True)
    kernel = np.where(length > 0, kernel / np.where(length > 0, length, 1.0), pixels**-0.5)
    point = np.einsum("iop,ip->oi", stack, kernel)
    return kernel.reshape(inputs, 1, height, width), point.reshape(outputs, inputs, 1, 1)
