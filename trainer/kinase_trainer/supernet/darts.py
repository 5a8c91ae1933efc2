"""DARTS: a softmax over all options."""

from __future__ import annotations

import torch

from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Learned


class Darts(Learned):
    """All options, weighted by a softmax (Liu et al. 2019, section 2.2)."""

    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """The same weights in every step."""
        network.mix(self.weights())
