"""The fixed splits of a data set, and batches.

`open_splits` returns the training and validation splits and gives no access to the test split,
which only `open_test` opens. Data sets that fit in memory are tensors on the device, and a whole
batch is augmented at once; others are read by a torch `DataLoader` (`kinase_trainer.lazy`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kinase.api.task import Augmentation, Task
from kinase_trainer.arrays import Indices, divide
from kinase_trainer.datasets import Raw, open_raw
from kinase_trainer.errors import ConfigError
from kinase_trainer.group import Share
from kinase_trainer.lazy import LazyImages, as_float, resize
from kinase_trainer.summary import Told, tell
from kinase_trainer.tasks import LearningTask, Regression, Units, make_task

EVALUATION_BATCH = 1024
"""Maximum number of samples in a batch without a backward pass."""
EVALUATION_PIXELS = 2**20
"""Maximum number of pixels in such a batch."""
WHOLE = Share()
"""All of each batch."""
STATISTICS_SAMPLES = 4096
"""Maximum number of images for the mean and deviation if the images are not in memory."""


@dataclass(frozen=True)
class Part:
    """Samples of one split of a data set: images (N, C, H, W) in 0..1, and targets (N, ...)."""

    images: Tensor | LazyImages
    """Unsigned bytes, or floats in 0..1."""
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Part:
        """The same samples on a device. Images that are not in memory are moved batch by batch."""
        images = self.images.to(device) if isinstance(self.images, Tensor) else self.images
        return Part(images, self.targets.to(device))

    def subset(self, indices: Tensor) -> Part:
        """Some of the samples."""
        return Part(_pick(self.images, indices), self.targets[indices])

    def at(self, side: int | None) -> Part:
        """The same samples at another height and width; None keeps the size."""
        if isinstance(self.images, Tensor):
            return Part(resize(self.images, side), self.targets)
        return Part(self.images.resized(side), self.targets)

    def read(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of `size` images as floats in 0..1, with targets, in the order of the given
        indices."""
        yield from self.pieces(torch.split(order, size))

    def pieces(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """A batch of images as floats in 0..1, with targets, for each tensor of indices."""
        device = self.targets.device
        if isinstance(self.images, Tensor):
            for piece in indices:
                chosen = piece.to(device)
                yield as_float(self.images[chosen]), self.targets[chosen]
            return
        for chosen, images in zip(indices, self.images.pieces(indices), strict=True):
            yield as_float(images.to(device)), self.targets[chosen.to(device)]


def _pick(images: Tensor | LazyImages, indices: Tensor) -> Tensor | LazyImages:
    return images[indices] if isinstance(images, Tensor) else images.pick(indices)


@dataclass(frozen=True)
class Splits:
    """The data that training can access."""

    train: Part
    validation: Part
    test_size: int
    """Number of test samples, which are not included."""
    outputs: int
    """Width of the network's output."""
    mean: tuple[float, ...]
    """Mean of each channel of the training split."""
    deviation: tuple[float, ...]
    """Standard deviation of each channel of the training split."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the outputs, if there are classes."""
    told: Told
    """Summary of the data."""
    said: str
    """The task's summary of the targets."""
    learning: LearningTask
    """The task, fitted to the training split."""
    checksum: str
    """Digest of the data; see `Raw.checksum`."""
    test_checksum: str | None = None
    """Digest of the data set's own test split, or None."""
    own_files: dict[str, str] = field(default_factory=dict)
    """Digests of the image files of the data set's own validation and test parts, where these are
    read batch by batch; see `digests`."""

    @property
    def units(self) -> Units | None:
        """Scale of standardized outputs; None if they are not standardized."""
        return self.learning.units

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a sample."""
        _, channels, height, width = self.train.images.shape
        return (channels, height, width)

    def digests(self) -> dict[str, str]:
        """Digests by which changed data is noticed: `samples`, the data set's own `test` part, and
        where images are read batch by batch `files`, `validationFiles` and `testFiles` of the data
        set's own parts."""
        files = _files(self.train.images)
        found = {"samples": self.checksum, "test": self.test_checksum, "files": files}
        known = {name: digest for name, digest in found.items() if digest is not None}
        return known | self.own_files


def _files(images: Tensor | LazyImages) -> str | None:
    return images.files() if isinstance(images, LazyImages) else None


@dataclass(frozen=True)
class _Opened:
    """A data set with the targets in the task's form."""

    learning: LearningTask
    raw: Raw
    train: Part
    """All samples except those of the data set's own validation and test splits."""
    validation: Part | None
    test: Part | None
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def _open(task: Task) -> _Opened:
    """The data set of a task, with targets in the task's form and classes numbered from 0.

    Raises:
        ConfigError: the task cannot use the targets, or a split has a class that the training split
            lacks.
    """
    learning = make_task(task)
    raw = open_raw(task)
    given = {"training": (raw.images, raw.targets), "validation": raw.validation, "test": raw.test}
    targets: dict[str, Tensor] = {}
    for part, pair in given.items():
        if pair is not None:
            try:
                targets[part] = learning.prepare(pair[1])
            except ConfigError as error:
                raise ConfigError(f"task.dataset {task.dataset!r}, {part} part: {error}") from None
    for part, each in targets.items():
        if each.shape[1:] != targets["training"].shape[1:]:
            raise ConfigError(
                f"task.dataset {task.dataset!r} has targets of shape "
                f"{tuple(targets['training'].shape)} in its training part and "
                f"{tuple(each.shape)} in its {part} part; give a sample as many in each"
            )
    try:
        values = learning.classes(targets["training"])
    except ConfigError as error:
        raise ConfigError(f"task.dataset {task.dataset!r}: {error}") from None
    names, notes = raw.classes, list(raw.notes)
    if names and isinstance(learning, Regression):
        raise ConfigError(
            f"task.dataset {task.dataset!r} has classes ({', '.join(names[:3])}, ...) and no "
            "numbers, which task.type Regression learns; set task.type: Classification"
        )
    if values is not None:
        names = tuple(
            raw.classes[value] if value < len(raw.classes) else str(value)
            for value in values.tolist()
        )
        if raw.targets.ndim == 2 and raw.targets.shape[1] > 1:
            notes.append("labels are one-hot: the class is the place of the 1")
        count = len(values)
        if int(values[-1]) >= count:
            shown = ", ".join(map(str, values.tolist()[:10])) + (", ..." * (count > 10))
            notes.append(
                f"labels have gaps: {shown} are numbered 0 to {count - 1} as the network's outputs"
            )
        for part, labels in targets.items():
            targets[part] = _numbered(labels, values, f"task.dataset {task.dataset!r}", part)

    held = {name: Part(pair[0], targets[name]) for name, pair in given.items() if pair is not None}
    return _Opened(
        learning,
        raw,
        held["training"],
        held.get("validation"),
        held.get("test"),
        names,
        tuple(notes),
    )


def _numbered(labels: Tensor, values: Tensor, where: str, part: str) -> Tensor:
    """Labels as positions in the sorted `values`."""
    unknown = torch.unique(labels[~torch.isin(labels, values)])
    if len(unknown):
        raise ConfigError(
            f"{where} has samples of class {int(unknown[0])} in its {part} part, and none to "
            "train on; remove them, or add some to the training part"
        )
    return torch.searchsorted(values, labels)


@dataclass(frozen=True)
class _Divided:
    """The splits of a data set, with encoded targets."""

    train: Part
    validation: Part
    test: Part
    counts: dict[str, NDArray[Any]]
    """Number of samples of each class or label in each split; empty if there are no classes."""


def _divide(task: Task, opened: _Opened, outputs: int) -> _Divided:
    """The training, validation and test splits, from the data set or by `task.split`. The task is
    fitted to the training split."""
    strata = opened.learning.strata(opened.train.targets)
    train, validation, test = divide(
        task,
        len(opened.train),
        None if strata is None else strata.numpy(),
        own_test=opened.test is not None,
        own_validation=opened.validation is not None,
    )

    def part(own: Part | None, indices: Indices | None) -> Part:
        if own is not None:
            return own
        assert indices is not None
        return opened.train.subset(torch.from_numpy(indices))

    parts = {
        "train": part(None, train),
        "validation": part(opened.validation, validation),
        "test": part(opened.test, test),
    }
    learning = opened.learning
    try:
        learning.fit(parts["train"].targets)
    except ConfigError as error:
        raise ConfigError(f"task.dataset {task.dataset!r}: {error}") from None
    counts = {name: learning.counts(each.targets, outputs) for name, each in parts.items()}
    return _Divided(
        **{name: Part(p.images, learning.encode(p.targets)) for name, p in parts.items()},
        counts={name: count.numpy() for name, count in counts.items() if count is not None},
    )


def _outputs(opened: _Opened) -> tuple[int, Tensor]:
    """Width of the network's output, and all targets."""
    parts = [each for each in (opened.train, opened.validation, opened.test) if each]
    targets = torch.cat([each.targets for each in parts])
    return opened.learning.outputs(targets), targets


@lru_cache(maxsize=1)
def open_splits(task: Task) -> Splits:
    """The training and validation splits of a task's data set, on the CPU.

    Raises:
        ConfigError: the data does not exist, has no supported format, or does not suit the task.
    """
    opened = _open(task)
    outputs, targets = _outputs(opened)
    divided = _divide(task, opened, outputs)
    learning = opened.learning
    names = opened.classes
    if divided.counts and not names:
        names = tuple(map(str, range(outputs)))
    told = tell(
        names,
        divided.counts,
        opened.notes,
        opened.raw.warnings,
        exclusive=not learning.several,
    )
    own = {"validationFiles": opened.validation, "testFiles": opened.test}
    digests = {name: part and _files(part.images) for name, part in own.items()}
    seen = divided.train.at(task.resolution)
    mean, deviation = _statistics(seen, task.split.seed)
    return Splits(
        train=seen,
        validation=divided.validation.at(task.resolution),
        test_size=len(divided.test),
        outputs=outputs,
        mean=mean,
        deviation=deviation,
        classes=names,
        told=told,
        said=learning.said(targets),
        learning=learning,
        checksum=opened.raw.checksum(),
        test_checksum=opened.raw.test_checksum(),
        own_files={name: digest for name, digest in digests.items() if digest},
    )


def open_test(task: Task) -> tuple[Part, LearningTask]:
    """The test split, and the task fitted to the training split. Only the final scoring of the
    winner calls this."""
    opened = _open(task)
    divided = _divide(task, opened, _outputs(opened)[0])
    return divided.test.at(task.resolution), opened.learning


@lru_cache(maxsize=1)
def open_parts(
    task: Task, share: float, side: int | None, device: torch.device
) -> tuple[Part, Part]:
    """The training split (a share of it) and the validation split at a resolution, on a device.

    The last result is cached for trials of the same fidelity.
    """
    splits = open_splits(task)
    train = fraction(splits.train, share, task.split.seed, splits.learning)
    return train.at(side).to(device), splits.validation.at(side).to(device)


def fraction(part: Part, share: float, seed: int, learning: LearningTask) -> Part:
    """A fixed subset of a split that preserves the shares of the classes."""
    if share >= 1:
        return part
    rng = np.random.default_rng([seed, 13])
    strata = learning.strata(part.targets)
    labels = np.zeros(len(part)) if strata is None else strata.numpy()
    order = rng.permutation(len(part))
    # positions within the class, so that any prefix of the order has each class's share
    rank = np.empty(len(part))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = (np.arange(len(members)) + rng.random()) / len(members)
    count = max(1, round(len(part) * share))
    chosen = np.sort(np.argsort(rank, kind="stable")[:count])
    return part.subset(torch.from_numpy(chosen))


def _statistics(part: Part, seed: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel."""
    order = torch.arange(len(part))
    if isinstance(part.images, LazyImages) and len(part) > STATISTICS_SAMPLES:
        chosen = np.random.default_rng([seed, 17]).permutation(len(part))
        order = torch.from_numpy(chosen[:STATISTICS_SAMPLES])
    total = torch.zeros(part.images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    count = 0
    for images, _ in part.read(order, 256):
        values = images.double()
        total += values.sum(dim=(0, 2, 3))
        squares += values.square().sum(dim=(0, 2, 3))
        count += values.numel() // values.shape[1]
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    deviation[deviation < 1e-6] = 1.0  # a constant channel is not scaled
    return tuple(mean.tolist()), tuple(deviation.tolist())


def batches(
    part: Part,
    size: int,
    generator: torch.Generator,
    augmentation: Augmentation,
    fill: Tensor | None = None,
    share: Share = WHOLE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of training batches in an order drawn from the generator.

    The last batch can be smaller; a single remaining sample is dropped, because batch normalization
    has no variance for it.

    Args:
        part: the samples.
        size: of a whole batch.
        generator: draws the order and the augmentation, the same for each worker of a group.
        augmentation: see `augment`.
        fill: see `augment`.
        share: the samples of each batch that are read; by default all.
    """
    order = torch.randperm(len(part), generator=generator)
    whole = torch.split(order[: sum(sizes_of(len(part), size))], size)
    mine = [share.of(len(batch)) for batch in whole]
    read = part.pieces([batch[own] for batch, own in zip(whole, mine, strict=True)])
    for (images, targets), batch, own in zip(read, whole, mine, strict=True):
        yield augment(images, augmentation, generator, fill, (len(batch), own)), targets


def sizes_of(count: int, size: int) -> list[int]:
    """Sizes of the batches that `batches` makes of `count` samples."""
    full, rest = divmod(count, size)
    left_out = size > 1 and full > 0 and rest == 1
    return [size] * full + [rest] * (rest > 0 and not left_out)


def steps_of(count: int, size: int) -> int:
    """Number of batches that `batches` makes of `count` samples."""
    return len(sizes_of(count, size))


def smallest_batch(count: int, size: int) -> int:
    """Size of the smallest batch that `batches` makes of `count` samples."""
    return min(sizes_of(count, size))


def plain_size(part: Part) -> int:
    """Samples of a batch that fits in memory without a backward pass."""
    _, _, height, width = part.images.shape
    return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (height * width)))


def plain_batches(part: Part, share: Share = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
    """Every sample once, in order and without augmentation, in batches that fit in memory; of each
    the rows of a share."""
    size = plain_size(part)
    if isinstance(part.images, LazyImages) or share.size > 1:
        whole = torch.split(torch.arange(len(part)), size)
        yield from part.pieces([batch[share.rows(len(batch))] for batch in whole])
        return
    for start in range(0, len(part), size):
        stop = start + size
        yield as_float(part.images[start:stop]), part.targets[start:stop]


def augment(
    images: Tensor,
    options: Augmentation,
    generator: torch.Generator,
    fill: Tensor | None = None,
    part: tuple[int, slice] | None = None,
) -> Tensor:
    """Random crop, flip and cutout, drawn separately for each sample.

    The generator is on the CPU, so that a seed gives the same result on every device.

    Args:
        images: floats (N, C, H, W) in 0..1.
        options: augmentation options.
        generator: source of randomness.
        fill: (1, C, 1, 1), value of a cutout, so that it is zero after normalization. Default:
            zero.
        part: the size of the batch that the images are a part of, and which part. It is drawn for
            the whole batch, so that each sample has the same however a batch is divided.
    """
    count, _, height, width = images.shape
    drawn, own = part or (count, slice(None))
    device = images.device
    if options.crop:
        pad = options.crop
        padded = F.pad(images, (pad, pad, pad, pad))
        top = torch.randint(0, 2 * pad + 1, (drawn, 1), generator=generator)[own]
        left = torch.randint(0, 2 * pad + 1, (drawn, 1), generator=generator)[own]
        rows = (top + torch.arange(height)).to(device)
        columns = (left + torch.arange(width)).to(device)
        index = torch.arange(count, device=device)
        images = padded.permute(0, 2, 3, 1)[
            index[:, None, None], rows[:, :, None], columns[:, None, :]
        ].permute(0, 3, 1, 2)
    if options.flip:
        flipped = (torch.rand(drawn, generator=generator)[own] < 0.5).to(device)
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    if options.cutout:
        # the centre can be at the edge, so a part of the square can be outside
        y = torch.randint(0, height, (drawn, 1, 1), generator=generator)[own].to(device)
        x = torch.randint(0, width, (drawn, 1, 1), generator=generator)[own].to(device)
        before, after = options.cutout // 2, options.cutout - options.cutout // 2
        row = torch.arange(height, device=device)[None, :, None]
        column = torch.arange(width, device=device)[None, None, :]
        inside = (row >= y - before) & (row < y + after)
        inside = inside & (column >= x - before) & (column < x + after)
        hole = images.new_zeros(()) if fill is None else fill
        images = torch.where(inside[:, None], hole, images)
    return images.contiguous()
