"""Beta-DARTS: choices that are kept alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kinase.api import supernet_options as api
from kinase_trainer.supernet.extra import Extra
from kinase_trainer.supernet.relaxation import Learned, Relaxation

if TYPE_CHECKING:
    from kinase_trainer.supernet.run import SupernetRun


class Beta(Extra):
    """Adds to the loss of the choices the mean over the edges of logsumexp(alpha), times a weight
    that grows linearly, so that none runs away (Ye et al. 2022, section 3.2)."""

    name = "beta"

    def __init__(self, plan: api.Beta, relaxation: Relaxation) -> None:
        """Extra a relaxation with a softmax.

        Raises:
            ValueError: it is another one.
        """
        if not isinstance(relaxation, Learned) or not relaxation.softmax:
            raise ValueError("beta is for relaxations with a softmax, such as DARTS and PCDARTS")
        self.plan = plan
        self.weight = 0.0

    def begin(self, run: SupernetRun) -> None:
        """The weight grows linearly."""
        self.weight = self.plan.largest * run.epoch / run.epochs

    def penalize(self, run: SupernetRun, loss: Tensor) -> Tensor:
        """Its gradient in alpha is the softmax, times the weight over the number of edges."""
        assert isinstance(run.relaxation, Learned)
        rows = [torch.logsumexp(a, dim=0) for a in run.relaxation.alphas.values()]
        return loss + self.weight * torch.stack(rows).mean()
