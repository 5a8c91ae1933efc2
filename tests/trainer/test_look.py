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
    assert (found.samples, found.train, found.classes) == (30, 18, 2)
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
    assert (found.samples, found.train, found.classes) == (26, 16, 4)
    assert (found.smallest, found.largest) == (6, 7)


def test_a_published_data_set() -> None:
    found = look("cifar100")
    assert (found.samples, found.train, found.classes) == (60_000, 40_000, 100)
    assert found.download
    assert look("digits").path is None


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.int64(3), r"y has shape \(\); wanted is one class a sample"),
        (np.zeros((4, 2, 2)), r"y has shape \(4, 2, 2\); wanted is one class a sample"),
        (np.array([0.25, 1.0, 2.0, 0.0]), r"y holds 0\.25, which is not a class.*Regression"),
        (np.array([[0, 1], [1, 1], [1, 0], [0, 1]]), r"y has rows with .*MultiLabel"),
        (np.zeros((0, 1)), "holds no samples"),
    ],
)
def test_labels_of_an_archive_that_are_no_classes(
    tmp_path: Path, labels: object, text: str
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((4, 8, 8), np.uint8), y=np.asarray(labels))
    with pytest.raises(ConfigError, match=rf"{path}.*{text}"):
        look(str(path))


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
        ("absent", r"'absent' is not there; give a folder of images, an .npz archive, or one of"),
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
    assert "my-pets.yaml is there already; remove it, or give another file by --out" in done.output
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
        (["--metric", "bleu"], "metric 'bleu' is not known; use one of val_accuracy"),
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
