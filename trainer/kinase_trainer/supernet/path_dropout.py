"""Path dropout: all options at once, of which some are dropped."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kinase.space.supernet import NONE, Supernet
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Relaxation


def incoming(supernet: Supernet) -> dict[str, int]:
    """How many maps are summed where an option's map goes: those of all options other than none of
    all edges into the node."""
    nodes = {node.name: node for node in supernet.graph}
    group_of = {choice.node: choice for choice in supernet.choices}
    found = {}
    for group, options in supernet.groups.items():
        found[group] = sum(option != NONE for option in options)
    for node in nodes.values():
        terms = [group_of[name] for name in node.inputs if name in group_of]
        if node.op == "add" and terms:
            count = sum(option != NONE for term in terms for option in term.options)
            for term in terms:
                found[term.group] = max(count, 1)
    return found


class PathDropout(Relaxation):
    """The sum of the options that are not dropped, each alone with the probability r^(1/k) where k
    maps are summed, so that a node loses all of them with the probability r; r grows linearly from
    0 (Bender et al. 2018, section 3.2)."""

    def __init__(self, supernet: Supernet, rate: float) -> None:
        """With the rate r after the last epoch."""
        super().__init__(supernet)
        self.rate, self.now = rate, 0.0
        self._incoming = incoming(supernet)

    def begin(self, epoch: int, epochs: int) -> None:
        """Drop more."""
        self.now = self.rate * epoch / max(epochs - 1, 1)

    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """Draw what is dropped. Of a choice without any option none is run, or, where that does not
        exist, the first one with a weight of 0."""
        kept, weights = {}, {}
        for group, options in self.supernet.groups.items():
            chance = self.now ** (1 / self._incoming[group]) if self.now else 0.0
            draws = torch.rand(len(options), generator=generator)
            taken = [n for n, option in enumerate(options) if option != NONE and draws[n] >= chance]
            nothing = [options.index(NONE)] if NONE in options else [0]
            kept[group] = taken or nothing
            weights[group] = torch.ones(len(kept[group]))
            if not taken and NONE not in options:
                weights[group] = torch.zeros(1)
        network.run_some(kept, weights)

    def scores(self) -> Mapping[str, Tensor]:
        """All alike: nothing is learned of the choices."""
        return self.probabilities()
