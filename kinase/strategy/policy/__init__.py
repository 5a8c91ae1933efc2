"""Policies that choose how an architecture is changed, and how they learn: numpy, no torch.

Gradients are autograd's. All is double precision and deterministic, so that a policy is the same
again when the events that it learned from are replayed.
"""

from __future__ import annotations

from kinase.strategy.policy.adam import Adam
from kinase.strategy.policy.parameters import Parameters
from kinase.strategy.policy.reinforce import Baseline, Reinforce
from kinase.strategy.policy.rewards import reward

__all__ = ["Adam", "Baseline", "Parameters", "Reinforce", "reward"]
