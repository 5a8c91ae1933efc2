"""Describes a task without importing torch, which takes seconds, if the result is the same.

The first trial of an experiment waits for the description.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import numpy as np

import kinase
from kinase import registry
from kinase.api.objective import TASK_METRICS
from kinase.api.task import Task, Training
from kinase.api.trial import TaskInfo
from kinase_trainer import arrays, summary

OURS = {
    "kinase.datasets": ("digits", "kinase_trainer.datasets:digits"),
    "kinase.tasks": ("Classification", "kinase_trainer.tasks:Classification"),
}
"""The supported members; another package can register other members with the same name."""
SUPPORTS = ("until", "measure", "supernet", "also", "workers")
"""Optional fields of a job that this trainer knows."""
DEVICES = ("nvidia", "nvhost", "nvgpu", "nvmap", "kfd", "dxg", "dri")
"""Prefixes of the device files through which Linux programs use a GPU."""


def describe(task: Task, training: Training) -> TaskInfo | None:
    """The result of `kinase_trainer.trial.describe`, or None if torch is needed."""
    if (task.dataset, task.type) != ("digits", "Classification") or task.classification:
        return None
    if not _ours():
        return None
    torch = _torch()
    if torch is None or not _on_cpu(training.device, torch):
        return None
    images, targets = arrays.digits()
    train, validation, test = arrays.divide(task, len(targets), targets, own_test=False)
    assert validation is not None
    assert test is not None
    told = summary.tell(
        [str(digit) for digit in range(10)],
        {
            name: np.bincount(targets[part], minlength=10)
            for name, part in (("train", train), ("validation", validation), ("test", test))
        },
    )
    known = TASK_METRICS["Classification"]
    side = task.resolution or images.shape[-1]
    checksum = arrays.checksum(images, targets)
    facts = {
        "kinase": kinase.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "hardware": platform.processor() or platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "data checksum": checksum,
    }
    return TaskInfo(
        input=(images.shape[1], side, side),
        outputs=int(targets.max()) + 1,
        train=len(train),
        validation=len(validation),
        test=len(test),
        metrics=tuple(known),
        goals={name: facts.goal for name, facts in known.items()},
        classes=told.classes,
        notes=told.notes,
        warnings=told.warnings + summary.of_batches(training.batch_size, len(train)),
        device="cpu",
        facts={name: fact for name, fact in facts.items() if fact},
        data={"samples": checksum},
        supports=SUPPORTS,
        proxies=tuple(registry.names("kinase.proxies")),
    )


def _ours() -> bool:
    return all(
        {point.value for point in entry_points(group=group, name=name)} == {value}
        for group, (name, value) in OURS.items()
    )


def _torch() -> ModuleType | None:
    """Import only the module `torch.version`."""
    found = importlib.util.find_spec("torch")
    for place in (found and found.submodule_search_locations) or ():
        spec = importlib.util.spec_from_file_location("version", Path(place, "version.py"))
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return None


def _on_cpu(device: str, torch: ModuleType) -> bool:
    """Whether trials certainly run on the CPU."""
    if device != "auto" or sys.platform != "linux":
        return device == "cpu"
    built = getattr(torch, "cuda", None) or getattr(torch, "hip", None)
    return not built or not any(name.startswith(DEVICES) for name in os.listdir("/dev"))
