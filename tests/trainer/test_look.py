"""A first look at data, and `kinase init` on it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import kinase
from kinase.cli import app
from kinase_trainer import look
from kinase_trainer.errors import ConfigError


def images(root: Path, counts: dict[str, int], size: tuple[int, int] = (12, 10)) -> Path:
    """A folder of images (width, height) whose class shows in a colour."""
    rng = np.random.default_rng(0)
    for channel, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 99, (size[1], size[0], 3), np.uint8)
            pixels[:, :, channel % 3] = 250
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def test_a_folder(tmp_path: Path) -> None:
    found = look(str(images(tmp_path / "pets", {"cat": 20, "dog": 10})))
    assert (found.dataset, found.path) == ("folder", str(tmp_path / "pets"))
    assert (found.channels, found.height, found.width, found.fixed) == (3, 10, 12, True)
    assert (found.samples, found.train, found.outputs) == (30, 18, 2)
    assert (found.smallest, found.largest) == (10, 20)
    images(tmp_path / "parts/train", {"cat": 8, "dog": 8})
    images(tmp_path / "parts/test", {"cat": 2, "dog": 2}, (30, 30))
    found = look(str(tmp_path / "parts"))
    assert (found.samples, found.train) == (20, 13)


def test_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    x, y = np.zeros((20, 9, 8, 3), np.uint8), np.eye(4, dtype=int)[np.arange(20) % 4]
    np.savez(path, x=x, y=y, x_test=x[:6], y_test=y[:6])
    found = look(str(path))
    assert (found.dataset, found.channels, found.height, found.width) == ("npz", 3, 9, 8)
    assert (found.samples, found.train, found.outputs) == (26, 16, 4)
    assert (found.smallest, found.largest) == (6, 7)


def test_a_published_data_set() -> None:
    found = look("cifar100")
    assert (found.samples, found.train, found.outputs) == (60_000, 40_000, 100)
    assert found.download
    assert look("digits").path is None


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.int64(3), r"y has shape \(\); expected one class a sample"),
        (np.zeros((4, 2, 2)), r"y has shape \(4, 2, 2\); expected one class a sample"),
        (
            np.array([0.25, 1.0, 2.0, 0.0]),
            r"y holds 0\.25, which is not a class.*--task Regression",
        ),
        (np.array([[0, 1], [1, 1], [1, 0], [0, 1]]), r"y has rows with .*--task MultiLabel"),
        (np.zeros((0, 1)), "holds no samples"),
    ],
)
def test_labels_of_an_archive_that_are_no_classes(
    tmp_path: Path, labels: object, text: str
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((4, 8, 8), np.uint8), y=np.asarray(labels))
    with pytest.raises(ConfigError, match=rf"{path}.*{text}"):
        look(str(path), "Classification")


@pytest.mark.parametrize(
    ("labels", "task", "outputs", "counts"),
    [
        (np.arange(8) % 3, "Classification", 3, (2, 3)),
        (np.arange(8.0) % 2, "Classification", 2, (4, 4)),
        (np.array(["a", "b"] * 4), "Classification", 2, (4, 4)),
        (np.eye(4)[[0, 1, 2, 3] * 2], "Classification", 4, (2, 2)),
        (np.eye(8, 4), "MultiLabel", 4, (1, 1)),
        (np.array([[0, 1, 1], [1, 0, 1]] * 4), "MultiLabel", 3, (4, 8)),
        (np.linspace(0, 1, 8), "Regression", 1, (0, 0)),
        (np.arange(8) * 5, "Regression", 1, (0, 0)),
        (np.arange(16).reshape(8, 2), "Regression", 2, (0, 0)),
        (np.array([[0.5], [1.5]] * 4), "Regression", 1, (0, 0)),
    ],
)
def test_the_targets_of_an_archive_say_what_is_learnt(
    tmp_path: Path, labels: object, task: str, outputs: int, counts: tuple[int, ...]
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((8, 8, 8), np.uint8), y=np.asarray(labels))
    found = look(str(path))
    assert (found.task, found.outputs) == (task, outputs)
    assert (found.smallest, found.largest) == counts


@pytest.mark.parametrize(
    ("labels", "task", "text"),
    [
        (
            np.array([0.5, 1.5] * 4),
            "MultiLabel",
            r"y: the targets have .* hold 0\.5; task.type Mult",
        ),
        (np.array([0.5, np.nan] * 4), None, "y holds nan at"),
        (np.array(["a", "b"] * 4), "Regression", r"y has type <U1; expected whole numbers"),
    ],
)
def test_targets_that_do_not_suit_the_task(
    tmp_path: Path, labels: object, task: str | None, text: str
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((8, 8, 8), np.uint8), y=np.asarray(labels))
    with pytest.raises(ConfigError, match=text):
        look(str(path), task)


@pytest.mark.parametrize(
    ("y", "y_test", "text"),
    [
        (np.ones((8, 3)) / 2, np.ones((8, 2)), "y_test has 2 columns, and .*: y has 3; each part"),
        (np.ones((8, 2), int), np.ones((8, 3), int), "y_test has 3 columns, and .*: y has 2; each"),
    ],
)
def test_targets_of_parts_that_differ_in_columns(
    tmp_path: Path, y: object, y_test: object, text: str
) -> None:
    path, x = tmp_path / "a.npz", np.zeros((8, 8, 8), np.uint8)
    np.savez(path, x=x, y=np.asarray(y), x_test=x, y_test=np.asarray(y_test))
    with pytest.raises(ConfigError, match=text):
        look(str(path))


@pytest.mark.parametrize("classes", [2, 4])
def test_parts_may_write_classes_in_different_ways(tmp_path: Path, classes: int) -> None:
    path, x, y = tmp_path / "a.npz", np.zeros((8, 8, 8), np.uint8), np.arange(8) % classes
    np.savez(path, x=x, y=np.eye(classes, dtype=int)[y], x_test=x, y_test=y)
    found = look(str(path))
    assert (found.task, found.outputs) == ("Classification", classes)


def test_folders_of_classes_decide_unless_a_table_is_named(tmp_path: Path) -> None:
    root = images(tmp_path / "pets", {"cat": 2, "dog": 2})
    for name in ("sizes.csv", "more.csv"):
        (root / name).write_text("file,width,height\ncat/0.png,12.5,10\ndog/0.png,12,10.5\n")
    assert (look(str(root)).task, look(str(root)).labels) == ("Classification", None)
    assert look(str(root), labels="sizes.csv").task == "Regression"


def table(root: Path, head: str, lines: str, parts: tuple[str, ...] = ("a",)) -> Path:
    """A folder of images whose targets are in `targets.csv`; `lines` has one for each image."""
    rng = np.random.default_rng(0)
    rows = [head]
    for part in parts:
        (root / part).mkdir(parents=True)
        for number, line in enumerate(lines.split()):
            name = f"{part}/{number}.png"
            Image.fromarray(rng.integers(0, 255, (10, 12, 3), np.uint8)).save(root / name)
            rows.append(f"{name},{line}")
    (root / "targets.csv").write_text("\n".join(rows))
    (root / "notes.csv").write_text("who,when\nme,today\n")
    return root


@pytest.mark.parametrize(
    ("head", "lines", "task", "outputs", "counts"),
    [
        ("file,kind", "cat dog cat cat dog cat", "Classification", 2, (2, 4)),
        ("file,kind", "1 0 1 1 0 1", "Classification", 2, (2, 4)),
        ("file,height", "1.5 2 2.5 3 3.5 4", "Regression", 1, (0, 0)),
        ("file,red,round", "1,0 1,1 0,0 1,0 0,1 1,1", "MultiLabel", 2, (3, 4)),
        ("file,height,leaves", "1.5,3 2,4 2.5,5 3,1 3.5,9 4,2", "Regression", 2, (0, 0)),
    ],
)
def test_a_table_of_targets_is_found_and_init_writes_its_task(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    head: str,
    lines: str,
    task: str,
    outputs: int,
    counts: tuple[int, int],
) -> None:
    monkeypatch.chdir(tmp_path)
    root = table(tmp_path / "plants", head, lines, ("train", "val", "test"))
    found = look(str(root))
    assert (found.task, found.outputs, found.labels) == (task, outputs, "targets.csv")
    assert (found.samples, found.train) == (18, 6)
    assert (found.smallest, found.largest) == tuple(3 * count for count in counts)
    done = CliRunner().invoke(app, ["init", "--data", "plants", "--for", "1s"])
    assert done.exit_code == 0, done.output
    assert "from targets.csv" in done.output
    done = CliRunner().invoke(app, ["validate", "plants.yaml"])
    assert done.exit_code == 0, done.output
    assert "18 samples of 3x8x8 (channels, height, width): 6 training" in done.output


def test_the_table_and_the_task_may_be_named(tmp_path: Path) -> None:
    root = table(tmp_path / "plants", "file,height", "1 2 1 2 1 2")
    assert look(str(root)).task == "Classification"
    assert look(str(root), "Regression").task == "Regression"
    (root / "more.csv").write_text((root / "targets.csv").read_text())
    with pytest.raises(ConfigError, match=r"has 2 tables of its images, more.csv, targets.csv; n"):
        look(str(root))
    assert look(str(root), labels="more.csv").labels == "more.csv"
    for data, options, text in (
        (
            "digits",
            {"task": "Regression"},
            "digits has only class labels; --task Regression needs numbers",
        ),
        ("digits", {"labels": "a.csv"}, "--labels is for a folder of images"),
        (str(images(tmp_path / "p", {"a": 1, "b": 1})), {"task": "MultiLabel"}, "needs a table"),
    ):
        with pytest.raises(ConfigError, match=text):
            look(data, **options)


def test_an_archive_whose_array_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"text")
        archive.writestr("y.npy", b"text")
    with pytest.raises(ConfigError, match=rf"{path}: x is damaged or cut off"):
        look(str(path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("absent", r"'absent' does not exist; give a folder of images, an .npz archive, or one of"),
        ("empty", r"holds no folder of images of a class"),
        ("a.txt", r"is not a NumPy archive|is no NumPy archive"),
        ("bad", r"cannot be read as an image"),
    ],
)
def test_data_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("text")
    for each in ("cat", "dog"):
        (tmp_path / "bad" / each).mkdir(parents=True)
        (tmp_path / "bad" / each / "1.png").write_text("no image")
    with pytest.raises(ConfigError, match=text):
        look(name)
    done = CliRunner().invoke(app, ["init", "--data", name])
    assert done.exit_code == 2
    assert "kinase: " in done.output


def test_init_on_a_folder_of_images_then_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images(tmp_path / "My pets", {"cat": 8, "dog": 8})
    command = ["init", "--data", "My pets", "--max-params", "5k", "--for", "1s"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "my-pets.yaml is written; search with: kinase run my-pets.yaml" in done.output
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "my-pets.yaml already exists; remove it, or give another file by --out" in done.output
    assert CliRunner().invoke(app, ["validate", "my-pets.yaml"]).exit_code == 0
    done = CliRunner().invoke(app, ["run", "my-pets.yaml", "--trials", "2"])
    assert done.exit_code == 0, done.output
    result = kinase.load_result("my-pets")
    assert result.best is not None
    assert result.best.parameters is not None
    assert result.best.parameters <= 5000
    network = result.load()
    assert sum(p.numel() for p in network.parameters()) == result.best.parameters


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--max-params", "many"], "--max-params 'many' is not a count; write it as 50k"),
        (["--for", "soon"], "--for 'soon': a duration is written like 90s"),
        (["--name", "A b"], "--name 'A b' is not a name"),
        (
            ["--metric", "bleu"],
            "metric 'bleu' is not one of task.type Classification; use one of val_accuracy",
        ),
    ],
)
def test_options_that_mean_nothing(options: list[str], text: str) -> None:
    done = CliRunner().invoke(app, ["init", "--data", "digits", "-o", "-", *options])
    assert done.exit_code == 2
    assert text in done.output


def test_init_asks_for_what_is_not_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kinase.cli.starting.interactive", lambda: True)
    done = CliRunner().invoke(app, ["init"], input="digits\n20k\n10m\n")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "digits.yaml").read_text()
    assert "within the 20,000 asked for" in text
    assert "# 75% of 10m" in text
    monkeypatch.setattr("kinase.cli.starting.interactive", lambda: False)
    done = CliRunner().invoke(app, ["init"])
    assert "--data is not given" in done.output
