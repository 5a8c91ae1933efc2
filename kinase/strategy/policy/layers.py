"""The layers of a policy, as functions of its parameters that autograd can differentiate."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import autograd.numpy as np
import numpy
from autograd.extend import defvjp_argnums, primitive
from autograd.tracer import getval

from kinase.strategy.policy.parameters import Array, Parameters

Traced = Any
"""An array, or autograd's box around one."""
# The state of an LSTM is (sequences, 2 * units): h, then c.
NEVER = -1e9
"""Logit of an invalid choice, whose probability and gradients are exactly 0."""


def sigmoid(x: Traced) -> Traced:
    """1 / (1 + exp(-x)), without an overflow."""
    return 0.5 * (np.tanh(0.5 * x) + 1)


def linear(p: Parameters, name: str, x: Traced) -> Traced:
    """A linear layer."""
    return np.dot(x, p[f"{name}.w"]) + p[f"{name}.b"]


def _cell(sums: Array, state: Array, present: Array | None = None) -> Array:
    """The next state of an LSTM (Hochreiter & Schmidhuber 1997; Gers et al. 2000), from the sums
    before its input, forget, cell and output gates; it does not change where the mask is 0."""
    i, f, g, o = _gates(sums)
    _, c = _halves(state)
    new = f * c + i * g
    after = numpy.concatenate([o * numpy.tanh(new), new], axis=1)
    return after if present is None else numpy.where(present, after, state)


def _gates(sums: Array) -> tuple[Array, Array, Array, Array]:
    i, f, g, o = numpy.split(numpy.tanh(sums * _slopes(sums.shape[1])), 4, axis=1)
    return 0.5 * (i + 1), 0.5 * (f + 1), g, 0.5 * (o + 1)


@functools.cache
def _slopes(size: int) -> Array:
    """Factors to write a sigmoid as a hyperbolic tangent: one half, and one for the cell's gate."""
    return numpy.repeat([0.5, 0.5, 1.0, 0.5], size // 4)


def _halves(state: Array) -> tuple[Array, Array]:
    half = state.shape[1] // 2
    return state[:, :half], state[:, half:]


def _cell_vjp(
    argnums: Any, after: Array, args: tuple[Any, ...], kwargs: Any
) -> Callable[[Array], tuple[Array, ...]]:
    """The derivative of `_cell`, written by hand because autograd's takes four times as long."""
    sums, state, present = (*args, None)[:3]

    def vjp(wanted: Array) -> tuple[Array, ...]:
        i, f, g, o = _gates(sums)
        _, c = _halves(state)
        height = numpy.tanh(f * c + i * g)
        passed = 0.0 if present is None else numpy.where(present, 0.0, wanted)
        dh, dc = _halves(wanted if present is None else numpy.where(present, wanted, 0.0))
        dc = dc + dh * o * (1 - height**2)
        by_sums = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2)]
        by_sums.append(dh * height * o * (1 - o))
        by_state = numpy.concatenate([numpy.zeros_like(dh), dc * f], axis=1) + passed
        both = numpy.concatenate(by_sums, axis=1), by_state
        return tuple(both[number] for number in argnums)

    return vjp


cell: Callable[..., Traced] = primitive(_cell)
defvjp_argnums(cell, _cell_vjp)


def lstm_step(p: Parameters, name: str, x: Traced, state: Traced) -> Traced:
    """One step of an LSTM."""
    h, _ = np.split(state, 2, axis=1)
    sums = np.dot(x, p[f"{name}.x"]) + np.dot(h, p[f"{name}.h"]) + p[f"{name}.b"]
    return cell(sums, state)


def lstm(
    p: Parameters, name: str, xs: Traced, present: Array | None, *, backwards: bool = False
) -> tuple[list[Traced], Traced]:
    """An LSTM over sequences.

    Args:
        p: parameters.
        name: prefix of the LSTM's parameters.
        xs: (steps, sequences, inputs).
        present: mask (steps, sequences, 1), 0 after a sequence's end; None if all have the same
            length.
        backwards: from the last step to the first.

    Returns:
        h of each step, and the state at the end of each sequence.
    """
    steps, count, inputs = xs.shape
    sums = np.dot(np.reshape(xs, (steps * count, inputs)), p[f"{name}.x"]) + p[f"{name}.b"]
    weights = p[f"{name}.h"]
    before = np.split(sums, steps)
    h, state = np.zeros((count, weights.shape[0])), np.zeros((count, 2 * weights.shape[0]))
    out: list[Traced] = [None] * steps
    for step in range(steps - 1, -1, -1) if backwards else range(steps):
        mask = None if present is None else present[step]
        state = cell(before[step] + np.dot(h, weights), state, mask)
        h, _ = np.split(state, 2, axis=1)
        out[step] = h
    return out, state


def bidirectional(
    p: Parameters, name: str, xs: Traced, present: Array | None
) -> tuple[Traced, Traced]:
    """Two LSTMs, one in each direction (Schuster & Paliwal 1997): both outputs of each step, (steps
    * sequences, 2 * units), and the final state as of one LSTM with twice the units."""
    ahead, one = lstm(p, f"{name}.ahead", xs, present)
    back, other = lstm(p, f"{name}.back", xs, present, backwards=True)
    both = np.concatenate([np.concatenate(ahead), np.concatenate(back)], axis=1)
    parts = zip(np.split(one, 2, axis=1), np.split(other, 2, axis=1), strict=True)
    return both, np.concatenate([each for pair in parts for each in pair], axis=1)


def log_softmax(logits: Traced, allowed: Array | None = None) -> Traced:
    """Log probabilities of each row, for the allowed choices (mask 1)."""
    if allowed is not None:
        logits = logits + NEVER * (1 - allowed)
    logits = logits - getval(logits).max(axis=1, keepdims=True)
    return logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))


def softmax_entropy(logs: Traced) -> Traced:
    """Entropy of each row, from its log probabilities."""
    return -np.sum(np.exp(logs) * logs, axis=1)


def log_sigmoid(logits: Traced, chosen: Traced) -> Traced:
    """Log probabilities of binary choices (1 or 0)."""
    return -np.logaddexp(0, (1 - 2 * chosen) * logits)


def sigmoid_entropy(logits: Traced) -> Traced:
    """Entropy of each binary choice."""
    return np.logaddexp(0, logits) - logits * sigmoid(logits)


def draw(probabilities: Array, rng: numpy.random.Generator) -> int:
    """Draw an index with these probabilities."""
    at = int(numpy.searchsorted(probabilities.cumsum(), rng.random(), side="right"))
    # rounding can leave the sum a little below 1: then the last possible index is drawn
    return min(at, int(numpy.flatnonzero(probabilities)[-1]))
