"""Gradients of the bilevel problem: choices by the held-out loss, weights by the training loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Loss = Callable[[], Tensor]
"""Computes a loss, a scalar, from the tensors as they are."""


@dataclass(frozen=True)
class WeightStep:
    """The step that the weights would take: stochastic gradient descent."""

    rate: float
    """The learning rate; 0 gives the first order."""
    momentum: float = 0.0
    decay: float = 0.0
    buffers: Sequence[Tensor | None] = ()
    """The optimizer's momentum buffers, one a weight; none before its first step."""


def gradients(
    choices: Sequence[Tensor],
    weights: Sequence[Tensor],
    train: Loss,
    held: Loss,
    step: WeightStep,
    *,
    scale: float = 0.01,
    add: Callable[[Sequence[Tensor]], None] = lambda tensors: None,
) -> list[Tensor]:
    """The gradient of the held-out loss in the choices after one step of the weights (Liu et al.
    2019, section 2.3, equations 7 and 8).

    The weights w go to w' = w - r (m b + g + d w), with the rate r, the momentum m and its buffer
    b, the gradient g of the training loss, and the decay d. The second derivative times the vector
    v, the gradient of the held-out loss in w', is a difference of two gradients at w + e v and
    w - e v, with e = `scale` / |v|. The weights are as before when it returns.

    Args:
        choices: the tensors that say what is chosen.
        weights: the network's parameters.
        train: the loss of a batch of the training part.
        held: the loss of a batch that is held out for the choices.
        step: how the weights would step. With a rate of 0 nothing but the held-out loss is
            computed: the first order.
        scale: of the difference.
        add: replaces gradients by their sums over the workers of a group, each of which computes
            its part of the losses.

    Returns:
        One tensor for each of `choices`.
    """
    if step.rate == 0.0:
        return _of(held(), choices, add)
    before = [weight.detach().clone() for weight in weights]
    buffers = step.buffers or [None] * len(weights)
    with _restored(weights, before):
        for weight, gradient, buffer in zip(
            weights, _of(train(), weights, add), buffers, strict=True
        ):
            move = gradient + step.decay * weight.detach()
            if buffer is not None:
                move = move + step.momentum * buffer
            weight.data.sub_(step.rate * move)
        found = _of(held(), [*choices, *weights], add)
    direct, vector = found[: len(choices)], found[len(choices) :]
    norm = float(torch.sqrt(sum((v.square().sum() for v in vector), torch.zeros(()))))
    if norm == 0.0:
        return direct
    epsilon = scale / norm
    sides = []
    for sign in (1.0, -1.0):
        with _restored(weights, before):
            for weight, v in zip(weights, vector, strict=True):
                weight.data.add_(v, alpha=sign * epsilon)
            sides.append(_of(train(), choices, add))
    return [
        d - step.rate * (plus - minus) / (2.0 * epsilon)
        for d, plus, minus in zip(direct, *sides, strict=True)
    ]


def _of(
    loss: Tensor, tensors: Sequence[Tensor], add: Callable[[Sequence[Tensor]], None]
) -> list[Tensor]:
    """Gradients of a loss, those of all workers; zeros where it does not depend on a tensor."""
    given = torch.autograd.grad(loss, list(tensors), allow_unused=True)
    found = [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(tensors, given, strict=True)
    ]
    add(found)
    return found


class _restored:
    """Puts the weights back when it is left, however it is."""

    def __init__(self, weights: Sequence[Tensor], before: Sequence[Tensor]) -> None:
        self._weights, self._before = weights, before

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for weight, value in zip(self._weights, self._before, strict=True):
            weight.data.copy_(value)
