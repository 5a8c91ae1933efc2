"""Random search without replacement."""

from __future__ import annotations

from kinase.history import History
from kinase.space import Rng
from kinase.strategy._fresh import random_fresh
from kinase.strategy.base import Proposal, Strategy


class Random(Strategy):
    """Random architectures, each isomorphism class at most once (Li & Talwalkar 2019, section 3.1,
    call it the baseline that a search must beat)."""

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """A random architecture that has not been tried, or None if there is none."""
        return random_fresh(self.space, history, rng)

    def parents_to_come(self, history: History) -> set[int]:
        """None: architectures are independent of each other."""
        return set()
