"""The engine `kubernetes`: trials are `NASTrial` resources, for which the operator creates pods."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
import time
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime

from pydantic import ValidationError

from kinase.api import TrialPhase, limits
from kinase.api.space import Space
from kinase.api.task import Task, Training
from kinase.api.trial import (
    MAX_ATTEMPTS,
    Outcome,
    Point,
    TaskInfo,
    TaskJob,
    TrialJob,
    TrialResult,
)
from kinase.engine import Engine, EngineError, Event, Finished, Lost, Progress
from kinase.store import NotFound, Store, TooLarge
from kinase_controller.cluster_io import ClusterIO, Gone, job_of
from kinase_controller.trials import Seen, Wanted, lost

MANY = 10_000
"""Slots of a cluster: only the manifest limits how many trials run at the same time."""


class Interrupted(Exception):
    """The wait is pointless: the manifest has changed, or another controller has taken over."""


class KubernetesEngine(Engine):
    """Runs trials on the cluster. Creating a trial twice is harmless, so after a restart the engine
    just requests its trials again."""

    slots = MANY

    def __init__(self, cluster: ClusterIO, store: Store) -> None:
        """Run trials through `cluster`; read results from the experiment's store."""
        self._cluster, self._store = cluster, store
        self._running: dict[int, Wanted] = {}
        self._began: dict[int, float] = {}
        self._asked: dict[int, datetime] = {}
        self._looked = 0.0
        self._resting: dict[int, Wanted] = {}
        """Attempts that rest, and whose pods wait to be continued."""
        self._held: set[int] = set()
        """Those of them whose rest the loop knows of."""
        self._events: queue.SimpleQueue[tuple[Wanted, Event | Future[Event | None]]] = (
            queue.SimpleQueue()
        )
        self._awake = threading.Event()
        self.waits: Callable[[Seen | None], None] = lambda seen: None
        """Called periodically with the state of the task's description while waiting for it. An
        exception ends the wait."""
        self.queued: Callable[[float], None] = lambda seconds: None
        """Called with the seconds that an attempt waited for its pod to start."""
        cluster.wake = self._awake.set

    def describe(self, task: Task, training: Training, space: Space | None = None) -> TaskInfo:
        """Ask the trainer to describe the task, in a pod with its image.

        Raises:
            EngineError: the trainer failed; the message is its own.
            Interrupted: the wait is pointless.
        """
        experiment = self._cluster.experiment()
        # a separate request for each task and trainer: both can change before the search starts
        given = {
            field: experiment.body["spec"].get(field) for field in ("trialTemplate", "storage")
        }
        text = f"{task.model_dump_json()}{training.model_dump_json()}{json.dumps(given)}"
        if space is not None:
            text += space.model_dump_json()
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        job = TaskJob(
            experiment=self._cluster.identity.experiment,
            task=task,
            training=training,
            space=space,
            key=f"trainer-{digest}.json",
        )
        try:
            return TaskInfo.model_validate_json(self._store.get(job.key, limits.RESULT))
        except (NotFound, TooLarge, ValidationError):
            pass
        attempt, name = 1, Wanted.of(job.experiment, job).name
        before = self._cluster.find(name)
        if before is not None:  # this one has ended without an answer; another request is obsolete
            attempt = before.attempt + (before.ended or before.answer != job.key)
        if attempt > MAX_ATTEMPTS:
            raise EngineError(
                f"the trainer was asked {MAX_ATTEMPTS} times; delete the NASTrial {name} to have "
                "it asked again"
            )
        wanted = Wanted.of(job.experiment, job, attempt)
        self._cluster.want(wanted)
        while True:
            self._awake.wait(1.0)
            self._awake.clear()
            self._check(experiment.generation)
            self.waits(self._cluster.find(wanted.name))
            while not self._cluster.ended.empty():
                ended, seen = self._cluster.ended.get_nowait()
                if ended == wanted:
                    return self._told(seen, job)

    def _told(self, seen: Seen, job: TaskJob) -> TaskInfo:
        try:
            return TaskInfo.model_validate_json(self._store.get(job.key, limits.RESULT))
        except NotFound:
            end = lost(seen)
            what = "cannot serve the task" if end.crash else "could not be asked about the task"
            raise EngineError(f"the trainer {what}: {end.message}") from None
        except (TooLarge, ValidationError) as error:
            raise EngineError(f"invalid description of the task by the trainer: {error}") from None

    def _check(self, generation: int) -> None:
        if self._cluster.lease_lost.is_set():
            raise Interrupted("another controller has taken over")
        if self._cluster.experiment().generation != generation:
            raise Interrupted("the manifest has changed")

    def launch(self, job: TrialJob) -> None:
        """Request an attempt; an existing one continues."""
        wanted = self._test(job) if job.test else Wanted.of(job.experiment, job)
        before = self._resting.pop(job.trial, None)
        self._held.discard(job.trial)
        self._running[job.trial] = wanted
        if before is not None and before.attempt == wanted.attempt:
            self._began[job.trial] = time.monotonic()  # its pod hears of it at its next post
        else:
            self._began.pop(job.trial, None)
            self._asked[job.trial] = datetime.now(UTC)
        self._cluster.want(wanted)

    def _test(self, job: TrialJob) -> Wanted:
        """Attempts of the test are not in the journal; they are counted on the cluster."""
        wanted = Wanted.of(job.experiment, job)
        before = self._cluster.find(wanted.name)
        if before is None:
            return wanted
        failed = before.ended and isinstance(self._outcome(wanted, before), Lost)
        attempt = max(job.attempt, before.attempt + failed)
        if attempt > MAX_ATTEMPTS:
            raise EngineError(
                f"the winner's test was tried {MAX_ATTEMPTS} times; delete the NASTrial "
                f"{wanted.name} to have it tried again"
            )
        return Wanted.of(job.experiment, job.model_copy(update={"attempt": attempt}))

    def adopt(self, job: TrialJob) -> bool:
        """Whether the trial exists on the cluster; then its attempt continues or starts there."""
        wanted = Wanted.of(job.experiment, job)
        seen = self._cluster.find(wanted.name)
        if seen is None:
            return False
        self.launch(job)
        if seen.started and seen.reported == wanted.attempt:
            del self._asked[job.trial]  # an earlier process saw it start
        elif seen.created and wanted.attempt == 1:
            self._asked[job.trial] = seen.created
        return True

    def running(self) -> dict[int, float]:
        """Current trials with the seconds that their pods have run. A pod that waits for a node or
        in a queue does not use a device yet."""
        now = time.monotonic()
        return {number: now - self._began.get(number, now) for number in self._running}

    def waiting(self) -> list[Seen]:
        """Current trials that wait according to the operator, by number."""
        found = []
        for _, wanted in sorted(self._running.items()):
            seen = self._cluster.find(wanted.name)
            if seen is not None and seen.reported == wanted.attempt and seen.waits:
                found.append(seen)
        return found

    def _look(self) -> None:
        """Check periodically which trials have started."""
        now = time.monotonic()
        if now - self._looked < 1.0:
            return
        self._looked = now
        for number, wanted in self._running.items():
            seen = self._cluster.find(wanted.name) if number not in self._began else None
            if seen is not None and seen.started and seen.reported == wanted.attempt:
                held = (datetime.now(UTC) - seen.started).total_seconds()
                self._began[number] = now - max(0.0, held)
                self._count_wait(wanted, seen)

    def _count_wait(self, wanted: Wanted, seen: Seen) -> None:
        """Report once how long a started attempt waited."""
        asked = self._asked.pop(wanted.number, None)
        if asked and seen.started and seen.reported == wanted.attempt:
            self.queued(max(0.0, (seen.started - asked).total_seconds()))

    def poll(self, timeout: float | None) -> Sequence[Event]:
        """Wait for ended attempts, and for points of running trials.

        Raises:
            StoreError: a result cannot be read.
            Interrupted: another controller has taken over.
            Gone: the experiment is deleted.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        found: list[Event] = []
        self._look()
        while True:
            if self._cluster.lease_lost.is_set():
                raise Interrupted("another controller has taken over")
            self._cluster.experiment()
            while not self._cluster.ended.empty():
                wanted, seen = self._cluster.ended.get_nowait()
                running = self._ended(wanted)
                if running is not None:
                    self._count_wait(wanted, seen)
                    # results are read in parallel, and reported in the order in which the attempts
                    # ended
                    read: Future[Event | None]
                    read = self._cluster.readers.submit(self._outcome, wanted, seen)
                    self._events.put((running, read))
            while not self._events.empty():
                running, told = self._events.get_nowait()
                event = told.result() if isinstance(told, Future) else told
                if event is None:
                    continue
                if not isinstance(event, Progress):
                    if self._running.get(event.trial) is not running:
                        continue  # both its rest and the end of its pod report a stretch
                    self._running.pop(event.trial, None)
                    self._began.pop(event.trial, None)
                    if event.trial in self._resting:
                        self._held.add(event.trial)
                found.append(event)
            left = None if deadline is None else deadline - time.monotonic()
            if found or (left is not None and left <= 0):
                return found
            self._awake.wait(left if left is not None else 1.0)
            self._awake.clear()

    def _ended(self, wanted: Wanted) -> Wanted | None:
        """The request of an attempt whose pod has ended; None if its end is no news, because it
        rested and was not continued."""
        job = job_of(wanted)
        if job is None:
            return None
        self._held.discard(job.trial)
        self._resting.pop(job.trial, None)
        running = self._running.get(job.trial)
        if running is None:
            return None
        same = (running.name, running.attempt) == (wanted.name, wanted.attempt)
        return running if same else None

    def rests(self, number: int, epoch: int) -> bool | int | None:
        """Whether a trial continues whose pod has left its result after an epoch, and waits. Called
        from the endpoint's thread.

        Returns:
            The epoch up to which it continues, False if it ends, None if that is undecided.
        """
        wanted = self._running.get(number)
        if wanted is None:
            return None if number in self._resting else False
        job, seen = job_of(wanted), self._cluster.find(wanted.name)
        if job is None or seen is None or seen.attempt != wanted.attempt or seen.stop:
            return False
        if job.last_epoch > epoch:
            return job.last_epoch
        template = self._cluster.experiment().body["spec"].get("trialTemplate") or {}
        if template.get("timeLimit") is not None:
            return False  # it limits an attempt, so each stretch is one
        if template.get("workers", 1) != job.workers:
            return False  # a network that was only measured; it is trained in other pods
        if number not in self._resting:
            self._resting[number] = wanted
            self._events.put((wanted, self._cluster.readers.submit(self._rest, wanted, seen)))
            self._awake.set()
        return None

    def _rest(self, wanted: Wanted, seen: Seen) -> Event | None:
        event = self._outcome(wanted, seen)
        return event if isinstance(event, Finished) else None

    def holds(self, trial: int) -> bool:
        """Whether the pod of a trial that rests waits for an answer."""
        return trial in self._held

    def release(self, undecided: Container[int] = ()) -> None:
        """Answer the pods that were not continued that they end."""
        for number in [each for each in self._held if each not in undecided]:
            self._resting.pop(number, None)
            self._held.discard(number)

    def _outcome(self, wanted: Wanted, seen: Seen) -> Event:
        """The result in the store decides how an attempt ended."""
        try:
            text = self._store.get(wanted.result, limits.RESULT)
            result = TrialResult.model_validate_json(text)
            # a stopped attempt writes a result too, and the next attempt continues from its
            # checkpoint
            whole = result.outcome is not Outcome.STOPPED or result.attempt == wanted.attempt
            job = job_of(wanted)
            short = job is not None and len(result.curve) < job.last_epoch
            if result.outcome is Outcome.STOPPED and short and seen.phase == TrialPhase.FAILED:
                return lost(seen)  # the result is that of an earlier rest of this attempt
            if result.trial == wanted.number and whole:
                return Finished(wanted.number, result)
        except TooLarge as error:
            return lost(seen, f"the trainer left no valid result of this trial: {error}")
        except (NotFound, ValidationError):
            pass
        return lost(seen)

    def post(self, number: int, point: Point) -> bool:
        """Record a point of a running trial, from the endpoint's thread; return whether the trial
        should continue."""
        held = self._running.get(number)
        if held is None:
            return True
        self._events.put((held, Progress(number, point)))
        self._awake.set()
        return not self._cluster.stops(held.name)

    def stop(self, trial: int) -> None:
        """Stop the trial at its next checkpoint."""
        held = self._running.get(trial)
        if held is not None:
            self._cluster.stop(held.name)

    def close(self) -> None:
        """Forget all requests. Trials on the cluster continue, and a later process finds them."""
        self._cluster.forget_all()
        self._running.clear()
        self._resting.clear()
        self._held.clear()
        self._began.clear()
        self._asked.clear()


__all__ = ["Gone", "Interrupted", "KubernetesEngine"]
