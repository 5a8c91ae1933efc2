"""Adam."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kinase.strategy.policy.parameters import Array, Parameters


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1), with the paper's decays."""

    def __init__(
        self,
        learning_rate: float,
        decays: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        """Start at step 0."""
        self._rate, self._decays, self._epsilon = learning_rate, decays, epsilon
        self._moments: dict[str, tuple[Array, Array]] = {}
        self._step = 0

    def step(self, parameters: Parameters, gradients: Mapping[str, Array]) -> Parameters:
        """Parameters after one step."""
        self._step += 1
        first, second = self._decays
        after = {}
        for name, value in parameters.items():
            gradient = gradients[name]
            zero = np.zeros_like(value)
            mean, square = self._moments.get(name, (zero, zero))
            mean = first * mean + (1 - first) * gradient
            square = second * square + (1 - second) * gradient**2
            self._moments[name] = mean, square
            root = np.sqrt(square / (1 - second**self._step)) + self._epsilon
            after[name] = value - self._rate * mean / (1 - first**self._step) / root
        return after
