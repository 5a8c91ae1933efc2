"""The controller's connection to the cluster: everything asynchronous, in its own thread.

The loop runs in the main thread and declares the desired state. This module compares it with the
actual state, acts on differences, and passes events back through a queue.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import queue
import secrets
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from kinase.api import names
from kinase.api.trial import TrialJob
from kinase_controller.lease import Lease
from kinase_controller.trials import Seen, Wanted
from kinase_kube import client as kube
from kinase_kube.client import ApiError, Client, Conflict, NotFound, Object
from kinase_kube.informer import Informer, Key
from kinase_kube.workqueue import WorkQueue

log = logging.getLogger("kinase")

MANAGER = "kinase-controller"
"""Field manager of the controller's part of the status."""
WORKERS = 32
"""Maximum number of concurrent requests about trials."""
STATUS_SECONDS = 1.0
"""Minimum seconds between two writes of the experiment's status."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """The experiment that this process controls, and its own pod."""

    namespace: str
    experiment: str
    uid: str
    pod: str


@dataclass(frozen=True, slots=True)
class ExperimentSeen:
    """The fields of its experiment that the controller uses."""

    uid: str
    version: int
    generation: int
    deleting: bool
    body: Object

    @classmethod
    def of(cls, item: Object) -> ExperimentSeen:
        """From the API's object."""
        metadata = item["metadata"]
        return cls(
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            generation=int(metadata.get("generation", 0)),
            deleting="deletionTimestamp" in metadata,
            body=item,
        )


class Gone(Exception):
    """The experiment is deleted, or was replaced by another one of the same name."""


class ClusterIO:
    """Keeps the cluster in the loop's desired state, and reports ended attempts to the loop."""

    def __init__(self, identity: Identity) -> None:
        """Send nothing before `start`."""
        self.identity = identity
        self.ended: queue.SimpleQueue[tuple[Wanted, Seen]] = queue.SimpleQueue()
        """Attempts that have ended, each once."""
        self.lease_lost = threading.Event()
        self._wanted: dict[str, Wanted] = {}
        self._stops: set[str] = set()
        self._queue: WorkQueue[str]
        self._client: Client
        self._trials: Informer[Seen]
        self._experiments: Informer[ExperimentSeen]
        self._status: Object | None = None
        self._status_changed: asyncio.Event
        self._written: Object | None = None
        self._writing: asyncio.Lock
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cluster", daemon=True)
        self._tasks: list[asyncio.Task[Any]] = []
        self._emits: list[Future[None]] = []
        self._readers = ThreadPoolExecutor(8, thread_name_prefix="store")
        self.lease: Lease | None = None
        self._starting: Future[None] | None = None
        self._given_up = False
        self.wake: Callable[[], None] = lambda: None
        """Called whenever something is put into `ended`."""

    # -- start and stop, from the main thread ------------------------------------------

    def start(self) -> None:
        """Connect, and wait until this controller holds the lease and knows its trials.

        Raises:
            Gone: the experiment does not exist.
            CancelledError: `give_up` was called.
        """
        self._thread.start()
        self._starting = self.submit(self._start())
        if self._given_up:
            self._starting.cancel()
        self._starting.result()

    def give_up(self) -> None:
        """Stop the wait in `start`; called from a signal handler."""
        self._given_up = True
        if self._starting is not None:
            self._starting.cancel()

    def close(self) -> None:
        """Release the lease and close all connections."""
        if self._thread.is_alive():
            wait(self._emits, 5)  # including the last status
            try:
                self.call(self._stop(), 10)
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(5)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the cluster's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine in the cluster's thread and wait for it."""
        return self.submit(work).result(timeout)

    async def _start(self) -> None:
        me = self.identity
        self._client = await Client.connect(MANAGER)
        self._queue = WorkQueue()
        self._status_changed, self._writing = asyncio.Event(), asyncio.Lock()
        labels = f"{names.EXPERIMENT_UID}={me.uid}"
        self._trials = Informer(
            self._client,
            kube.TRIAL,
            Seen.of,
            self._trial_changed,
            namespace=me.namespace,
            selector=labels,
        )
        self._experiments = Informer(
            self._client,
            kube.EXPERIMENT,
            ExperimentSeen.of,
            self._experiment_changed,
            namespace=me.namespace,
            field_selector=f"metadata.name={me.experiment}",
        )
        name = names.controller_name(me.experiment)
        lease = self.lease = Lease(self._client, me.namespace, name, me.pod, self._owner())
        await lease.acquire()
        self._spawn(lease.renew(), self._lose)
        self._spawn(self._trials.run())
        self._spawn(self._experiments.run())
        await self._trials.synced.wait()
        await self._experiments.synced.wait()
        self.experiment()  # raises Gone
        for _ in range(WORKERS):
            self._spawn(self._work())
        self._spawn(self._write_status())

    def _spawn(
        self, work: Coroutine[Any, Any, None], then: Callable[[], None] | None = None
    ) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)

        def finished(done: asyncio.Task[None]) -> None:
            if done.cancelled():
                return
            if done.exception() is not None:
                log.error("a task of the cluster ended", exc_info=done.exception())
                self._lose()
            elif then is not None:
                then()

        task.add_done_callback(finished)

    def _lose(self) -> None:
        self.lease_lost.set()
        self.wake()

    async def _stop(self) -> None:
        if self.lease is None:
            return  # it has never connected
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._queue.close()
        try:
            await self.lease.release()
        except ApiError as error:
            log.info("the lease could not be released: %s", error)
        await self._client.close()

    def _owner(self) -> Object:
        return {
            "apiVersion": names.API_VERSION,
            "kind": "NASExperiment",
            "name": self.identity.experiment,
            "uid": self.identity.uid,
        }

    # -- the experiment ----------------------------------------------------------------

    def experiment(self) -> ExperimentSeen:
        """The current experiment; from any thread.

        Raises:
            Gone: it is deleted, or being deleted.
        """
        seen = self._experiments.items.get((self.identity.namespace, self.identity.experiment))
        if seen is None or seen.uid != self.identity.uid or seen.deleting:
            raise Gone(f"the experiment {self.identity.experiment} is gone")
        return seen

    def _experiment_changed(
        self, name: Key, before: ExperimentSeen | None, after: ExperimentSeen | None
    ) -> None:
        self.wake()

    # -- trials, from the main thread --------------------------------------------------

    def want(self, wanted: Wanted) -> None:
        """Request an attempt; its end is reported through `ended`."""
        self._loop.call_soon_threadsafe(self._want, wanted)

    def _want(self, wanted: Wanted) -> None:
        self._wanted[wanted.name] = wanted
        self._stops.discard(wanted.name)
        self._queue.add(wanted.name)

    def stop(self, name: str) -> None:
        """Stop an attempt at its next checkpoint."""
        self._loop.call_soon_threadsafe(self._stop_trial, name)

    def _stop_trial(self, name: str) -> None:
        if name in self._wanted:
            self._stops.add(name)
            self._queue.add(name)

    def forget_all(self) -> None:
        """Forget all requests. Running trials continue and are found again later."""

        async def forget() -> None:
            self._wanted.clear()
            self._stops.clear()

        self.call(forget())
        while not self.ended.empty():
            self.ended.get_nowait()

    def find(self, name: str) -> Seen | None:
        """The current view of a trial; from any thread."""
        return self._trials.items.get((self.identity.namespace, name))

    def by_number(self, number: int) -> Seen | None:
        """The trial with this number, but not its test; from any thread."""
        return self.find(names.trial_name(self.identity.experiment, number))

    def batches(self) -> dict[tuple[int, int], Seen]:
        """The trials that score several candidates, by number and attempt of each of those; from
        any thread."""
        items = list(self._trials.items.values())
        return {member: seen for seen in items if not seen.deleting for member in seen.members}

    def stops(self, name: str) -> bool:
        """Whether the trial should stop at its next checkpoint."""
        seen = self.find(name)
        return name in self._stops or (seen is not None and seen.stop)

    # -- trials, in the cluster's thread ---------------------------------------------------

    def _trial_changed(self, key: Key, before: Seen | None, after: Seen | None) -> None:
        wanted = self._wanted.get(key[1])
        if wanted is None:
            return
        if after is not None and after.ended and after.attempt >= wanted.attempt:
            self._over(wanted, after)  # immediately: it may soon be deleted by age
        else:
            self._queue.add(key[1])

    def _over(self, wanted: Wanted, seen: Seen) -> None:
        """Report the end of an attempt to the loop."""
        del self._wanted[wanted.name]
        self._stops.discard(wanted.name)
        self.ended.put((wanted, seen))
        self.wake()

    async def _work(self) -> None:
        while True:
            name = await self._queue.get()
            try:
                await self._reconcile(name)
                self._queue.forget(name)
            except ApiError as error:
                delay = self._queue.retry(name)
                log.warning("trial %s: %s; again in %.1f s", name, error, delay)
            except Exception:
                self._queue.retry(name)
                log.exception("trial %s", name)
            finally:
                self._queue.done(name)

    async def _reconcile(self, name: str) -> None:
        """Compare the desired with the actual state of a trial, and act on the difference."""
        wanted = self._wanted.get(name)
        if wanted is None:
            return
        me, seen = self.identity, self._trials.items.get((self.identity.namespace, name))
        if seen is None:
            body = wanted.body(me.experiment, me.uid, me.namespace, secrets.token_urlsafe(24))
            try:
                self._trials.observe(await self._client.create(kube.TRIAL, me.namespace, body))
            except Conflict:
                item = await self._client.get(kube.TRIAL, me.namespace, name)
                owners = item["metadata"].get("ownerReferences") or ()
                if not any(owner["uid"] == me.uid for owner in owners):
                    raise  # of an earlier experiment of this name, which is being deleted
                self._trials.observe(item)
            return
        if seen.deleting:
            return
        if seen.attempt < wanted.attempt:
            spec = {
                "attempt": wanted.attempt,
                "workers": wanted.workers,
                "candidates": wanted.candidates,
                "stop": False,
                "job": wanted.document(),
            }
            await self._patch(seen, spec)
        elif seen.ended:
            self._over(wanted, seen)
        elif name in self._stops and not seen.stop:
            await self._patch(seen, {"stop": True})

    async def _patch(self, seen: Seen, spec: Object) -> None:
        body = {"metadata": {"uid": seen.uid}, "spec": spec}
        item = await self._client.merge(kube.TRIAL, self.identity.namespace, seen.name, body)
        self._trials.observe(item)

    # -- status and events -------------------------------------------------------------

    def tell(self, status: Object, *, wait: bool = False) -> None:
        """Set the experiment's status. It is written soon, and only the latest one is written.

        Raises:
            Gone: with `wait`, the experiment no longer exists.
        """
        if wait:
            self.call(self._flush(status), 60)
        else:
            self._loop.call_soon_threadsafe(self._tell, status)

    def _tell(self, status: Object) -> None:
        self._status = status
        self._status_changed.set()

    async def _flush(self, status: Object) -> None:
        self._tell(status)
        delay = 0.1
        while self._written != status:
            try:
                await self._apply(status)
            except (Conflict, NotFound):
                raise Gone(f"the experiment {self.identity.experiment} is gone") from None
            except ApiError as error:
                log.warning("the status cannot be written: %s", error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, 5.0)

    async def _write_status(self) -> None:
        while True:
            await self._status_changed.wait()
            self._status_changed.clear()
            status = self._status
            if status is None or status == self._written:
                continue
            try:
                await self._apply(status)
            except (Conflict, NotFound):
                continue  # it is deleted, or another one of this name
            except ApiError as error:
                log.warning("the status cannot be written: %s", error)
                self._status_changed.set()
            await asyncio.sleep(STATUS_SECONDS)

    async def _apply(self, status: Object) -> None:
        me = self.identity
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "NASExperiment",
            "metadata": {"name": me.experiment, "uid": me.uid},
            "status": status,
        }
        async with self._writing:  # two concurrent writes could overtake each other
            item = await self._client.apply(
                kube.EXPERIMENT,
                me.namespace,
                me.experiment,
                body,
                manager=MANAGER,
                subresource="status",
            )
            self._written = status
        self._experiments.observe(item)

    def emit(self, kind: str, reason: str, message: str) -> None:
        """Record an Event about the experiment. A repeated Event is recorded only once."""
        under_way = [said for said in self._emits if not said.done()]
        self._emits = [*under_way, self.submit(self._emit(kind, reason, message))]

    async def _emit(self, kind: str, reason: str, message: str) -> None:
        me, now = self.identity, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        digest = hashlib.sha256(f"{me.uid}{reason}{message}".encode()).hexdigest()[:16]
        body = {
            "metadata": {"name": f"{me.experiment}.{digest}", "namespace": me.namespace},
            "involvedObject": {**self._owner(), "namespace": me.namespace},
            "type": kind,
            "reason": reason,
            "message": message[:1000],
            "source": {"component": MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._client.create(kube.EVENT, me.namespace, body)
        except ApiError as error:
            if not isinstance(error, Conflict):
                log.info("event %s: %s", reason, error)

    @property
    def readers(self) -> ThreadPoolExecutor:
        """Threads that read the store while the loop runs."""
        return self._readers


def job_of(wanted: Wanted) -> TrialJob | None:
    """The trial's job, or None for a request to describe the task."""
    return wanted.job if isinstance(wanted.job, TrialJob) else None
