"""The number of parameters: what every other proxy has to beat."""

from __future__ import annotations

from torch import nn

from kinase_trainer.proxies.base import Batch


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """Trainable parameters, as the objective `params` counts them."""
    return float(sum(parameter.numel() for parameter in network.parameters()))
