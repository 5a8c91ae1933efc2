"""A first look at data, for `kinase init`: which kind it is, how large, how many classes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from kinase.api.look import Look
from kinase.api.task import PUBLISHED, ArrayImages, Split
from kinase_trainer.datasets import archives, folders
from kinase_trainer.datasets.pictures import size
from kinase_trainer.datasets.raw import shown
from kinase_trainer.errors import ConfigError

SAMPLE = 200
"""Images of a folder whose size is looked at."""
_KNOWN: dict[str, tuple[tuple[int, int, int], int, int, int]] = {
    "digits": ((1, 8, 8), 1797, 0, 10),
    "mnist": ((1, 28, 28), 60_000, 10_000, 10),
    "fashion-mnist": ((1, 28, 28), 60_000, 10_000, 10),
    "cifar10": ((3, 32, 32), 50_000, 10_000, 10),
    "cifar100": ((3, 32, 32), 50_000, 10_000, 100),
    "svhn": ((3, 32, 32), 73_257, 26_032, 10),
}
"""Published data sets: shape, samples of their training and test parts, classes."""


def look(data: str) -> Look:
    """Look at a folder, an archive, or a published data set by its name.

    Raises:
        ConfigError: it is not there, or of no form that is read.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        found = _folder(path)
    elif path.exists():
        found = _archive(path)
    elif data in _KNOWN:
        found = _published(data)
    else:
        raise ConfigError(
            f"{data!r} is not there; give a folder of images, an .npz archive, or one of "
            f"{', '.join(_KNOWN)}"
        )
    device, slots = _machine()
    return Look(**found, device=device, slots=slots)


def _machine() -> tuple[str, int]:
    if torch.cuda.is_available():
        return "cuda", torch.cuda.device_count()
    if torch.backends.mps.is_available():
        return "mps", 1
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "cpu", min(8, count or 1)


def _left(train: int, validation: bool, test: bool) -> int:
    """Samples to train on, when what the data does not bring is cut off."""
    split = Split()
    kept = 1.0 - (0 if validation else split.validation) - (0 if test else split.test)
    return max(1, round(train * kept))


def _published(name: str) -> dict[str, Any]:
    (channels, height, width), train, test, classes = _KNOWN[name]
    return {
        "dataset": name,
        "path": str(Path("data", name).absolute()) if name in PUBLISHED else None,
        "download": name in PUBLISHED,
        "channels": channels,
        "height": height,
        "width": width,
        "fixed": True,
        "samples": train + test,
        "train": _left(train, False, test > 0),
        "classes": classes,
        "smallest": (train + test) // classes,
        "largest": (train + test) // classes,
    }


def _folder(root: Path) -> dict[str, Any]:
    parts = folders.listings_of(root)
    own = parts["train"]
    step = max(1, len(own.paths) // SAMPLE)
    sizes = [size(path) for path in own.paths[::step][:SAMPLE]]
    counts = Counter(target for part in parts.values() for target in part.targets)
    return {
        "dataset": "folder",
        "path": str(root.absolute()),
        "channels": 3,
        "height": round(median(height for _, height in sizes)),
        "width": round(median(width for width, _ in sizes)),
        "fixed": len(set(sizes)) == 1,
        "samples": counts.total(),
        "train": _left(len(own.paths), "validation" in parts, "test" in parts),
        "classes": len(own.classes),
        "smallest": min(counts.values()),
        "largest": max(counts.values()),
    }


def _archive(path: Path) -> dict[str, Any]:
    archive = archives.Archive(path)
    try:
        found = archives.roles(archive.names)
    except ValueError as error:
        raise ConfigError(f"{shown(path)}: {error}") from None
    parts = [part for part in ("train", "validation", "test") if ("x", part) in found]
    shape, dtype = archive.shape(found["x", "train"])
    # of this shape and without memory: only the order of its axes is asked for
    like = np.broadcast_to(np.zeros((), dtype=np.uint8 if dtype.hasobject else dtype), shape)
    _, channels, height, width = archives.channels_first(
        like, f"{path}: {found['x', 'train']}", ArrayImages().channels
    ).shape
    labels = [
        _classes(archive.read(name), f"{shown(path)}: {shown(name)}")
        for name in (found["y", part] for part in parts)
    ]
    _, counts = np.unique(np.concatenate(labels), return_counts=True)
    if not len(counts):
        raise ConfigError(f"{shown(path)} holds no samples")
    return {
        "dataset": "npz",
        "path": str(path.absolute()),
        "channels": channels,
        "height": height,
        "width": width,
        "fixed": True,
        "samples": int(counts.sum()),
        "train": _left(len(labels[0]), "validation" in parts, "test" in parts),
        "classes": len(counts),
        "smallest": int(counts.min()),
        "largest": int(counts.max()),
    }


def _classes(labels: archives.Array, name: str) -> archives.Array:
    """Labels (N,), from those or one-hot ones, as text: parts may have them in different types.

    Raises:
        ConfigError: they are not one class a sample.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.dtype.kind in "biuf" and ((labels != 0).sum(axis=1) != 1).any():
            raise ConfigError(
                f"{name} has rows with no label or several, and kinase init proposes one class a "
                "sample; write a manifest with task.type: MultiLabel or Regression (docs/tasks.md)"
            )
        labels = labels.argmax(axis=1)
    if labels.dtype.kind == "f" and (broken := labels[labels != np.rint(labels)]).size:
        raise ConfigError(
            f"{name} holds {broken.flat[0]:g}, which is not a class; to predict numbers write a "
            "manifest with task.type: Regression (docs/tasks.md)"
        )
    if labels.ndim == 0 or labels.size != len(labels):
        raise ConfigError(
            f"{name} has shape {labels.shape}; wanted is one class a sample, (N,), or one-hot, "
            "(N, classes)"
        )
    return labels.reshape(len(labels)).astype(str)
