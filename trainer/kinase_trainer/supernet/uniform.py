"""One architecture a step, drawn at random: no choice is learned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from kinase.space import Graph, Space
from kinase.space.supernet import Supernet
from kinase_trainer.supernet.elastic import ElasticNetwork, follow
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Relaxation


class Uniform(Relaxation):
    """The space's own random architectures (Guo et al. 2020, section 3.2; Li & Talwalkar 2020,
    section 3.2): only the weights on the path of a step are trained in it."""

    def __init__(self, supernet: Supernet | None, space: Space) -> None:
        """Draw from a space, whose supernet it is; None for shared tensors that are sliced."""
        super().__init__(supernet or Supernet(Graph((), ""), ()))
        self.space = space

    def choose(self, network: Supernetwork | ElasticNetwork, generator: torch.Generator) -> None:
        """Follow another path in each step."""
        seed = int(torch.randint(2**62, (), generator=generator))
        follow(network, self.space, self.space.sample(np.random.default_rng(seed)))

    def scores(self) -> Mapping[str, Tensor]:
        """All alike: nothing is learned of the choices."""
        return {group: torch.zeros(len(o)) for group, o in self.supernet.groups.items()}
