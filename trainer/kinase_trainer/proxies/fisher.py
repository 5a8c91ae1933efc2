"""Fisher information of channels (Theis, Korshunova, Tejani & Huszár 2018; Turner et al. 2020,
equation 3; as a score of networks: Abdelfattah et al. 2021)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from kinase_trainer.proxies.base import Batch, layers, output


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """Sum over the channels of all layers' outputs a of ½ mean over samples of
    (sum over positions of a · ∂L/∂a)², with the mean loss L of the batch."""
    found: list[float] = []

    def look(activation: Tensor, gradient: Tensor) -> None:
        product = _by_channel(activation * gradient)
        found.append(float(product.square().mean(0).sum() / 2))

    def attach(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        if out.requires_grad:
            out.register_hook(partial(look, out.detach()))  # type: ignore[no-untyped-call]

    for layer in layers(network):
        layer.register_forward_hook(attach)
    batch.loss(output(network, batch.images), batch.targets).backward()  # type: ignore[no-untyped-call]
    return sum(found)


def _by_channel(x: Tensor) -> Tensor:
    """(N, C, H, W), (N, T, C) or (N, C) -> (N, C), summed over positions."""
    match x.ndim:
        case 4:
            return x.sum((2, 3))
        case 3:
            return x.sum(1)
    return x
