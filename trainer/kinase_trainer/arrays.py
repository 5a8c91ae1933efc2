"""What needs arrays only, so that a task can be described without torch."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinase.api.task import Task
from kinase_trainer.errors import ConfigError

Indices = NDArray[np.intp]


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (1797, 1, 8, 8) in 0..1 and classes of the digits that come with scikit-learn.

    They are read from its file: to import scikit-learn takes seconds.
    """
    spec = importlib.util.find_spec("sklearn")
    places = spec.submodule_search_locations if spec else None
    path = Path(places[0], "datasets", "data", "digits.csv.gz") if places else None
    if path is not None and path.is_file():
        with gzip.open(path, "rt") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.int64)
        pixels, targets = table[:, :-1], table[:, -1]
    else:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        pixels, targets = bunch.data, bunch.target.astype(np.int64)
    images = pixels.reshape(-1, 1, 8, 8).astype(np.float32) / np.float32(16)
    return images, np.ascontiguousarray(targets)


def checksum(*arrays: NDArray[Any]) -> str:
    """SHA-256 of the arrays' bytes, its first 16 digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def divide(
    task: Task, count: int, labels: NDArray[Any] | None, *, own_test: bool
) -> tuple[Indices, Indices, Indices | None]:
    """Indices of the training, validation and test part of `count` samples, sorted.

    Args:
        task: whose `split` gives the shares and the seed.
        count: samples, without those of the data set's own test part.
        labels: classes whose shares every part keeps, or None.
        own_test: whether the data set brings a test part, so that none is cut off.

    Raises:
        ConfigError: a part is empty.
    """
    rng = np.random.default_rng([task.split.seed, 11])
    groups = [np.arange(count)]
    if labels is not None:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    shares = [task.split.validation] + ([] if own_test else [task.split.test])
    parts: list[list[Indices]] = [[] for _ in range(3)]
    for group in groups:
        shuffled = rng.permutation(group)
        cuts = np.cumsum([round(len(group) * share) for share in shares])
        held = np.split(shuffled, cuts)
        parts[0].append(held[-1])
        for place, piece in zip(parts[1:], held[:-1], strict=False):
            place.append(piece)
    train, validation = (np.sort(np.concatenate(part)) for part in parts[:2])
    test = np.sort(np.concatenate(parts[2])) if parts[2] else None
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if part is not None and not len(part):
            raise ConfigError(
                f"task.split leaves no {name} samples of the {count} that "
                f"task.dataset {task.dataset!r} has; use more data or other shares"
            )
    return train, validation, test
