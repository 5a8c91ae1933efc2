"""The examples of the page on data are read as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from kinase import registry
from kinase.api.spec import ExperimentSpec
from kinase.api.task import Task, Training
from kinase.report.task import data_lines
from kinase_trainer import trial
from kinase_trainer.data import open_splits
from kinase_trainer.datasets.folders import PARTS
from kinase_trainer.datasets.pictures import ENDINGS
from tests.docs.blocks import ROOT, blocks
from tests.docs.test_extending import namespace

PAGE = "docs/data.md"


def spec(dataset: str) -> dict[str, Any]:
    found = [yaml.safe_load(block.text) for block in blocks(PAGE, "yaml")]
    [one] = [each for each in found if each["task"].get("path", each["task"]["dataset"]) == dataset]
    assert isinstance(one, dict)
    return one


def task(dataset: str) -> Task:
    return Task.model_validate(spec(dataset)["task"])


def said(own: Task) -> tuple[str, ...]:
    open_splits.cache_clear()
    return data_lines(trial.describe(own, Training(device="cpu", batch_size=4)))


def text(title: str) -> str:
    [found] = [block.text for block in blocks(PAGE, "text") if block.title == title]
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def own(monkeypatch: pytest.MonkeyPatch, group: str, name: str) -> None:
    member, load = namespace(PAGE)[name], registry.load
    monkeypatch.setattr(
        registry,
        "load",
        lambda g, n: member if (g, n.lower()) == (group, name.lower()) else load(g, n),
    )


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [
        ("layout: classes", "9 samples of 3x32x32"),
        ("layout: parts", "6 samples of 3x32x32 (channels, height, width): 2 training, 2 val"),
    ],
)
def test_the_folders_of_the_page(here: Path, layout: str, wanted: str) -> None:
    names = text(layout).splitlines()
    if layout == "layout: classes":  # too few for a split: three more of each
        names += [f"animals/{name}/1{i}.png" for i in range(3) for name in ("cat", "dog")]
    for name in names:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(here / name)
    assert said(task("animals"))[0].startswith(wanted)


def test_what_the_page_says_before_the_search(here: Path) -> None:
    for name in ("cat", "dog"):
        (here / "animals" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (32, 32)).save(here / f"animals/{name}/{i}.png")
    (here / "animals/list.txt").write_text("x")
    own_task = task("animals").model_dump(by_alias=True)
    own_task["split"] = {"validation": 0.25, "test": 0.25}
    assert list(said(Task.model_validate(own_task))) == text("before the search").splitlines()


def test_the_arrays_of_the_page(here: Path) -> None:
    namespace(PAGE)  # writes the archive
    lines = said(task("animals.npz"))
    assert lines == (
        "66 samples of 3x32x32 (channels, height, width): 48 training, 12 validation, 6 test",
        "3 classes: cat (22), dog (22), eel (22)",
    )


def test_the_data_set_of_the_page(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(monkeypatch, "kinase.datasets", "stripes")
    assert said(task("stripes")) == (
        "50 samples of 1x12x12 (channels, height, width): 32 training, 8 validation, 10 test",
        "2 classes: plain (25), striped (25)",
    )


def test_the_task_of_the_page(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(monkeypatch, "kinase.tasks", "Angle")
    np.savez("compass.npz", x=np.zeros((20, 8, 8)), y=np.arange(20.0) * 18)
    open_splits.cache_clear()
    splits = open_splits(task("compass.npz"))
    assert (splits.outputs, splits.classes, splits.told.classes) == (2, (), ())
    turned = np.deg2rad(np.array([350.0, 10.0]))
    outputs = torch.tensor(np.stack([np.cos(turned), np.sin(turned)], 1)) * 3
    measured = splits.learning.measure(outputs, splits.learning.prepare(torch.tensor([10.0, 350])))
    assert measured["error"] == pytest.approx(20)
    given = spec("compass.npz")
    ExperimentSpec.model_validate(
        {
            **given,
            "space": {"type": "Chain"},
            "strategy": {"type": "Random"},
            "budget": {"trials": 1},
        }
    )


def test_the_names_of_the_page() -> None:
    page = (ROOT / PAGE).read_text()
    assert f"`{' '.join(ENDINGS)}`" in page
    assert all(f"`{name}`" in page for name in PARTS)
