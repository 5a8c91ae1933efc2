"""Hyperband: brackets of successive halving that begin at different rungs."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from kinase.api.estimation import HyperbandEstimation
from kinase.estimation._synchronous import Synchronous


def sizes(rungs: int, eta: int, convention: Literal["paper", "table"]) -> tuple[int, ...]:
    """Candidates that begin each bracket of a sweep, the one from the lowest rung first (Li et al.
    2017, algorithm 1). In integers, since a logarithm of floats loses brackets."""
    found = []
    for promotions in reversed(range(rungs)):
        n, power = promotions + 1, eta**promotions
        found.append(-(-rungs * power // n) if convention == "paper" else rungs // n * power)
    return tuple(found)


class Hyperband(Synchronous):
    """Hyperband (Li et al. 2017, algorithm 1): bracket after bracket of successive halving, in a
    sweep over all first rungs, from many candidates at the least fidelity to a few at the full one;
    then the next sweep. A bracket that waits for its last trials lets the next one begin.
    """

    options: HyperbandEstimation

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Of the brackets of a sweep."""
        return sizes(len(self.ladder), self.options.eta, self.options.brackets)

    def first(self, bracket: int) -> int:
        """The rung at which a bracket begins."""
        return bracket % len(self.ladder)

    def size(self, bracket: int) -> int:
        """Candidates that begin it."""
        return self.sizes[self.first(bracket)]
