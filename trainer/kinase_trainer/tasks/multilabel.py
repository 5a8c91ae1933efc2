"""Multi-label classification: any number of labels per sample."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from kinase.api.task import MultiLabelTask
from kinase.words import counted
from kinase_trainer.errors import ConfigError
from kinase_trainer.tasks import scores
from kinase_trainer.tasks.base import LearningTask


class MultiLabel(LearningTask):
    """Binary cross entropy for each label. All metrics except the loss are macro averages over the
    labels, in 0..1."""

    metrics = ("auc", "map", "f1", "loss")
    goals = MappingProxyType(
        {name: "minimize" if name == "loss" else "maximize" for name in metrics}
    )
    several = True

    def __init__(self, options: MultiLabelTask | None = None) -> None:
        """With the manifest's `task.multiLabel`."""
        self.options = options or MultiLabelTask()
        self._weights: Tensor | None = None

    def prepare(self, targets: Tensor) -> Tensor:
        """A row of zeros and ones per sample, (N, L)."""
        if targets.ndim == 1:
            targets = targets[:, None]
        wrong = targets.ndim != 2 or targets.is_complex() or targets.shape[1] == 0
        if wrong or not bool(((targets == 0) | (targets == 1)).all()):
            odd = (
                "" if wrong else f" and hold {targets[(targets != 0) & (targets != 1)][0].item():g}"
            )
            raise ConfigError(
                f"the targets have shape {tuple(targets.shape)} and type {targets.dtype}{odd}; "
                "task.type MultiLabel takes a row of zeros and ones a sample, (N, labels); for one "
                "class a sample set task.type: Classification, for quantities Regression"
            )
        return targets.float()

    def outputs(self, targets: Tensor) -> int:
        """One output per label."""
        return targets.shape[1]

    def fit(self, targets: Tensor) -> None:
        """Compute the weights of samples with each label. Balanced weights are the ratio of samples
        without the label to those with it, so that both have the same total weight."""
        many = targets.sum(0)
        constant = (many == 0) | (many == len(targets))
        if bool(constant.all()):
            raise ConfigError(
                "each label is set in all training samples or in none; use data in which they "
                "differ"
            )
        given = self.options.weights
        if given is not None:
            if len(given) != len(many):
                raise ConfigError(
                    f"task.multiLabel.weights has {len(given)} weights for "
                    f"{counted(len(many), 'label')}; give one for each label"
                )
            self._weights = torch.tensor(given)
        elif self.options.weighting == "balanced":
            self._weights = torch.where(constant, 1.0, (len(targets) - many) / many.clamp_min(1))

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Binary cross entropy, mean over samples and labels. Smoothing moves each target that
        share of the way to 1/2."""
        if self._weights is not None and self._weights.device != output.device:
            self._weights = self._weights.to(output.device)
        smooth = target * (1 - label_smoothing) + label_smoothing / 2
        return F.binary_cross_entropy_with_logits(output, smooth, pos_weight=self._weights)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Macro AUC, mean average precision and F1 over the labels that occur, and the mean binary
        cross entropy without weights."""
        there = targets.bool()
        return {
            "auc": scores.macro_auc(outputs, there),
            "map": scores.mean_average_precision(outputs, there),
            "f1": scores.macro_f1_of_labels(outputs.sigmoid() >= self.options.threshold, there),
            "loss": float(F.binary_cross_entropy_with_logits(outputs, targets.double())),
        }

    def counts(self, targets: Tensor, outputs: int) -> Tensor:
        """Samples that have each label."""
        return targets.long().sum(0)

    def said(self, targets: Tensor) -> str:
        """How many labels a sample has."""
        each = targets.sum(1)
        return (
            f"{int(each.min())} to {counted(int(each.max()), 'label')} a sample, "
            f"{float(each.mean()):.2f} on average"
        )
