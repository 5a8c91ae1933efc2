"""Describe a task for the search."""

from __future__ import annotations

import platform

import numpy as np
import torch

import kinase
from kinase import registry
from kinase.api.space import Space as SpaceModel
from kinase.api.task import Task, Training
from kinase.api.trial import TaskInfo
from kinase.store import Store
from kinase_trainer import proxies
from kinase_trainer import root as roots
from kinase_trainer.data import open_splits
from kinase_trainer.summary import of_batches
from kinase_trainer.train import pick_device
from kinase_trainer.without_torch import SUPPORTS


def describe(
    task: Task, training: Training, space: SpaceModel | None = None, store: Store | None = None
) -> TaskInfo:
    """Describe a task for the search, before any trial.

    Args:
        task: the learning task.
        training: how to train networks.
        space: the search space, if it starts from a network.
        store: store of the experiment, to which that network is written.

    Raises:
        ConfigError: the data set, the device or the network is missing.
        CorruptModel: the network's weights are invalid.
    """
    device = pick_device(training.device)
    splits = open_splits(task)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    learning = splits.learning
    root = None
    if space is not None and space.model is not None:
        assert store is not None
        root = roots.make_root(space.model, splits.shape, splits.outputs, store)
    return TaskInfo(
        input=splits.shape,
        outputs=splits.outputs,
        train=len(splits.train),
        validation=len(splits.validation),
        test=splits.test_size,
        metrics=tuple(f"val_{name}" for name in learning.metrics),
        goals={f"val_{name}": goal for name, goal in learning.goals.items()},
        classes=splits.told.classes,
        notes=splits.told.notes,
        targets=splits.said,
        several=learning.several,
        warnings=splits.told.warnings + of_batches(training.batch_size, len(splits.train)),
        device=device.type,
        facts={
            "kinase": kinase.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "hardware": name or platform.machine(),
            "threads": str(torch.get_num_threads()),
            "data checksum": splits.checksum,
        },
        data=splits.digests(),
        root=root,
        supports=SUPPORTS,
        proxies=tuple(registry.names(proxies.GROUP)),
    )
