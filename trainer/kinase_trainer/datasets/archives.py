"""NumPy archives of images and labels. Nothing in them is unpickled."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from kinase.api.task import ArrayImages, Task
from kinase.words import counted
from kinase_trainer.datasets.raw import Pair, Raw, place, shown
from kinase_trainer.errors import ConfigError

Array = NDArray[Any]

IMAGES = ("x", "images", "image", "data")
LABELS = ("y", "labels", "label", "targets", "target")
PARTS = {
    "": "train",
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
KEYS = (
    "x and y, or x_train and y_train; x_val and y_val, x_test and y_test if it has these parts "
    "(images and labels are as good as x and y)"
)
SAVE = "save it by numpy.savez(path, x=images, y=labels)"
CHANNELS = (1, 3, 4)
"""Numbers of channels that identify the channel axis."""


def roles(names: list[str]) -> dict[tuple[str, str], str]:
    """Map (x or y, split) to the name of an array in an archive. Other arrays are ignored.

    Raises:
        ValueError: two arrays have the same meaning, or a required one is missing.
    """
    kinds = {**dict.fromkeys(IMAGES, "x"), **dict.fromkeys(LABELS, "y")}
    kind, part = "|".join(kinds), "|".join(filter(None, PARTS))
    form = re.compile(f"({kind})(?:[_-]?({part}))?|({part})[_-]?({kind})")
    found: dict[tuple[str, str], str] = {}
    for name in names:
        match = form.fullmatch(name.lower())
        if match is None:
            continue
        role = kinds[match[1] or match[4]], PARTS[match[2] or match[3] or ""]
        if role in found:
            raise ValueError(f"{found[role]!r} and {name!r} would be the same; keep one")
        found[role] = name
    for part in ("train", "validation", "test"):
        here = [role for role in (("x", part), ("y", part)) if role in found]
        if len(here) == 2 or (part != "train" and not here):
            continue
        partner = f" to go with {found[here[0]]!r}" if here else ""
        lacks = "images" if ("x", part) not in found else "labels"
        known = ", ".join(repr(shown(name)) for name in names[:20]) or "none"
        raise ValueError(f"there is no array of {lacks}{partner}; it has {known}, expected {KEYS}")
    return found


class Archive:
    """An open archive. Arrays are read one by one."""

    def __init__(self, path: Path) -> None:
        """Read the names of the arrays.

        Raises:
            ConfigError: the file is not an archive.
        """
        self.path = path
        with path.open("rb") as file:
            head = file.read(6)
        if head == npy.MAGIC_PREFIX:
            raise ConfigError(f"{path} is one array; expected an archive of several: {SAVE}")
        if head[:2] != b"PK":
            what = "is empty" if not head else "is not a NumPy archive"
            what = f"{what} but a pickle, which is never loaded" if head[:1] == b"\x80" else what
            raise ConfigError(f"{path} {what}; {SAVE}")
        try:
            self.file = np.load(path, allow_pickle=False)
        except Exception as error:  # of a damaged zip file
            raise ConfigError(
                f"{path} is damaged or cut off ({error!s:.200}); write it again"
            ) from None
        self.names: list[str] = list(self.file.files)

    def shape(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and type of an array; only its header is read.

        Raises:
            ConfigError: it is damaged.
        """
        try:
            with self.file.zip.open(f"{name}.npy") as member:
                first = npy.read_magic(member) == (1, 0)
                reader = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
                shape, _, dtype = reader(member)
        except Exception as error:  # of a damaged zip file
            raise self._damaged(name, error) from None
        return shape, dtype

    def _damaged(self, name: str, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self.path}: {shown(name)} is damaged or cut off ({error!s:.200}); write it again"
        )

    def read(self, name: str) -> Array:
        """One array, in this machine's byte order.

        Raises:
            ConfigError: it holds Python objects, is damaged or does not fit in memory.
        """
        try:
            shape, dtype = self.shape(name)
            size = int(np.prod([1, *shape], dtype=object)) * dtype.itemsize
            if dtype.hasobject:
                raise ConfigError(
                    f"{self.path}: {shown(name)} holds Python objects, which are never opened "
                    "(they are pickled); make it numbers, or text by array.astype(str)"
                )
            if size > _memory():
                raise ConfigError(
                    f"{self.path}: {shown(name)} has shape {shape} and type {dtype}, "
                    f"{size / 2**30:,.0f} GiB, which memory does not hold; use a folder of "
                    "images, or a data set of your own, read batch by batch"
                )
            array: Array = self.file[name]
        except ConfigError:
            raise
        except Exception as error:  # of a damaged zip file
            raise self._damaged(name, error) from None
        return array.astype(array.dtype.newbyteorder("="), copy=False)


def _memory(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Memory of the machine or the container in bytes, whichever is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max": unlimited
        return min(whole, int(limit.read_text()))
    return whole


def npz(task: Task) -> Raw:
    """A NumPy archive of images `x` and labels `y`, optionally with validation and test splits."""
    path = place(task)
    if path.is_dir():
        inside = sorted(p.name for p in path.glob("*.npz"))
        near = f", such as {shown(path / inside[0])}" if inside else ""
        raise ConfigError(f"task.path {task.path!r} is a folder; give the .npz file{near}")
    archive = Archive(path)
    try:
        found = roles(archive.names)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    options = task.npz or ArrayImages()
    parts = {
        part: found["x", part] for part in ("train", "validation", "test") if ("x", part) in found
    }
    images, doubts = {}, []
    for part, name in parts.items():
        array = archive.read(name)
        doubts += contradictions(array.shape, f"{path}: {name}", options.channels)
        images[part] = as_images(array, f"{path}: {name}", options)
    labels = {p: archive.read(found["y", p]) for p in parts}
    notes = []
    unread = sorted(set(archive.names) - set(found.values()))
    if unread:
        notes.append(f"arrays that were passed over: {', '.join(map(shown, unread[:10]))}")
    classes: tuple[str, ...] = ()
    if labels["train"].dtype.kind in "SUT":
        classes, labels = _numbered(labels, found, path)
    held: dict[str, Pair] = {}
    for part, array in labels.items():
        name = f"{path}: {found['y', part]}"
        if len(array) != len(images[part]) if array.ndim else True:
            count = len(array) if array.ndim else 1
            raise ConfigError(
                f"{path}: {found['y', part]} has {counted(count, 'label')} for the "
                f"{counted(len(images[part]), 'image')} of {parts[part]}; expected one for each"
            )
        held[part] = images[part], as_labels(array, name)
    return Raw(
        *held["train"],
        held.get("test"),
        classes,
        held.get("validation"),
        tuple(notes),
        tuple(doubts[:1]),  # only one option is wrong
    )


def _numbered(
    labels: dict[str, Array], found: dict[tuple[str, str], str], path: Path
) -> tuple[tuple[str, ...], dict[str, Array]]:
    """Labels that are text as positions in the training split's sorted labels."""
    texts = {part: _text(array) for part, array in labels.items()}
    for part, array in texts.items():
        empty = np.argwhere(np.char.strip(array) == "")
        if len(empty):
            raise ConfigError(
                f"{path}: {found['y', part]} is an empty text at {empty[0].tolist()}; name the "
                "class, or remove those samples"
            )
    values = np.unique(texts["train"])
    for part, array in texts.items():
        strange = np.setdiff1d(array, values)
        if len(strange):
            raise ConfigError(
                f"{path}: {found['y', part]} has the label {shown(str(strange[0]))!r}, which the "
                f"training part lacks; it has {', '.join(map(shown, map(str, values[:10])))}"
            )
    numbered = {part: np.searchsorted(values, array) for part, array in texts.items()}
    return tuple(shown(str(value))[:128] for value in values), numbered


def _text(array: Array) -> Array:
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "backslashreplace")
    return array.astype(str)


def as_labels(array: Array, name: str) -> Tensor:
    """Labels (N, ...) as whole numbers or floats.

    Raises:
        ConfigError: they are not numbers.
    """
    if array.dtype.kind not in "biuf":
        raise ConfigError(
            f"{name} has type {array.dtype}; expected whole numbers, or texts that name the classes"
        )
    if array.dtype.kind == "f":
        if not bool(np.isfinite(array).all()):
            raise ConfigError(f"{name} holds {_first_odd(array)}; remove those samples")
        return torch.from_numpy(
            np.ascontiguousarray(array, np.float64 if array.dtype.itemsize > 4 else np.float32)
        )
    if array.dtype == np.uint64 and bool((array > np.iinfo(np.int64).max).any()):
        raise ConfigError(f"{name} holds {int(array.max())}; number the classes from 0")
    return torch.from_numpy(np.ascontiguousarray(array, np.int64))


def as_images(array: Array, name: str, options: ArrayImages) -> Tensor:
    """Images as unsigned bytes or floats in 0..1, (N, C, H, W).

    Raises:
        ConfigError: they are not images, or the order of axes is ambiguous.
    """
    array = channels_first(array, name, options.channels)
    if 0 in array.shape:
        raise ConfigError(f"{name} has shape {array.shape}, without samples or without pixels")
    kind = array.dtype.kind
    if kind not in "biuf":
        raise ConfigError(
            f"{name} has type {array.dtype}; expected whole numbers of 8 or 16 bits, or floats "
            "in 0..1"
        )
    if array.dtype == np.uint8 or kind == "b":
        scale = 255 if kind == "b" else 1
        return torch.from_numpy(np.ascontiguousarray(array, np.uint8) * np.uint8(scale))
    if array.dtype == np.uint16:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32) / np.float32(65535))
    low, high = array.min(), array.max()
    if kind != "f":
        if low < 0 or high > 255:
            raise ConfigError(
                f"{name} holds whole numbers from {low} to {high} of type {array.dtype}; use "
                "uint8 (0..255), uint16 (0..65535), or floats in 0..1"
            )
        return torch.from_numpy(np.ascontiguousarray(array, np.uint8))
    if not (low >= 0 and high <= 1):
        if not bool(np.isfinite(array).all()):
            raise ConfigError(f"{name} holds {_first_odd(array)}; floats must be in 0..1")
        better = ""
        if low >= -0.01 and high <= 1.01:
            better = "; rounding may be the cause: use numpy.clip(images, 0, 1)"
        elif low >= 0 and high <= 255:
            better = "; divide by 255"
        raise ConfigError(
            f"{name} holds values from {low:.9g} to {high:.9g}; floats must be in 0..1{better}"
        )
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _first_odd(array: Array) -> str:
    where = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
    return f"{array[where]} at {list(where)}, which is not a number"


def channels_first(array: Array, name: str, order: str) -> Array:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W), without a copy.

    Raises:
        ConfigError: they are not images, or the order of axes is ambiguous.
    """
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise ConfigError(
            f"{name} has shape {array.shape}; expected images (N, H, W), (N, H, W, C) or "
            "(N, C, H, W)"
        )
    if order == "auto":
        order = order_of(array.shape)
    if not order:
        _, second, third, last = array.shape
        raise ConfigError(
            f"{name} has shape {array.shape}, which is {counted(second, 'channel')} of "
            f"{third}x{last} or {counted(last, 'channel')} of {second}x{third}: set "
            "task.npz.channels to first or to last"
        )
    return array if order == "first" else array.transpose(0, 3, 1, 2)


def order_of(shape: tuple[int, ...]) -> str:
    """Position of the channel axis of four axes, from their sizes: `first`, `last`, or empty if it
    is ambiguous."""
    _, second, third, last = shape
    first, end = second in CHANNELS, last in CHANNELS
    if first != end:
        return "first" if first else "last"
    if first and (third == last) != (second == third):
        return "first" if third == last else "last"
    return ""


def contradictions(shape: tuple[int, ...], name: str, order: str) -> list[str]:
    """A warning if the sizes contradict the manifest's order of axes."""
    likely = order_of(shape) if len(shape) == 4 and order != "auto" else ""
    if likely in ("", order):
        return []
    _, second, third, last = shape
    read = f"{counted(second, 'channel')} of {third}x{last}"
    better = f"{counted(last, 'channel')} of {second}x{third}"
    if order == "last":
        read, better = better, read
    return [
        f"{name} has shape {shape}, read as {read} because task.npz.channels is {order}; if it is "
        f"{better}, set it to {likely}"
    ]
