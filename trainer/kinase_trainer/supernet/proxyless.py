"""ProxylessNAS: one path in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kinase.space.supernet import Supernet
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.policy import Policy, Reward, surrogate
from kinase_trainer.supernet.relaxation import Learned


def draw(row: Tensor, count: int, generator: torch.Generator) -> list[int]:
    """Different options, drawn by their probabilities (options,)."""
    found = torch.multinomial(row.detach().cpu(), count, generator=generator)
    return [int(option) for option in found]


def gate(alpha: Tensor, generator: torch.Generator) -> Tensor:
    """A binary gate of each option: 1 for one that is drawn by the softmax, else 0.

    Its gradient in alpha_i is the sum over j of that of gate j times p_j (d_ij - p_i) (Cai et al.
    2019, section 3.2).
    """
    soft = torch.softmax(alpha, dim=0)
    hard = F.one_hot(torch.tensor(draw(soft, 1, generator)[0]), len(alpha))
    return hard.to(soft) + (soft - soft.detach())


class Proxyless(Learned):
    """One path in a step of the weights, and two options of each choice in one of the choices
    (Cai et al. 2019, section 3.2): which of the two is used is gated."""

    def __init__(
        self, supernet: Supernet, generator: torch.Generator, deviation: float = 1e-3
    ) -> None:
        """Begin near equal choices; see `Learned`."""
        super().__init__(supernet, generator, deviation)
        self._pairs: dict[str, list[int]] = {}

    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """Follow one path, drawn by the probabilities."""
        rows = self.probabilities()
        network.follow({group: draw(row, 1, generator)[0] for group, row in rows.items()})

    def explore(self, network: Supernetwork, generator: torch.Generator) -> None:
        """Draw two options of each choice, and one of the two for its output."""
        rows = self.probabilities()
        self._pairs = {
            group: draw(row, min(2, int((row > 0).sum())), generator) for group, row in rows.items()
        }
        gates = {g: gate(self.alphas[g][pair], generator) for g, pair in self._pairs.items()}
        network.run_some(self._pairs, gates)

    @torch.no_grad()
    def learn(self, gradients: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Step, and then shift the two options of a choice alike, so that the sum of their
        exponentials is as before: the probabilities of the others do not change by it."""
        before = {g: self.alphas[g][pair].logsumexp(0) for g, pair in self._pairs.items()}
        super().learn(gradients, optimizer)
        for group, pair in self._pairs.items():
            alpha = self.alphas[group]
            alpha[pair] += before[group] - alpha[pair].logsumexp(0)


class ProxylessReinforce(Proxyless, Policy):
    """The same with choices that learn from rewards (Cai et al. 2019, section 3.3.2)."""

    baseline: Tensor

    def __init__(
        self,
        supernet: Supernet,
        generator: torch.Generator,
        paths: int = 10,
        decay: float = 0.01,
        deviation: float = 1e-3,
    ) -> None:
        """Begin near equal choices.

        Args:
            supernet: whose choices they are.
            generator: draws the first values.
            paths: of a step.
            decay: weight of the former baseline; the authors' code has 0.01.
            deviation: see `Learned`.
        """
        super().__init__(supernet, generator, deviation)
        self.paths, self.decay = paths, decay
        self.register_buffer("baseline", torch.full((), -1.0))

    def reinforce(
        self, reward: Reward, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        """One step by the mean over the paths."""
        rewards, chances = [], []
        for _ in range(self.paths):
            rows = self.weights()
            path = {group: draw(row, 1, generator)[0] for group, row in rows.items()}
            chances.append(torch.stack([rows[g][o].log() for g, o in path.items()]).sum())
            rewards.append(reward(path))
        values = torch.tensor(rewards)
        mean = values.mean()
        kept = self.decay if float(self.baseline) >= 0 else 0.0  # a reward is never below zero
        self.baseline.copy_(kept * self.baseline + (1 - kept) * mean)
        loss = surrogate(torch.stack(chances), values, float(self.baseline))
        Learned.learn(self, torch.autograd.grad(loss, list(self.parameters())), optimizer)
