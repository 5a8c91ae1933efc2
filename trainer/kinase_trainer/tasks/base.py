"""The interface of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from kinase.api.objective import Goal


@dataclass(frozen=True)
class Units:
    """Scale of standardized outputs: the values are output times deviation plus mean, for each of
    the L outputs."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class Meter(ABC):
    """Accumulates a split batch by batch, and then computes its metrics."""

    @abstractmethod
    def add(self, output: Tensor, target: Tensor) -> None:
        """Add the network's output for a batch, and the targets."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """The metrics of everything added."""

    def confusion(self) -> Tensor | None:
        """Samples (K, K) by true and predicted class, or None if there are no classes."""
        return None


class Predictions(Meter):
    """Keeps all outputs and targets of a split."""

    def __init__(self, task: LearningTask) -> None:
        """Compute the metrics with `task`."""
        self._task = task
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, output: Tensor, target: Tensor) -> None:
        """Keep the batch on its device."""
        self._outputs.append(output.detach().float())
        self._targets.append(target)

    def _all(self) -> tuple[Tensor, Tensor]:
        return torch.cat(self._outputs).cpu().double(), torch.cat(self._targets).cpu()

    def metrics(self) -> dict[str, float]:
        """The task's metrics."""
        return self._task.measure(*self._all())

    def confusion(self) -> Tensor | None:
        """The task's confusion matrix."""
        return self._task.confusion(*self._all())


class LearningTask(ABC):
    """A kind of task: how targets are read, the loss, and the metrics.

    `prepare` brings targets into the task's form. After the split, `fit` gets those of the training
    split, and `encode` converts all targets to the input of `loss`.
    """

    metrics: tuple[str, ...]
    """Names of the metrics, without the prefix of the split (`val_`, `test_`)."""
    goals: Mapping[str, Goal] = MappingProxyType({})
    """Direction of each metric. A metric without a direction needs `spec.objective.goal` in the
    manifest."""
    distils: Literal["kl", "mse"] = "mse"
    """Loss for distillation: `kl` compares class probabilities, `mse` the outputs themselves."""
    several: bool = False
    """Whether a sample can have several of the classes that `counts` counts, or none."""

    @abstractmethod
    def prepare(self, targets: Tensor) -> Tensor:
        """A data set's targets (N, ...) in the task's form and type.

        Raises:
            ConfigError: they are not valid for this task.
        """

    @abstractmethod
    def outputs(self, targets: Tensor) -> int:
        """Width of the network's output, from all prepared targets."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Mean loss of a batch, a scalar."""

    @abstractmethod
    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics of a complete split.

        Args:
            outputs: outputs of the network (N, ...), in double precision on the CPU.
            targets: encoded targets (N, ...).
        """

    def fit(self, targets: Tensor) -> None:  # noqa: B027
        """Compute from the training split's prepared targets what the loss and the metrics need.

        Raises:
            ConfigError: nothing can be learned from them.
        """

    def encode(self, targets: Tensor) -> Tensor:
        """Convert prepared targets to the input of `loss`, after `fit`."""
        return targets

    def weights(self, targets: Tensor) -> Tensor | None:
        """The weights (N,) of samples in the mean that `loss` is, from encoded targets; None if all
        count the same. By them the losses of parts of a batch are added to that of the batch."""
        return None

    def meter(self) -> Meter:
        """A new meter for a split. If a split's outputs may not fit in memory (such as dense
        predictions), return a meter that keeps sums."""
        return Predictions(self)

    def strata(self, targets: Tensor) -> Tensor | None:
        """Classes whose shares a split preserves, or None."""
        return None

    def classes(self, targets: Tensor) -> Tensor | None:
        """The sorted labels (K,) in the prepared targets of the training split, or None if targets
        are not classes. Targets are then numbered by them, from 0.

        Raises:
            ConfigError: nothing can be learned from them.
        """
        return None

    def counts(self, targets: Tensor, outputs: int) -> Tensor | None:
        """Number of samples (outputs,) of each class or label in prepared targets, or None if there
        are none."""
        return None

    def said(self, targets: Tensor) -> str:
        """Summary of all prepared targets for people; can be empty."""
        return ""

    def confusion(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Samples (K, K) by true class (rows) and predicted class, or None if samples do not have
        exactly one class."""
        return None

    @property
    def units(self) -> Units | None:
        """Scale of standardized outputs, after `fit`; None if they are not standardized."""
        return None
