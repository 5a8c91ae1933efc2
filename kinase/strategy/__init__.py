"""Search strategies: how to explore the space."""

from kinase.strategy.base import (
    History,
    Losses,
    Proposal,
    Strategy,
    Trial,
    derive_rng,
    losses,
    make_strategy,
)

__all__ = [
    "History",
    "Losses",
    "Proposal",
    "Strategy",
    "Trial",
    "derive_rng",
    "losses",
    "make_strategy",
]
