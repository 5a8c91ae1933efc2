"""Folders of images as people have them."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kinase.api.task import FolderImages, Task
from kinase_trainer.data import open_splits, open_test
from kinase_trainer.datasets import open_raw
from kinase_trainer.datasets import raw as raws
from kinase_trainer.datasets.folders import hidden, parts_of
from kinase_trainer.datasets.pictures import fit, read
from kinase_trainer.errors import ConfigError
from kinase_trainer.lazy import LazyImages

SIDE = 8


def put(path: Path, pixels: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def grey(value: int = 100) -> Any:
    return np.full((SIDE, SIDE), value, np.uint8)


def fill(root: Path, *folders: str, count: int = 10, ending: str = "png") -> None:
    for position, name in enumerate(folders):
        for i in range(count):
            put(root / name / f"{i}.{ending}", grey(50 + 20 * position + i))


def task(root: Path, **options: Any) -> Task:
    return Task(dataset="folder", path=str(root), resolution=SIDE, **options)


def pixels(path: Path, **options: Any) -> torch.Tensor:
    return read(str(path), SIDE, FolderImages(**options)).pixels


# -- layouts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["cat", "dog"], None),
        (["train", "val"], {"train": "train", "validation": "val"}),
        (["Train", "VALID", "test"], {"train": "Train", "validation": "VALID", "test": "test"}),
        (["train", "test"], {"train": "train", "test": "test"}),
        (["training", "validation"], {"train": "training", "validation": "validation"}),
        (["train"], {"train": "train"}),
        (["train", "plane", "car"], None),
        (["test", "control"], None),
    ],
)
def test_folders_are_parts_or_classes(names: list[str], parts: dict[str, str] | None) -> None:
    assert parts_of(names) == parts


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train", "val", "valid"], "val and valid would both be the validation part"),
        (["val", "test"], "there is test and val, and no train"),
        (["train", "val", "extra"], "train, val would be parts, and extra would be a class"),
    ],
)
def test_folders_that_are_some_of_both_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parts_of(names)


@pytest.mark.parametrize("val", ["val", "valid"])
@pytest.mark.parametrize("test", [False, True])
def test_a_validation_folder_is_the_validation_part(tmp_path: Path, val: str, test: bool) -> None:
    fill(tmp_path / "train", "cat", "dog")
    fill(tmp_path / val, "cat", "dog", count=3)
    if test:
        fill(tmp_path / "test", "cat", "dog", count=4)
    splits = open_splits(task(tmp_path))
    assert splits.classes == ("cat", "dog")
    assert len(splits.validation) == 6
    assert (len(splits.train), splits.test_size) == ((20, 8) if test else (16, 4))
    tested = open_test(task(tmp_path))[0]
    assert len(tested) == splits.test_size
    assert [c.validation for c in splits.told.classes] == [3, 3]


def test_names_that_programs_leave_are_no_classes(tmp_path: Path) -> None:
    fill(tmp_path, "cat", "dog", ".ipynb_checkpoints", "__MACOSX", "lost+found")
    (tmp_path / "cat" / "._0.png").write_bytes(b"resource fork")
    found = open_raw(task(tmp_path))
    assert (found.classes, len(found.images), found.notes) == (("cat", "dog"), 20, ())
    assert not hidden("cat.v2")


def test_one_class_names_the_folder_that_was_meant(tmp_path: Path) -> None:
    fill(tmp_path / "images", "cat", "dog")
    with pytest.raises(
        ConfigError, match=r"one class, 'images'.*/images holds the folders cat, dog: set task.path"
    ):
        open_raw(task(tmp_path))


def test_two_levels_too_high_are_said(tmp_path: Path) -> None:
    for year in ("2023", "2024"):
        fill(tmp_path / year, "cat", "dog", count=2)
    [doubt] = open_raw(task(tmp_path)).warnings
    assert doubt.startswith("each class holds the folders cat and dog: if these are the classes")


@pytest.mark.parametrize("ending", ["gif", "jfif", "webp", "bmp", "tif", "JPG"])
def test_all_endings_of_images_are_read(tmp_path: Path, ending: str) -> None:
    fill(tmp_path, "cat", "dog", count=2)
    for name in ("cat", "dog"):
        kind = "JPEG" if ending in ("jfif", "JPG") else None
        put(tmp_path / name / f"more.{ending}", grey(), format=kind)
    found = open_raw(task(tmp_path))
    assert (len(found.images), found.notes) == (6, ())


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    fill(tmp_path, "cat", "dog", count=2)
    for name in ("cat/a.txt", "dog/b.TXT", "list.csv"):
        (tmp_path / name).write_text("x")
    put(tmp_path / "loose.png", grey())
    assert open_raw(task(tmp_path)).notes == (
        "3 files were passed over, not an image by the ending: 2 of .txt, 1 of .csv",
        "1 image was passed over, outside the folders of the classes",
    )


def make(*steps: Callable[[Path], Any]) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for step in steps:
            step(root)

    return build


def classes(root: Path) -> None:
    fill(root, "cat", "dog", count=2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda r: fill(r, "."),
            "holds 10 images and no folder of a class; what is read is FOLDER",
        ),
        (make(classes, lambda r: (r / "eel").mkdir()), "/eel holds no image, of the endings .apng"),
        (
            make(classes, lambda r: ((r / "eel").mkdir(), (r / "eel/a.heic").touch())),
            "/eel holds no image.*it has 1 of .heic",
        ),
        (
            lambda r: (fill(r / "train", "cat", "dog"), fill(r / "test", "cat", "eel")),
            "/test/eel is a class that the training part lacks; it has cat, dog",
        ),
        (
            lambda r: (fill(r / "train", "cat", "dog"), fill(r / "test", ".")),
            "/test holds 10 images and no folder of a class",
        ),
        (
            make(classes, lambda r: (r / "cat/x.png").symlink_to(r / "nowhere")),
            "/cat/x.png is not a file, or a link that leads nowhere",
        ),
        (make(classes, lambda r: os.mkfifo(r / "cat/x.png")), "/cat/x.png is not a file"),
    ],
)
def test_a_folder_that_cannot_be_read_as_classes_is_refused(
    tmp_path: Path, build: Callable[[Path], Any], message: str
) -> None:
    build(tmp_path)
    with pytest.raises(ConfigError, match=message):
        open_raw(task(tmp_path))


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    fill(tmp_path / "data", "cat", "dog", count=2)
    fill(tmp_path / "more", "old", count=3)
    (tmp_path / "data/cat/again").symlink_to(tmp_path / "data/cat")
    (tmp_path / "data/cat/old").symlink_to(tmp_path / "more/old")
    assert open_raw(task(tmp_path / "data")).targets.tolist() == [0] * 5 + [1] * 2


def test_names_that_are_no_text_are_shown_and_kept_apart(tmp_path: Path) -> None:
    fill(tmp_path, *map(os.fsdecode, (b"caf\xe8", b"caf\xe9")), "red\x1b[31m", count=2)
    found = open_raw(task(tmp_path))
    assert found.classes == ("caf\\xe8", "caf\\xe9", "red\\x1b[31m")


def test_a_class_that_is_a_link_to_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "cat", "dog", count=2)
    (tmp_path / "eel").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="eel is not a file, or a link that leads nowhere"):
        open_raw(task(tmp_path))


@pytest.mark.parametrize(("highest", "value"), [(65535, 32768), (4095, 2048)])
def test_a_pgm_of_more_than_8_bits_is_read_by_its_highest_value(
    tmp_path: Path, highest: int, value: int
) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 8 8 %d\n" % highest + value.to_bytes(2, "big") * 64)
    assert pixels(path).unique().tolist() == pytest.approx([value / highest], abs=1e-4)


# -- pixels ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "ending", "mean", "deviation"),
    [
        (np.uint16(10000), np.uint16(50000), "png", 30000 / 65535, 20000 / 65535),
        (np.uint16(10000), np.uint16(50000), "tif", 30000 / 65535, 20000 / 65535),
        (np.float32(0.1), np.float32(0.8), "tif", 0.45, 0.35),
        (np.uint8(51), np.uint8(204), "png", 0.5, 0.3),
    ],
)
@pytest.mark.parametrize("most", [2**30, 0])
def test_every_depth_keeps_its_range(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    low: Any,
    high: Any,
    ending: str,
    mean: float,
    deviation: float,
    most: int,
) -> None:
    for name, value in (("dark", low), ("light", high)):
        for i in range(5):
            put(tmp_path / name / f"{i}.{ending}", np.full((SIDE, SIDE), value))
    monkeypatch.setattr(raws, "MAX_BYTES", most)
    splits = open_splits(task(tmp_path))
    assert isinstance(splits.train.images, LazyImages) == (most == 0)
    assert splits.mean == pytest.approx((mean,) * 3, abs=1e-5)
    assert splits.deviation == pytest.approx((deviation,) * 3, abs=1e-5)


def png16(path: Path, values: Any, exif: bytes = b"") -> Path:
    """A PNG of 16 bits, of colours (H, W, 3 or 4)."""
    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if exif:
        chunks.insert(1, (b"eXIf", exif))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def tiff16(path: Path, values: Any, order: str, packed: bool) -> Path:
    """A TIFF of 16 bits, of colours (H, W, 3 or 4), plain or packed."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if packed else data
    bits = 8 + 2 + 9 * 12 + 4
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, bits),
        (259, 4, 1, 8 if packed else 1), (262, 4, 1, 2), (273, 4, 1, bits + 8),
        (277, 4, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data)),
    ]  # fmt: skip
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    fields = b"".join(struct.pack(f"{order}HHII", *tag) for tag in tags)
    depths = struct.pack(f"{order}4H", 16, 16, 16, 16)
    path.write_bytes(head + fields + struct.pack(f"{order}I", 0) + depths + data)
    return path


@pytest.mark.parametrize("kind", ["png", "tiff <", "tiff >", "tiff < packed", "tiff > packed"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_keep_16_bits(tmp_path: Path, kind: str, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE, channels), np.uint16)
    if kind == "png":
        path = png16(tmp_path / "a.png", values)
    else:
        path = tiff16(tmp_path / "a.tif", values, kind[5], "packed" in kind)
    shares = values.astype(np.float64) / 65535
    wanted = shares[:, :, :3]
    if channels == 4:
        alpha = shares[:, :, 3:]
        wanted = wanted * alpha + np.array([0, 51, 255]) / 255 * (1 - alpha)
    found = pixels(path, background="#0033ff").permute(1, 2, 0)
    assert np.abs(found.numpy() - wanted).max() < 2e-6
    assert read(str(path), SIDE, FolderImages()).transparent == (channels == 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_colours_are_turned_as_others(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    bright = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    plain = pixels(put(tmp_path / "a.png", bright, exif=exif))
    deep = png16(
        tmp_path / "b.png", bright.astype(np.uint16) * 257, exif.tobytes().removeprefix(b"Exif\0\0")
    )
    assert torch.allclose(pixels(deep), plain.float() / 255, atol=1e-6)


def test_deep_and_plain_images_may_be_mixed(tmp_path: Path) -> None:
    put(tmp_path / "a/0.png", grey(51))
    put(tmp_path / "b/0.png", np.full((SIDE, SIDE), 13107, np.uint16))
    images = open_raw(task(tmp_path)).images
    assert isinstance(images, torch.Tensor)
    assert torch.allclose(images, torch.full_like(images, 0.2))


def test_an_image_is_turned_as_viewers_show_it(tmp_path: Path) -> None:
    half = np.zeros((16, 16), np.uint8)
    half[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    found = pixels(put(tmp_path / "x.jpg", half, exif=exif, quality=100)).float() / 255
    assert float(found[:, :4].mean()) > 0.95
    assert float(found[:, 4:].mean()) < 0.05


HIDDEN = np.zeros((SIDE, SIDE, 4), np.uint8)
HIDDEN[..., 0] = 255  # red, all transparent


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (Image.fromarray(HIDDEN), {}),
        (Image.fromarray(HIDDEN[..., [0, 3]]), {}),
        (Image.new("P", (SIDE, SIDE), 0), {"transparency": 0}),
        (Image.new("L", (SIDE, SIDE), 7), {"transparency": 7}),
        (Image.new("RGB", (SIDE, SIDE), (1, 2, 3)), {"transparency": (1, 2, 3)}),
    ],
    ids=["RGBA", "LA", "P", "L", "RGB"],
)
def test_transparent_pixels_show_the_background(
    tmp_path: Path, image: Image.Image, options: Any
) -> None:
    path = put(tmp_path / "x.png", image, **options)
    assert pixels(path).unique().tolist() == [255]
    assert pixels(path, background="#0a141e")[:, 3, 3].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("mode", "ending", "colour", "wanted"),
    [
        ("CMYK", "jpg", (0, 0, 0, 0), [255, 255, 255]),
        ("1", "png", 1, [255, 255, 255]),
        ("L", "jpg", 90, [90, 90, 90]),
        ("YCbCr", "jpg", (90, 128, 128), [90, 90, 90]),
    ],
)
def test_every_mode_becomes_three_channels(
    tmp_path: Path, mode: str, ending: str, colour: Any, wanted: list[int]
) -> None:
    path = put(tmp_path / f"x.{ending}", Image.new(mode, (SIDE, SIDE), colour))
    assert pixels(path)[:, 4, 4].tolist() == pytest.approx(wanted, abs=1)


def test_of_an_animation_the_first_frame_is_used_and_it_is_said(tmp_path: Path) -> None:
    frames = [Image.fromarray(grey(value)) for value in (10, 200)]
    put(tmp_path / "a/0.gif", frames[0], save_all=True, append_images=frames[1:])
    put(tmp_path / "b/0.gif", frames[1])
    found = open_raw(task(tmp_path))
    assert isinstance(found.images, torch.Tensor)
    assert found.images[:, 0, 0, 0].tolist() == [10, 200]
    assert found.notes == ("1 of 2 images has several frames or pages: the first is used",)


def test_an_image_that_is_not_square_is_padded_cropped_or_stretched() -> None:
    wide = torch.full((3, 2, 8), 100, dtype=torch.uint8)
    wide[..., :2] = 200
    colour = {"background": "#0000ff"}
    padded = fit(wide, 8, FolderImages(**colour))
    assert torch.equal(padded[:, 3:5], wide)
    assert padded[:, [0, 2, 5, 7]].flatten(1).unique(dim=1).tolist() == [[0], [0], [255]]
    assert fit(wide, 2, FolderImages(fit="crop")).unique().tolist() == [100]
    assert fit(wide, 8, FolderImages(fit="stretch"))[0, :, 0].tolist() == [200] * 8
    assert fit(wide.transpose(1, 2) / 255, 8, FolderImages(**colour))[2, 0, 0] == 1.0


@pytest.mark.parametrize("shape", [(3, 13, 21), (3, 30, 9), (3, 7, 7)])
def test_a_crop_is_torchvision_s(shape: tuple[int, ...]) -> None:
    """What earlier versions did to every image, so a search of theirs goes on with the same."""
    from torchvision.transforms.v2 import functional as V

    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    former = V.center_crop(V.resize(image, [8], antialias=True), [8, 8])
    assert torch.equal(fit(image, 8, FolderImages(fit="crop")), former)
    assert fit(image[:, :1].repeat(1, 1, 40), 8, FolderImages(fit="crop")).shape == (3, 8, 8)


def test_what_is_done_to_the_images_is_said(tmp_path: Path) -> None:
    put(tmp_path / "a/0.png", np.zeros((40, 10, 4), np.uint8))
    put(tmp_path / "b/0.png", grey())
    assert open_raw(task(tmp_path)).notes == (
        "1 of 2 images is not square: padded with #ffffff (task.folder.fit)",
        "1 of 2 images may be transparent: on #ffffff (task.folder.background)",
    )


def cut(path: Path) -> None:
    put(path, np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8), format="JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "cannot be read as an image.*truncated"),
        (lambda p: p.write_bytes(b""), "is not an image, or is damaged"),
        (lambda p: p.write_text("hello"), "is not an image, or is damaged"),
        (lambda p: p.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "is not an image"),
        (
            lambda p: put(p, np.full((8, 8), 1.5, np.float32), format="TIFF"),
            "holds values from 1.5 to 1.5; floats must be in 0..1",
        ),
        (
            lambda p: put(p, np.full((8, 8), np.nan, np.float32), format="TIFF"),
            "holds values from nan to nan",
        ),
        (
            lambda p: put(p, np.full((8, 8), 70000, np.int32), format="TIFF"),
            "whole numbers of 32 bits",
        ),
        (lambda p: put(p, Image.new("1", (10_000, 9_000)), format="PNG"), "more than 80,000,000"),
    ],
)
@pytest.mark.parametrize("most", [2**30, 0])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_damaged_file_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], Any],
    message: str,
    most: int,
) -> None:
    fill(tmp_path, "cat", "dog", count=2)
    damage(tmp_path / "cat" / "3.png")
    monkeypatch.setattr(raws, "MAX_BYTES", most)
    with pytest.raises(ConfigError, match=f"/cat/3.png .*{message}|/cat/3.png {message}") as error:
        open_raw(task(tmp_path))
    assert "\n" not in str(error.value)


def test_a_process_that_reads_ahead_names_the_file_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "cat", "dog", count=2)
    monkeypatch.setattr(raws, "MAX_BYTES", 0)
    images = open_raw(task(tmp_path)).images
    assert isinstance(images, LazyImages)
    cut(tmp_path / "cat" / "1.png")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(ConfigError, match=r"^\S+/cat/1.png cannot be read") as error:
        list(images.batches(torch.arange(4), 2))
    assert "\n" not in str(error.value)


def test_changed_images_of_each_part_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no image is held in memory."""
    for part in ("train", "val", "test"):
        fill(tmp_path / part, "cat", "dog", count=2)
    monkeypatch.setattr(raws, "MAX_BYTES", 0)

    def digests() -> dict[str, str]:
        return open_splits.__wrapped__(task(tmp_path)).digests()

    before = digests()
    assert set(before) == {"samples", "test", "files", "validationFiles", "testFiles"}
    assert digests() == before
    for part, name in {"train": "files", "val": "validationFiles", "test": "testFiles"}.items():
        changed = put(tmp_path / part / "cat/0.png", np.eye(SIDE, dtype=np.uint8) * 200)
        assert {each for each, digest in digests().items() if digest != before[each]} == {name}
        put(changed, grey(50))
