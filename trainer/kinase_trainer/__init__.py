"""The trainer: builds a module from an architecture, trains, measures and exports it.

Modules that need torch are imported on demand, because importing torch takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinase.api.space import Space
    from kinase.api.task import Task, Training
    from kinase.api.trial import TaskInfo
    from kinase.store import Store
    from kinase_trainer.first_look import look
    from kinase_trainer.model import load

__all__ = ["describe", "load", "look"]


def describe(
    task: Task, training: Training, space: Space | None = None, store: Store | None = None
) -> TaskInfo:
    """Describe a task for the search, like `kinase_trainer.trial.describe`, or by
    `kinase_trainer.without_torch` if torch is not needed.

    Raises:
        ConfigError: the data set, the device or the network is missing.
        CorruptModel: the weights of the network that the search starts from are damaged.
    """
    from kinase_trainer import without_torch

    info = without_torch.describe(task, training) if space is None else None
    if info is None:
        from kinase_trainer import trial

        info = trial.describe(task, training, space, store)
    return info


def __getattr__(name: str) -> Any:
    if name == "load":
        from kinase_trainer.model import load

        return load
    if name == "look":
        from kinase_trainer.first_look import look

        return look
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
