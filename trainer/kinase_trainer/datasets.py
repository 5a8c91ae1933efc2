"""Data sets by name.

Another package adds one by an entry point of the group `kinase.datasets`: a callable that takes
the manifest's task and gives a `Raw` (samples as tensors, kept in memory), or a torch `Dataset`
of (image, target), or a pair of them, of which the second is the test part. A `Dataset` is
read batch by batch.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kinase import registry
from kinase.api.task import Task
from kinase_trainer import arrays
from kinase_trainer.errors import ConfigError
from kinase_trainer.lazy import LazyImages, targets_of

MAX_BYTES = 8 * 2**30
"""Largest part of a data set in a folder that is held in memory; a larger one is read batch by
batch."""


@dataclass(frozen=True)
class Raw:
    """A data set as it comes, on the CPU."""

    images: Tensor | LazyImages
    """(N, C, H, W): unsigned bytes, or floats in 0..1."""
    targets: Tensor
    """(N, ...), of the task's type."""
    test: tuple[Tensor | LazyImages, Tensor] | None = None
    """Images and targets of the data set's own test part, or None if it has none."""
    classes: tuple[str, ...] = ()
    """Names of the classes."""

    def checksum(self) -> str:
        """SHA-256, its first 16 digits, of the images (where they are in memory) and the
        targets; those of the data set's own test part are left out."""
        images = [self.images.numpy()] if isinstance(self.images, Tensor) else []
        return arrays.checksum(*images, self.targets.numpy())

    def test_checksum(self) -> str | None:
        """The same of the data set's own test part; None where it has none."""
        return None if self.test is None else Raw(*self.test).checksum()


def open_raw(task: Task) -> Raw:
    """The data set that a task names.

    Raises:
        ConfigError: it is not known, not there, or not of the right form.
    """
    try:
        opener: Callable[[Task], Any] = registry.load("kinase.datasets", task.dataset)
    except registry.UnknownMember:
        known = ", ".join(registry.names("kinase.datasets"))
        raise ConfigError(f"task.dataset {task.dataset!r} is not known; known: {known}") from None
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"task.dataset {task.dataset!r} cannot be loaded: {error}") from error
    try:
        raw = _as_raw(opener(task))
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(
            f"task.dataset {task.dataset!r} cannot be read ({error}); correct task.path, or the "
            "folder's mode"
        ) from error
    except ImportError as error:
        raise ConfigError(
            f"task.dataset {task.dataset!r} needs a package that is not installed: {error}"
        ) from error
    for images, targets in [(raw.images, raw.targets), *([raw.test] if raw.test else [])]:
        if images.ndim != 4 or len(images) != len(targets) or not len(images):
            raise ConfigError(
                f"task.dataset {task.dataset!r} gives images of shape {tuple(images.shape)} and "
                f"{len(targets)} targets; wanted are N images of (channels, height, width)"
            )
    if raw.test is not None and raw.test[0].shape[1:] != raw.images.shape[1:]:
        raise ConfigError(
            f"task.dataset {task.dataset!r} gives images of shape {tuple(raw.images.shape[1:])}, "
            f"and {tuple(raw.test[0].shape[1:])} in its test part"
        )
    return raw


def _as_raw(found: Any) -> Raw:
    """What an entry point gave, in one form."""
    if isinstance(found, Raw):
        return found
    own, *rest = found if isinstance(found, tuple) else (found,)
    if not isinstance(own, Dataset) or not all(isinstance(part, Dataset) for part in rest[:1]):
        raise ConfigError(
            f"the data set's entry point gave {type(found).__name__}; wanted is a Raw, a torch "
            "Dataset, or a pair of them"
        )
    test = (LazyImages(rest[0]), targets_of(rest[0])) if rest else None
    classes = tuple(map(str, getattr(own, "classes", ())))
    return Raw(LazyImages(own), targets_of(own), test, classes)


def _folder(task: Task) -> Path:
    if task.path is None:
        raise ConfigError(
            f"task.path is not set; task.dataset {task.dataset} needs the folder of its data"
        )
    path = Path(task.path)
    if not path.exists() and not task.download:
        raise ConfigError(
            f"task.path {task.path!r} is not there; give the folder that holds "
            f"{task.dataset}, or set task.download: true to fetch it there"
        )
    return path


def digits(task: Task) -> Raw:
    """1,797 grey 8x8 images of handwritten digits, a copy of the test set of the UCI
    Optical Recognition of Handwritten Digits data (Alpaydin & Kaynak 1998); no test part of
    its own. It comes with scikit-learn."""
    images, targets = arrays.digits()
    return Raw(torch.from_numpy(images), torch.from_numpy(targets), None, tuple("0123456789"))


def idx(path: Path) -> Tensor:
    """Read an IDX file of unsigned bytes (LeCun's MNIST format), gzipped or not.

    Raises:
        ConfigError: it is none.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise ConfigError(f"{path} is no gzip file: {error}") from error
    dimensions = raw[3] if len(raw) > 4 else 0
    start = 4 + 4 * dimensions
    if raw[:3] != b"\0\0\x08" or not dimensions or len(raw) < start:
        raise ConfigError(f"{path} is no IDX file of unsigned bytes")
    shape = np.frombuffer(raw, ">i4", dimensions, 4).tolist()
    data = np.frombuffer(raw, np.uint8, offset=start)
    if data.size != np.prod(shape):
        raise ConfigError(f"{path} holds {data.size} bytes; its head says {shape}")
    return torch.from_numpy(data.reshape(shape).copy())


def _idx_files(folder: Path) -> list[Tensor] | None:
    """The four files of an MNIST-like data set that lie in a folder, or None."""
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
    folder = _folder(task)
    for place in (folder, folder / class_name / "raw"):
        files = _idx_files(place)
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
    """A data set of torchvision that keeps its samples as an array."""
    import torchvision

    cls = getattr(torchvision.datasets, class_name)
    folder = str(_folder(task))

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


def npz(task: Task) -> Raw:
    """A NumPy archive with `x` (N, H, W), (N, C, H, W) or, where C is 1, 3 or 4 and less than H,
    (N, H, W, C), and `y` (N,); with `x_test` and `y_test` if it brings a test part. Bytes, or
    floats in 0..1."""
    path = _folder(task)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise ConfigError(f"task.path {task.path!r} is no NumPy archive: {error}") from error
    missing = {"x", "y"} - set(arrays)
    if missing:
        raise ConfigError(
            f"{path} has no array {sorted(missing)[0]!r}; it has {', '.join(sorted(arrays))}"
        )
    images = _images(arrays["x"], f"{path}: x")
    targets = torch.from_numpy(np.ascontiguousarray(arrays["y"]))
    targets = targets if targets.is_floating_point() else targets.long()
    test = None
    if {"x_test", "y_test"} <= set(arrays):
        test_targets = torch.from_numpy(np.ascontiguousarray(arrays["y_test"]))
        test = (_images(arrays["x_test"], f"{path}: x_test"), test_targets.to(targets.dtype))
    return Raw(images, targets, test)


def _images(array: np.ndarray[Any, Any], name: str) -> Tensor:
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[-1] in (1, 3, 4) and array.shape[-1] < array.shape[1]:
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.dtype.kind not in "uf":
        raise ConfigError(
            f"{name} has shape {array.shape} and type {array.dtype}; wanted are images (N, H, W), "
            "(N, H, W, C) or (N, C, H, W) as unsigned bytes or floats in 0..1"
        )
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        raise ConfigError(f"{name} has type {array.dtype}; use uint8, or floats in 0..1")
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if array.dtype == np.uint8:
        return tensor
    tensor = tensor.float()
    low, high = float(tensor.min()), float(tensor.max())
    if not (low >= 0 and high <= 1):
        raise ConfigError(f"{name} holds values from {low:g} to {high:g}; floats must be in 0..1")
    return tensor


def folder(task: Task) -> Raw:
    """A folder of images, one folder a class (torchvision's `ImageFolder` layout), or `train`
    and `test` folders of that form. Images are scaled and cropped to `task.resolution`, once
    where they fit in memory, else whenever they are read."""
    from torchvision.datasets import ImageFolder

    root = _folder(task)
    if task.resolution is None:
        raise ConfigError("task.resolution is not set; images of a folder need one size, in pixels")
    side = task.resolution

    def listing(path: Path) -> ImageFolder:
        try:
            return ImageFolder(str(path), transform=Square(side))
        except (FileNotFoundError, RuntimeError) as error:
            raise ConfigError(f"{path} is no folder of images by class: {error}") from error

    if not ((root / "train").is_dir() and (root / "test").is_dir()):
        own = listing(root)
        return Raw(_images_of(own, side), torch.tensor(own.targets), None, tuple(own.classes))
    own, test = listing(root / "train"), listing(root / "test")
    if test.classes != own.classes:
        raise ConfigError(f"{root}: train has the classes {own.classes} and test {test.classes}")
    return Raw(
        _images_of(own, side),
        torch.tensor(own.targets),
        (_images_of(test, side), torch.tensor(test.targets)),
        tuple(own.classes),
    )


def _images_of(listing: Any, side: int) -> Tensor | LazyImages:
    """The images of a folder, in memory if they fit."""
    if len(listing) * 3 * side * side > MAX_BYTES:
        return LazyImages(listing)
    images = torch.empty(len(listing), 3, side, side, dtype=torch.uint8)
    for index in range(len(listing)):
        images[index] = listing[index][0]
    return images


@dataclass(frozen=True)
class Square:
    """Scales an image so that its shorter side fits, and cuts its centre out."""

    side: int
    """Height and width in pixels."""

    def __call__(self, image: Any) -> Tensor:
        """A PIL image -> unsigned bytes (3, side, side)."""
        from torchvision.transforms.v2 import functional as V

        tensor: Tensor = V.pil_to_tensor(image.convert("RGB"))
        size = [self.side, self.side]
        return V.center_crop(V.resize(tensor, size[:1], antialias=True), size)  # type: ignore[no-any-return]
