"""Regression."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from kinase.api.task import RegressionTask
from kinase_trainer.errors import ConfigError
from kinase_trainer.tasks import scores
from kinase_trainer.tasks.base import LearningTask, Units

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.huber_loss,
}


class Regression(LearningTask):
    """One or several numbers per sample. The network learns them standardized by the mean and the
    deviation of the training split; metrics are in the units of the data."""

    metrics = ("rmse", "mae", "r2", "loss")
    goals = MappingProxyType({name: "maximize" if name == "r2" else "minimize" for name in metrics})

    def __init__(self, options: RegressionTask | None = None) -> None:
        """With the manifest's `task.regression`."""
        self.options = options or RegressionTask()
        self._units = Units((0.0,), (1.0,))

    def prepare(self, targets: Tensor) -> Tensor:
        """Numbers (N, L), in double precision."""
        if targets.ndim == 1:
            targets = targets[:, None]
        if targets.ndim != 2 or targets.is_complex() or targets.shape[1] == 0:
            raise ConfigError(
                f"the targets have shape {tuple(targets.shape)} and type {targets.dtype}; "
                "task.type Regression takes one number a sample (N,), or a row of them (N, L)"
            )
        targets = targets.double()
        if not bool(targets.isfinite().all()):
            where = torch.nonzero(~targets.isfinite())[0].tolist()
            raise ConfigError(
                f"the targets hold {targets[tuple(where)].item()} at {where}; remove those samples"
            )
        return targets

    def outputs(self, targets: Tensor) -> int:
        """One output per number."""
        return targets.shape[1]

    def fit(self, targets: Tensor) -> None:
        """The mean and the standard deviation of each number."""
        mean, deviation = targets.mean(0), targets.std(0, correction=0)
        if not bool(deviation.isfinite().all()):
            raise ConfigError(
                f"the targets reach {targets.abs().max().item():g}, whose deviation is beyond "
                "floating point; use another unit"
            )
        constant = torch.nonzero(deviation <= 1e-12 * mean.abs())
        if len(constant):
            column = int(constant[0])
            which = f"number {column + 1} of {len(mean)}" if len(mean) > 1 else "the target"
            raise ConfigError(
                f"{which} is {mean[column].item():g} in every training sample; there is nothing to "
                "learn"
            )
        self._units = Units(tuple(mean.tolist()), tuple(deviation.tolist()))

    def encode(self, targets: Tensor) -> Tensor:
        """Standardized targets, in single precision."""
        return ((targets - self._mean) / self._deviation).float()

    @property
    def units(self) -> Units:
        """The training split's mean and deviation."""
        return self._units

    @property
    def _mean(self) -> Tensor:
        return torch.tensor(self._units.mean, dtype=torch.float64)

    @property
    def _deviation(self) -> Tensor:
        return torch.tensor(self._units.deviation, dtype=torch.float64)

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """The manifest's loss, on standardized numbers."""
        return LOSSES[self.options.loss](output, target)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Root mean squared error and mean absolute error in the data's units, the coefficient of
        determination, each the mean over the numbers of a sample; and the loss."""
        difference = (outputs - targets) * self._deviation
        return {
            "rmse": float(difference.square().mean(0).sqrt().mean()),
            "mae": float(difference.abs().mean()),
            "r2": scores.r2(outputs, targets.double()),
            "loss": float(LOSSES[self.options.loss](outputs, targets.double())),
        }

    def said(self, targets: Tensor) -> str:
        """The range of each number, of the first few."""
        columns = [
            f"{c.min().item():.4g} to {c.max().item():.4g} (mean {c.mean().item():.4g}, standard "
            f"deviation {c.std(correction=0).item():.4g})"
            for c in targets.T[:4]
        ]
        many = targets.shape[1]
        more = f", and {many - len(columns)} more" if many > len(columns) else ""
        return f"{many} number{'s' * (many > 1)} a sample: {', '.join(columns)}{more}"
