"""An engine that runs nothing, for reading the results of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from kinase.api.space import Space
from kinase.api.task import Task, Training
from kinase.api.trial import TrialJob
from kinase.engine.base import Engine, EngineError, Event


class IdleEngine(Engine):
    """Has no slots, so that nothing is ever launched on it."""

    slots = 0

    def describe(self, task: Task, training: Training, space: Space | None = None) -> NoReturn:
        """Not supported."""
        raise EngineError("an idle engine knows no task")

    def launch(self, job: TrialJob) -> NoReturn:
        """Not supported: there are no slots."""
        raise EngineError("an idle engine runs nothing")

    def running(self) -> dict[int, float]:
        """Nothing runs."""
        return {}

    def poll(self, timeout: float | None) -> Sequence[Event]:
        """Nothing happens."""
        return ()

    def stop(self, trial: int) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing runs."""
