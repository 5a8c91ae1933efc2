"""The multiply-adds of a sample: what every other proxy has to beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinase_trainer.proxies.base import Batch, layers, output
from kinase_trainer.tokens import Attention


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """Multiply-adds of convolutions, linear layers and attention, as the objective `macs` counts
    them."""
    found: list[int] = []

    def weighed(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        found.append(out[0].numel() * weight[0].numel())

    def attended(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(module, Attention)
        tokens = out.shape[1]
        found.append(2 * tokens * tokens * module.heads * module.head_dim)

    for layer in layers(network):
        layer.register_forward_hook(weighed)
    for module in network.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(attended)
    with torch.no_grad():
        output(network.eval(), batch.images[:1])
    return float(sum(found))
