"""A first look at targets: which task they suit, and how many outputs that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch

from kinase.api.task import Task
from kinase.words import counted
from kinase_trainer.datasets import archives
from kinase_trainer.datasets.raw import shown
from kinase_trainer.datasets.tables import Table, numbers
from kinase_trainer.errors import ConfigError
from kinase_trainer.tasks import make_task


@dataclass(frozen=True)
class Targets:
    """What is learned."""

    task: str
    """`task.type`."""
    outputs: int
    """Classes, labels, or numbers a sample."""
    counts: tuple[int, ...] = ()
    """Samples of each class or label; empty for numbers."""


def of_arrays(parts: Sequence[archives.Array], names: Sequence[str], task: str | None) -> Targets:
    """The targets of an archive's parts, the training part first.

    Args:
        parts: arrays of targets.
        names: of the arrays, for messages.
        task: `task.type`; None chooses.

    Raises:
        ConfigError: they suit no task, or not the one that is given.
    """
    task = task or _task_of(parts[0])  # the other parts follow the training part
    if task == "Classification":
        labels = [_classes(part, name) for part, name in zip(parts, names, strict=True)]
        _, counts = np.unique(np.concatenate(labels), return_counts=True)
        return Targets(task, len(counts), tuple(counts.tolist()))
    found = []
    for part, name in zip(parts, names, strict=True):
        if not part.ndim:
            raise ConfigError(f"{name} has shape (); expected the targets of each sample")
        found.append((archives.as_labels(part, name), name))
    return _prepared(found, task)


def of_table(table: Table, path: Path, task: str | None) -> Targets:
    """The same of a table of targets.

    Raises:
        ConfigError: as above.
    """
    columns = list(zip(*table.values, strict=True))
    values = [[_number(text) for text in column] for column in columns]
    if task is None:
        if len(columns) == 1:
            known = [number for number in values[0] if number is not None]
            quantities = len(known) == len(values[0]) and _quantities(np.array(known))
            task = "Regression" if quantities else "Classification"
        else:
            binary = all(number in (0, 1) for column in values for number in column)
            task = "MultiLabel" if binary else "Regression"
    if task == "Classification":
        if len(columns) > 1:
            raise ConfigError(
                f"{shown(path)} has {len(columns)} columns of targets; task.type Classification "
                "takes one, the class"
            )
        counts = Counter(columns[0])
        return Targets(task, len(counts), tuple(counts.values()))
    return _prepared([(numbers(table, shown(path)), shown(path))], task)


def _prepared(parts: Sequence[tuple[torch.Tensor, str]], task: str) -> Targets:
    learning = make_task(Task(dataset="npz", path="first look", type=task))
    found = []
    for targets, name in parts:
        try:
            found.append(learning.prepare(targets))
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
    first, *others = found
    for (_, name), targets in zip(parts[1:], others, strict=True):
        if targets.shape[1:] != first.shape[1:]:
            raise ConfigError(
                f"{name} has {counted(prod(targets.shape[1:]), 'column')}, and {parts[0][1]} has "
                f"{prod(first.shape[1:])}; each part needs the same columns"
            )
    whole = torch.cat(found)
    if not len(whole):
        return Targets(task, 1)
    outputs = learning.outputs(whole)
    counts = learning.counts(whole, outputs)
    return Targets(task, outputs, () if counts is None else tuple(counts.tolist()))


def _task_of(part: archives.Array) -> str:
    """The task that an array looks like. Other arrays are taken for classes, which are checked."""
    if part.dtype.kind not in "biuf" or not 1 <= part.ndim <= 2:
        return "Classification"
    if part.ndim == 2 and part.shape[1] > 1:
        if not ((part == 0) | (part == 1)).all():
            return "Regression"
        return "Classification" if (part.sum(axis=1) == 1).all() else "MultiLabel"
    return "Regression" if _quantities(part) else "Classification"


def _quantities(values: archives.Array) -> bool:
    """Whether numbers (N,) or (N, 1) are quantities instead of classes: they have fractions, or
    almost every sample has a different number."""
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        return True
    return len(np.unique(values)) > max(2, values.size // 2)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _classes(labels: archives.Array, name: str) -> archives.Array:
    """Labels (N,) as text, from labels or one-hot rows: splits can have different types.

    Raises:
        ConfigError: a sample does not have exactly one class.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.dtype.kind in "biuf" and ((labels != 0).sum(axis=1) != 1).any():
            raise ConfigError(
                f"{name} has rows with no label or several, which is not one class a sample; use "
                "--task MultiLabel or --task Regression"
            )
        labels = labels.argmax(axis=1)
    if labels.dtype.kind == "f" and (broken := labels[labels != np.rint(labels)]).size:
        raise ConfigError(
            f"{name} holds {broken.flat[0]:g}, which is not a class; to predict numbers use "
            "--task Regression"
        )
    if labels.ndim == 0 or labels.size != len(labels):
        raise ConfigError(
            f"{name} has shape {labels.shape}; expected one class a sample, (N,), or one-hot, "
            "(N, classes); labels, (N, labels); or numbers, (N,) or (N, numbers)"
        )
    return labels.reshape(len(labels)).astype(str)
