"""Synaptic flow (Tanaka, Kunin, Yamins & Ganguli 2020, section 5; as a score of networks:
Abdelfattah, Mehrotra, Dudziak & Lane 2021, section 3)."""

from __future__ import annotations

import torch
from torch import nn

from kinase_trainer.proxies.base import Batch, layers, output, without_normalisation


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """Sum over all weights of |w · ∂R/∂w|. R is the sum of the outputs for an image of ones, of the
    network with the absolute values of its parameters and without normalization.

    In double precision, for R grows exponentially with the depth. No data is looked at. In a net of
    ReLUs without biases the sum over each layer is R.
    """
    network = network.cpu().double()
    without_normalisation(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    ones = torch.ones(1, *batch.images.shape[1:], dtype=torch.float64)
    output(network, ones).sum().backward()  # type: ignore[no-untyped-call]
    total = 0.0
    for layer in layers(network):
        if layer.weight.grad is not None:
            total += float((layer.weight.detach() * layer.weight.grad).abs().sum())
    return total
