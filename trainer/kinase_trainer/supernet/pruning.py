"""A supernet that is trained whole, and what is left of it without its smallest kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kinase.space.supernet import NONE, Supernet
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Relaxation


class Pruning(Relaxation):
    """All edges in every step (Saxena & Verbeek 2016, section 3): the whole fabric is a network.
    What is left is the part of it whose kernels have the largest norms."""

    def __init__(self, supernet: Supernet, shares: Sequence[float]) -> None:
        """For a supernet in which every choice is whether a convolution is there.

        Args:
            supernet: whose choices they are.
            shares: of the edges that are kept, one for each candidate.

        Raises:
            ValueError: a choice is another one.
        """
        super().__init__(supernet)
        nodes = {node.name: node for node in supernet.graph}
        self.shares = tuple(shares)
        self._kernels: dict[str, list[str]] = {}
        for choice in supernet.choices:
            *_, option = nodes[choice.node].inputs
            if len(choice.options) != 2 or choice.options[0] != NONE or nodes[option].op != "conv":
                raise ValueError(
                    f"Pruning compares kernels, but the options of {choice.group} are "
                    f"{', '.join(choice.options)}; use the space Fabric"
                )
            self._kernels.setdefault(choice.group, []).append(option)
        self._norms = dict.fromkeys(self._kernels, 0.0)

    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """Every edge, as it is."""
        self.mix(network, self.probabilities())

    def probabilities(self) -> dict[str, Tensor]:
        """Every edge is there."""
        return {group: torch.tensor([0.0, 1.0]) for group in self._kernels}

    def read(self, network: Supernetwork) -> None:
        """Take the norms of the kernels."""
        for group, names in self._kernels.items():
            total = 0.0
            for name in names:
                module = network.nodes[name]
                assert isinstance(module, nn.Conv2d)
                total += float(module.weight.detach().double().square().sum())
            self._norms[group] = math.sqrt(total)

    def scores(self) -> Mapping[str, Tensor]:
        """The norms of the kernels; that of no edge is 0."""
        return {group: torch.tensor([0.0, norm]) for group, norm in self._norms.items()}

    def candidates(self) -> list[tuple[dict[str, int], float]]:
        """A path for each share: the edges with the largest norms, and the largest one of a node
        that would have none. With each the share of the squares that its edges had."""
        order = sorted(self._norms, key=lambda group: -self._norms[group])
        total = math.fsum(norm**2 for norm in self._norms.values())
        found = []
        for share in self.shares:
            kept = set(order[: math.ceil(share * len(order))])
            path = self.supernet.best(
                {g: (0.0 if g in kept else math.inf, norm) for g, norm in self._norms.items()}
            )
            taken = math.fsum(self._norms[group] ** 2 for group, option in path.items() if option)
            found.append((path, taken / total if total else 1.0))
        return found
