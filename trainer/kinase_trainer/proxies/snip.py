"""SNIP (Lee, Ajanthan & Torr 2019, equation 4; as a score of networks: Abdelfattah et al. 2021)."""

from __future__ import annotations

from torch import nn

from kinase_trainer.proxies.base import Batch, gradients


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """Sum over all weights of |w · ∂L/∂w|: how much the loss would change, to first order, were
    each weight removed."""
    return sum(float((w * g).abs().sum()) for w, g in gradients(network, batch))
