"""A folder of images whose targets a table gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from kinase.api.task import Task
from kinase_trainer.data import open_splits
from kinase_trainer.errors import ConfigError


def folder(root: Path, text: str, names: list[str], **task: object) -> Task:
    for place, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), place).save(root / name)
    (root / "labels.csv").write_text(text)
    open_splits.cache_clear()
    document = {
        "dataset": "folder", "path": str(root), "resolution": 4, "folder": {"labels": "labels.csv"},
    }  # fmt: skip
    return Task.model_validate({**document, **task})


NAMES = [f"{i}.png" for i in range(10)]


def test_numbers_of_a_table(tmp_path: Path) -> None:
    rows = "".join(f"{name},{i * 1.5}, {-i}\r\n" for i, name in enumerate(NAMES))
    task = folder(tmp_path, "\ufefffile,age,height\r\n" + rows + "\r\n", NAMES, type="Regression")
    splits = open_splits(task)
    assert (splits.outputs, splits.classes) == (2, ())
    units = splits.learning.units
    assert units is not None
    ages = splits.train.targets[:, 0] * units.deviation[0] + units.mean[0]
    pixels = splits.train.images[:, 0, 0, 0]  # type: ignore[index]
    assert ages.tolist() == pytest.approx((pixels * 1.5).tolist())
    assert splits.told.notes[0] == f"10 images with targets, as listed in {tmp_path}/labels.csv"


def test_labels_of_a_table_have_its_names(tmp_path: Path) -> None:
    rows = "".join(f"{name},{i % 2},{int(i < 6)}\n" for i, name in enumerate(NAMES))
    task = folder(tmp_path, "file,cat,dog\n" + rows, NAMES, type="MultiLabel")
    splits = open_splits(task)
    assert splits.classes == ("cat", "dog")
    assert [c.train + c.validation + c.test for c in splits.told.classes] == [5, 6]


def test_classes_of_a_table_in_folders_of_the_parts(tmp_path: Path) -> None:
    names = [f"{part}/{i}.png" for part in ("train", "val", "test") for i in range(4)]
    rows = "".join(f'{name},"{("a", "b")[i % 2]}"\n' for i, name in enumerate(names))
    splits = open_splits(folder(tmp_path, "file,class\n" + rows, names))
    assert splits.classes == ("a", "b")
    assert (len(splits.train), len(splits.validation), splits.test_size) == (4, 4, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "labels.csv names no file"),
        ("file,y\n", "labels.csv names no file"),
        ("0.png,1\n", "begins with numbers; write a header line"),
        ("file\n0.png\n", "has 1 columns; the first is the file"),
        ("file,y\n0.png,1,2\n", "line 2, has 3 fields; the header line has 2"),
        ("file,y\n0.png,1\n0.png,2\n", "line 3: 0.png is listed twice"),
        ("file,y\n0.png,1\n1.png,tall\n", "line 3: y is 'tall', not a number"),
        ("file,y\n0.png,nan\n", "line 2: y is 'nan', not a number"),
        ("file,y\n../0.png,1\n", r"line 2: '../0.png' is not a path below the folder"),
        ("file,y\n/etc/passwd,1\n", "line 2: '/etc/passwd' is not a path below the folder"),
        ("file,y\nnone.png,1\n", "none.png"),
        ("file,y\nval/0.png,1\n", "names no file of the training part"),
        ("0.png,cat\n1.png,dog\n", "begins with the file 0.png; write a header line"),
        ("file;y\n0.png;1\n", "separates its columns by ';'; use commas"),
        ("file,y\n0.png,1\ntrain\\0.png,1\n", r"line 3: .* is not a file .*write / between"),
        ('file,y\n"0.png,1\n', "is not a CSV file in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_splits(folder(tmp_path, text, NAMES[:2], type="Regression"))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    task = folder(tmp_path, "", NAMES[:2], folder={"labels": "other.csv"})
    with pytest.raises(ConfigError, match=r"task.folder.labels: .*other.csv cannot be read \(No"):
        open_splits(task)


def test_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    text = "file,y\n" + "".join(f"{name},{'cat' if i else ''}\n" for i, name in enumerate(NAMES))
    with pytest.raises(ConfigError, match="line 2: y is empty"):
        open_splits(folder(tmp_path, text, NAMES))
