"""What is learnt: loss, metrics, and the width of the network's output.

Another kind of task is one class with these methods, registered in the entry point group
`kinase.tasks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from kinase import registry
from kinase.api.objective import Goal
from kinase_trainer.errors import ConfigError


class LearningTask(ABC):
    """A kind of task."""

    metrics: tuple[str, ...]
    """Names of what `measure` gives, without the part's prefix (`val_`, `test_`)."""
    goals: Mapping[str, Goal] = MappingProxyType({})
    """Which way each of them is better; a search for one that is left out must say so in its
    manifest (`spec.objective.goal`)."""

    @abstractmethod
    def prepare(self, targets: Tensor) -> Tensor:
        """A data set's targets (N, ...) in the form and type that `loss` takes.

        Raises:
            ConfigError: they are none of this task's.
        """

    @abstractmethod
    def outputs(self, targets: Tensor) -> int:
        """Width of the network's output, from all prepared targets."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Mean loss of a batch, a scalar to go backward from."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Sums over a batch of what `measure` averages: a vector."""

    @abstractmethod
    def measure(self, sums: Tensor, samples: int) -> dict[str, float]:
        """Metrics of a whole part, from the sums over its batches."""

    def strata(self, targets: Tensor) -> Tensor | None:
        """Classes whose shares a split keeps, or None."""
        return None


class Classification(LearningTask):
    """One class of several: cross entropy; accuracy is a share in 0..1."""

    metrics = ("accuracy", "loss")
    goals = MappingProxyType({"accuracy": "maximize", "loss": "minimize"})

    def prepare(self, targets: Tensor) -> Tensor:
        """One class number a sample, from 0."""
        if targets.ndim != 1 or targets.is_floating_point() or targets.is_complex():
            raise ConfigError(
                f"the targets have shape {tuple(targets.shape)} and type {targets.dtype}; "
                "task.type Classification takes one whole number a sample, its class"
            )
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= max(2, len(targets)):
            raise ConfigError(
                f"the classes are numbered from {low} to {high}, for {len(targets)} samples; "
                "number them from 0, without gaps"
            )
        return targets.long()

    def outputs(self, targets: Tensor) -> int:
        """Classes are numbered from 0."""
        return int(targets.max()) + 1

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy (Szegedy et al. 2016, section 7, for the smoothing)."""
        return F.cross_entropy(output, target, label_smoothing=label_smoothing)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """(hits, summed cross entropy)."""
        hits = (output.argmax(1) == target).sum()
        loss = F.cross_entropy(output.float(), target, reduction="sum")
        return torch.stack([hits.double(), loss.double()])

    def measure(self, sums: Tensor, samples: int) -> dict[str, float]:
        """Accuracy and mean cross entropy."""
        hits, loss = sums.tolist()
        return {"accuracy": hits / samples, "loss": loss / samples}

    def strata(self, targets: Tensor) -> Tensor:
        """The classes."""
        return targets


def make_task(name: str) -> LearningTask:
    """The task that a manifest names.

    Raises:
        ConfigError: no package registers it.
    """
    try:
        task = registry.load("kinase.tasks", name)()
    except registry.UnknownMember:
        known = ", ".join(registry.names("kinase.tasks"))
        raise ConfigError(f"task.type {name!r} is not known; known: {known}") from None
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"task.type {name!r} cannot be loaded: {error}") from error
    if not isinstance(task, LearningTask):
        raise ConfigError(f"task.type {name!r} is no kinase_trainer.tasks.LearningTask")
    return task
