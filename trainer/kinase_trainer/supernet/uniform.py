"""One architecture a step, drawn at random: no choice is learned."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from kinase.space import Graph, InfeasibleError, Space
from kinase.space.supernet import Supernet
from kinase_trainer.supernet.elastic import ElasticNetwork, follow
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Relaxation
from kinase_trainer.supernet.within import Within

DRAWS = 1000
"""Draws for one step."""


class Uniform(Relaxation):
    """The space's own random architectures (Guo et al. 2020, section 3.2; Li & Talwalkar 2020,
    section 3.2): only the weights on the path of a step are trained in it."""

    def __init__(
        self, supernet: Supernet | None, space: Space, within: Within | None = None
    ) -> None:
        """Draw from a space, whose supernet it is; None for shared tensors that are sliced.

        With `within`, paths are within the limits of the search, if some draws find one, so that
        only weights are trained that a candidate can have (Guo et al. 2020, section 3.4, where
        limits hold for the candidates; in the authors' code for the paths in training, too).
        """
        super().__init__(supernet or Supernet(Graph((), ""), ()))
        self.space = space
        self.within = within

    def choose(self, network: Supernetwork | ElasticNetwork, generator: torch.Generator) -> None:
        """Follow another path in each step. Architectures whose network does not exist at this
        input size are drawn again.

        Raises:
            InfeasibleError: so is each of many draws.
        """
        seed = int(torch.randint(2**62, (), generator=generator))
        rng = np.random.default_rng(seed)
        if self.within is not None:
            follow(network, self.space, self.within.draw(lambda: self.space.sample(rng)))
            return
        for _ in range(DRAWS - 1):
            with suppress(InfeasibleError):
                follow(network, self.space, self.space.sample(rng))
                return
        follow(network, self.space, self.space.sample(rng))

    def scores(self) -> Mapping[str, Tensor]:
        """All alike: nothing is learned of the choices."""
        return {group: torch.zeros(len(o)) for group, o in self.supernet.groups.items()}
