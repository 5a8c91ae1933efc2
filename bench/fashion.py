"""A subset of Fashion-MNIST (Xiao, Rasul & Vollgraf 2017) that two cores can search on.

From Debian's package dataset-fashion-mnist: 14 x 14 pixels, each the mean of four.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FASHION = Path("/usr/share/datasets/fashion-mnist")
SAMPLES = 2000
"""Of the training part; a fifth each is for validation and test."""
VALIDATION = 500
"""Of those that follow, where the whole test part is used."""
SIDE = 14
DATA = ("digits", "fashion")


def read(part: str, count: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 14, 14, 1) and labels (N) of `train` or `t10k`, the first of a fixed draw."""
    with gzip.open(FASHION / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FASHION / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    order = np.random.default_rng(0).permutation(len(images))[:count]
    small = images[order].reshape(-1, SIDE, 2, SIDE, 2).mean((2, 4)).round().astype(np.uint8)
    return small[..., None], labels[order].astype(np.int64)


def fashion(folder: Path) -> Path:
    """The subset as a file that the trainer reads."""
    images, labels = read("train", SAMPLES)
    path = folder / "fashion.npz"
    np.savez(path, x=images, y=labels)
    return path


def whole_test(folder: Path) -> Path:
    """2,000 images to train on, the 500 that follow for validation, and all 10,000 of the test
    part."""
    images, labels = read("train", SAMPLES + VALIDATION)
    x_test, y_test = read("t10k")
    path = folder / "fashion-test.npz"
    np.savez(
        path,
        x_train=images[:SAMPLES],
        y_train=labels[:SAMPLES],
        x_val=images[SAMPLES:],
        y_val=labels[SAMPLES:],
        x_test=x_test,
        y_test=y_test,
    )
    return path


def task_of(data: str, folder: Path) -> dict[str, Any]:
    """The manifest's task for one of `DATA`, whose file is written to a folder if need be."""
    if data == "digits":
        return {"dataset": "digits"}
    return {"dataset": "npz", "path": str(fashion(folder))}
