"""Data sets by name.

Another package can add a data set with an entry point of the group `kinase.datasets`: a callable
that takes the manifest's task and returns a `Raw` (samples as tensors in memory), a torch `Dataset`
of (image, target), or several data sets: (training, test) or (training, validation, test). A
`Dataset` is read batch by batch.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kinase import registry
from kinase.api.task import Task
from kinase.words import counted, raised
from kinase_trainer.datasets.archives import npz
from kinase_trainer.datasets.folders import folder
from kinase_trainer.datasets.published import (
    cifar10,
    cifar100,
    digits,
    fashion_mnist,
    idx,
    mnist,
    svhn,
)
from kinase_trainer.datasets.raw import MAX_BYTES, Pair, Raw, shown
from kinase_trainer.errors import ConfigError
from kinase_trainer.lazy import LazyImages, targets_of

__all__ = [
    "MAX_BYTES",
    "Raw",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "folder",
    "idx",
    "mnist",
    "npz",
    "open_raw",
    "svhn",
]


def open_raw(task: Task) -> Raw:
    """Open the data set of a task.

    Raises:
        ConfigError: the data set is unknown, missing, or has the wrong form.
    """
    where = f"task.dataset {task.dataset!r}"
    try:
        opener: Callable[[Task], Any] = registry.load("kinase.datasets", task.dataset)
    except registry.UnknownMember:
        known = ", ".join(registry.names("kinase.datasets"))
        raise ConfigError(f"{where} is not known; known: {known}") from None
    except (Exception, SystemExit) as error:  # raised by other packages' code
        raise ConfigError(f"{where} cannot be loaded: {_line(error)}") from error
    try:
        raw = _as_raw(opener(task), where)
    except ConfigError:
        raise
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(
            f"{where} cannot be read ({error}); correct task.path, or the folder's mode"
        ) from error
    except ImportError as error:
        raise ConfigError(f"{where} needs a package that is not installed: {error}") from error
    except MemoryError as error:
        raise ConfigError(f"{where} does not fit in memory: {_line(error)}") from error
    except (Exception, SystemExit) as error:  # raised by other packages' code
        traceback.print_exc()
        verb = ":" if isinstance(error, SystemExit) else " raised"
        raise ConfigError(f"{where}{verb} {_line(error)}") from error
    for part, pair in (
        ("", (raw.images, raw.targets)),
        (" in its validation part", raw.validation),
        (" in its test part", raw.test),
    ):
        if pair is not None:
            _check(where, part, *pair, raw.images.shape)
    return raw


def _line(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return raised(error)
    text = " ".join(str(error).split())
    if isinstance(error, ImportError | AttributeError) and text:  # with a clear message
        return text
    return f"{type(error).__name__}: {text:.500}" if text else type(error).__name__


def _check(where: str, part: str, images: Tensor | LazyImages, targets: Tensor, shape: Any) -> None:
    known = isinstance(images, Tensor | LazyImages) and isinstance(targets, Tensor)
    if not known or images.ndim != 4 or len(images) != len(targets) or not len(images):
        found = tuple(images.shape) if known else type(images).__name__
        count = len(targets) if isinstance(targets, Tensor) and targets.ndim else 0
        raise ConfigError(
            f"{where} gives images of shape {found} and {counted(count, 'target')}{part}; "
            "expected N images of (channels, height, width)"
        )
    if isinstance(images, Tensor) and not (
        images.dtype == torch.uint8
        or (images.is_floating_point() and 0 <= float(images.min()) <= float(images.max()) <= 1)
    ):
        raise ConfigError(
            f"{where} gives images of type {images.dtype} with values from "
            f"{float(images.min()):g} to {float(images.max()):g}{part}; expected unsigned "
            "bytes, or floats in 0..1"
        )
    if images.shape[1:] != shape[1:]:
        raise ConfigError(
            f"{where} gives images of shape {tuple(shape[1:])}, and {tuple(images.shape[1:])}{part}"
        )


def _as_raw(found: Any, where: str) -> Raw:
    """The result of an entry point as a `Raw` object."""
    if isinstance(found, Raw):
        return found
    parts = found if isinstance(found, tuple) else (found,)
    if len(parts) not in (1, 2, 3) or not all(isinstance(part, Dataset) for part in parts):
        raise ConfigError(
            f"the data set's entry point gave {type(found).__name__}; expected a Raw, a torch "
            "Dataset, or a tuple of them: (training, test) or (training, validation, test)"
        )
    own, *rest = parts
    classes = tuple(shown(str(name))[:128] for name in getattr(own, "classes", None) or ())
    test = _pair(rest[-1], where) if rest else None
    validation = _pair(rest[0], where) if len(rest) == 2 else None
    return Raw(*_pair(own, where), test, classes, validation)


def _pair(dataset: Dataset[Any], where: str) -> Pair:
    return LazyImages(dataset, name=where), targets_of(dataset)
