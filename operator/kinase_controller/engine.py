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
from kinase.api.supernet import MOST_ALSO
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
from kinase_controller.trials import Seen, Wanted, ends, lost, result_key

MANY = 10_000
"""Slots of a cluster: only the manifest limits how many trials run at the same time."""


class Interrupted(Exception):
    """The wait is pointless: the manifest has changed, or another controller has taken over."""


class KubernetesEngine(Engine):
    """Runs trials on the cluster. Creating a trial twice is harmless, so after a restart the engine
    just requests its trials again."""

    slots = MANY
    batch = MOST_ALSO

    def __init__(self, cluster: ClusterIO, store: Store) -> None:
        """Run trials through `cluster`; read results from the experiment's store."""
        self._cluster, self._store = cluster, store
        self._running: dict[int, Wanted] = {}
        """By number of the trial; candidates of one attempt have the same."""
        self._began: dict[int, float] = {}
        """By number of the attempt's first trial, as `_asked`."""
        self._asked: dict[int, datetime] = {}
        self._batches: dict[tuple[int, int], Seen] | None = None
        """What an earlier process launched, while it is adopted."""
        self._looked = 0.0
        self._resting: dict[int, Wanted] = {}
        """Attempts that rest, and whose pods wait to be continued."""
        self._held: set[int] = set()
        """Those of them whose rest the loop knows of."""
        self._events: queue.SimpleQueue[
            tuple[Wanted, Sequence[Event] | Future[Sequence[Event]]]
        ] = queue.SimpleQueue()
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
        for member in wanted.members:
            self._running[member.trial] = wanted
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
        failed = before.ended and isinstance(self._outcome(wanted, before)[0], Lost)
        attempt = max(job.attempt, before.attempt + failed)
        if attempt > MAX_ATTEMPTS:
            raise EngineError(
                f"the winner's test was tried {MAX_ATTEMPTS} times; delete the NASTrial "
                f"{wanted.name} to have it tried again"
            )
        return Wanted.of(job.experiment, job.model_copy(update={"attempt": attempt}))

    def adopt(self, job: TrialJob) -> bool:
        """Whether the trial exists on the cluster, or is one of the candidates of another; then its
        attempt continues or starts there."""
        if self._batches is None:
            self._batches = self._cluster.batches()
        batch = self._batches.get((job.trial, job.attempt))
        if batch is not None:
            self._join(job, batch)
            return True
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

    def _join(self, job: TrialJob, seen: Seen) -> None:
        """Expect a candidate's result from a trial that scores several."""
        others = [w for w in self._running.values() if w.name == seen.name]
        whole = job if not others or not others[0].members else others[0].job
        if isinstance(whole, TrialJob) and whole is not job:
            whole = whole.with_also([job])
        wanted = Wanted(seen.name, seen.number, seen.kind, seen.attempt, whole)
        for member in wanted.members:
            self._running[member.trial] = wanted
        if not seen.started or seen.reported != seen.attempt:
            self._asked[seen.number] = seen.created or datetime.now(UTC)
        self._cluster.want(wanted)

    def running(self) -> dict[int, float]:
        """Current trials with the seconds that their pods have run. A pod that waits for a node or
        in a queue does not use a device yet. The seconds of a pod that scores several candidates
        are those of the first."""
        now = time.monotonic()
        found, counted = {}, set()
        for number, wanted in self._running.items():
            began = now if wanted.name in counted else self._began.get(wanted.number, now)
            counted.add(wanted.name)
            found[number] = now - began
        return found

    @property
    def busy(self) -> int:
        """Attempts under way."""
        return len({wanted.name for wanted in self._running.values()})

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
        for wanted in {each.name: each for each in self._running.values()}.values():
            new = wanted.number not in self._began
            seen = self._cluster.find(wanted.name) if new else None
            if seen is not None and seen.started and seen.reported == wanted.attempt:
                held = (datetime.now(UTC) - seen.started).total_seconds()
                self._began[wanted.number] = now - max(0.0, held)
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
        self._batches = None
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
                    read = self._cluster.readers.submit(self._outcome, running, seen)
                    self._events.put((running, read))
            while not self._events.empty():
                running, told = self._events.get_nowait()
                for event in told.result() if isinstance(told, Future) else told:
                    if isinstance(event, Progress) or self._over(running, event.trial):
                        found.append(event)
            left = None if deadline is None else deadline - time.monotonic()
            if found or (left is not None and left <= 0):
                return found
            self._awake.wait(left if left is not None else 1.0)
            self._awake.clear()

    def _over(self, running: Wanted, number: int) -> bool:
        """Note the end of a trial's stretch; False if it is no news: both a rest and the end of the
        pod report a stretch."""
        if self._running.get(number) is not running:
            return False
        del self._running[number]
        if not any(each is running for each in self._running.values()):
            self._began.pop(running.number, None)
        if number in self._resting:
            self._held.add(number)
        return True

    def _ended(self, wanted: Wanted) -> Wanted | None:
        """The request of an attempt whose pod has ended; None if its end is no news, because it
        rested and was not continued."""
        job = job_of(wanted)
        if job is None:
            return None
        self._held.discard(job.trial)
        self._resting.pop(job.trial, None)
        for member in job.members:
            running = self._running.get(member.trial)
            if running is not None:
                same = (running.name, running.attempt) == (wanted.name, wanted.attempt)
                return running if same else None
        return None

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

    def _rest(self, wanted: Wanted, seen: Seen) -> Sequence[Event]:
        return [each for each in self._outcome(wanted, seen) if isinstance(each, Finished)]

    def holds(self, trial: int) -> bool:
        """Whether the pod of a trial that rests waits for an answer."""
        return trial in self._held

    def release(self, undecided: Container[int] = ()) -> None:
        """Answer the pods that were not continued that they end."""
        for number in [each for each in self._held if each not in undecided]:
            self._resting.pop(number, None)
            self._held.discard(number)

    def _outcome(self, wanted: Wanted, seen: Seen) -> Sequence[Event]:
        """The results in the store decide how an attempt ended, for each of its trials."""
        return ends(seen, [(each, self._left(each, seen)) for each in wanted.members])

    def _left(self, job: TrialJob, seen: Seen) -> TrialResult | str:
        """The result that an attempt has left of a trial, or why it has left none."""
        try:
            text = self._store.get(result_key(job), limits.RESULT)
            result = TrialResult.model_validate_json(text)
        except TooLarge as error:
            return f"the trainer left no valid result of this trial: {error}"
        except (NotFound, ValidationError):
            return ""
        if result.outcome is Outcome.STOPPED:
            # a stopped attempt writes a result too, and the next attempt continues from its
            # checkpoint
            if result.attempt != job.attempt:
                return ""
            if len(result.curve) < job.last_epoch and seen.phase == TrialPhase.FAILED:
                return ""  # the result is that of an earlier rest of this attempt
        return result if result.trial == job.trial else ""

    def post(self, number: int, point: Point) -> bool:
        """Record a point of a running trial, from the endpoint's thread; return whether the trial
        should continue."""
        held = self._running.get(number)
        if held is None:
            return True
        self._events.put((held, [Progress(number, point)]))
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
        self._batches = None


__all__ = ["Gone", "Interrupted", "KubernetesEngine"]
