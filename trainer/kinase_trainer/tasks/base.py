"""What a task is."""

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
    """What numbers a network of standardised outputs stands for: output times deviation plus mean,
    for each of its L outputs."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class Meter(ABC):
    """Takes in a part batch by batch, and then says its metrics."""

    @abstractmethod
    def add(self, output: Tensor, target: Tensor) -> None:
        """Take in the network's output of a batch and its targets."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Of all that was taken in."""

    def confusion(self) -> Tensor | None:
        """Samples (K, K) by true and predicted class, or None where there are no classes."""
        return None


class Predictions(Meter):
    """Keeps every output and target of a part."""

    def __init__(self, task: LearningTask) -> None:
        """Ask `task` for the metrics."""
        self._task = task
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, output: Tensor, target: Tensor) -> None:
        """Keep them, on their device."""
        self._outputs.append(output.detach().float())
        self._targets.append(target)

    def _all(self) -> tuple[Tensor, Tensor]:
        return torch.cat(self._outputs).cpu().double(), torch.cat(self._targets).cpu()

    def metrics(self) -> dict[str, float]:
        """As the task measures them."""
        return self._task.measure(*self._all())

    def confusion(self) -> Tensor | None:
        """As the task has it."""
        return self._task.confusion(*self._all())


class LearningTask(ABC):
    """A kind of task: how targets are read, the loss, and the metrics.

    Targets go through `prepare`, which gives them their form. Once the parts are divided, `fit`
    sees those of the training part, and `encode` makes all of them what `loss` takes.
    """

    metrics: tuple[str, ...]
    """Names of what is measured, without the part's prefix (`val_`, `test_`)."""
    goals: Mapping[str, Goal] = MappingProxyType({})
    """Which way each of them is better; a search for one that is left out must say so in its
    manifest (`spec.objective.goal`)."""
    distils: Literal["kl", "mse"] = "mse"
    """How a network learns from another one: `kl` compares the outputs as logits of one class of
    several, `mse` as they are."""
    several: bool = False
    """Whether a sample may have several of the classes that `counts` counts, or none."""

    @abstractmethod
    def prepare(self, targets: Tensor) -> Tensor:
        """A data set's targets (N, ...) in the form and type that the task works with.

        Raises:
            ConfigError: they are not targets of this task.
        """

    @abstractmethod
    def outputs(self, targets: Tensor) -> int:
        """Width of the network's output, from all prepared targets."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Mean loss of a batch, a scalar to go backward from."""

    @abstractmethod
    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics of a whole part.

        Args:
            outputs: of the network, in double precision (N, ...), on the CPU.
            targets: encoded, (N, ...).
        """

    def fit(self, targets: Tensor) -> None:  # noqa: B027
        """Take from the training part's prepared targets what the loss and the metrics need.

        Raises:
            ConfigError: nothing can be learnt of them.
        """

    def encode(self, targets: Tensor) -> Tensor:
        """Prepared targets as `loss` takes them, after `fit`."""
        return targets

    def meter(self) -> Meter:
        """A new meter of a part. Where a part's outputs do not fit in memory, as maps of dense
        predictions may not, give one that keeps sums."""
        return Predictions(self)

    def strata(self, targets: Tensor) -> Tensor | None:
        """Classes whose shares a split keeps, or None."""
        return None

    def classes(self, targets: Tensor) -> Tensor | None:
        """The labels (K,) that the prepared targets of the training part hold, sorted, or None
        where targets are no classes. Targets are then numbered by them, from 0.

        Raises:
            ConfigError: nothing can be learnt of them.
        """
        return None

    def counts(self, targets: Tensor, outputs: int) -> Tensor | None:
        """Samples (outputs,) of each class or label among prepared targets, or None where there
        are neither."""
        return None

    def said(self, targets: Tensor) -> str:
        """What there is to say of all prepared targets, for a person; empty if nothing."""
        return ""

    def confusion(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Samples (K, K) by true class (rows) and predicted class, or None where a sample does not
        have one class."""
        return None

    @property
    def units(self) -> Units | None:
        """What the outputs stand for, after `fit`; None where they are as they come."""
        return None
