"""GAEA: exponentiated gradients on the simplex."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kinase.space.supernet import Supernet
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Learned


class Gaea(Learned):
    """All options, weighted by a point of the simplex that moves by exponentiated gradients (Li et
    al. 2021, section 4). `alphas` are the logarithms of the weights."""

    softmax = False
    LEAST = 1e-5
    """Least weight of an option, before all are scaled to a sum of 1."""

    def __init__(self, supernet: Supernet, generator: torch.Generator) -> None:
        """Begin with equal weights."""
        super().__init__(supernet, generator, deviation=0.0)
        with torch.no_grad():
            for a in self.alphas.values():
                a.fill_(-math.log(len(a)))

    def weights(self) -> dict[str, Tensor]:
        """(options,) of each group."""
        return {group: a.exp() for group, a in self.alphas.items()}

    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """The same weights in every step."""
        network.mix(self.weights())

    @torch.no_grad()
    def learn(self, gradients: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
        """p <- p exp(-rate g) for the gradient g in p, scaled to a sum of 1. The rate is the
        optimizer's; that in the logarithm of p is p g."""
        rate = float(optimizer.param_groups[0]["lr"])
        for alpha, gradient in zip(self.alphas.values(), gradients, strict=True):
            moved = alpha - rate * gradient / alpha.exp()
            p = torch.softmax(moved, dim=0).clamp(min=self.LEAST)
            alpha.copy_((p / p.sum()).log())
