"""An engine that looks results up: for tabular benchmarks, and for tests of a search."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from kinase.api.space import Space
from kinase.api.supernet import Derived
from kinase.api.task import Task, Training
from kinase.api.trial import Cost, Outcome, Point, TaskInfo, TrialJob, TrialResult
from kinase.engine.base import Engine, Event, Finished

Evaluate = Callable[[TrialJob], dict[str, float]]
"""Metrics of a trial's architecture at its fidelity, after the epochs up to which it may train."""


Derive = Callable[[TrialJob], tuple[Derived, ...]]
"""What the choices of a supernet lead to."""


class TabularEngine(Engine):
    """Answers every trial from a function, in the order of launching.

    A trial is charged the epochs of its fidelity, or those up to which it may train. Nothing is
    written to the store, so the loop is made with `trainer_results=False`.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        info: TaskInfo,
        slots: int = 1,
        derive: Derive = lambda job: (),
        batch: int = 1,
    ) -> None:
        """`info` is the answer of `describe`; `derive` gives what a supernet's choices lead to;
        `batch` is the number of candidates in a job."""
        self.slots, self.batch = slots, batch
        self._evaluate, self._derive = evaluate, derive
        self._info = info
        self._jobs: deque[TrialJob] = deque()
        """What is queued; the first without the candidates that have a result."""

    def describe(self, task: Task, training: Training, space: Space | None = None) -> TaskInfo:
        """The given description."""
        return self._info

    def launch(self, job: TrialJob) -> None:
        """Queue the trial."""
        if len(self._jobs) >= self.slots:
            raise RuntimeError("no slot is free")
        self._jobs.append(job)

    def running(self) -> dict[int, float]:
        """Queued trials; no time passes."""
        return {each.trial: 0.0 for job in self._jobs for each in job.members}

    @property
    def busy(self) -> int:
        """Queued jobs."""
        return len(self._jobs)

    def poll(self, timeout: float | None) -> Sequence[Event]:
        """The result of the first trial or candidate that was launched."""
        if not self._jobs:
            return ()
        job, *others = self._jobs.popleft().members
        if others:
            self._jobs.appendleft(others[0].with_also(others[1:]))
        until = job.fidelity.epochs if job.until is None else job.until
        metrics = self._evaluate(job)
        whole = until == job.fidelity.epochs
        result = TrialResult(
            trial=job.trial,
            attempt=job.attempt,
            outcome=Outcome.SUCCEEDED if whole else Outcome.STOPPED,
            metrics=metrics,
            cost=Cost(epochs=until),
            curve=(Point(epoch=until, metrics=metrics, device_seconds=0.0),) if until else (),
            kept_bytes=1 if job.supernet is not None else 0,
            derived=self._derive(job) if job.supernet is not None else (),
        )
        return (Finished(job.trial, result),)

    def stop(self, trial: int) -> None:
        """A look-up is never stopped."""

    def close(self) -> None:
        """Forget the queue."""
        self._jobs.clear()
