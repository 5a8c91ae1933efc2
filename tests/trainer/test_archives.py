"""NumPy archives as people have them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinase.api.task import ArrayImages, Task
from kinase_trainer import datasets
from kinase_trainer.data import open_splits, open_test
from kinase_trainer.datasets import archives
from kinase_trainer.errors import ConfigError

X = np.random.default_rng(0).random((20, 8, 8), np.float32)
Y = np.arange(20) % 2


def archive(folder: Path, channels: Any = "auto", **arrays: Any) -> Task:
    np.savez(folder / "d.npz", **arrays)
    options = None if channels == "auto" else ArrayImages(channels=channels)
    return Task(dataset="npz", path=str(folder / "d.npz"), npz=options)


def pixels(found: datasets.Raw) -> Any:
    assert isinstance(found.images, torch.Tensor)
    return found.images.numpy()


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["x", "y"], ["train"]),
        (["X", "Y"], ["train"]),
        (["x_train", "y_train", "x_test", "y_test"], ["train", "test"]),
        (["X_train", "y_train", "X_val", "y_val"], ["train", "validation"]),
        (["images", "labels"], ["train"]),
        (["data", "target", "target_names"], ["train"]),
        (
            [
                "train_images",
                "train_labels",
                "val_images",
                "val_labels",
                "test_images",
                "test_labels",
            ],
            ["train", "validation", "test"],
        ),
    ],
)
def test_arrays_have_the_names_that_people_give_them(names: list[str], parts: list[str]) -> None:
    found = archives.roles(names)
    assert [part for kind, part in found if kind == "x"] == parts
    assert sorted(found.values()) == sorted(n for n in names if n != "target_names")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["arr_0", "arr_1"], "no array of images; it has 'arr_0', 'arr_1', expected x and y"),
        (["x"], "no array of labels to go with 'x'"),
        (["x", "X", "y"], "'x' and 'X' would be the same"),
        (["x", "x_train", "y"], "'x' and 'x_train' would be the same"),
        (["x", "y", "x_test"], "no array of labels to go with 'x_test'"),
        (["x", "y", "y_val"], "no array of images to go with 'y_val'"),
        ([], "it has none"),
    ],
)
def test_names_that_leave_a_doubt_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        archives.roles(names)


def test_the_parts_of_an_archive_are_the_parts(tmp_path: Path) -> None:
    task = archive(
        tmp_path,
        train_images=X,
        train_labels=Y[:, None],
        val_images=X[:6],
        val_labels=Y[:6, None],
        test_images=X[:4],
        test_labels=Y[:4, None],
    )
    splits = open_splits(task)
    assert (len(splits.train), len(splits.validation), splits.test_size) == (20, 6, 4)
    assert np.array_equal(np.asarray(open_test(task)[0].images)[:, 0], X[:4])
    assert splits.train.targets.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (X.astype(">f4"), X),
        (X.astype(np.float64), X),
        (X.astype(np.float16), X.astype(np.float16).astype(np.float32)),
        ((X * 255).astype(np.uint8), (X * 255).astype(np.uint8)),
        ((X * 255).astype(np.int64), (X * 255).astype(np.uint8)),
        (np.full_like(X, 13107, ">u2"), np.full_like(X, 0.2)),
        (X > 0.5, np.where(X > 0.5, 255, 0).astype(np.uint8)),
        (np.asfortranarray(X), X),
    ],
    ids=["big-endian", "f8", "f2", "u1", "i8", "u2", "bool", "fortran"],
)
def test_pixels_of_every_type_are_read(tmp_path: Path, array: Any, wanted: Any) -> None:
    found = pixels(datasets.open_raw(archive(tmp_path, x=array, y=Y)))[:, 0]
    assert found.dtype == wanted.dtype
    assert np.allclose(found, wanted, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("labels", "classes", "note"),
    [
        (Y, ("0", "1"), ""),
        (Y.astype(">i4"), ("0", "1"), ""),
        (Y.astype(np.uint8)[:, None], ("0", "1"), ""),
        (Y.astype(float), ("0", "1"), ""),
        (Y == 1, ("0", "1"), ""),
        (np.eye(2)[Y], ("0", "1"), "labels are one-hot: the class is the place of the 1"),
        (Y * 5 + 1, ("1", "6"), "labels have gaps: 1, 6 are numbered 0 to 1 as the network's"),
        (np.array(["cat", "dog"])[Y], ("cat", "dog"), ""),
        (np.array([b"cat", b"dog"])[Y], ("cat", "dog"), ""),
        (np.array([["cat"], ["dog"]])[Y], ("cat", "dog"), ""),
        (np.array([b"c\xe8t", b"c\xe9t"])[Y], ("c\\xe8t", "c\\xe9t"), ""),
    ],
    ids=[
        "i8",
        "big-endian",
        "column",
        "float",
        "bool",
        "one-hot",
        "gaps",
        "text",
        "bytes",
        "texts",
        "not text",
    ],
)
def test_labels_of_every_form_are_classes(
    tmp_path: Path, labels: Any, classes: tuple[str, ...], note: str
) -> None:
    task = archive(tmp_path, x=X, y=labels)
    splits = open_splits(task)
    assert (splits.outputs, splits.classes) == (2, classes)
    assert "; ".join(splits.told.notes)[: len(note) or None] == note
    order = {image.tobytes(): int(label) for image, label in zip(X, Y, strict=True)}
    for part in (splits.train, splits.validation, open_test(task)[0]):
        assert isinstance(part.images, torch.Tensor)
        for image, label in zip(part.images, part.targets.tolist(), strict=True):
            assert order[image[0].numpy().tobytes()] == label


@pytest.mark.parametrize(
    ("shape", "channels", "wanted"),
    [
        ((20, 6, 5), "auto", (1, 6, 5)),
        ((20, 3, 6, 5), "auto", (3, 6, 5)),
        ((20, 6, 5, 3), "auto", (3, 6, 5)),
        ((20, 4, 4, 3), "auto", (3, 4, 4)),
        ((20, 3, 4, 4), "auto", (3, 4, 4)),
        ((20, 6, 6, 1), "auto", (1, 6, 6)),
        ((20, 12, 12, 5), "last", (5, 12, 12)),
        ((20, 12, 12, 5), "first", (12, 12, 5)),
        ((20, 2, 9, 9), "first", (2, 9, 9)),
    ],
)
def test_the_order_of_the_axes(
    tmp_path: Path, shape: tuple[int, ...], channels: str, wanted: tuple[int, ...]
) -> None:
    found = datasets.open_raw(archive(tmp_path, channels, x=np.zeros(shape, np.uint8), y=Y))
    assert tuple(found.images.shape[1:]) == wanted


@pytest.mark.parametrize(
    ("shape", "channels", "warned"),
    [
        (
            (20, 24, 24, 3),
            "first",
            "(20, 24, 24, 3), read as 24 channels of 24x3 because task.npz.channels is first; if "
            "it is 3 channels of 24x24, set it to last",
        ),
        (
            (20, 3, 24, 24),
            "last",
            "(20, 3, 24, 24), read as 24 channels of 3x24 because task.npz.channels is last; if "
            "it is 3 channels of 24x24, set it to first",
        ),
        ((20, 24, 24, 3), "last", None),
        ((20, 24, 24, 3), "auto", None),
        ((20, 3, 24, 24), "first", None),
        ((20, 12, 12, 5), "first", None),
        ((20, 24, 24), "last", None),
    ],
)
def test_an_order_of_axes_that_the_sizes_contradict_is_warned_of(
    tmp_path: Path, shape: tuple[int, ...], channels: str, warned: str | None
) -> None:
    arrays = {"x": np.zeros(shape, np.uint8), "y": Y}
    task = archive(tmp_path, channels, **arrays, x_test=arrays["x"], y_test=Y)
    wanted = () if warned is None else (f"{task.path}: x has shape {warned}",)
    assert open_splits.__wrapped__(task).told.warnings == wanted


@pytest.mark.parametrize("shape", [(20, 12, 12, 5), (20, 5, 12, 12), (20, 3, 3, 3), (20, 1, 8, 1)])
def test_an_order_that_leaves_a_doubt_is_refused_with_the_field(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ConfigError, match=r"d.npz: x has shape .*: set task.npz.channels to first"):
        datasets.open_raw(archive(tmp_path, x=np.zeros(shape, np.uint8), y=Y))


TWO = {"x": X, "y": Y}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X[:0], "y": Y[:0]}, r"x has shape \(0, 1, 8, 8\), without samples"),
        ({"x": X, "y": Y * 0}, "all samples have one class, 0, and one class cannot be learned"),
        (
            {"x": X, "y": np.arange(20)},
            "there are 20 classes, numbered from 0 to 19, for 20 samples",
        ),
        ({"x": X, "y": Y - 1}, "numbered from -1 to 0; number them from 0, and leave out"),
        ({"x": X, "y": np.where(Y, np.nan, 0.0)}, r"y holds nan at \[1\]"),
        ({"x": X, "y": np.array(3)}, "y has 1 label for the 20 images of x"),
        (
            {"x": X / X.max() * np.float32(1.0001), "y": Y},
            r"1\.0001\d*; floats must be in 0\.\.1; rounding may be the cause: use numpy\.clip",
        ),
        ({"x": X, "y": np.array(["cat", " "])[Y]}, r"y is an empty text at \[1\]; name the class"),
        ({"x": X, "y": np.zeros(20, "M8[s]")}, "y has type datetime64"),
        ({"x": X, "y": np.array([{}] * 20, object)}, "y holds Python objects, which are never op"),
        ({"x": X.reshape(20, 64), "y": Y}, r"x has shape \(20, 64\); expected images"),
        ({"x": X * 255, "y": Y}, "floats must be in 0..1; divide by 255"),
        ({"x": X - 1, "y": Y}, "holds values from -"),
        ({"x": np.full((20, 8, 8), np.inf), "y": Y}, "x holds inf at"),
        ({"x": np.full((20, 8, 8), 300), "y": Y}, "whole numbers from 300 to 300 of type int64"),
        ({"x": X.astype(complex), "y": Y}, "x has type complex128"),
        ({**TWO, "x_test": X, "y_test": Y + 1}, "samples of class 2 in its test part, and none"),
        ({**TWO, "x_val": X, "y_val": Y + 1}, "samples of class 2 in its validation part"),
        (
            {"x": X, "y": np.array(["a", "b"])[Y], "x_test": X, "y_test": np.array(["a", "c"])[Y]},
            "y_test has the label 'c', which the training part lacks; it has a, b",
        ),
        ({**TWO, "x_test": X[:, :4], "y_test": Y}, r"\(1, 4, 8\) in its test part"),
    ],
)
def test_what_cannot_be_learnt_is_refused_with_file_and_array(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        open_splits(archive(tmp_path, **arrays))
    assert "\n" not in str(error.value)


def write_half(path: Path) -> None:
    np.savez(path, **TWO)
    path.write_bytes(path.read_bytes()[:400])


def write_damaged(path: Path) -> None:
    np.savez(path, **TWO)
    raw = bytearray(path.read_bytes())
    raw[600] ^= 255  # a pixel: the checksum of the zip file is wrong
    path.write_bytes(raw)


def write_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", "hello")
        file.writestr("y.npy", "hello")


def write_huge(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file, file.open("x.npy", "w") as member:
        head = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**4, 10**4)}
        np.lib.format.write_array_header_1_0(member, head)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("y.npy", b"")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p.write_bytes(b""), "is empty; save it by numpy.savez"),
        (lambda p: p.write_text("x,y\n"), "is not a NumPy archive; save it by numpy.savez"),
        (lambda p: p.write_bytes(pickle.dumps(TWO)), "a pickle, which is never loaded; save it"),
        (lambda p: np.save(p.open("wb"), X), "is one array; expected an archive of several"),
        (write_half, "is damaged or cut off .*write it again"),
        (write_damaged, "x is damaged or cut off .*write it again"),
        (write_text, "x is damaged or cut off"),
        (write_huge, "GiB, which memory does not hold"),
        (lambda p: p.mkdir(), "is a folder; give the .npz file"),
    ],
)
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, write: Any, message: str) -> None:
    path = tmp_path / "d.npz"
    write(path)
    with pytest.raises(ConfigError, match=message) as error:
        open_splits(Task(dataset="npz", path=str(path)))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "allow_pickle" not in str(error.value)


def test_arrays_that_are_not_read_are_said(tmp_path: Path) -> None:
    task = archive(tmp_path, **TWO, ids=np.arange(20))
    assert datasets.open_raw(task).notes == ("arrays that were passed over: ids",)
