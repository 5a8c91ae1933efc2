"""The sum of weights times gradients, signed (Abdelfattah et al. 2021, their code)."""

from __future__ import annotations

from torch import nn

from kinase_trainer.proxies.base import Batch, gradients


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """Sum over all weights of w · ∂L/∂w."""
    return sum(float((w * g).sum()) for w, g in gradients(network, batch))
