from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch._utils import ExceptionWrapper
from torch.utils.data import Dataset, TensorDataset

from kinase import registry
from kinase.api.task import Augmentation, FolderImages, Task
from kinase.store import StoreUnavailable
from kinase.store.memory import MemoryStore
from kinase_trainer import datasets, lazy, trial
from kinase_trainer.data import batches, open_parts, open_splits, open_test
from kinase_trainer.datasets import raw
from kinase_trainer.errors import ConfigError
from kinase_trainer.lazy import LazyImages
from tests.trainer.helpers import job

FASHION = Path("/usr/share/datasets/fashion-mnist")


def write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    raw = head + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def write_mnist_like(folder: Path, suffix: str = ".gz") -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (50, 28, 28), np.uint8),
        "train-labels-idx1-ubyte": np.arange(50, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (20, 28, 28), np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(20, dtype=np.uint8) % 10,
    }
    for name, array in arrays.items():
        write_idx(folder / f"{name}{suffix}", array)
    return arrays


@pytest.mark.parametrize(
    ("dataset", "place", "suffix"),
    [
        ("fashion-mnist", ".", ".gz"),
        ("mnist", ".", ""),
        ("fashion-mnist", "FashionMNIST/raw", ""),
        ("mnist", "MNIST/raw", ".gz"),
    ],
)
def test_mnist_files_are_found_as_debian_and_as_torchvision_lay_them(
    tmp_path: Path, dataset: str, place: str, suffix: str
) -> None:
    arrays = write_mnist_like(tmp_path / place, suffix)
    found = datasets.open_raw(Task(dataset=dataset, path=str(tmp_path)))
    assert isinstance(found.images, torch.Tensor)
    assert found.test is not None
    assert np.array_equal(found.images[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    assert np.array_equal(found.test[1].numpy(), arrays["t10k-labels-idx1-ubyte"])


def test_idx_files_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    from torchvision.datasets.mnist import read_image_file

    write_mnist_like(tmp_path, "")
    path = tmp_path / "train-images-idx3-ubyte"
    assert torch.equal(datasets.idx(path), read_image_file(str(path)))


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_debian_s_fashion_mnist_is_the_published_one() -> None:
    """60,000 and 10,000 images, 7,000 of a class; mean 0.2860 and deviation 0.3530 as commonly
    used for normalization."""
    task = Task(dataset="fashion-mnist", path=str(FASHION))
    found = datasets.open_raw(task)
    assert isinstance(found.images, torch.Tensor)
    assert found.test is not None
    assert (len(found.images), len(found.test[0])) == (60_000, 10_000)
    assert torch.bincount(found.targets).tolist() == [6000] * 10
    assert float(found.images.float().mean() / 255) == pytest.approx(0.2860, abs=1e-4)
    assert float(found.images.float().std() / 255) == pytest.approx(0.3530, abs=1e-4)
    assert found.classes[9] == "Ankle boot"
    splits = open_splits(task)
    assert (len(splits.train), len(splits.validation)) == (48_000, 12_000)
    assert splits.test_size == 10_000


def test_cifar_is_read_by_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    class Fake:
        classes = ("cat", "dog")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert not download
            self.data = np.full((30 if train else 10, 32, 32, 3), 7, np.uint8)
            self.data[..., 2] = 9
            self.targets = [0, 1] * (15 if train else 5)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fake)
    found = datasets.open_raw(Task(dataset="cifar10", path=str(tmp_path)))
    assert found.images.shape == (30, 3, 32, 32)
    assert isinstance(found.images, torch.Tensor)
    assert found.images[0, :, 0, 0].tolist() == [7, 7, 9]
    assert found.classes == ("cat", "dog")


@pytest.mark.parametrize("shape", [(20, 6, 5), (20, 1, 6, 5), (20, 6, 5, 1)])
def test_an_archive_may_hold_its_axes_in_any_common_order(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 6, 5), np.uint8)
    path = tmp_path / "d.npz"
    np.savez(path, x=x.reshape(shape), y=np.arange(20) % 2)
    found = datasets.open_raw(Task(dataset="npz", path=str(path)))
    assert isinstance(found.images, torch.Tensor)
    assert np.array_equal(found.images[:, 0].numpy(), x)


def test_an_archive_s_own_test_part_is_the_test_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, xt = rng.random((40, 4, 4, 3)), rng.random((10, 4, 4, 3))
    path = tmp_path / "d.npz"
    np.savez(path, x=x, y=np.arange(40) % 4, x_test=xt, y_test=np.arange(10) % 4)
    task = Task(dataset="npz", path=str(path))
    splits = open_splits(task)
    assert len(splits.train) + len(splits.validation) == 40
    assert isinstance(images := open_test(task)[0].images, torch.Tensor)
    assert np.allclose(images.permute(0, 2, 3, 1).numpy(), xt)


def archive(path: Path, **arrays: Any) -> Task:
    np.savez(path / "d.npz", **arrays)
    return Task(dataset="npz", path=str(path / "d.npz"))


def test_pickled_objects_in_an_archive_are_not_loaded(tmp_path: Path) -> None:
    task = archive(tmp_path, x=np.array([{"a": 1}], dtype=object), y=np.zeros(1))
    with pytest.raises(ConfigError, match="npz: x holds Python objects, which are never opened"):
        open_splits(task)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 2, 2))}, "no array of labels to go with 'x'; it has 'x', expected x"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(4, int)}, r"x has shape \(4, 2\)"),
        ({"x": np.full((4, 2, 2), 255.0), "y": np.zeros(4, int)}, "values from 255 to 255"),
        (
            {"x": np.full((4, 2, 2), np.nan), "y": np.zeros(4, int)},
            r"x holds nan at \[0, 0, 0, 0\], which is not a number",
        ),
        ({"x": np.zeros((4, 2, 2)), "y": np.zeros(3, int)}, "y has 3 labels for the 4 images of x"),
        ({"x": np.zeros((4, 2, 2)), "y": np.full(4, 0.5)}, "type torch.float64; task.type Class"),
        ({"x": np.zeros((4, 2, 2)), "y": np.array([-1, 0, 1, 2])}, "numbered from -1 to 2"),
        ({"x": np.zeros((4, 2, 2)), "y": np.array([0, 1, 2, 900])}, "numbered from 0 to 900"),
    ],
)
def test_a_bad_archive_is_refused_with_its_fault(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        open_splits(archive(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "imagenet22k"}, "task.dataset 'imagenet22k' is not known; known: cifar10"),
        ({"dataset": "mnist"}, "task.path is not set"),
        ({"dataset": "mnist", "path": "/nowhere"}, "task.path '/nowhere' does not exist"),
        ({"dataset": "cifar10", "path": "{tmp}"}, "does not hold cifar10 in torchvision's layout"),
        ({"dataset": "fashion-mnist", "path": "{tmp}"}, "does not hold fashion-mnist"),
        (
            {"dataset": "folder", "path": "{tmp}", "resolution": 8},
            "holds no folder of images of a class; what is read",
        ),
        ({"type": "Divination"}, "task.type 'Divination' is not known; known: Classification"),
    ],
)
def test_a_data_set_that_is_not_there_is_said(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    fields = {k: v.format(tmp=tmp_path) if isinstance(v, str) else v for k, v in fields.items()}
    with pytest.raises(ConfigError, match=message):
        trial.describe(Task(**fields), job().training)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08", "not an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "not an IDX file"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "holds 3 bytes; its head says"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        datasets.idx(tmp_path / "x")
    (tmp_path / "x.gz").write_bytes(gzip.compress(content)[:-4])
    with pytest.raises(ConfigError, match="not a gzip file"):
        datasets.idx(tmp_path / "x.gz")


def write_folder(root: Path, count: int = 12) -> None:
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (14, 10, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")


def test_a_folder_of_images_is_cut_square(tmp_path: Path) -> None:
    write_folder(tmp_path)
    task = Task(
        dataset="folder", path=str(tmp_path), resolution=10, folder=FolderImages(fit="crop")
    )
    found = datasets.open_raw(task)
    assert found.classes == ("ant", "bee")
    assert isinstance(found.images, torch.Tensor)
    with Image.open(tmp_path / "ant" / "00.png") as image:
        middle = np.asarray(image)[2:12]
    assert np.array_equal(found.images[0].permute(1, 2, 0).numpy(), middle)


def test_a_folder_too_large_for_memory_trains_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "train", 30)
    write_folder(tmp_path / "test", 8)
    own = job(
        kind="Final",
        keepWeights=True,
        task={"dataset": "folder", "path": str(tmp_path), "resolution": 8},
        training={"batchSize": 8, "augmentation": {"crop": 1, "flip": True}, "device": "cpu"},
        fidelity={"epochs": 2, "dataFraction": 0.7, "resolution": 6},
    )

    def outcome() -> tuple[bytes, dict[str, float], dict[str, float]]:
        open_splits.cache_clear()
        open_parts.cache_clear()
        store = MemoryStore()
        metrics = trial.run(own, store).metrics
        test = trial.run(own.model_copy(update={"test": True}), store).metrics
        return store.get("trials/00007/weights.safetensors"), metrics, test

    in_memory = outcome()
    monkeypatch.setattr(raw, "MAX_BYTES", 0)
    assert isinstance(datasets.open_raw(own.task).images, LazyImages)
    assert outcome() == in_memory
    open_splits.cache_clear()
    open_parts.cache_clear()


class Squares(Dataset[Any]):
    """A data set of a user's own: class 1 has a bright square."""

    def __init__(self, count: int, form: str) -> None:
        rng = np.random.default_rng(count)
        self.form = form
        self.answers = rng.integers(0, 2, count)
        self.pixels = rng.integers(0, 100, (count, 6, 6), np.uint8)
        self.pixels[self.answers == 1, 2:4, 2:4] = 255

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        pixels = self.pixels[index]
        image: Any = {
            "pil": lambda: Image.fromarray(pixels),
            "array": lambda: pixels[None],
            "tensor": lambda: torch.from_numpy(pixels[None]).float() / 255,
            "wrong": lambda: torch.from_numpy(pixels),
        }[self.form]()
        return image, int(self.answers[index])


def register(monkeypatch: pytest.MonkeyPatch, opener: Any) -> Task:
    load = registry.load

    def patched(group: str, name: str) -> Any:
        return opener if (group, name) == ("kinase.datasets", "own") else load(group, name)

    monkeypatch.setattr(registry, "load", patched)
    open_splits.cache_clear()
    open_parts.cache_clear()
    return Task(dataset="own")


@pytest.mark.parametrize("form", ["pil", "array", "tensor"])
def test_a_user_s_own_data_set_is_learnt(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    task = register(monkeypatch, lambda task: (Squares(200, form), Squares(40, form)))
    info = trial.describe(task, job().training)
    assert (info.input, info.outputs, info.train, info.test) == ((1, 6, 6), 2, 160, 40)
    store = MemoryStore()
    own = job(
        kind="Final",
        keepWeights=True,
        task={"dataset": "own"},
        training={
            "batchSize": 16,
            "device": "cpu",
            "optimizer": {"type": "AdamW", "adamw": {"learningRate": 0.02}},
        },
        fidelity={"epochs": 6},
    )
    assert trial.run(own, store).metrics["val_accuracy"] > 0.9
    tested = trial.run(own.model_copy(update={"test": True}), store)
    assert tested.metrics["test_accuracy"] > 0.9
    assert tested.facts["samples"] == 40


class Fragile(Squares):
    """A data set whose samples turn bad while it is used."""

    bad: Any = None

    @property
    def targets(self) -> Any:
        return self.answers

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.bad, Exception):
            raise self.bad
        return super().__getitem__(index) if self.bad is None else self.bad


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (KeyError("width"), r"raised KeyError at sample \d+: 'width'$"),
        ((), r"raised IndexError at sample \d+: "),
        (("text", 0), r"gives at sample \d+ 'text'; expected an image as a tensor"),
        ((torch.zeros(6, 6), 0), r"gives at sample \d+ an image of shape \(6, 6\)"),
        ((torch.zeros(1, 5, 6), 0), r"gives at sample \d+ an image of shape \(1, 5, 6\), and"),
    ],
)
def test_a_sample_that_fails_in_the_middle_of_a_training_is_named(
    monkeypatch: pytest.MonkeyPatch, bad: Any, message: str
) -> None:
    fragile = Fragile(60, "tensor")
    task = register(monkeypatch, lambda task: fragile)
    assert trial.describe(task, job().training).train == 36
    own = job(task={"dataset": "own"})
    fragile.bad = bad
    with pytest.raises(ConfigError, match=rf"^task\.dataset 'own' {message}") as caught:
        trial.run(own, MemoryStore())
    assert "\n" not in str(caught.value)


def read_elsewhere(images: LazyImages, batch_sampler: list[list[int]], **_: Any) -> Iterator[Any]:
    """Batches and errors as a loader process passes them on, without the process."""
    for batch in batch_sampler:
        try:
            yield torch.stack([images[index] for index in batch])
        except Exception:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            TimeoutError("the disk\nis gone"),
            r"^own raised TimeoutError at sample 1: the disk is gone$",
        ),
        (StoreUnavailable("s3://b cannot be reached"), r"^s3://b cannot be reached$"),
        (MemoryError("no memory"), "no memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "can't allocate memory"),
        (KeyError("width"), r"^own raised KeyError at sample 1: 'width'$"),
    ],
)
def test_what_can_pass_is_not_the_manifest_s_fault(
    monkeypatch: pytest.MonkeyPatch, bad: Exception, message: str, elsewhere: bool
) -> None:
    class Bad(Squares):
        def __getitem__(self, index: int) -> Any:
            if index == 1:
                raise bad
            return super().__getitem__(index)

    monkeypatch.setattr(lazy, "count_loaders", lambda batch: 0)
    if elsewhere:
        monkeypatch.setattr(lazy, "DataLoader", read_elsewhere)
    images = LazyImages(Bad(2, "tensor"), name="own")
    kind = {TimeoutError: OSError, KeyError: ConfigError}.get(type(bad), type(bad))
    with pytest.raises(kind, match=message) as caught:
        next(images.batches(torch.arange(2), 2))
    assert type(caught.value) is kind


def test_a_user_s_own_data_set_is_read_in_the_order_of_the_epoch() -> None:
    squares = Squares(20, "tensor")
    part = open_like(squares)
    order = torch.Generator().manual_seed(0)
    for images, targets in batches(part, 6, order, Augmentation()):
        bright = images[:, 0, 2:4, 2:4].amin((1, 2)) == 1
        assert torch.equal(bright.long(), targets)


def open_like(dataset: Dataset[Any]) -> Any:
    from kinase_trainer.data import Part
    from kinase_trainer.lazy import targets_of

    return Part(LazyImages(dataset), targets_of(dataset))


def test_images_are_read_ahead_by_other_processes_where_there_are_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = open_like(Squares(20, "tensor"))
    plain = [x for x, _ in part.read(torch.arange(20), 8)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for one, other in zip(plain, [x for x, _ in part.read(torch.arange(20), 8)], strict=True):
        assert torch.equal(one, other)


def test_targets_are_taken_from_the_attribute_where_there_is_one() -> None:
    from kinase_trainer.lazy import targets_of

    class Labelled(TensorDataset):
        labels = [3, 1, 2]

        def __getitem__(self, index: Any) -> Any:
            raise AssertionError("no sample needs to be read")

    assert targets_of(Labelled(torch.zeros(3))).tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    ("opener", "message"),
    [
        (lambda task: [1, 2], "entry point gave list; expected a Raw, a torch Dataset"),
        (lambda task: (Squares(20, "pil"), 3), "entry point gave tuple"),
        (lambda task: Squares(20, "wrong"), r"an image of shape \(6, 6\)"),
    ],
)
def test_an_entry_point_that_gives_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, opener: Any, message: str
) -> None:
    task = register(monkeypatch, opener)
    with pytest.raises(ConfigError, match=message):
        open_splits(task)
