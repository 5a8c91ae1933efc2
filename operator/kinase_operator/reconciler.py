"""The operator's main loop: observe, plan, carry out the actions, and repeat.

Nothing depends on seeing every event: an event only says which key to reconcile. Decisions are
based on the caches; if certainty is needed (that an experiment no longer exists), the API server is
asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from kinase.api import NASExperiment, names
from kinase_kube import client as kube
from kinase_kube.client import (
    ApiError,
    Client,
    Forbidden,
    Invalid,
    NotFound,
    Unavailable,
)
from kinase_kube.informer import Informer
from kinase_kube.workqueue import WorkQueue
from kinase_operator import experiments, trials
from kinase_operator.actions import (
    Action,
    Correct,
    Create,
    Delete,
    Emit,
    ExperimentStatus,
    TrialStatus,
)
from kinase_operator.cache import Cache, Key
from kinase_operator.metrics import Metrics
from kinase_operator.settings import Settings
from kinase_operator.views import Experiment, Job, Pod, Trial
from kinase_operator.writing import Writer

log = logging.getLogger("kinase")

EVENTS = {"experiment": (2.0, 10.0), "trial": (10.0, 60.0)}
"""Seconds that a Job can be without a pod before its Events are read, and between two reads: rarely
for trials, because thousands can be waiting."""

FRESH = 5.0
"""Seconds after the creation of a trial within which its first Job is created without another
check."""


class Reconciler:
    """Reconciles the experiments and trials in some namespaces, or in all."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        metrics: Metrics,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read and write nothing before `start`."""
        self.client, self.settings, self.metrics, self._now = client, settings, metrics, clock
        self.queue: WorkQueue[Key] = WorkQueue(
            waited=lambda key, seconds: metrics.waited(key[0], seconds)
        )
        self.cache = Cache(client, settings, self.queue.add)
        self.writer = Writer(client, self.cache, metrics, clock)
        self._tasks: list[asyncio.Task[None]] = []
        self.ready = asyncio.Event()

    # -- start and stop ----------------------------------------------------------------

    async def start(self) -> None:
        """Start to list and watch; reconciliation starts once every cache is filled."""
        informers = self.cache.informers()
        self._tasks = [asyncio.create_task(informer.run()) for informer in informers]
        self._tasks.append(asyncio.create_task(self._work_when_synced(informers)))

    async def _work_when_synced(self, informers: list[Informer[Any]]) -> None:
        for informer in informers:
            await informer.synced.wait()
        self.ready.set()
        workers = [asyncio.create_task(self._work()) for _ in range(self.settings.workers)]
        self._tasks += workers
        self._tasks.append(asyncio.create_task(self._resync()))

    async def stop(self) -> None:
        """Stop everything. The next operator repeats unfinished work."""
        self.queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def failure(self) -> BaseException | None:
        """The error of a failed background task; the liveness probe then fails."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        return None

    async def _resync(self) -> None:
        """Periodically compare the cache of experiments with the API server, to catch missed
        events, above all deletions."""
        while True:
            await asyncio.sleep(self.settings.resync)
            for scope in self.cache.scopes:
                try:
                    items, version = await self.client.list(kube.EXPERIMENT, scope)
                except ApiError as error:
                    log.warning("experiments cannot be listed: %s", error)
                    continue
                found = set()
                for item in items:
                    view = Experiment.of(item)
                    found.add((view.namespace, view.name))
                    self.cache.experiment_changed("MODIFIED", item)
                    if not view.finished and not view.suspend:
                        self.queue.add(("experiment", view.namespace, view.name))
                for name, view in list(self.cache.experiments.items()):
                    mine = scope is None or name[0] == scope
                    if mine and name not in found and view.version <= int(version):
                        self.cache.gone(view)

    def measure(self) -> None:
        """Update the metrics for a scrape."""
        self.metrics.queue.set(len(self.queue))
        trials = (view for informer in self.cache.trials for view in informer.items.values())
        pods = (view for informer in self.cache.pods for view in informer.items.values())
        self.metrics.see(self.cache.experiments.values(), trials, pods)

    # -- work --------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            began = time.perf_counter()
            outcome = "ok"
            try:
                await self._reconcile(key)
                self.queue.forget(key)
            except Unavailable as error:
                outcome = "unavailable"
                delay = self.queue.retry(key)
                log.warning("%s %s/%s: %s; again in %.1f s", *key, error, delay)
            except (Forbidden, Invalid) as error:
                outcome = "refused"
                self._refused(key, error)
            except ApiError as error:
                # the cache was outdated: the next reconciliation, soon, sees the actual state
                outcome = "conflict"
                self.queue.retry(key)
                log.info("%s %s/%s: %s", *key, error)
            except Exception:
                outcome = "error"
                self.queue.retry(key)
                log.exception("%s %s/%s", *key)
            finally:
                self.queue.done(key)
                self.metrics.reconciled(key[0], outcome, time.perf_counter() - began)

    def _refused(self, key: Key, error: ApiError) -> None:
        """Store the API server's message for the status, and retry later."""
        if "being terminated" in error.message:
            return  # the namespace is being deleted, with everything in it
        delay = self.queue.retry(key)
        log.warning("%s %s/%s: %s; again in %.1f s", *key, error, delay)

    async def _reconcile(self, key: Key) -> None:
        kind, namespace, name = key
        if kind == "experiment":
            await self._reconcile_experiment(key, namespace, name)
        else:
            await self._reconcile_trial(key, namespace, name)

    # -- experiments -------------------------------------------------------------------

    async def _reconcile_experiment(self, key: Key, namespace: str, name: str) -> None:
        view = self.cache.experiments.get((namespace, name))
        if view is None:
            self.cache.refusals.pop(key, None)
            await self._remove_orphans(namespace, name)
            return
        seen = await self._observe_experiment(key, view)
        actions = experiments.plan(seen, self.settings)
        if any(
            isinstance(a, Create | Correct | Delete) for a in actions
        ) and not await self._is_known(view):
            return
        try:
            await self._act(key, view, actions)
        except (Forbidden, Invalid) as error:
            if "being terminated" not in error.message:
                self.cache.refusals[key] = _reason(error), error.message
                told = replace(seen, refusal=self.cache.refusals[key])
                await self._act(
                    key,
                    view,
                    [
                        a
                        for a in experiments.plan(told, self.settings)
                        if isinstance(a, ExperimentStatus | Emit)
                    ],
                )
            raise
        if self.cache.refusals.pop(key, None) is not None:
            self.queue.add(key)  # it is resolved

    async def _observe_experiment(self, key: Key, view: Experiment) -> experiments.Observed:
        name = (view.namespace, names.controller_name(view.name))
        job, children = self.cache.children_of(view.namespace, view.name)
        pods = self.cache.pods_of(view.uid, name, self._now())
        refusal = self.cache.refusals.get(key) or await self._why_no_pod(key, job, pods)
        busy = view.suspend and self.cache.busy(view, self._now())
        return experiments.Observed(
            view, self.cache.manifest(view), children, job, pods, refusal, self._now(), busy
        )

    async def _remove_orphans(self, namespace: str, name: str) -> None:
        """Delete the children of an experiment that no longer exists."""
        left = experiments.orphans(*self.cache.children_of(namespace, name))
        if not left:
            return
        try:
            await self.client.get(kube.EXPERIMENT, namespace, name)
        except NotFound:
            for action in left:
                assert isinstance(action, Delete)
                await self.writer.delete(namespace, action)

    async def _why_no_pod(
        self, key: Key, job: Job | None, pods: list[Pod], wanted: int = 1
    ) -> tuple[str, str] | None:
        """The Job controller's message for a Job whose pods it cannot create."""
        if job is None or len(pods) >= wanted or job.finished or job.suspended or job.deleting:
            return None
        first, again = EVENTS[key[0]]
        age = (self._now() - job.created).total_seconds() if job.created else 0.0
        self.queue.add_after(key, first - age + 0.1 if age < first else again)
        if age < first:
            return None
        where = f"involvedObject.uid={job.uid},reason=FailedCreate"
        try:
            found, _ = await self.client.list(kube.EVENT, key[1], fieldSelector=where)
        except Forbidden:
            return None
        last = max(found, key=lambda e: str(e.get("lastTimestamp") or ""), default=None)
        if last is None:
            return None
        text = str(last.get("message", ""))
        return "QuotaExceeded" if "exceeded quota" in text else "PodRefused", text

    # -- trials ------------------------------------------------------------------------

    async def _reconcile_trial(self, key: Key, namespace: str, name: str) -> None:
        trial = self.cache.trial((namespace, name))
        if trial is None:
            return
        view = self.cache.experiments.get((namespace, trial.experiment))
        manifest: NASExperiment | None = None
        if view is None or view.uid != trial.experiment_uid:
            view = await self._really(trial)
        if view is not None:
            parsed = self.cache.manifest(view)
            if isinstance(parsed, str):
                return  # reported in the experiment's condition
            manifest = parsed
            if view.deleting:
                return  # the trial is deleted with it
        refusal = known = self.cache.refusals.get(key)
        jobs = self.cache.jobs_of(trial)
        pods = self.cache.pods_of(trial.experiment_uid, (namespace, name), self._now())
        if refusal is None and not trial.ended:
            job = next((j for j in jobs if j.name == trial.job_name), None)
            own = [p for p in pods if p.job == trial.job_name]
            refusal = await self._why_no_pod(key, job, own, trial.workers)
        seen = trials.Observed(
            trial=trial,
            manifest=manifest,
            suspended=view is not None and view.suspend,
            refusal=refusal[1] if refusal else None,
            jobs=jobs,
            pods=pods,
            now=self._now(),
        )
        for pod in seen.pods:
            if pod.due is not None and not pod.ended:
                left = (pod.due + trials.GIVEN_UP - seen.now).total_seconds()
                self.queue.add_after(key, left + 0.1)
        actions = trials.plan(seen, self.settings)
        if any(isinstance(a, Create) for a in actions) and not await self._is_known(trial):
            return
        try:
            await self._act(key, trial, actions)
        except (Forbidden, Invalid) as error:
            if "being terminated" not in error.message and known is None:
                self.cache.refusals[key] = _reason(error), error.message
                told = replace(seen, refusal=error.message)
                said = trials.plan(told, self.settings)
                await self._act(key, trial, [a for a in said if isinstance(a, TrialStatus)])
            raise
        self.cache.refusals.pop(key, None)

    async def _act(self, key: Key, view: Experiment | Trial, actions: list[Action]) -> None:
        await self.writer.act(view, actions, partial(self.queue.add_after, key))

    async def _is_known(self, view: Experiment | Trial) -> bool:
        """Whether the cached owner is up to date: no children may be created for an owner that is
        deleted or has ended. If it is not, the cache is updated and the owner reconciled again.

        A new trial without a status cannot have lost a Job."""
        if isinstance(view, Trial) and not view.status and view.created is not None:
            age = (self._now() - view.created).total_seconds()
            if abs(age) < FRESH:
                return True
        resource = kube.TRIAL if isinstance(view, Trial) else kube.EXPERIMENT
        name = (view.namespace, view.name)
        try:
            item = await self.client.get(resource, *name)
        except NotFound:
            item = None
        if isinstance(view, Trial):
            if item is None:
                self.cache.forget_trial(name)
            else:
                self.cache.observe(kube.TRIAL, item)
        else:
            if item is None or item["metadata"]["uid"] != view.uid:
                self.cache.gone(view)
            if item is not None:
                self.cache.experiment_changed("MODIFIED", item)
        return item is not None and int(item["metadata"]["resourceVersion"]) == view.version

    async def _really(self, trial: Trial) -> Experiment | None:
        """The trial's experiment from the API server; None if it no longer exists."""
        try:
            item = await self.client.get(kube.EXPERIMENT, trial.namespace, trial.experiment)
        except NotFound:
            return None
        view = Experiment.of(item)
        return view if view.uid == trial.experiment_uid else None


def _reason(error: ApiError) -> str:
    """Reason for a condition, from the API server's error."""
    if error.reason == "NameConflict":
        return error.reason
    text = error.message
    if "exceeded quota" in text:
        return "QuotaExceeded"
    # admission may reject with the status of an invalid object
    refused = isinstance(error, Forbidden) or "is forbidden" in text or "denied" in text
    return "Refused" if refused else "Invalid"
