"""PC-DARTS: a part of the channels, and weighted edges."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kinase.space.supernet import Supernet
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Learned


class PcDarts(Learned):
    """All options of an edge, weighted by a softmax, for a part of the channels, and all edges of a
    node, weighted by another one (Xu et al. 2020, sections 3.2 and 3.3).

    What the options see is written in the supernet's graph (`Frame.partial`), which has no slices.
    """

    def __init__(
        self, supernet: Supernet, generator: torch.Generator, deviation: float = 1e-3
    ) -> None:
        """Begin near equal choices and equal edges; see `Learned`.

        Raises:
            ValueError: the supernet has no weighted edges.
        """
        super().__init__(supernet, generator, deviation)
        nodes = dict.fromkeys(edges.groups for edges in supernet.edges)
        if not nodes:
            raise ValueError("PCDARTS needs a supernet with partial channels; this space has none")
        self._nodes = {groups: str(number) for number, groups in enumerate(nodes)}
        self.betas = nn.ParameterDict(
            {
                name: nn.Parameter(deviation * torch.randn(len(groups), generator=generator))
                for groups, name in self._nodes.items()
            }
        )

    def edges(self) -> dict[tuple[str, ...], Tensor]:
        """(edges,) of each node, by their groups."""
        return {groups: torch.softmax(self.betas[name], 0) for groups, name in self._nodes.items()}

    def mix(self, network: Supernetwork, weights: Mapping[str, Tensor]) -> None:
        """The edges keep their weights."""
        network.mix(weights, self.edges())

    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """The same weights in every step."""
        network.mix(self.weights(), self.edges())

    def scores(self) -> Mapping[str, Tensor]:
        """The probabilities of the options, each times the weight of its edge."""
        weights = {
            group: weight
            for groups, row in self.edges().items()
            for group, weight in zip(groups, row.detach(), strict=True)
        }
        return {group: row * weights[group] for group, row in self.probabilities().items()}
