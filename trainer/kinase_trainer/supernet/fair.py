"""FairNAS: every option once in each step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kinase.space.supernet import Supernet
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Relaxation


class Fair(Relaxation):
    """As many paths in a step of the weights as a choice has options: of each choice a random
    order, so that every option is trained once a step (strict fairness; Chu et al. 2021, section
    3.2). The gradients are summed. A choice with fewer options than another begins again with
    another order."""

    def __init__(self, supernet: Supernet) -> None:
        """For a supernet of which every path is an architecture.

        Raises:
            ValueError: it is another one.
        """
        super().__init__(supernet)
        if supernet.inputs:
            raise ValueError(
                "FairNAS uses every option once in each step, but nodes of this space take only "
                "some of their edges; use Uniform"
            )
        self.together = max((len(options) for options in supernet.groups.values()), default=1)
        self._left: dict[str, list[int]] = {}

    def begin(self, epoch: int, epochs: int) -> None:
        """Every epoch begins with new orders."""
        self._left = {}

    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """Follow the next path of the step."""
        path = {}
        for group, options in self.supernet.groups.items():
            left = self._left.get(group)
            if not left:
                left = torch.randperm(len(options), generator=generator).tolist()
                self._left[group] = left
            path[group] = left.pop()
        network.follow(path)

    def scores(self) -> Mapping[str, Tensor]:
        """All alike: nothing is learned of the choices."""
        return self.probabilities()
