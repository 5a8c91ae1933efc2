"""Strategies that learn the choices of a supernet by gradients."""

from __future__ import annotations

from kinase.history import History
from kinase.space import Rng
from kinase.strategy.base import Proposal, Strategy

DERIVED = "derived"
"""Operation of an architecture that was derived."""


class Gradient(Strategy):
    """DARTS (Liu et al. 2019), SNAS (Xie et al. 2019), GDAS (Dong & Yang 2019), DrNAS (Chen et al.
    2021) and GAEA (Li et al. 2021); also pruning, which has no gradients of choices. What is
    learned is learned while the supernet trains (`kinase_trainer.supernet`); proposed are the
    architectures that its choices have led to."""

    _found = True
    """Whether anything was derived."""

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """The best derived architecture that was not proposed yet."""
        found = history.supernet.derived if history.supernet is not None else ()
        self._found = bool(found)
        for derived in found:
            if self.space.key(derived.architecture) not in history.by_key:
                return Proposal(derived.architecture, (), DERIVED)
        return None

    @property
    def why_none(self) -> str:
        """Nothing else is derived, or nothing at all."""
        if not self._found:
            return "the supernet's choices have led to no architecture of the space"
        return "the architectures that the supernet's choices have led to are scored"
