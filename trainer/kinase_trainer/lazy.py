"""Images of a data set that is too large for memory, read batch by batch."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from kinase.store import StoreError
from kinase.words import raised
from kinase_trainer.errors import ConfigError, is_out_of_memory

MAX_LOADERS = 4
"""Maximum number of loader processes of a trial."""
AHEAD = 2
"""Number of batches that each of them prefetches."""
SHARE = 0.8
"""Maximum share of the free shared memory that they use."""


def resize(images: Tensor, side: int | None) -> Tensor:
    """Images (N, C, H, W) at another height and width, in the same type; None keeps the size.

    Bilinear, with antialiasing when shrunk, 1024 images at a time.
    """
    if side is None or images.shape[-2:] == (side, side):
        return images
    parts = [
        F.interpolate(as_float(piece), size=(side, side), mode="bilinear", antialias=True).clamp_(
            0, 1
        )
        for piece in torch.split(images, 1024)
    ]
    resized = torch.cat(parts)
    return (resized * 255).round_().byte() if images.dtype == torch.uint8 else resized


def as_float(images: Tensor) -> Tensor:
    """Images as floats in 0..1."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


class LazyImages(Dataset[Tensor]):
    """Images of a torch `Dataset` of (image, target), in any order.

    An image can be a tensor (C, H, W) of unsigned bytes or of floats in 0..1, an array of that
    form, or a PIL image. All must have the same size.
    """

    ndim = 4

    def __init__(
        self,
        dataset: Dataset[Any],
        positions: Tensor | None = None,
        side: int | None = None,
        name: str = "the data set",
    ) -> None:
        """All samples of a data set, or those at `positions`, at height and width `side`; `name`
        stands for it in messages."""
        super().__init__()
        self.name = name
        self._like: tuple[int, ...] | None = None
        self.dataset = dataset
        count = len(dataset)  # type: ignore[arg-type]
        self.positions = torch.arange(count) if positions is None else positions
        self.side = side

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Tensor:
        """One unchanged image, for the loader.

        Raises:
            ConfigError: the data set raised an error, or returned an invalid image or one of
                another size; the message names it and the sample.
            OSError: the data set raised one, which can be temporary; the message names both too.
            StoreError: of the data set, unchanged; so is an error for lack of memory.
        """
        place = int(self.positions[index])
        try:
            image = self.dataset[place][0]
        except (ConfigError, StoreError):
            raise
        except (Exception, SystemExit) as error:  # of code that is not ours
            if is_out_of_memory(error):
                raise
            traceback.print_exc()
            text = " ".join(str(error).split())
            if isinstance(error, SystemExit):
                raise ConfigError(f"{self.name} at sample {place}: {raised(error)}") from None
            # a file system can recover, so the trial is tried again
            kind = OSError if isinstance(error, OSError) else ConfigError
            raise kind(
                f"{self.name} raised {type(error).__name__} at sample {place}: {text:.500}"
            ) from None
        tensor = _tensor(image, f"{self.name} gives at sample {place}")
        if self._like not in (None, tuple(tensor.shape)):
            raise ConfigError(
                f"{self.name} gives at sample {place} an image of shape {tuple(tensor.shape)}, and "
                f"{self._like} before; give all images one size"
            )
        return tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(samples, channels, height, width)."""
        if self._like is None:
            self._like = tuple(self[0].shape)
        channels, height, width = self._like
        if self.side is not None:
            height = width = self.side
        return (len(self), channels, height, width)

    def files(self) -> str | None:
        """First 16 digits of the SHA-256 of the names and sizes of the image files, in the order of
        the data set; None if the images are not files as in torchvision's `ImageFolder`."""
        samples = getattr(self.dataset, "samples", None)
        if not isinstance(samples, list):
            return None
        digest = hashlib.sha256()
        try:
            for path, *_ in samples:
                place = Path(path)
                name = "/".join(place.parts[-2:])
                digest.update(f"{name}\0{place.stat().st_size}\n".encode(errors="replace"))
        except (OSError, TypeError, ValueError):
            return None
        return digest.hexdigest()[:16]

    def pick(self, indices: Tensor) -> LazyImages:
        """Some of the images, without reading them."""
        return self._with(self.positions[indices], self.side)

    def resized(self, side: int | None) -> LazyImages:
        """The same images at another height and width, without reading them."""
        return self if side is None else self._with(self.positions, side)

    def _with(self, positions: Tensor, side: int | None) -> LazyImages:
        other = LazyImages(self.dataset, positions, side, self.name)
        other._like = self._like
        return other

    def batches(self, order: Tensor, size: int) -> Iterator[Tensor]:
        """Batches of `size` images (n, C, H, W), in the order of the given indices."""
        yield from self.pieces(torch.split(order, size))

    def pieces(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """A batch of images (n, C, H, W) for each tensor of indices (n,)."""
        batches = [piece.tolist() for piece in indices]
        # a daemonic process, such as a worker of the local engine, cannot have children
        loaders = 0
        if batches and not multiprocessing.current_process().daemon:
            first = self[batches[0][0]]
            loaders = count_loaders(first.numel() * first.element_size() * len(batches[0]))
        ahead = AHEAD if loaders else None
        loader = iter(
            DataLoader(self, batch_sampler=batches, num_workers=loaders, prefetch_factor=ahead)
        )
        while True:
            try:
                images = next(loader)
            except StopIteration:
                return
            except (ConfigError, StoreError, OSError) as error:
                # the message of an error from another process begins with its traceback
                if not str(error).startswith("Caught "):
                    raise
                kind = type(error)
                raise kind(str(error).rpartition(f"{kind.__name__}: ")[2].strip()) from None
            yield resize(images, self.side)


def count_loaders(batch: int, shared: Path = Path("/dev/shm")) -> int:
    """Number of loader processes for batches of this size in bytes, limited by the CPUs and by the
    shared memory through which batches are passed: 64 MiB in a pod, unless `shmSize` sets more.
    With 0, the trial reads the data itself."""
    loaders = min(MAX_LOADERS, torch.get_num_threads() - 1)
    try:
        about = os.statvfs(shared)
    except OSError:  # not Linux: no such limit
        return max(0, loaders)
    batches = int(SHARE * about.f_bavail * about.f_frsize) // max(1, batch)
    return max(0, min(loaders, (batches - 1) // AHEAD))  # one more batch is in use


def _tensor(image: Any, who: str) -> Tensor:
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(image))
    elif not isinstance(image, Tensor):
        from torchvision.transforms.v2 import functional as V

        try:
            image = V.pil_to_tensor(image)
        except TypeError:
            raise ConfigError(
                f"{who} {image!r:.100}; expected an image as a tensor, an array or a PIL image"
            ) from None
    if image.ndim != 3 or not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise ConfigError(
            f"{who} an image of shape {tuple(image.shape)} and type {image.dtype}; expected "
            "(channels, height, width) as unsigned bytes or floats in 0..1"
        )
    tensor: Tensor = image
    return tensor


def targets_of(dataset: Dataset[Any]) -> Tensor:
    """Targets of every sample, from the data set's attribute `targets` or `labels`, or otherwise
    read once, sample by sample."""
    count = len(dataset)  # type: ignore[arg-type]
    for name in ("targets", "labels"):
        known = getattr(dataset, name, None)
        if known is not None and len(known) == count:
            return torch.as_tensor(np.asarray(known))
    return torch.as_tensor(np.stack([np.asarray(dataset[i][1]) for i in range(count)]))
