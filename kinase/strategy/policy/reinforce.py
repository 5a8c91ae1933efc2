"""REINFORCE: a policy learns from the rewards of what it chose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from autograd import grad

from kinase.strategy.policy.adam import Adam
from kinase.strategy.policy.layers import Traced
from kinase.strategy.policy.parameters import Array, Parameters

E = TypeVar("E")
"""What was chosen in one episode."""
Score = Callable[[Parameters, Sequence[E]], tuple[Traced, Traced]]
"""For episodes: the logarithms of the probabilities that these parameters choose just so, one an
episode, and the entropy of the choices."""


class Baseline:
    """An exponentially moving average of mean rewards, from 0: after each batch it has moved by
    `decay` of the way to the batch's mean, as in the code of Cai et al. 2018a."""

    def __init__(self, decay: float) -> None:
        """At 0."""
        self._decay = decay
        self.value = 0.0

    def advantages(self, rewards: Array) -> Array:
        """A batch's rewards above the baseline, once that has moved."""
        self.value += self._decay * (float(rewards.mean()) - self.value)
        return rewards - self.value


def surrogate(
    score: Score[E],
    parameters: Parameters,
    episodes: Sequence[E],
    advantages: Array,
    entropy: float,
) -> Traced:
    """A function whose gradient is the policy gradient's estimate (Williams 1992), turned so that
    less is better, with a bonus for entropy."""
    logs, spread = score(parameters, episodes)
    return -np.dot(advantages / len(episodes), logs) - entropy * spread


class Reinforce(Generic[E]):
    """REINFORCE (Williams 1992) with a moving baseline, a bonus for entropy, and Adam."""

    def __init__(
        self, score: Score[E], parameters: Parameters, adam: Adam, decay: float, entropy: float
    ) -> None:
        """With these parameters to begin with."""
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
