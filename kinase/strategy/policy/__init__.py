"""Policies that choose edits of an architecture, and how they learn, with NumPy instead of torch.

Gradients are computed by autograd. Everything is in double precision and deterministic, so a policy
is reproduced exactly when its events are replayed.
"""

from __future__ import annotations

from kinase.strategy.policy.adam import Adam
from kinase.strategy.policy.parameters import Parameters
from kinase.strategy.policy.reinforce import Baseline, Reinforce
from kinase.strategy.policy.rewards import reward

__all__ = ["Adam", "Baseline", "Parameters", "Reinforce", "reward"]
