"""Choices that learn from rewards (Williams 1992)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch

from kinase_trainer.supernet.relaxation import Relaxation

Reward = Callable[[Mapping[str, int]], float]
"""What a path is worth on held-out samples; more is better."""


class Policy(Relaxation):
    """Draws paths, and learns from what they are worth."""

    paths: int
    """Paths whose rewards make one step."""

    @abstractmethod
    def reinforce(
        self, reward: Reward, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        """Step by the rewards of paths that are drawn."""

    def conclude(self, reward: Reward, generator: torch.Generator) -> None:
        """Called after the last epoch: the last rewards before paths are derived."""
