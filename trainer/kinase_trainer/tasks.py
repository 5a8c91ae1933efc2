"""What is learnt: loss, metrics, and the width of the network's output.

Another kind of task is one class with these methods, registered in the entry point group
`kinase.tasks`. Where the manifest has `task.typeOptions`, the class is made with them.
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
from kinase.api.task import Task
from kinase.words import counted
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

    def classes(self, targets: Tensor) -> Tensor | None:
        """The labels (K,) that the prepared targets of the training part hold, sorted, or None
        where targets are no classes. Targets are then numbered by them, from 0.

        Raises:
            ConfigError: nothing can be learnt of them.
        """
        return None


class Classification(LearningTask):
    """One class of several: cross entropy; accuracy is a share in 0..1."""

    metrics = ("accuracy", "loss")
    goals = MappingProxyType({"accuracy": "maximize", "loss": "minimize"})

    def prepare(self, targets: Tensor) -> Tensor:
        """One class number a sample. (N, 1), whole floats, and one row of a single 1 a sample
        (one-hot) are read as such."""
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
            )
        low, high = int(targets.min()), int(targets.max())
        if low < 0:
            raise ConfigError(
                f"the classes are numbered from {low} to {high}; number them from 0, and leave "
                "out samples without a label"
            )
        return targets.long()

    def classes(self, targets: Tensor) -> Tensor:
        """The numbers that there are; those between them that are not have no output."""
        found: Tensor = torch.unique(targets)
        if len(found) < 2:
            raise ConfigError(
                f"all samples have one class, {found.tolist()[0]}, and one class cannot be learnt; "
                "use data of at least two"
            )
        if len(found) > max(2, len(targets) // 2):
            raise ConfigError(
                f"there are {len(found)} classes, numbered from {int(found[0])} to "
                f"{int(found[-1])}, for {counted(len(targets), 'sample')}; a class needs several "
                "samples, and a quantity is learnt by a task of its own, not by Classification"
            )
        return found

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


def make_task(task: Task) -> LearningTask:
    """The task that a manifest names.

    Raises:
        ConfigError: no package registers it, or it does not take its options.
    """
    where = f"task.type {task.type!r}"
    try:
        member = registry.load("kinase.tasks", task.type)
    except registry.UnknownMember:
        known = ", ".join(registry.names("kinase.tasks"))
        raise ConfigError(f"{where} is not known; known: {known}") from None
    except (ImportError, AttributeError) as error:  # which say what they are
        raise ConfigError(f"{where} cannot be loaded: {error}") from error
    except Exception as error:  # of code that is not ours
        raise ConfigError(
            f"{where} cannot be loaded: {type(error).__name__}: {error!s:.300}"
        ) from error
    try:
        made = member() if task.type_options is None else member(task.type_options)
    except ConfigError:
        raise
    except Exception as error:  # of code that is not ours
        given = "" if task.type_options is None else " with task.typeOptions"
        raise ConfigError(
            f"{where} cannot be made{given}: {type(error).__name__}: {error!s:.300}"
        ) from error
    if not isinstance(made, LearningTask):
        raise ConfigError(f"{where} is not a kinase_trainer.tasks.LearningTask")
    return made
