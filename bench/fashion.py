"""A subset of Fashion-MNIST (Xiao, Rasul & Vollgraf 2017) that two cores can search on.

From Debian's package dataset-fashion-mnist: 14 x 14 pixels, each the mean of four.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")
SAMPLES = 2000
"""Of the training part; a fifth each is for validation and test."""
SIDE = 14
DATA = ("digits", "fashion")


def fashion(folder: Path) -> Path:
    """The subset as a file that the trainer reads."""
    with gzip.open(FASHION / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FASHION / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    chosen = np.random.default_rng(0).permutation(len(images))[:SAMPLES]
    small = images[chosen].reshape(-1, SIDE, 2, SIDE, 2).mean((2, 4)).round().astype(np.uint8)
    path = folder / "fashion.npz"
    np.savez(path, x=small[..., None], y=labels[chosen].astype(np.int64))
    return path


def task_of(data: str, folder: Path) -> dict[str, Any]:
    """The manifest's task for one of `DATA`, whose file is written to a folder if need be."""
    if data == "digits":
        return {"dataset": "digits"}
    return {"dataset": "npz", "path": str(fashion(folder))}
