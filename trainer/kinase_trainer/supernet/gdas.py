"""GDAS: one option a step, drawn by Gumbel-max."""

from __future__ import annotations

import torch

from kinase.space.supernet import Supernet
from kinase_trainer.supernet.gumbel import hard_sample
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Learned


class Gdas(Learned):
    """One option at a time, drawn by Gumbel-max; only it is run (Dong & Yang 2019)."""

    def __init__(
        self,
        supernet: Supernet,
        generator: torch.Generator,
        hottest: float = 10.0,
        coldest: float = 0.1,
    ) -> None:
        """The temperature falls linearly from the first to the last epoch."""
        super().__init__(supernet, generator)
        self.hottest, self.coldest = hottest, coldest
        self.temperature = hottest

    def begin(self, epoch: int, epochs: int) -> None:
        """Cool down."""
        done = epoch / max(epochs - 1, 1)
        self.temperature = self.hottest + (self.coldest - self.hottest) * done

    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """One draw a step, shared by all copies of a cell."""
        weights = {
            group: hard_sample(a, self.temperature, generator) for group, a in self.alphas.items()
        }
        network.follow({g: int(w.detach().argmax()) for g, w in weights.items()}, weights)
