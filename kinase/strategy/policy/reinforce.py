"""REINFORCE: a policy learns from the rewards of its choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from autograd import grad

from kinase.strategy.policy.adam import Adam
from kinase.strategy.policy.layers import Traced
from kinase.strategy.policy.parameters import Array, Parameters

E = TypeVar("E")
"""The choices of an episode."""
Score = Callable[[Parameters, Sequence[E]], tuple[Traced, Traced]]
"""The log probability of each episode under these parameters, and the entropy of the choices."""


class Baseline:
    """An exponentially moving average of mean rewards, from 0: each batch moves it towards the
    batch's mean by the share `decay`, as in the code of Cai et al. 2018a."""

    def __init__(self, decay: float) -> None:
        """Start at 0."""
        self._decay = decay
        self.value = 0.0

    def advantages(self, rewards: Array) -> Array:
        """A batch's rewards minus the updated baseline."""
        self.value += self._decay * (float(rewards.mean()) - self.value)
        return rewards - self.value


def surrogate(
    score: Score[E],
    parameters: Parameters,
    episodes: Sequence[E],
    advantages: Array,
    entropy: float,
) -> Traced:
    """A loss whose gradient is the negative policy gradient estimate (Williams 1992), with an
    entropy bonus."""
    logs, spread = score(parameters, episodes)
    return -np.dot(advantages / len(episodes), logs) - entropy * spread


class Reinforce(Generic[E]):
    """REINFORCE (Williams 1992) with a moving baseline, an entropy bonus, and Adam."""

    def __init__(
        self, score: Score[E], parameters: Parameters, adam: Adam, decay: float, entropy: float
    ) -> None:
        """Start with these parameters."""
        self._score, self._adam, self._entropy = score, adam, entropy
        self.parameters = parameters
        self.baseline = Baseline(decay)
        self.updates = 0

    def update(self, episodes: Sequence[E], rewards: Sequence[float]) -> None:
        """Learn from a batch of episodes."""
        advantages = self.baseline.advantages(np.asarray(rewards, dtype=np.float64))

        def loss(parameters: Parameters) -> Traced:
            return surrogate(self._score, parameters, episodes, advantages, self._entropy)

        self.parameters = self._adam.step(self.parameters, grad(loss)(self.parameters))
        self.updates += 1
