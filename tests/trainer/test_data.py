from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from kinase.api.task import Augmentation, Split, Task
from kinase_trainer import data, datasets
from kinase_trainer.data import (
    Part,
    augment,
    batches,
    fraction,
    open_splits,
    open_test,
    plain_batches,
)
from kinase_trainer.errors import ConfigError
from kinase_trainer.lazy import LazyImages, count_loaders
from kinase_trainer.tasks import Classification

DIGITS = Task()


def rows(part: Part) -> set[bytes]:
    """The samples as a set; the digits are all different."""
    assert isinstance(part.images, torch.Tensor)
    return {image.numpy().tobytes() for image in part.images}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_parts_of_the_digits_are_disjoint_and_together_the_whole() -> None:
    splits, test = open_splits(DIGITS), open_test(DIGITS)[0]
    parts = [rows(splits.train), rows(splits.validation), rows(test)]
    whole = load_digits().images.astype(np.float32) / 16
    assert set.union(*parts) == {image[None].tobytes() for image in whole}
    assert sum(map(len, parts)) == len(whole) == 1797
    assert splits.test_size == len(test)


def test_what_training_sees_holds_no_test_sample() -> None:
    splits, test = open_splits(DIGITS), open_test(DIGITS)[0]
    seen = rows(splits.train) | rows(splits.validation)
    assert not seen & rows(test)
    held = [value for value in vars(splits).values() if isinstance(value, Part | torch.Tensor)]
    assert held == [splits.train, splits.validation]


def test_every_class_keeps_its_share_in_each_part() -> None:
    splits, test = open_splits(DIGITS), open_test(DIGITS)[0]
    whole = np.bincount(load_digits().target)
    for part, share in ((splits.train, 0.6), (splits.validation, 0.2), (test, 0.2)):
        counts = torch.bincount(part.targets).numpy()
        assert np.abs(counts - share * whole).max() <= 1  # rounding, at most one of each


def test_the_split_is_its_seed_s() -> None:
    other = Task(split=Split(seed=1))
    assert rows(open_splits(DIGITS).train) != rows(open_splits(other).train)
    again = open_splits.__wrapped__(DIGITS)
    assert torch.equal(again.train.images, open_splits(DIGITS).train.images)  # type: ignore[arg-type]
    assert again.checksum == open_splits(other).checksum


def test_normalization_is_that_of_the_training_part() -> None:
    splits = open_splits(DIGITS)
    assert isinstance(splits.train.images, torch.Tensor)
    images = splits.train.images.numpy().astype(np.float64)
    assert splits.mean[0] == pytest.approx(images.mean(), abs=1e-12)
    assert splits.deviation[0] == pytest.approx(images.std(), abs=1e-9)


def test_a_constant_channel_is_left_as_it_is() -> None:
    images = torch.cat([torch.rand(20, 1, 4, 4), torch.full((20, 1, 4, 4), 0.5)], 1)
    mean, deviation = data._statistics(Part(images, torch.zeros(20)), 0)
    assert deviation[1] == 1.0
    assert mean[1] == pytest.approx(0.5)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_fraction_is_nested_and_keeps_the_classes_shares(share: float) -> None:
    part, task = open_splits(DIGITS).train, Classification()
    some = fraction(part, share, 0, task)
    assert len(some) == round(share * len(part))
    assert rows(some) <= rows(fraction(part, 2 * share, 0, task)) <= rows(part)
    counts, whole = torch.bincount(some.targets), torch.bincount(part.targets)
    assert (counts - share * whole).abs().max() <= 1.5
    assert rows(some) != rows(fraction(part, share, 1, task))


def test_resizing_keeps_the_mean_and_undoes_nothing_at_its_own_size() -> None:
    part = open_splits(DIGITS).train
    assert part.at(8).images is part.images
    small = part.at(4)
    assert small.images.shape == (len(part), 1, 4, 4)
    assert float(small.images.mean()) == pytest.approx(float(part.images.mean()), abs=0.01)  # type: ignore[union-attr]
    task = Task(resolution=12)
    assert open_splits(task).shape == (1, 12, 12)
    assert open_test(task)[0].images.shape[-1] == 12


def test_bytes_and_floats_of_the_same_images_give_the_same_batches() -> None:
    images = torch.randint(0, 256, (30, 3, 5, 5), dtype=torch.uint8)
    targets = torch.arange(30)
    options = Augmentation(crop=1, flip=True)
    one, other = (
        [x for x, _ in batches(Part(i, targets), 8, generator(), options)]
        for i in (images, images.float() / 255)
    )
    torch.testing.assert_close(torch.cat(one), torch.cat(other))


def test_an_epoch_visits_every_sample_once_in_the_generator_s_order() -> None:
    part = Part(torch.rand(25, 1, 2, 2), torch.arange(25))
    plain = Augmentation()
    seen = [t for _, t in batches(part, 8, generator(5), plain)]
    assert [len(t) for t in seen] == [8, 8, 8]  # a rest of one has no variance, and is left out
    again = [t for _, t in batches(part, 8, generator(5), plain)]
    assert torch.equal(torch.cat(seen), torch.cat(again))
    assert len(set(torch.cat(seen).tolist())) == 24
    assert [len(t) for _, t in batches(part, 10, generator(), plain)] == [10, 10, 5]
    assert sum(len(t) for _, t in batches(part, 1, generator(), plain)) == 25
    for images, targets in batches(part, 10, generator(), plain):
        assert torch.equal(images, part.images[targets])  # type: ignore[index]


def test_without_augmentation_nothing_is_changed_at_validation() -> None:
    part = open_splits(DIGITS).validation
    images = torch.cat([x for x, _ in plain_batches(part)])
    assert torch.equal(images, part.images)  # type: ignore[arg-type]


def test_large_images_are_scored_in_smaller_batches() -> None:
    part = Part(torch.zeros(40, 1, 256, 256, dtype=torch.uint8), torch.arange(40))
    sizes = [len(t) for _, t in plain_batches(part)]
    assert sizes == [16, 16, 8]


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    images = torch.rand(60, 2, 6, 5)
    cropped = augment(images, Augmentation(crop=2), generator())
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    places = set()
    for image, found in zip(padded, cropped, strict=True):
        windows = {(y, x): image[:, y : y + 6, x : x + 5] for y in range(5) for x in range(5)}
        place = next(p for p, w in windows.items() if torch.equal(w, found))
        places.add(place)
    assert len(places) > 15  # of 25, each sample by its own draw


def test_a_flip_mirrors_about_half_of_the_samples() -> None:
    images = torch.rand(400, 1, 3, 3)
    flipped = augment(images, Augmentation(flip=True), generator())
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 150 < int(mirrored.sum()) < 250


def test_a_cutout_is_a_square_filled_with_the_mean() -> None:
    images = torch.rand(200, 3, 9, 9)
    mean = torch.tensor([2.0, 3.0, 4.0]).view(1, 3, 1, 1)
    cut = augment(images, Augmentation(cutout=4), generator(), mean)
    hole = (cut == mean).all(1)
    assert torch.equal(cut.masked_fill(hole[:, None], 0), images.masked_fill(hole[:, None], 0))
    height, width = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(hole.sum((1, 2)), height * width)  # a rectangle
    assert int(height.max()) == int(width.max()) == 4
    assert int(height.min()) == 2  # one whose centre is at the edge


def test_an_augmentation_leaves_the_data_set_as_it_is() -> None:
    images = torch.rand(10, 1, 6, 6)
    before = images.clone()
    part = Part(images, torch.arange(10))
    list(batches(part, 5, generator(), Augmentation(crop=1, flip=True, cutout=2)))
    assert torch.equal(images, before)


def test_too_little_data_for_the_split_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 4, 4), np.uint8), y=np.array([0, 1]))
    with pytest.raises(ConfigError, match="leaves no validation samples of the 2"):
        open_splits(Task(dataset="npz", path=str(tmp_path / "d.npz")))


def test_the_checksum_does_not_depend_on_the_test_part() -> None:
    images, targets = torch.rand(4, 1, 2, 2), torch.arange(4)
    one = datasets.Raw(images, targets, (torch.rand(2, 1, 2, 2), torch.arange(2)))
    assert one.checksum() == datasets.Raw(images, targets).checksum()
    assert one.checksum() != datasets.Raw(images + 1e-3, targets).checksum()


def test_changed_data_has_other_digests(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.integers(0, 255, (20, 4, 4), np.uint8),
        "y": np.arange(20) % 2,
        "x_test": rng.integers(0, 255, (4, 4, 4), np.uint8),
        "y_test": np.arange(4) % 2,
    }

    def digests(**changes: np.ndarray) -> dict[str, str]:  # type: ignore[type-arg]
        np.savez(tmp_path / "d.npz", **{**arrays, **changes})
        return open_splits.__wrapped__(Task(dataset="npz", path=str(tmp_path / "d.npz"))).digests()

    before = digests()
    assert set(before) == {"samples", "test"}
    assert digests() == before
    other = digests(y=1 - arrays["y"])
    assert other["samples"] != before["samples"]
    assert other["test"] == before["test"]
    other = digests(x_test=255 - arrays["x_test"])
    assert other["samples"] == before["samples"]
    assert other["test"] != before["test"]


def test_images_that_are_not_in_memory_are_known_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    paths = [tmp_path / "cat" / f"{i}.png" for i in range(3)]
    for path in paths:
        path.write_bytes(b"x")

    class Listing(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __init__(self) -> None:
            self.samples = [(str(path), 0) for path in paths]

        def __len__(self) -> int:
            return len(self.samples)

    def files() -> str | None:
        return LazyImages(Listing()).files()

    before = files()
    assert before is not None
    assert files() == before
    paths[1].write_bytes(b"xy")
    assert files() != before
    paths[1].unlink()
    assert files() is None


MIB = 1 << 20


@pytest.mark.parametrize(
    ("free", "batch", "loaders"),
    [
        (64 * MIB, 1 * MIB, 4),  # of small images all that the CPUs allow
        (64 * MIB, 10 * MIB, 2),  # 5 batches fit in 80 %: 2 ahead of each loader, and one in use
        (64 * MIB, 17 * MIB, 1),
        (64 * MIB, 38 * MIB, 0),  # 64 of 224 x 224: the trial reads by itself
        (2048 * MIB, 38 * MIB, 4),
        (0, 1, 0),
        (None, 38 * MIB, 4),
    ],
)
def test_as_many_loaders_as_the_shared_memory_holds_batches_for(
    monkeypatch: pytest.MonkeyPatch, free: int | None, batch: int, loaders: int
) -> None:
    def about(path: object) -> os.statvfs_result:
        if free is None:
            raise FileNotFoundError(path)
        return os.statvfs_result((4096, 4096, 0, 0, free // 4096, 0, 0, 0, 0, 255))

    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(os, "statvfs", about)
    assert count_loaders(batch) == loaders
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert count_loaders(batch) == 0
