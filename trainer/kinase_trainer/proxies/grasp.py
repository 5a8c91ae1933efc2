"""GraSP (Wang, Zhang & Grosse 2020, equation 8; as a score of networks: Abdelfattah et al. 2021,
who turn its sign)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from kinase_trainer.proxies.base import Batch, layers, output


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """Sum over all weights of −w · (H g), where g is the gradient of the loss and H its second
    derivative by all weights: by the product g · stop(g), derived once more."""
    weights = [layer.weight for layer in layers(network)]
    with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
        loss = batch.loss(output(network, batch.images), batch.targets)
        first = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        product = sum((g * g.detach()).sum() for g in first if g is not None)
        if not isinstance(product, torch.Tensor) or not product.requires_grad:
            return 0.0
        second = torch.autograd.grad(product, weights, allow_unused=True)
    pairs = zip(weights, second, strict=True)
    return -sum(float((w.detach() * h).sum()) for w, h in pairs if h is not None)
