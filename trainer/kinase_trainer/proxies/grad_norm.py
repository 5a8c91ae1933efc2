"""The norm of the gradient (Abdelfattah et al. 2021, section 3)."""

from __future__ import annotations

from torch import nn

from kinase_trainer.proxies.base import Batch, gradients


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """Sum over layers of the Euclidean norm of ∂L/∂w."""
    return sum(float(g.norm()) for _, g in gradients(network, batch))
