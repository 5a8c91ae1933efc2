"""SNAS: samples of the concrete distribution."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from kinase.space.supernet import Supernet
from kinase_trainer.supernet.gumbel import gumbel
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Learned


class Snas(Learned):
    """All options, weighted by a sample of the concrete distribution (Xie et al. 2019, section 2.2;
    Maddison et al. 2017)."""

    def __init__(
        self,
        supernet: Supernet,
        generator: torch.Generator,
        hottest: float = 1.0,
        coldest: float = 0.03,
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
        """A draw for each group."""
        network.mix(
            {
                group: torch.softmax(
                    (F.log_softmax(a, dim=0) + gumbel(a, generator)) / self.temperature, dim=0
                )
                for group, a in self.alphas.items()
            }
        )
