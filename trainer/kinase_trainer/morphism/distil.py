"""Distillation from the parent, after approximate morphisms (Elsken et al. 2019, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Distillation:
    """Loss of a student that is distilled from a teacher.

    `kl` is the divergence of the softened class probabilities, times the squared temperature so
    that its gradients do not shrink with it (Hinton et al. 2015, section 2); `mse` is the mean
    squared difference of the logits (Ba & Caruana 2014, section 2.2).
    """

    teacher: nn.Module
    kind: Literal["kl", "mse"] = "kl"
    temperature: float = 4.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; use a number above 0")
        self.teacher.requires_grad_(False)

    def loss(self, output: Tensor | tuple[Tensor, ...], images: Tensor) -> Tensor:
        """The loss of a student's output, and of its auxiliary head's.

        Args:
            output: logits (N, classes), or a pair with those of an auxiliary head.
            images: the student's input.
        """
        self.teacher.eval()
        with torch.no_grad():
            wanted = self.teacher(images)
        outputs = output if isinstance(output, tuple) else (output,)
        return torch.stack([self._distance(each, wanted) for each in outputs]).mean()

    def _distance(self, logits: Tensor, wanted: Tensor) -> Tensor:
        if self.kind == "mse":
            return F.mse_loss(logits, wanted)
        t = self.temperature
        return (
            t
            * t
            * F.kl_div(
                F.log_softmax(logits / t, dim=1),
                F.log_softmax(wanted / t, dim=1),
                reduction="batchmean",
                log_target=True,
            )
        )
