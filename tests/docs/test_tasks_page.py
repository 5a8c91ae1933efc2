"""The examples of the page on tasks run, and say what the page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from kinase.api import NASExperiment
from kinase.api.objective import TASK_METRICS
from kinase.api.task import Task, Training
from kinase.report.task import data_lines
from kinase.store.memory import MemoryStore
from kinase_trainer import trial
from kinase_trainer.data import open_splits
from tests.docs.blocks import ROOT, blocks
from tests.trainer.helpers import searched

PAGE = "docs/tasks.md"
SMALL: dict[str, Any] = {
    "budget": {"trials": 1},
    "control": {"share": 0},
    "strategy": {"type": "Random"},
}
"""What makes an example's search short."""


def titled(language: str, title: str) -> str:
    [text] = [block.text for block in blocks(PAGE, language) if block.title == title]
    return text


def untitled(dataset: str) -> Any:
    """The part of a manifest that the page shows for a data set."""
    found = [yaml.safe_load(block.text) for block in blocks(PAGE, "yaml") if not block.title]
    [one] = [each for each in found if each["task"]["dataset"] == dataset]
    return one


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    open_splits.cache_clear()
    return tmp_path


@pytest.mark.parametrize(("name", "metric"), [("shapes", "test_map"), ("spots", "test_mae")])
def test_an_example_is_searched(here: Path, name: str, metric: str) -> None:
    exec(compile(titled("python", f"{name}.npz"), PAGE, "exec"), {})
    document = yaml.safe_load(titled("yaml", f"{name}.yaml"))
    spec = document["spec"]
    task = Task.model_validate(spec["task"])
    said = data_lines(trial.describe(task, Training(device="cpu")))
    assert list(said) == titled("text", f"{name}: before the search").splitlines()
    spec.update(SMALL)
    spec["training"].update(epochs=1, device="cpu")
    loop = searched(NASExperiment.model_validate(document), MemoryStore())
    assert loop.state.finished is not None
    assert metric in loop.state.finished.test


def test_a_table_is_read(here: Path) -> None:
    text = titled("text", "plants/labels.csv")
    text += "".join(f"b/{i}.png,{i},{i % 4}\n" for i in range(2, 9))
    for line in text.splitlines()[1:]:
        path = here / "plants" / line.partition(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(path)
    (here / "plants/labels.csv").write_text(text)
    given = untitled("folder")
    splits = open_splits(Task.model_validate(given["task"]))
    assert splits.outputs == 2
    assert given["objective"]["metric"] in TASK_METRICS["Regression"]


def test_weights_of_the_page() -> None:
    given = untitled("digits")
    open_splits.cache_clear()
    learning = open_splits(Task.model_validate(given["task"])).learning
    assert np.ptp(learning._weights.numpy()) > 0  # type: ignore[attr-defined]


def test_the_page_names_every_metric() -> None:
    page = (ROOT / PAGE).read_text()
    for task, known in TASK_METRICS.items():
        [row] = [line for line in page.splitlines() if line.startswith(f"| [`{task}`]")]
        assert set(row.split("`")[3::2]) == set(known)
