"""ENAS: a controller that learns from what its paths are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kinase.api import supernet as api
from kinase.space.supernet import Supernet
from kinase_trainer.supernet.controller import Controller
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.policy import Policy, Reward, surrogate

LOOKS = 64
"""Paths from which the probabilities of options are estimated."""


class Enas(Policy):
    """Paths that a controller writes; the weights learn on one a step, and the controller from the
    held-out accuracy of others (Pham et al. 2018, section 2.2)."""

    baseline: Tensor

    def __init__(self, supernet: Supernet, generator: torch.Generator, plan: api.ENAS) -> None:
        """Begin with a controller that prefers nothing."""
        super().__init__(supernet)
        self.plan, self.paths, self.concluding = plan, plan.paths, plan.derived
        self.controller = Controller(supernet, generator, plan.units, plan.tanh, plan.reduce)
        self.register_buffer("baseline", torch.zeros(()))
        self._found: list[tuple[dict[str, int], float]] = []

    @torch.no_grad()
    def choose(self, network: Supernetwork, generator: torch.Generator) -> None:
        """Follow a path of the controller."""
        network.follow(self.controller.write(1, generator).path(0))

    def reinforce(
        self, reward: Reward, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        """One step by the mean over the paths."""
        plan = self.plan
        written = self.controller.write(plan.paths, generator)
        worth = [reward(written.path(number)) for number in range(plan.paths)]
        rewards = torch.tensor(worth, device=written.entropies.device)
        rewards = rewards + plan.entropy * written.entropies.detach()
        self.baseline += (1 - plan.baseline) * (rewards.mean() - self.baseline)
        loss = surrogate(written.chances, rewards, float(self.baseline))
        if written.skips and plan.skip_weight:
            loss = loss + plan.skip_weight * self._skipping(torch.stack(written.skips))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _skipping(self, chances: Tensor) -> Tensor:
        """Mean over the paths of the divergence of the skips' probabilities from the target, summed
        over the skips (section 2.3)."""
        t = self.plan.skip_target
        q = chances.clamp(1e-6, 1 - 1e-6)
        divergence = q * (q / t).log() + (1 - q) * ((1 - q) / (1 - t)).log()
        return divergence.sum(0).mean()

    @torch.no_grad()
    def conclude(self, reward: Reward, generator: torch.Generator) -> None:
        """Draw some paths and score them; equal ones once."""
        written = self.controller.write(self.plan.derived, generator)
        paths = {tuple(p.items()): p for p in map(written.path, range(self.plan.derived))}
        found = [(path, reward(path)) for path in paths.values()]
        self._found = sorted(found, key=lambda pair: -pair[1])

    @torch.no_grad()
    def probabilities(self) -> dict[str, Tensor]:
        """The shares of options in some paths."""
        written = self.controller.write(LOOKS, torch.Generator().manual_seed(0))
        return {
            group: torch.bincount(written.options[group].cpu(), minlength=len(options)) / LOOKS
            for group, options in self.supernet.groups.items()
        }

    def scores(self) -> Mapping[str, Tensor]:
        """The same."""
        return self.probabilities()

    @torch.no_grad()
    def derive(self) -> dict[str, int]:
        """The best path of those scored; before, the one that the controller prefers."""
        return self._found[0][0] if self._found else self.controller.write(1, None).path(0)

    def candidates(self) -> list[tuple[dict[str, int], float]]:
        """The paths that were scored, with what they are worth."""
        return list(self._found) or super().candidates()

    def remember(self) -> Any:
        """The paths that were scored."""
        return [[path, score] for path, score in self._found]

    def recall(self, remembered: Any) -> None:
        """See `Relaxation`."""
        found: list[tuple[dict[str, int], float]] = []
        for each in remembered or []:
            try:
                path, score = each
                self.supernet.check(path)
                found.append((dict(path), float(score)))
            except (TypeError, ValueError):
                raise ValueError(
                    f"a scored path is {each!r:.80}; use a path and a number"
                ) from None
        self._found = found
