"""NASWOT (Mellor, Turner, Storkey & Crowley 2021, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinase_trainer.proxies.base import Batch, output

RECTIFIERS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
)


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """log |K|, where K_ij counts the units that are on for both samples i and j, or off for both.

    A unit is on if what its activation is given is above zero. The paper has ReLUs; the other
    activations that let positive values through and hold negative ones back count as well. A
    network without any has the determinant zero, and so minus infinity. Units on which the outputs
    do not depend are missing, for a graph has none.
    """
    size = len(batch.images)
    agreed = torch.zeros(size, size, dtype=torch.float64, device=batch.images.device)

    def count(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        on = (inputs[0].detach().flatten(1) > 0).float()
        off = 1 - on
        agreed.add_((on @ on.T).double() + (off @ off.T).double())

    for module in network.modules():
        if isinstance(module, RECTIFIERS):
            module.register_forward_hook(count)
    with torch.no_grad():
        output(network, batch.images)
    return float(torch.linalg.slogdet(agreed.cpu())[1])
