"""What a zero-cost proxy is given, and what several of them compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinase_trainer.network import LayerNorm


@dataclass(frozen=True)
class Batch:
    """Samples of the training part: the same ones for every network of a search."""

    images: Tensor
    """Floats in 0..1, (N, C, H, W), on the network's device."""
    targets: Tensor
    """As the loss takes them, (N, ...)."""
    loss: Callable[[Tensor, Tensor], Tensor]
    """Mean loss of outputs and targets, a scalar to go backward from."""
    labels: Tensor | None = None
    """The class of each sample, (N,), where each has one."""


Proxy = Callable[[nn.Module, Batch, int], float]
"""`measure(network, batch, seed)`: a number by which untrained networks are compared, the more the
better.

The network is a copy for this proxy alone, in training mode and without chance (no dropout), so it
may be changed. All random generators are seeded before, by `seed`; they are put back afterwards.
"""


def output(network: nn.Module, images: Tensor) -> Tensor:
    """Outputs of the main head, (N, ...)."""
    found = network(images)
    main: Tensor = found[0] if isinstance(found, tuple) else found
    return main


def layers(network: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    """Layers whose weights count: convolutions and linear ones, as in pruning."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield module


def gradients(network: nn.Module, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights of each layer, and the gradient of the batch's mean loss by them; zero where the
    outputs do not depend on them."""
    network.zero_grad(set_to_none=True)
    batch.loss(output(network, batch.images), batch.targets).backward()  # type: ignore[no-untyped-call]
    for layer in layers(network):
        weight, gradient = layer.weight, layer.weight.grad
        yield weight.detach(), torch.zeros_like(weight) if gradient is None else gradient


def jacobian(network: nn.Module, images: Tensor) -> Tensor:
    """Gradient of the sum of all outputs by each image, (N, C·H·W), in double precision.

    A network that normalizes by the batch mixes the samples; as in the papers that is left so.
    """
    images = images.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(output(network, images).sum(), images)
    return found.flatten(1).double().cpu()


def correlations(rows: Tensor) -> Tensor:
    """Pearson's correlation of each two rows, (N, N); not a number for a constant row."""
    return torch.corrcoef(rows).reshape(len(rows), len(rows))


NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, LayerNorm)


def without_normalisation(network: nn.Module) -> None:
    """Take the normalization of maps, of images and of targets out of a network."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NORMS):
                setattr(module, name, nn.Identity())
    plain: dict[str, Callable[[Tensor], Tensor | None]] = {
        "mean": torch.zeros_like,
        "deviation": torch.ones_like,
        "target_mean": lambda _: None,
        "target_deviation": lambda _: None,
    }
    for name, made in plain.items():
        buffer = dict(network.named_buffers(recurse=False)).get(name)
        if buffer is not None:
            setattr(network, name, made(buffer))
