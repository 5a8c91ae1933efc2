"""A task described without torch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import kinase_trainer
from kinase import registry
from kinase.api.task import Task, Training
from kinase_trainer import arrays, trial, without_torch

CPU = Training(device="cpu")


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"resolution": 12},
        {"split": {"validation": 0.4, "test": 0.1, "seed": 5}},
        {"split": {"validation": 0.01, "test": 0.01}},
    ],
)
def test_it_says_what_torch_would_say(monkeypatch: pytest.MonkeyPatch, task: Any) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    own = Task.model_validate(task)
    assert without_torch.describe(own, CPU) == trial.describe(own, CPU)


def test_the_digits_are_scikit_learn_s(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    read = arrays.digits()
    monkeypatch.setattr(arrays.Path, "is_file", lambda self: False)
    for images, targets in (read, arrays.digits()):
        assert (images.dtype, targets.dtype) == (np.float32, np.int64)
        assert np.array_equal(images[:, 0] * 16, bunch.images)
        assert np.array_equal(targets, bunch.target)


def test_what_it_does_not_know_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert without_torch.describe(Task(dataset="mnist"), CPU) is None
    assert without_torch.describe(Task(type="Own"), CPU) is None
    for device in ("cuda", "mps"):
        assert without_torch.describe(Task(), Training(device=device)) is None
    with monkeypatch.context() as patch:
        patch.setattr(
            without_torch, "OURS", {"kinase.datasets": ("digits", "another.package:digits")}
        )
        assert without_torch.describe(Task(), CPU) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert without_torch.describe(Task(), CPU) is None


@pytest.mark.parametrize(
    ("build", "files", "platform", "certain"),
    [
        ({"cuda": None, "hip": None}, ["nvidia0"], "linux", True),
        ({"cuda": "13.0"}, ["null", "nvram", "nvme0"], "linux", True),
        ({"cuda": "13.0"}, ["null", "nvidiactl"], "linux", False),
        ({"cuda": None, "hip": "6.3"}, ["kfd"], "linux", False),
        ({"cuda": "13.0"}, ["dxg"], "linux", False),
        ({"cuda": None, "hip": None}, ["null"], "darwin", False),
    ],
)
def test_auto_is_a_cpu_where_no_gpu_can_be(
    monkeypatch: pytest.MonkeyPatch,
    build: dict[str, Any],
    files: list[str],
    platform: str,
    certain: bool,
) -> None:
    monkeypatch.setattr(without_torch.os, "listdir", lambda path: files)
    monkeypatch.setattr(without_torch.sys, "platform", platform)
    assert without_torch._on_cpu("auto", SimpleNamespace(**build)) is certain  # type: ignore[arg-type]
    assert without_torch._on_cpu("cpu", SimpleNamespace(**build))  # type: ignore[arg-type]


def test_neither_torch_nor_scikit_learn_is_imported() -> None:
    code = (
        "import sys\n"
        "from kinase.api.task import Task, Training\n"
        "from kinase_trainer import without_torch\n"
        "assert without_torch.describe(Task(), Training(device='cpu'))\n"
        "sys.exit(bool({'torch', 'sklearn', 'boto3'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


@pytest.mark.parametrize("error", [ImportError("no module named x"), AttributeError("no y")])
@pytest.mark.parametrize("field", ["dataset", "type"])
def test_an_entry_point_that_does_not_load_is_named(
    monkeypatch: pytest.MonkeyPatch, field: str, error: Exception
) -> None:
    real = registry.load

    def load(group: str, name: str) -> Any:
        if name == "broken":
            raise error
        return real(group, name)

    monkeypatch.setattr(registry, "load", load)
    with pytest.raises(ValueError, match=rf"task.{field} 'broken' cannot be loaded: no"):
        trial.describe(Task.model_validate({field: "broken"}), CPU)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(2, "No such file", "/data/x"), "cannot be read .*'/data/x'.*task.path"),
        (PermissionError(13, "denied", "/data/x"), "cannot be read"),
        (ImportError("No module named 'pandas'"), "needs a package .*'pandas'"),
    ],
)
def test_data_that_does_not_open_is_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    real = registry.load

    def load(group: str, name: str) -> Any:
        def opener(task: Task) -> Any:
            raise error

        return opener if name == "own" else real(group, name)

    monkeypatch.setattr(registry, "load", load)
    with pytest.raises(ValueError, match=message):
        trial.describe(Task(dataset="own"), CPU)


def test_no_module_hides_a_function_of_the_package() -> None:
    """Importing `kinase_trainer.describe` once would make the name a module."""
    folder = Path(kinase_trainer.__file__).parent
    assert not {p.stem for p in folder.iterdir()} & set(kinase_trainer.__all__)
