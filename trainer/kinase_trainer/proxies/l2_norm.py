"""The norm of the weights (Abdelfattah et al. 2021, their code)."""

from __future__ import annotations

from torch import nn

from kinase_trainer.proxies.base import Batch, layers


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """Sum over layers of the Euclidean norm of w, as drawn."""
    return sum(float(layer.weight.detach().norm()) for layer in layers(network))
