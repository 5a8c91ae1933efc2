"""Data sets, their fixed splits, and batches.

`open_splits` gives the training and the validation part and no way to the test part, which
only `open_test` opens. Data sets that fit in memory are tensors on the device, and a batch is
changed (cropped, flipped, cut out) at once; the others come by a torch `DataLoader`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kinase.api.task import Augmentation, Task
from kinase_trainer.datasets import Raw, open_raw
from kinase_trainer.tasks import LearningTask, make_task

EVALUATION_BATCH = 1024
"""Samples of a batch when nothing goes backward."""


@dataclass(frozen=True)
class Part:
    """Samples of one part of a data set: images (N, C, H, W) in 0..1, and targets (N, ...)."""

    images: Tensor
    """Unsigned bytes, or floats in 0..1."""
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Part:
        """The same samples on a device."""
        return Part(self.images.to(device), self.targets.to(device))

    def subset(self, indices: Tensor) -> Part:
        """Some of the samples."""
        return Part(self.images[indices], self.targets[indices])


@dataclass(frozen=True)
class Splits:
    """What training may see."""

    train: Part
    validation: Part
    test_size: int
    """Samples of the test part, which is not here."""
    outputs: int
    """Width of the network's output."""
    mean: tuple[float, ...]
    """Of each channel of the training part."""
    deviation: tuple[float, ...]
    """Standard deviation of each channel of the training part."""
    classes: tuple[str, ...]
    """Names of the classes, where the data set has them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a sample."""
        channels, height, width = self.train.images.shape[1:]
        return (channels, height, width)


def _divide(task: Task, learning: LearningTask, raw: Raw) -> tuple[Tensor, Tensor, Tensor | None]:
    """Indices of the training, validation and (where the data set brings none) test part."""
    rng = np.random.default_rng([task.split.seed, 11])
    strata = learning.strata(raw.targets)
    groups = [np.arange(len(raw.targets))]
    if strata is not None:
        labels = strata.numpy()
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    shares = [task.split.validation] + ([task.split.test] if raw.test is None else [])
    parts: list[list[np.ndarray[tuple[int], np.dtype[np.intp]]]] = [[] for _ in range(3)]
    for group in groups:
        shuffled = rng.permutation(group)
        cuts = np.cumsum([round(len(group) * share) for share in shares])
        held = np.split(shuffled, cuts)
        parts[0].append(held[-1])
        for place, piece in zip(parts[1:], held[:-1], strict=False):
            place.append(piece)
    train, validation = (torch.from_numpy(np.sort(np.concatenate(p))) for p in parts[:2])
    test = torch.from_numpy(np.sort(np.concatenate(parts[2]))) if parts[2] else None
    return train, validation, test


@lru_cache(maxsize=2)
def open_splits(task: Task) -> Splits:
    """The training and validation parts of a task's data set, on the CPU.

    Raises:
        ConfigError: the data is not there, or not of a form that the task can use.
    """
    learning = make_task(task.type)
    raw = open_raw(task)
    train, validation, test = _divide(task, learning, raw)
    size = len(raw.test[1]) if raw.test is not None else len(test) if test is not None else 0
    part = Part(_resize(raw.images[train], task.resolution), raw.targets[train])
    mean, deviation = _statistics(part.images)
    return Splits(
        train=part,
        validation=Part(_resize(raw.images[validation], task.resolution), raw.targets[validation]),
        test_size=size,
        outputs=learning.outputs(raw.targets),
        mean=mean,
        deviation=deviation,
        classes=raw.classes,
    )


def open_test(task: Task) -> Part:
    """The test part. Only the final scoring of the winner calls this."""
    raw = open_raw(task)
    if raw.test is not None:
        images, targets = raw.test
        return Part(_resize(images, task.resolution), targets)
    test = _divide(task, make_task(task.type), raw)[2]
    assert test is not None
    return Part(_resize(raw.images[test], task.resolution), raw.targets[test])


def fraction(part: Part, share: float, seed: int, learning: LearningTask) -> Part:
    """A fixed subset of a part, the shares of the classes kept."""
    if share >= 1:
        return part
    rng = np.random.default_rng([seed, 13])
    strata = learning.strata(part.targets)
    labels = np.zeros(len(part)) if strata is None else strata.numpy()
    order = rng.permutation(len(part))
    # positions within the class, so that any share of the order holds each class's share
    rank = np.empty(len(part))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = (np.arange(len(members)) + rng.random()) / len(members)
    count = max(1, round(len(part) * share))
    chosen = np.sort(np.argsort(rank, kind="stable")[:count])
    return part.subset(torch.from_numpy(chosen))


def at_resolution(part: Part, side: int | None) -> Part:
    """The same samples at another height and width."""
    return part if side is None else Part(_resize(part.images, side), part.targets)


def _resize(images: Tensor, side: int | None) -> Tensor:
    if side is None or images.shape[-2:] == (side, side):
        return images
    parts = [
        F.interpolate(as_float(piece), size=(side, side), mode="bilinear", antialias=True).clamp_(
            0, 1
        )
        for piece in torch.split(images, EVALUATION_BATCH)
    ]
    resized = torch.cat(parts)
    return (resized * 255).round_().byte() if images.dtype == torch.uint8 else resized


def as_float(images: Tensor) -> Tensor:
    """Images as floats in 0..1."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel."""
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for piece in torch.split(images, EVALUATION_BATCH):
        values = as_float(piece).double()
        total += values.sum(dim=(0, 2, 3))
        squares += values.square().sum(dim=(0, 2, 3))
    count = images.numel() / images.shape[1]
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    deviation[deviation < 1e-6] = 1.0  # a constant channel is left as it is
    return tuple(mean.tolist()), tuple(deviation.tolist())


def batches(
    part: Part, size: int, generator: torch.Generator, augmentation: Augmentation
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of training batches in an order drawn from the generator.

    The last batch is the smaller rest; one of a single sample is left out, because batch
    normalisation has no variance to go by.
    """
    order = torch.randperm(len(part), generator=generator).to(part.targets.device)
    for chosen in torch.split(order, size):
        if len(chosen) == 1 and len(order) > 1:
            return
        images = as_float(part.images[chosen])
        yield augment(images, augmentation, generator), part.targets[chosen]


def plain_batches(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
    """Every sample once, in order, unchanged."""
    for start in range(0, len(part), EVALUATION_BATCH):
        stop = start + EVALUATION_BATCH
        yield as_float(part.images[start:stop]), part.targets[start:stop]


def augment(images: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Random crop, flip and cutout, each sample by its own draw.

    The generator lives on the CPU whatever the device, so that a seed means the same anywhere.
    """
    count, _, height, width = images.shape
    device = images.device
    if options.crop:
        pad = options.crop
        padded = F.pad(images, (pad, pad, pad, pad))
        top = torch.randint(0, 2 * pad + 1, (count, 1), generator=generator)
        left = torch.randint(0, 2 * pad + 1, (count, 1), generator=generator)
        rows = (top + torch.arange(height)).to(device)
        columns = (left + torch.arange(width)).to(device)
        index = torch.arange(count, device=device)
        images = padded.permute(0, 2, 3, 1)[
            index[:, None, None], rows[:, :, None], columns[:, None, :]
        ].permute(0, 3, 1, 2)
    if options.flip:
        flipped = (torch.rand(count, generator=generator) < 0.5).to(device)
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    if options.cutout:
        # the square's centre may lie at the edge, so that a part of it falls outside
        y = torch.randint(0, height, (count, 1, 1), generator=generator).to(device)
        x = torch.randint(0, width, (count, 1, 1), generator=generator).to(device)
        before, after = options.cutout // 2, options.cutout - options.cutout // 2
        row = torch.arange(height, device=device)[None, :, None]
        column = torch.arange(width, device=device)[None, None, :]
        inside = (row >= y - before) & (row < y + after)
        inside = inside & (column >= x - before) & (column < x + after)
        images = images.masked_fill(inside[:, None], 0.0)
    return images.contiguous()
