"""Choices that learn from rewards (Williams 1992)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kinase_trainer.supernet.relaxation import Relaxation

Reward = Callable[[Mapping[str, int]], float]
"""What a path is worth on held-out samples; more is better."""


def surrogate(chances: Tensor, rewards: Tensor, baseline: float) -> Tensor:
    """A loss whose gradient is an unbiased estimate of minus that of the expected reward (Williams
    1992).

    Args:
        chances: (paths,): logarithms of the probabilities with which they were drawn.
        rewards: (paths,).
        baseline: what is expected.
    """
    return -((rewards.to(chances) - baseline) * chances).mean()


class Policy(Relaxation):
    """Draws paths, and learns from what they are worth."""

    paths: int
    """Paths whose rewards make one step."""
    concluding: int = 0
    """Paths that `conclude` scores."""

    @abstractmethod
    def reinforce(
        self, reward: Reward, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        """Step by the rewards of paths that are drawn."""

    def conclude(self, reward: Reward, generator: torch.Generator) -> None:
        """Called after the last epoch: the last rewards before paths are derived."""
