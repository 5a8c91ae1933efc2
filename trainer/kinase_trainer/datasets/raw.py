"""A data set as it comes, and what all that read one share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from kinase.api.task import Task
from kinase_trainer import arrays
from kinase_trainer.errors import ConfigError
from kinase_trainer.lazy import LazyImages

MAX_BYTES = 8 * 2**30
"""Largest part of a data set in a folder that is held in memory; a larger one is read batch by
batch."""

Pair = tuple[Tensor | LazyImages, Tensor]
"""Images and targets of a part."""


@dataclass(frozen=True)
class Raw:
    """A data set as it comes, on the CPU."""

    images: Tensor | LazyImages
    """(N, C, H, W): unsigned bytes, or floats in 0..1."""
    targets: Tensor
    """(N, ...), of the task's type."""
    test: Pair | None = None
    """Images and targets of the data set's own test part, or None if it has none."""
    classes: tuple[str, ...] = ()
    """Names of the classes, by their numbers."""
    validation: Pair | None = None
    """Images and targets of the data set's own validation part, or None if it has none."""
    notes: tuple[str, ...] = ()
    """How the data was read, where that is not plain; a line each, for a person."""
    warnings: tuple[str, ...] = ()
    """What may be wrong with it; a line each."""

    def checksum(self) -> str:
        """SHA-256, its first 16 digits, of the images (where they are in memory) and the
        targets; those of the data set's own test part are left out."""
        seen = [(self.images, self.targets), *([self.validation] if self.validation else [])]
        found = []
        for images, targets in seen:
            found += [images.numpy()] if isinstance(images, Tensor) else []
            found.append(targets.numpy())
        return arrays.checksum(*found)

    def test_checksum(self) -> str | None:
        """The same of the data set's own test part; None where it has none."""
        return None if self.test is None else Raw(*self.test).checksum()


def shown(name: str | Path) -> str:
    """A name of a file or a class for people: what is not text, or would steer a terminal, is
    escaped, so that two names stay two."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def place(task: Task) -> Path:
    """Where the data of a task lies, or is downloaded to.

    Raises:
        ConfigError: the task does not say where, or there is nothing.
    """
    kind = "file" if task.dataset == "npz" else "folder"
    if task.path is None:
        raise ConfigError(
            f"task.path is not set; task.dataset {task.dataset} needs the {kind} of its data"
        )
    path = Path(task.path)
    own = task.dataset in ("npz", "folder")
    if not path.exists() and own:
        raise ConfigError(f"task.path {task.path!r} is not there; give the {kind} of your data")
    if not path.exists() and not task.download:
        raise ConfigError(
            f"task.path {task.path!r} is not there; give the folder that holds "
            f"{task.dataset}, or set task.download: true to fetch it there"
        )
    return path
