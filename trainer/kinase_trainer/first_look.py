"""A first look at data, for `kinase init`: which kind it is, how large, what is learned."""

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
from kinase.words import counted
from kinase_trainer import first_targets
from kinase_trainer.datasets import archives, folders
from kinase_trainer.datasets.pictures import size
from kinase_trainer.datasets.raw import shown
from kinase_trainer.datasets.tables import read_table
from kinase_trainer.errors import ConfigError
from kinase_trainer.first_targets import Targets

SAMPLE = 200
"""Number of images in a folder whose size is read."""
MOST_TABLES = 20
"""CSV files of a folder that are looked at."""
_NEEDS = {"MultiLabel": "a column for each label", "Regression": "numbers"}
"""Targets of each task that does not learn classes."""
_KNOWN: dict[str, tuple[tuple[int, int, int], int, int, int]] = {
    "digits": ((1, 8, 8), 1797, 0, 10),
    "mnist": ((1, 28, 28), 60_000, 10_000, 10),
    "fashion-mnist": ((1, 28, 28), 60_000, 10_000, 10),
    "cifar10": ((3, 32, 32), 50_000, 10_000, 10),
    "cifar100": ((3, 32, 32), 50_000, 10_000, 100),
    "svhn": ((3, 32, 32), 73_257, 26_032, 10),
}
"""Published data sets: shape, samples of the training and test splits, classes."""


def look(data: str, task: str | None = None, labels: str | None = None) -> Look:
    """Look at a folder, an archive, or a published data set by its name.

    Args:
        data: what to look at.
        task: `task.type`; None chooses by the targets.
        labels: CSV file in the folder that has the targets. By default a file that names images
            of the folder is found, if there is one.

    Raises:
        ConfigError: it does not exist, has no supported format, or does not suit the task.
    """
    path = Path(data).expanduser()
    if labels is not None and not path.is_dir():
        raise ConfigError(f"--labels is for a folder of images, and {data!r} is not a folder")
    if path.is_dir():
        found = _folder(path, task, labels)
    elif path.exists():
        found = _archive(path, task)
    elif data in _KNOWN:
        if task not in (None, "Classification"):
            raise ConfigError(
                f"{data} has only class labels; --task {task} needs "
                f"{_NEEDS.get(task, 'other targets')}"
            )
        found = _published(data)
    else:
        raise ConfigError(
            f"{data!r} does not exist; give a folder of images, an .npz archive, or one of "
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
    """Number of training samples after the default split."""
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
        "outputs": classes,
        "smallest": (train + test) // classes,
        "largest": (train + test) // classes,
    }


def _folder(root: Path, task: str | None, labels: str | None) -> dict[str, Any]:
    labels = labels or _table_in(root)
    if labels is not None:
        table = read_table(root / labels)
        parts = folders.parts_of_table(table)
        targets = first_targets.of_table(table, root / labels, task)
        paths = [str(root / name) for name in table.files]
        own = [path for path, part in zip(paths, parts, strict=True) if part == "train"]
        if not own:
            raise ConfigError(f"{shown(root / labels)} names no file of the training part")
        there, samples = set(parts), len(paths)
    else:
        if task not in (None, "Classification"):
            raise ConfigError(
                f"{shown(root)} has only class labels, its folders; --task {task} needs a table of "
                "the targets: give it by --labels (docs/tasks.md)"
            )
        listings = folders.listings_of(root)
        counts = Counter(target for part in listings.values() for target in part.targets)
        classes = len(listings["train"].classes)
        targets = Targets("Classification", classes, tuple(counts.values()))
        own, there, samples = listings["train"].paths, set(listings), counts.total()
    sizes = [size(path) for path in own[:: max(1, len(own) // SAMPLE)][:SAMPLE]]
    return {
        "dataset": "folder",
        "path": str(root.absolute()),
        "labels": labels,
        "channels": 3,
        "height": round(median(height for _, height in sizes)),
        "width": round(median(width for width, _ in sizes)),
        "fixed": len(set(sizes)) == 1,
        "samples": samples,
        "train": _left(len(own), "validation" in there, "test" in there),
        **_described(targets),
    }


def _table_in(root: Path) -> str | None:
    """The CSV file of a folder that names image files in it; None where there is none, or
    where folders of classes exist: those decide unless a table is given by name."""
    try:
        if len(folders.listings_of(root)["train"].classes) > 1:
            return None
    except ConfigError:  # no folders of classes
        pass
    found = []
    for path in sorted(root.glob("*.csv"))[:MOST_TABLES]:
        try:
            table = read_table(path)
        except ConfigError:  # another kind of table
            continue
        if all((root / name).is_file() for name in table.files[:SAMPLE]):
            found.append(path.name)
    if len(found) > 1:
        raise ConfigError(
            f"{shown(root)} has {counted(len(found), 'table')} of its images, "
            f"{', '.join(map(shown, found))}; name one by --labels"
        )
    return found[0] if found else None


def _described(targets: Targets) -> dict[str, Any]:
    return {
        "task": targets.task,
        "outputs": targets.outputs,
        "smallest": min(targets.counts, default=0),
        "largest": max(targets.counts, default=0),
    }


def _archive(path: Path, task: str | None) -> dict[str, Any]:
    archive = archives.Archive(path)
    try:
        found = archives.roles(archive.names)
    except ValueError as error:
        raise ConfigError(f"{shown(path)}: {error}") from None
    parts = [part for part in ("train", "validation", "test") if ("x", part) in found]
    shape, dtype = archive.shape(found["x", "train"])
    # an array of this shape without memory: only its axes matter
    like = np.broadcast_to(np.zeros((), dtype=np.uint8 if dtype.hasobject else dtype), shape)
    _, channels, height, width = archives.channels_first(
        like, f"{path}: {found['x', 'train']}", ArrayImages().channels
    ).shape
    names = [found["y", part] for part in parts]
    labels = [archive.read(name) for name in names]
    if not all(each.size for each in labels):
        raise ConfigError(f"{shown(path)} holds no samples")
    targets = first_targets.of_arrays(
        labels, [f"{shown(path)}: {shown(name)}" for name in names], task
    )
    return {
        "dataset": "npz",
        "path": str(path.absolute()),
        "channels": channels,
        "height": height,
        "width": width,
        "fixed": True,
        "samples": sum(map(len, labels)),
        "train": _left(len(labels[0]), "validation" in parts, "test" in parts),
        **_described(targets),
    }
