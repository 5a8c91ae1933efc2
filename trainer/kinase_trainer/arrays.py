"""Functions on arrays, to describe a task without torch."""

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

    They are read from its file, because importing scikit-learn takes seconds.
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
    """First 16 digits of the SHA-256 of the arrays' bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def divide(
    task: Task,
    count: int,
    labels: NDArray[Any] | None,
    *,
    own_test: bool,
    own_validation: bool = False,
) -> tuple[Indices, Indices | None, Indices | None]:
    """Sorted indices of the training, validation and test split of `count` samples; None for a
    split that the data set provides.

    Args:
        task: its `split` gives the shares and the seed.
        count: number of samples, without those of splits that the data set provides.
        labels: classes whose shares every split preserves, or None.
        own_test: whether the data set provides a test split.
        own_validation: whether it provides a validation split.

    Raises:
        ConfigError: a split is empty.
    """
    rng = np.random.default_rng([task.split.seed, 11])
    groups = [np.arange(count)]
    if labels is not None:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    shares = {}
    if not own_validation:
        shares["validation"] = task.split.validation
    if not own_test:
        shares["test"] = task.split.test
    parts: dict[str, list[Indices]] = {"training": [], **{name: [] for name in shares}}
    for group in groups:
        shuffled = rng.permutation(group)
        cuts = np.cumsum([round(len(group) * share) for share in shares.values()], dtype=int)
        *held, rest = np.split(shuffled, cuts)
        parts["training"].append(rest)
        for name, piece in zip(shares, held, strict=True):
            parts[name].append(piece)
    found = {name: np.sort(np.concatenate(pieces)) for name, pieces in parts.items()}
    for name, part in found.items():
        if not len(part):
            raise ConfigError(
                f"task.split leaves no {name} samples of the {count} that "
                f"task.dataset {task.dataset!r} has; use more data or other shares"
            )
    return found["training"], found.get("validation"), found.get("test")
