"""Search strategies: how to explore the space."""

from kinase.history import History, Losses, Trial
from kinase.space import derive_rng
from kinase.strategy.base import Proposal, Strategy, loss, losses, make_strategy

__all__ = [
    "History",
    "Losses",
    "Proposal",
    "Strategy",
    "Trial",
    "derive_rng",
    "loss",
    "losses",
    "make_strategy",
]
