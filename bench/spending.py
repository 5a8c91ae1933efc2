"""Trainings that are charged by the epoch, for searches of whatever library.

`Purse` trains candidates in this process and keeps the value after each epoch that was paid for.
`InProcess` is the engine that lets Kinase's own loop spend it.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kinase.api.experiment import NASExperiment
from kinase.api.fidelity import Fidelity
from kinase.api.space import Space
from kinase.api.task import Task, Training
from kinase.api.trial import Architecture, Cost, Kind, Outcome, TaskInfo, TrialJob, TrialResult
from kinase.engine import Engine, Event, Finished
from kinase.experiment.seeds import Stream, derive
from kinase.store import Store
from kinase.store.memory import MemoryStore
from kinase_trainer import trial

METRIC = "val_accuracy"
TEST = "test_accuracy"


class Spent(Exception):
    """No epoch is left."""


@dataclass
class _Training:
    """One training from scratch, as far as it has come."""

    store: MemoryStore = field(default_factory=MemoryStore)
    result: TrialResult | None = None
    attempts: int = 0


class Trainings:
    """Trainings by architecture and seed. Two searches that pay for the same one compute it once:
    a pause changes no bit of a training."""

    def __init__(self) -> None:
        """Nothing is trained."""
        self._kept: dict[str, _Training] = {}
        self.tested: dict[str, dict[str, float]] = {}
        """What networks that were retrained measured, by architecture and seed."""

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.tested.clear()

    def run(self, job: TrialJob) -> TrialResult:
        """The result of a job without inheritance, up to `job.last_epoch`; its cost is that of all
        its epochs."""
        key = json.dumps([job.architecture, job.seed, job.fidelity.epochs], sort_keys=True)
        kept = self._kept.setdefault(key, _Training())
        until = job.last_epoch
        found = kept.result
        if found is None or (found.outcome is Outcome.STOPPED and len(found.curve) < until):
            kept.attempts += 1
            update = {
                "trial": 0,
                "attempt": kept.attempts,
                "prefix": "trials/00000",
                "done": 0 if found is None else len(found.curve),
            }
            found = kept.result = trial.run(job.model_copy(update=update), kept.store)
        if found.curve and len(found.curve) > until:
            metrics = found.curve[until - 1].metrics
            shorter = {"outcome": Outcome.STOPPED, "metrics": metrics, "message": ""}
            cost = Cost(epochs=until)
            found = found.model_copy(update={**shorter, "curve": found.curve[:until], "cost": cost})
        return found.model_copy(update={"trial": job.trial, "attempt": job.attempt})


@dataclass(frozen=True)
class Seen:
    """A value that was measured."""

    value: float
    epochs: int
    """Of the training, up to there."""
    number: int
    architecture: Architecture


class Purse:
    """A number of epochs, and what they were spent on."""

    def __init__(
        self, experiment: NASExperiment, epochs: int, trainings: Trainings, task: dict[str, Any]
    ) -> None:
        """Epochs to train candidates as the experiment says.

        Args:
            experiment: says how candidates are trained.
            epochs: that may be spent.
            trainings: of all searches.
            task: the manifest's.
        """
        self.task = task
        self._spec = experiment.spec
        self._name = experiment.metadata.name
        self.epochs = epochs
        self.trainings = trainings
        self.seen: list[Seen] = []
        """After each epoch that was charged. A training that diverged measures 0."""

    @property
    def left(self) -> int:
        """Epochs that are left."""
        return self.epochs - len(self.seen)

    def charge(self, job: TrialJob, result: TrialResult, done: int) -> None:
        """Pay for the epochs of a result after the first `done`."""
        values = [point.metrics.get(METRIC, 0.0) for point in result.curve[done:]]
        begun = max(len(values), result.cost.epochs - done)  # an epoch that diverged has no point
        values += [0.0] * (begun - len(values))
        for index, value in enumerate(values):
            value = value if math.isfinite(value) else 0.0
            self.seen.append(Seen(value, done + index + 1, job.trial, job.architecture))

    def job(self, number: int, architecture: Architecture, until: int, **more: Any) -> TrialJob:
        """A training from scratch; seeds of trials are those of Kinase's own searches."""
        spec = self._spec
        epochs = spec.training.epochs
        document = {
            "experiment": self._name,
            "trial": number,
            "task": spec.task,
            "training": spec.training,
            "space": spec.space,
            "architecture": architecture,
            "fidelity": Fidelity(epochs=epochs),
            "seed": derive(spec.seed, Stream.TRAINING, number),
            "prefix": f"trials/{number:05d}",
            "until": None if until >= epochs else until,
            **more,
        }
        return TrialJob.model_validate(document)

    def train(
        self, number: int, architecture: Architecture, until: int, done: int = 0
    ) -> list[float]:
        """Train a candidate on, from the epoch `done` to `until`; the values after the new epochs.
        Nothing for a network that cannot be built, zeros where the training diverged.

        Raises:
            Spent: the epochs do not suffice; those that are left were trained.
        """
        last = min(until, done + self.left)
        if last <= done:
            raise Spent
        job = self.job(number, architecture, last)
        result = self.trainings.run(job)
        before = len(self.seen)
        if result.outcome is not Outcome.INFEASIBLE:
            self.charge(job, result, done)
        if last < until:
            raise Spent
        return [seen.value for seen in self.seen[before:]]

    def best(self, share: float) -> float:
        """The best value that a share of the epochs has measured."""
        count = round(share * self.epochs)
        return max((seen.value for seen in self.seen[:count]), default=0.0)

    def incumbent(self) -> Seen:
        """The network with the best value. Of equal ones that which was trained longest, then the
        first."""
        return max(self.seen, key=lambda seen: (seen.value, seen.epochs))

    def test(self, architecture: Architecture) -> dict[str, float]:
        """Retrain a network in full, with another seed, and score it on the test part."""
        seed = derive(self._spec.seed, Stream.FINAL)
        key = json.dumps([architecture, seed], sort_keys=True)
        if (known := self.trainings.tested.get(key)) is not None:
            return known
        store, epochs = MemoryStore(), self._spec.training.epochs
        job = self.job(0, architecture, epochs, kind=Kind.FINAL, seed=seed, keep_weights=True)
        result = trial.run(job, store)
        tested = trial.run(job.model_copy(update={"test": True, "attempt": 2}), store)
        found = self.trainings.tested[key] = {**result.metrics, **tested.metrics}
        return found


class InProcess(Engine):
    """Trials of Kinase's loop, one at a time and in this process."""

    slots = 1

    def __init__(self, purse: Purse, store: Store) -> None:
        """Its trials are paid for by a purse; `store` is the experiment's."""
        self._purse = purse
        self._store = store
        self._jobs: deque[TrialJob] = deque()

    def describe(self, task: Task, training: Training, space: Space | None = None) -> TaskInfo:
        """The trainer's description."""
        return trial.describe(task, training, space, self._store)

    def launch(self, job: TrialJob) -> None:
        """Queue the trial."""
        self._jobs.append(job)

    def running(self) -> dict[int, float]:
        """Queued trials; time is not counted."""
        return dict.fromkeys((job.trial for job in self._jobs), 0.0)

    def poll(self, timeout: float | None) -> Sequence[Event]:
        """Run the trial that was launched first. What is shared between searches is all that
        depends on the architecture and the seed alone."""
        if not self._jobs:
            return ()
        job = self._jobs.popleft()
        shared = job.inherit is None and not job.keep_weights and not job.test
        result = self._purse.trainings.run(job) if shared else trial.run(job, self._store)
        if job.kind is Kind.SEARCH and result.outcome is not Outcome.INFEASIBLE:
            self._purse.charge(job, result, job.done)
        return (Finished(job.trial, result),)

    def stop(self, trial: int) -> None:
        """A trial that was polled has ended."""

    def close(self) -> None:
        """Forget the queue."""
        self._jobs.clear()
