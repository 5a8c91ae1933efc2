"""Learning tasks: loss, metrics, and the width of the network's output.

To add a task, register a class in the entry point group `kinase.tasks`. It is created with the
manifest's `task.typeOptions`, if any.
"""

from __future__ import annotations

from kinase import registry
from kinase.api.task import Task
from kinase.words import raised
from kinase_trainer.errors import ConfigError
from kinase_trainer.tasks.base import LearningTask, Meter, Predictions, Units
from kinase_trainer.tasks.classification import Classification
from kinase_trainer.tasks.multilabel import MultiLabel
from kinase_trainer.tasks.regression import Regression

__all__ = [
    "Classification",
    "LearningTask",
    "Meter",
    "MultiLabel",
    "Predictions",
    "Regression",
    "Units",
    "make_task",
]


def make_task(task: Task) -> LearningTask:
    """The task that a manifest names.

    Raises:
        ConfigError: no package registers it, or it rejects its options.
    """
    where = f"task.type {task.type!r}"
    try:
        member = registry.load("kinase.tasks", task.type)
    except registry.UnknownMember:
        known = ", ".join(registry.names("kinase.tasks"))
        raise ConfigError(f"{where} is not known; known: {known}") from None
    except (ImportError, AttributeError) as error:  # with a clear message
        raise ConfigError(f"{where} cannot be loaded: {error}") from error
    except (Exception, SystemExit) as error:  # raised by other packages' code
        raise ConfigError(f"{where} cannot be loaded: {raised(error):.300}") from error
    options = task.options
    try:
        made = member() if options is None else member(options)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # raised by other packages' code
        given = "" if task.type_options is None else " with task.typeOptions"
        raise ConfigError(f"{where} cannot be made{given}: {raised(error):.300}") from error
    if not isinstance(made, LearningTask):
        raise ConfigError(f"{where} is not a kinase_trainer.tasks.LearningTask")
    return made
