"""Published data sets: the digits, MNIST-like ones, and those of torchvision."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinase.api.task import Task
from kinase_trainer import arrays
from kinase_trainer.datasets.raw import Raw, place
from kinase_trainer.errors import ConfigError


def digits(task: Task) -> Raw:
    """1,797 grey 8x8 images of handwritten digits, a copy of the test set of the UCI Optical
    Recognition of Handwritten Digits data (Alpaydin & Kaynak 1998); without a test split. It comes
    with scikit-learn."""
    images, targets = arrays.digits()
    return Raw(torch.from_numpy(images), torch.from_numpy(targets), None, tuple("0123456789"))


def idx(path: Path) -> Tensor:
    """Read an IDX file of unsigned bytes (LeCun's MNIST format), gzipped or not.

    Raises:
        ConfigError: the file has another format.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise ConfigError(f"{path} is not a gzip file: {error}") from error
    dimensions = raw[3] if len(raw) > 4 else 0
    start = 4 + 4 * dimensions
    if raw[:3] != b"\0\0\x08" or not dimensions or len(raw) < start:
        raise ConfigError(f"{path} is not an IDX file of unsigned bytes")
    shape = np.frombuffer(raw, ">i4", dimensions, 4).tolist()
    data = np.frombuffer(raw, np.uint8, offset=start)
    if data.size != np.prod(shape):
        raise ConfigError(f"{path} holds {data.size} bytes; its head says {shape}")
    return torch.from_numpy(data.reshape(shape).copy())


def _idx_files(folder: Path) -> list[Tensor] | None:
    """The four files of an MNIST-like data set in a folder, or None."""
    found = []
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        paths = [folder / name, folder / f"{name}.gz"]
        path = next((p for p in paths if p.is_file()), None)
        if path is None:
            return None
        found.append(idx(path))
    return found


def _mnist_like(task: Task, class_name: str, classes: Sequence[str]) -> Raw:
    """From the four IDX files in `path`, as Debian packages them, or by torchvision."""
    folder = place(task)
    for where in (folder, folder / class_name / "raw"):
        files = _idx_files(where)
        if files is not None:
            images, labels, test_images, test_labels = files
            return Raw(
                images[:, None],
                labels.long(),
                (test_images[:, None], test_labels.long()),
                tuple(classes),
            )
    return _torchvision(task, class_name)


def _torchvision(task: Task, class_name: str) -> Raw:
    """A data set of torchvision with its samples in an array."""
    import torchvision

    cls = getattr(torchvision.datasets, class_name)
    folder = str(place(task))

    def part(train: bool) -> tuple[Tensor, Tensor, Any]:
        which: dict[str, Any] = {"train": train}
        if class_name == "SVHN":
            which = {"split": "train" if train else "test"}
        try:
            data = cls(folder, download=task.download, **which)
        except RuntimeError as error:
            raise ConfigError(
                f"task.path {task.path!r} does not hold {task.dataset} in torchvision's layout "
                f"({error}); put it there, or set task.download: true"
            ) from error
        images = torch.as_tensor(np.asarray(data.data))
        targets = torch.as_tensor(np.asarray(getattr(data, "targets", getattr(data, "labels", 0))))
        if images.ndim == 3:
            images = images[:, None]
        elif images.shape[-1] == 3:
            images = images.permute(0, 3, 1, 2).contiguous()
        return images, targets.long(), getattr(data, "classes", ())

    images, targets, classes = part(True)
    test_images, test_targets, _ = part(False)
    return Raw(images, targets, (test_images, test_targets), tuple(map(str, classes)))


def mnist(task: Task) -> Raw:
    """70,000 grey 28x28 images of handwritten digits (LeCun et al. 1998)."""
    return _mnist_like(task, "MNIST", "0123456789")


def fashion_mnist(task: Task) -> Raw:
    """70,000 grey 28x28 images of clothes (Xiao et al. 2017)."""
    names = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
    return _mnist_like(task, "FashionMNIST", names.split(","))


def cifar10(task: Task) -> Raw:
    """60,000 colour 32x32 images of 10 classes (Krizhevsky 2009)."""
    return _torchvision(task, "CIFAR10")


def cifar100(task: Task) -> Raw:
    """60,000 colour 32x32 images of 100 classes (Krizhevsky 2009)."""
    return _torchvision(task, "CIFAR100")


def svhn(task: Task) -> Raw:
    """99,289 colour 32x32 images of house numbers (Netzer et al. 2011)."""
    return _torchvision(task, "SVHN")
