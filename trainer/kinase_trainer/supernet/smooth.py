"""SDARTS: weights that learn under noisy choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kinase.api import supernet_options as api
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.extra import Extra
from kinase_trainer.supernet.gaea import Gaea
from kinase_trainer.supernet.pc_darts import PcDarts
from kinase_trainer.supernet.relaxation import Learned, Relaxation

if TYPE_CHECKING:
    from kinase_trainer.supernet.run import SupernetRun


class Smooth(Extra):
    """Other choices in the weights' steps, within a radius of those that there are, so that the
    loss is flat around them (Chen & Hsieh 2020): random ones, or those with the largest loss of the
    batch. The choices themselves do not change."""

    name = "smooth"

    def __init__(self, plan: api.Smooth, relaxation: Relaxation) -> None:
        """Extra a relaxation whose weights are the same in every step.

        Raises:
            ValueError: it is another one.
        """
        if not isinstance(relaxation, Darts | PcDarts | Gaea):
            raise ValueError("smooth is for the relaxations DARTS, PCDARTS and GAEA")
        self.plan = plan
        self.radius = plan.smallest

    def passes(self, run: SupernetRun) -> int:
        """Those of the ascent, and two to see that it was one."""
        return len(run.train) * (self.plan.steps + 2) if self.plan.type == "Adversarial" else 0

    def begin(self, run: SupernetRun) -> None:
        """The radius grows linearly."""
        plan = self.plan
        self.radius = plan.smallest + (plan.largest - plan.smallest) * run.epoch / run.epochs

    def perturb(self, run: SupernetRun, images: Tensor, targets: Tensor) -> None:
        """Other weights for this step."""
        assert isinstance(run.relaxation, Learned)
        center = run.relaxation.probabilities()
        found = {
            group: self._near(row + self._noise(row, run.draws), row)
            for group, row in center.items()
        }
        if self.plan.type == "Adversarial":
            found = self._ascend(run, images, targets, center, found)
        run.relaxation.mix(run.network, found)

    def _noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        draw = torch.rand(like.shape, generator=generator, dtype=like.dtype)
        return self.radius * (2.0 * draw - 1.0).to(like.device)

    def _near(self, row: Tensor, center: Tensor) -> Tensor:
        """The nearest weights within the radius, and within 0..1."""
        return row.clamp(center - self.radius, center + self.radius).clamp(0.0, 1.0)

    def _ascend(
        self,
        run: SupernetRun,
        images: Tensor,
        targets: Tensor,
        center: dict[str, Tensor],
        start: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Steps of projected gradient ascent from a random start; where that does not raise the
        loss, the weights as they were."""
        rate = 2.0 * self.radius / self.plan.steps
        training = run.network.training
        run.network.eval()
        with torch.no_grad():
            before = run.group.total(self._loss(run, images, targets, center))
        found = start
        for _ in range(self.plan.steps):
            rows = {group: row.detach().requires_grad_() for group, row in found.items()}
            loss = self._loss(run, images, targets, rows)
            given = torch.autograd.grad(loss, list(rows.values()), allow_unused=True)
            gradients = [
                torch.zeros_like(row) if gradient is None else gradient
                for row, gradient in zip(rows.values(), given, strict=True)
            ]
            run.group.add(gradients)
            found = {
                group: self._near(row.detach() + rate * gradient.sign(), center[group])
                for (group, row), gradient in zip(rows.items(), gradients, strict=True)
            }
        with torch.no_grad():
            after = run.group.total(self._loss(run, images, targets, found))
        run.network.train(training)
        run.charge((self.plan.steps + 2) * len(targets))
        return found if after >= before else center

    def _loss(
        self, run: SupernetRun, images: Tensor, targets: Tensor, weights: dict[str, Tensor]
    ) -> Tensor:
        run.relaxation.mix(run.network, weights)
        return run.part(run.task_loss(images, targets), targets)
