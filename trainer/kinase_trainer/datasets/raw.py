"""A data set as loaded, and functions shared by all readers."""

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
"""Maximum size of a split of images in memory; a larger split is read batch by batch."""

Pair = tuple[Tensor | LazyImages, Tensor]
"""Images and targets of a split."""


@dataclass(frozen=True)
class Raw:
    """A data set as loaded, on the CPU."""

    images: Tensor | LazyImages
    """(N, C, H, W): unsigned bytes, or floats in 0..1."""
    targets: Tensor
    """(N, ...), in the task's form."""
    test: Pair | None = None
    """Images and targets of the data set's own test split, or None."""
    classes: tuple[str, ...] = ()
    """Names of the classes, by number."""
    validation: Pair | None = None
    """Images and targets of the data set's own validation split, or None."""
    notes: tuple[str, ...] = ()
    """Remarks for people on how the data was read, one line each."""
    warnings: tuple[str, ...] = ()
    """Possible problems of the data, one line each."""

    def checksum(self) -> str:
        """First 16 digits of the SHA-256 of the images (if they are in memory) and the targets,
        without those of the data set's own test split."""
        seen = [(self.images, self.targets), *([self.validation] if self.validation else [])]
        found = []
        for images, targets in seen:
            found += [images.numpy()] if isinstance(images, Tensor) else []
            found.append(targets.numpy())
        return arrays.checksum(*found)

    def test_checksum(self) -> str | None:
        """The same for the data set's own test split, or None."""
        return None if self.test is None else Raw(*self.test).checksum()


def shown(name: str | Path) -> str:
    """The name of a file or class for people. Control characters and invalid text are escaped, so
    that different names stay different."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def place(task: Task) -> Path:
    """Path of a task's data, or of the download.

    Raises:
        ConfigError: `task.path` is missing, or does not exist.
    """
    kind = "file" if task.dataset == "npz" else "folder"
    if task.path is None:
        raise ConfigError(
            f"task.path is not set; task.dataset {task.dataset} needs the {kind} of its data"
        )
    path = Path(task.path)
    own = task.dataset in ("npz", "folder")
    if not path.exists() and own:
        raise ConfigError(f"task.path {task.path!r} does not exist; give the {kind} of your data")
    if not path.exists() and not task.download:
        raise ConfigError(
            f"task.path {task.path!r} does not exist; give the folder that holds "
            f"{task.dataset}, or set task.download: true to fetch it there"
        )
    return path
