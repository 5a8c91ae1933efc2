"""Classification."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from kinase.api.task import ClassificationTask
from kinase.words import counted
from kinase_trainer.errors import ConfigError
from kinase_trainer.tasks import scores
from kinase_trainer.tasks.base import LearningTask


class Classification(LearningTask):
    """One class of several: cross entropy; all metrics but the loss are shares in 0..1."""

    metrics = ("accuracy", "loss", "balanced_accuracy", "f1", "auc")
    goals = MappingProxyType(
        {name: "minimize" if name == "loss" else "maximize" for name in metrics}
    )
    distils = "kl"

    def __init__(self, options: ClassificationTask | None = None) -> None:
        """With the manifest's `task.classification`."""
        self.options = options or ClassificationTask()
        self._weights: Tensor | None = None

    def prepare(self, targets: Tensor) -> Tensor:
        """One class number per sample. (N, 1), integral floats, and one-hot rows are accepted."""
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        if targets.is_floating_point() and bool((targets == targets.round()).all()):
            targets = targets.long()
        if targets.ndim == 2 and not targets.is_floating_point() and not targets.is_complex():
            ones = (targets == 1).sum(1) == 1
            if bool((ones & ((targets != 0).sum(1) == 1)).all()):
                targets = targets.long().argmax(1)
        if targets.ndim != 1 or targets.is_floating_point() or targets.is_complex():
            raise ConfigError(
                f"the targets have shape {tuple(targets.shape)} and type {targets.dtype}; "
                "task.type Classification takes one whole number a sample, its class"
                f"{_hint(targets)}"
            )
        low, high = int(targets.min()), int(targets.max())
        if low < 0:
            raise ConfigError(
                f"the classes are numbered from {low} to {high}; number them from 0, and leave "
                "out samples without a label"
            )
        return targets.long()

    def classes(self, targets: Tensor) -> Tensor:
        """The class numbers that occur. Missing numbers between them get no output."""
        found: Tensor = torch.unique(targets)
        if len(found) < 2:
            raise ConfigError(
                f"all samples have one class, {found.tolist()[0]}, and one class cannot be "
                "learned; use data of at least two"
            )
        if len(found) > max(2, len(targets) // 2):
            raise ConfigError(
                f"there are {len(found)} classes, numbered from {int(found[0])} to "
                f"{int(found[-1])}, for {counted(len(targets), 'sample')}; a class needs several "
                "samples; if the targets are quantities, set task.type: Regression"
            )
        return found

    def outputs(self, targets: Tensor) -> int:
        """Targets are class numbers from 0."""
        return int(targets.max()) + 1

    def fit(self, targets: Tensor) -> None:
        """Compute the weights of the classes. Balanced ones are N / (K n_k), so that each class has
        the same sum of weights and the mean weight of a sample is 1 (King & Zeng 2001, section
        4)."""
        counts = torch.bincount(targets)
        given = self.options.weights
        if given is not None:
            if len(given) != len(counts):
                raise ConfigError(
                    f"task.classification.weights has {len(given)} weights for "
                    f"{counted(len(counts), 'class')}; give one for each class, in the order of "
                    "the classes"
                )
            self._weights = torch.tensor(given)
        elif self.options.weighting == "balanced":
            # a class that the training split lacks has weight 0
            share = len(targets) / (len(counts) * counts.clamp_min(1).double())
            self._weights = torch.where(counts > 0, share, 0.0).float()

    def weights(self, targets: Tensor) -> Tensor | None:
        """Those of the classes, if they are weighted."""
        return None if self._weights is None else self._weights.to(targets.device)[targets]

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy (Szegedy et al. 2016, section 7, for the smoothing), weighted by class if
        the manifest says so."""
        if self._weights is not None and self._weights.device != output.device:
            self._weights = self._weights.to(output.device)
        return F.cross_entropy(
            output, target, weight=self._weights, label_smoothing=label_smoothing
        )

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Accuracy, unweighted mean cross entropy, and macro averages over the classes that occur.
        AUC is one-vs-rest; with two classes it is that of the second."""
        matrix = self.confusion(outputs, targets)
        chances = outputs.softmax(1)
        positive = F.one_hot(targets, outputs.shape[1]).bool()
        if outputs.shape[1] == 2:
            chances, positive = chances[:, 1:], positive[:, 1:]
        return {
            "accuracy": float(matrix.diagonal().sum()) / len(targets),
            "loss": float(F.cross_entropy(outputs, targets)),
            "balanced_accuracy": scores.balanced_accuracy(matrix),
            "f1": scores.macro_f1(matrix),
            "auc": scores.macro_auc(chances, positive),
        }

    def confusion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The predicted class is that of the largest output."""
        return scores.confusion(outputs.argmax(1), targets, outputs.shape[1])

    def strata(self, targets: Tensor) -> Tensor:
        """The classes."""
        return targets

    def counts(self, targets: Tensor, outputs: int) -> Tensor:
        """Samples of each class."""
        return torch.bincount(targets, minlength=outputs)


def _hint(targets: Tensor) -> str:
    """Suggest the task that fits the targets."""
    if targets.ndim == 2 and bool(((targets == 0) | (targets == 1)).all()):
        return "; for several labels a sample (0 or 1 each), set task.type: MultiLabel"
    if targets.ndim in (1, 2) and not targets.is_complex():
        return "; for quantities, set task.type: Regression"
    return ""
