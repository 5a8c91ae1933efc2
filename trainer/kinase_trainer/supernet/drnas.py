"""DrNAS: samples of a Dirichlet distribution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Dirichlet
from torch.nn import functional as F

from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Learned

LEAST = 1e-6
"""Smallest concentration."""


class DrNas(Learned):
    """All options, weighted by a sample of a Dirichlet distribution (Chen et al. 2021, section
    3.1), whose concentrations are elu(alpha) + 1."""

    softmax = False

    def concentrations(self) -> dict[str, Tensor]:
        """(options,) of each group, above zero: elu(alpha) + 1 is rounded to 0 below about -17."""
        return {group: (F.elu(a) + 1.0).clamp_min(LEAST) for group, a in self.alphas.items()}

    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """A draw for each group, with pathwise gradients."""
        with torch.random.fork_rng(devices=[]):  # torch's distributions have no generator
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            network.mix(
                {
                    # without checks: what is not a number becomes a loss that is none
                    group: Dirichlet(c, validate_args=False).rsample()
                    for group, c in self.concentrations().items()
                }
            )

    def weights(self) -> dict[str, Tensor]:
        """The mean of the distribution."""
        return {group: c / c.sum() for group, c in self.concentrations().items()}
