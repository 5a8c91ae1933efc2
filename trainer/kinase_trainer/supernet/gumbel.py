"""Choices drawn by Gumbel noise (Maddison et al. 2014)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TRIES = 100
"""Draws of Gumbel noise of which one must be finite."""


def gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise of a tensor's shape."""
    for _ in range(TRIES):
        noise = -torch.log(
            -torch.log(torch.rand(like.shape, generator=generator, dtype=like.dtype))
        )
        if bool(torch.isfinite(noise).all()):
            return noise.to(like.device)
    raise ArithmeticError("no finite Gumbel noise was drawn")


def hard_sample(alpha: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """A one-hot choice whose gradient is that of the softmax (Dong & Yang 2019, section 3.2).

    Args:
        alpha: (options,).
        temperature: of the softmax.
        generator: draws the noise.

    Returns:
        (options,): 1 for the option that is chosen, with the probability softmax(alpha); else 0.
    """
    noisy = (F.log_softmax(alpha, dim=0) + gumbel(alpha, generator)) / temperature
    soft = torch.softmax(noisy, dim=0)
    hard = F.one_hot(soft.argmax(), len(alpha)).to(soft.dtype)
    return hard - soft.detach() + soft
