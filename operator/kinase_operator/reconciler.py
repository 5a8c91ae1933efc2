"""The operator's shell: it observes, has the plan decide, does what was decided, and starts again.

Nothing here depends on having seen an event: an event only says which key to look at. What a
decision rests on comes from the caches, and whatever must be certain (that an experiment is
really gone) is read from the API server.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from kinase.api import NASExperiment, names
from kinase_kube import client as kube
from kinase_kube.client import (
    ApiError,
    Client,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Resource,
    Unavailable,
)
from kinase_kube.informer import Informer
from kinase_kube.informer import Key as Name
from kinase_kube.workqueue import WorkQueue
from kinase_operator import experiments, trials
from kinase_operator.actions import (
    Action,
    Again,
    Correct,
    Create,
    Delete,
    Emit,
    ExperimentStatus,
    Shorten,
    TrialStatus,
)
from kinase_operator.drift import MANAGER
from kinase_operator.metrics import Metrics
from kinase_operator.settings import Settings
from kinase_operator.storage import placed
from kinase_operator.views import Child, Experiment, Job, Object, Pod, Trial

log = logging.getLogger("kinase")

FOR_CONTROLLER = "kinase-operator-for-controller"
"""Field manager of what is said in the controller's place."""
LARGE = 1_400_000
"""Bytes of JSON from which on it is its size for which etcd, with 1.5 MiB, takes no object."""
SELECTOR = f"{names.MANAGED_BY}={names.MANAGER}"
CHILDREN = (
    kube.SERVICE_ACCOUNT,
    kube.ROLE,
    kube.ROLE_BINDING,
    kube.SERVICE,
    kube.NETWORK_POLICY,
)
EVENTS = {"experiment": (2.0, 10.0), "trial": (10.0, 60.0)}
"""Seconds that a Job may be without a pod before its Events are asked why, and until they are
asked again: seldom for trials, of which there may be thousands that wait."""

FRESH = 5.0
"""Seconds after its making within which a trial's first Job is made without another look."""

Kind = Literal["experiment", "trial"]
Key = tuple[Kind, str, str]
"""What is reconciled: kind, namespace, name."""
Index = dict[Any, dict[Name, None]]
"""Names by what their objects belong to, in the order in which they came."""


class Reconciler:
    """Reconciles the experiments and trials of some namespaces, or of all."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        metrics: Metrics,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Nothing is read or written before `start`."""
        self.client, self.settings, self.metrics, self._clock = client, settings, metrics, clock
        self.queue: WorkQueue[Key] = WorkQueue(
            waited=lambda key, seconds: metrics.waited(key[0], seconds)
        )
        self.experiments: dict[Name, Experiment] = {}
        self._manifests: dict[str, tuple[int, NASExperiment | str]] = {}
        self._refusals: dict[Key, tuple[str, str]] = {}
        self._of_experiment: Index = {}
        """Trials by the UID of their experiment."""
        self._jobs_of: Index = {}
        """Jobs by the UID of their owner."""
        self._pods_of: Index = {}
        """Pods by the name of their trial, or of a controller's Job."""
        scopes = self._scopes = settings.namespaces or (None,)
        self.trials = [
            Informer(client, kube.TRIAL, Trial.of, self._trial_changed, namespace=n) for n in scopes
        ]
        self.jobs = [
            Informer(client, kube.JOB, Job.of, self._job_changed, namespace=n, selector=SELECTOR)
            for n in scopes
        ]
        self.pods = [
            Informer(client, kube.POD, Pod.of, self._pod_changed, namespace=n, selector=SELECTOR)
            for n in scopes
        ]
        self.children = [
            (
                resource,
                Informer(
                    client, resource, Child.of, self._child_changed, namespace=n, selector=SELECTOR
                ),
            )
            for resource in CHILDREN
            for n in scopes
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self.ready = asyncio.Event()

    # -- life --------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to list and watch; work begins once every cache is filled."""
        informers = self._informers()
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
        """End everything. What was under way is done again by the next operator."""
        self.queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _informers(self) -> list[Informer[Any]]:
        return [*self.trials, *self.jobs, *self.pods, *(informer for _, informer in self.children)]

    @property
    def failure(self) -> BaseException | None:
        """An error that ended a task that must not end; the operator is not alive then."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        return None

    async def _resync(self) -> None:
        """Compare what is known of the experiments with what there is, now and then: an event
        that was missed, a deletion above all, is made good here."""
        while True:
            await asyncio.sleep(self.settings.resync)
            for scope in self._scopes:
                try:
                    items, version = await self.client.list(kube.EXPERIMENT, scope)
                except ApiError as error:
                    log.warning("experiments cannot be listed: %s", error)
                    continue
                found = set()
                for item in items:
                    view = Experiment.of(item)
                    found.add((view.namespace, view.name))
                    self.experiment_changed("MODIFIED", item)
                    if not view.finished and not view.suspend:
                        self.queue.add(("experiment", view.namespace, view.name))
                for name, view in list(self.experiments.items()):
                    mine = scope is None or name[0] == scope
                    if mine and name not in found and view.version <= int(version):
                        self._gone(view)

    def _gone(self, view: Experiment) -> None:
        """Forget an experiment that the API server does not have any more."""
        name = (view.namespace, view.name)
        held = self.experiments.get(name)
        if held is not None and held.uid == view.uid:
            del self.experiments[name]
        self._manifests.pop(view.uid, None)
        self.queue.add(("experiment", *name))
        for trial in self._of_experiment.get(view.uid, ()):
            self.queue.add(("trial", *trial))

    def measure(self) -> None:
        """Tell the metrics what there is, for a scrape."""
        self.metrics.queue.set(len(self.queue))
        trials = (view for informer in self.trials for view in informer.items.values())
        pods = (view for informer in self.pods for view in informer.items.values())
        self.metrics.see(self.experiments.values(), trials, pods)

    # -- what was seen -----------------------------------------------------------------

    def experiment_changed(self, kind: str | None, item: Object) -> None:
        """Take in an event of an experiment, from Kopf's watch."""
        view = Experiment.of(item)
        name = (view.namespace, view.name)
        before = self.experiments.get(name)
        if kind == "DELETED":
            self._gone(view)
            return
        if before is not None and before.version >= view.version:
            return
        self.experiments[name] = view
        self.queue.add(("experiment", *name))
        if before is None or before.uid != view.uid or before.generation != view.generation:
            for trial in self._of_experiment.get(view.uid, ()):
                self.queue.add(("trial", *trial))

    def _trial_changed(self, name: Name, before: Trial | None, after: Trial | None) -> None:
        _index(
            self._of_experiment,
            name,
            before and before.experiment_uid,
            after and after.experiment_uid,
        )
        if after is None:
            self._refusals.pop(("trial", *name), None)
        else:
            self.queue.add(("trial", *name))

    def _job_changed(self, name: Name, before: Job | None, after: Job | None) -> None:
        _index(self._jobs_of, name, before and before.owner, after and after.owner)
        view = after or before
        assert view is not None
        self._wake(name[0], view.labels)

    def _pod_changed(self, name: Name, before: Pod | None, after: Pod | None) -> None:
        _index(
            self._pods_of,
            name,
            before and (name[0], before.labels.get(names.JOB_TRIAL, before.job)),
            after and (name[0], after.labels.get(names.JOB_TRIAL, after.job)),
        )
        view = after or before
        assert view is not None
        self._wake(name[0], view.labels)

    def _child_changed(self, name: Name, before: Child | None, after: Child | None) -> None:
        for view in (before, after):  # the labels may have been changed, too
            if view is not None:
                self._wake(name[0], view.labels)

    def _wake(self, namespace: str, labels: dict[str, str]) -> None:
        """Queue what an object of ours belongs to, by its labels."""
        experiment = labels.get(names.EXPERIMENT)
        if experiment is None:
            return
        if labels.get(names.COMPONENT) == "controller":
            self.queue.add(("experiment", namespace, experiment))
            return
        attempt = labels.get(names.ATTEMPT)
        name = labels.get(names.JOB_TRIAL)
        if attempt is not None and name is not None:
            self.queue.add(("trial", namespace, name))

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
                # the cache was behind: the next look, soon, is at what is really there
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
        """Keep what the API server said for the status, and try again later."""
        if "being terminated" in error.message:
            return  # the namespace goes, and with it everything in it
        delay = self.queue.retry(key)
        log.warning("%s %s/%s: %s; again in %.1f s", *key, error, delay)

    async def _reconcile(self, key: Key) -> None:
        kind, namespace, name = key
        if kind == "experiment":
            await self._reconcile_experiment(key, namespace, name)
        else:
            await self._reconcile_trial(key, namespace, name)

    def _now(self) -> datetime:
        return self._clock()

    # -- experiments -------------------------------------------------------------------

    def _manifest(self, view: Experiment) -> NASExperiment | str:
        held = self._manifests.get(view.uid)
        if held is None or held[0] != view.generation:
            held = view.generation, experiments.parse(view)
            self._manifests[view.uid] = held
        manifest = held[1]
        if isinstance(manifest, str):
            return manifest
        return placed(manifest, view, self.settings)

    async def _reconcile_experiment(self, key: Key, namespace: str, name: str) -> None:
        view = self.experiments.get((namespace, name))
        if view is None:
            self._refusals.pop(key, None)
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
                self._refusals[key] = _reason(error), error.message
                told = replace(seen, refusal=self._refusals[key])
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
        if self._refusals.pop(key, None) is not None:
            self.queue.add(key)  # it holds no more

    async def _observe_experiment(self, key: Key, view: Experiment) -> experiments.Observed:
        name = (view.namespace, names.controller_name(view.name))
        job, children = self._children(view.namespace, view.name)
        pods = self._pods(view.uid, name)
        refusal = self._refusals.get(key) or await self._why_no_pod(key, job, pods)
        busy = view.suspend and self._busy(view)
        return experiments.Observed(
            view, self._manifest(view), children, job, pods, refusal, self._now(), busy
        )

    def _children(
        self, namespace: str, experiment: str
    ) -> tuple[Job | None, dict[tuple[str, str], Child]]:
        """The controller's Job and what else an experiment of this name has, whoever owns it."""
        name = (namespace, names.controller_name(experiment))
        wanted = (name, (namespace, names.trials_policy_name(experiment)))
        children = {
            (resource.kind, key[1]): informer.items[key]
            for resource, informer in self.children
            for key in wanted
            if key in informer.items
        }
        return self._find(self.jobs, name), children

    def _busy(self, view: Experiment) -> bool:
        """Whether a pod of an experiment's trials has not ended."""
        mine = self._of_experiment.get(view.uid, ())
        return any(not pod.ended for name in mine for pod in self._pods(view.uid, name))

    async def _remove_orphans(self, namespace: str, name: str) -> None:
        """Remove what an experiment left that is really gone."""
        left = experiments.orphans(*self._children(namespace, name))
        if not left:
            return
        try:
            await self.client.get(kube.EXPERIMENT, namespace, name)
        except NotFound:
            for action in left:
                assert isinstance(action, Delete)
                await self._delete(namespace, action)

    async def _why_no_pod(
        self, key: Key, job: Job | None, pods: list[Pod]
    ) -> tuple[str, str] | None:
        """What the Job controller says of a Job that it cannot make a pod for."""
        if job is None or pods or job.finished or job.suspended or job.deleting:
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
        trial = self._find(self.trials, (namespace, name))
        if trial is None:
            return
        view = self.experiments.get((namespace, trial.experiment))
        manifest: NASExperiment | None = None
        if view is None or view.uid != trial.experiment_uid:
            view = await self._really(trial)
        if view is not None:
            parsed = self._manifest(view)
            if isinstance(parsed, str):
                return  # said in the experiment's condition
            manifest = parsed
            if view.deleting:
                return  # the trial goes with it
        refusal = known = self._refusals.get(key)
        jobs = self._jobs(trial)
        pods = self._pods(trial.experiment_uid, (namespace, name))
        if refusal is None and not trial.ended:
            job = next((j for j in jobs if j.name == trial.job_name), None)
            refusal = await self._why_no_pod(key, job, [p for p in pods if p.job == trial.job_name])
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
                self._refusals[key] = _reason(error), error.message
                told = replace(seen, refusal=error.message)
                said = trials.plan(told, self.settings)
                await self._act(key, trial, [a for a in said if isinstance(a, TrialStatus)])
            raise
        self._refusals.pop(key, None)

    async def _is_known(self, view: Experiment | Trial) -> bool:
        """Whether the cache has an owner as it is: children of one that is gone or has ended must
        not be made. If not, it is put right, and the owner is looked at again.

        A trial that was made just now and has no status cannot have had its Job removed."""
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
            for informer in self.trials:
                if item is None:
                    informer.forget(name)
                elif informer.covers(item):
                    informer.observe(item)
        else:
            if item is None or item["metadata"]["uid"] != view.uid:
                self._gone(view)
            if item is not None:
                self.experiment_changed("MODIFIED", item)
        return item is not None and int(item["metadata"]["resourceVersion"]) == view.version

    async def _really(self, trial: Trial) -> Experiment | None:
        """The trial's experiment by the API server's word; None if it is gone."""
        try:
            item = await self.client.get(kube.EXPERIMENT, trial.namespace, trial.experiment)
        except NotFound:
            return None
        view = Experiment.of(item)
        return view if view.uid == trial.experiment_uid else None

    def _jobs(self, trial: Trial) -> list[Job]:
        mine = {**self._jobs_of.get(trial.uid, {}), (trial.namespace, trial.job_name): None}
        found = (self._find(self.jobs, name) for name in mine)
        return [job for job in found if job is not None]

    def _pods(self, experiment_uid: str, of: Name) -> list[Pod]:
        found = (self._find(self.pods, name) for name in self._pods_of.get(of, ()))
        now = self._now()
        return [
            trials.settled(pod, now)
            for pod in found
            if pod is not None and pod.labels.get(names.EXPERIMENT_UID) == experiment_uid
        ]

    @staticmethod
    def _find(informers: list[Informer[Any]], name: Name) -> Any:
        for informer in informers:
            if name in informer.items:
                return informer.items[name]
        return None

    # -- acting ------------------------------------------------------------------------

    async def _act(self, key: Key, view: Experiment | Trial, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Create(resource, body):
                    await self._create(resource, view, body)
                case Correct():
                    await self._correct(view.namespace, action)
                case Delete():
                    await self._delete(view.namespace, action)
                case Shorten():
                    await self._shorten(view.namespace, action)
                case TrialStatus(name, uid, fields):
                    # the API server compares no UID in a status: the version says of whom it is
                    metadata = {"uid": uid, "resourceVersion": str(view.version)}
                    body = {"metadata": metadata, "status": fields}
                    try:
                        item = await self.client.merge(
                            kube.TRIAL, view.namespace, name, body, "status"
                        )
                    except NotFound:
                        continue
                    self.metrics.wrote(kube.TRIAL.plural, "status")
                    if fields.get("completionTime"):
                        self.metrics.attempt_ended(str(fields["reason"]))
                    self._observe(self.trials, item)
                case ExperimentStatus(fields, for_controller):
                    manager = FOR_CONTROLLER if for_controller else MANAGER
                    view = await self._apply_status(view, fields, manager)
                case Emit():
                    await self._emit(view, action)
                case Again(seconds):
                    self.queue.add_after(key, seconds)

    async def _delete(self, namespace: str, action: Delete) -> None:
        with contextlib.suppress(NotFound):
            await self.client.delete(
                action.resource, namespace, action.name, uid=action.uid, policy=action.policy
            )
        self.metrics.wrote(action.resource.plural, "delete")

    async def _shorten(self, namespace: str, pod: Shorten) -> None:
        """Set a pod's deadline, one of the few fields of its spec that may change."""
        body = {"metadata": {"uid": pod.uid}, "spec": {"activeDeadlineSeconds": pod.seconds}}
        with contextlib.suppress(NotFound):
            item = await self.client.merge(kube.POD, namespace, pod.name, body)
            self.metrics.wrote(kube.POD.plural, "update")
            self._observe(self.pods, item)

    async def _create(self, resource: Resource, view: Experiment | Trial, body: Object) -> None:
        try:
            item = await self.client.create(resource, view.namespace, body)
        except Conflict:
            name = body["metadata"]["name"]
            item = await self.client.get(resource, view.namespace, name)
            owners = item["metadata"].get("ownerReferences") or ()
            if not any(owner["uid"] == view.uid for owner in owners):
                text = f"{resource.kind} {name} of another owner is there; delete it or choose "
                raise Forbidden(409, "NameConflict", text + "another name") from None
            if resource in CHILDREN and not _is_ours(item):
                # somebody took away the labels by which we watch it
                there = Child.of(item)
                patch = _without_owner(body)
                action = Correct(resource, name, there.uid, there.version, patch)
                await self._correct(view.namespace, action)
                return
            self._observe(self._of(resource), item)
            return
        except Invalid as error:
            # of a Job that is too large the API server says that its selector is wrong: it tries
            # once more with the object that the first try has filled in
            size = len(json.dumps(body))
            if size < LARGE:
                raise
            text = f"the {resource.kind} is too large: {size >> 10} KiB, of at most some 1400"
            raise Invalid(413, "TooLarge", text) from error
        self.metrics.wrote(resource.plural, "create")
        self._observe(self._of(resource), item)

    async def _correct(self, namespace: str, action: Correct) -> None:
        resource = action.resource
        only = {"uid": action.uid, "resourceVersion": str(action.version)}
        body = {**action.patch, "metadata": {**action.patch["metadata"], **only}}
        try:
            item = await self.client.merge(resource, namespace, action.name, body)
        except NotFound:
            return  # it was deleted meanwhile, and is made at the next look
        self.metrics.wrote(resource.plural, "update")
        self._observe(self._of(resource), item)

    async def _apply_status(
        self, view: Experiment | Trial, fields: Object, manager: str
    ) -> Experiment | Trial:
        """Write it against the version it was decided from; returns what there is now."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "NASExperiment",
            "metadata": {"name": view.name, "uid": view.uid, "resourceVersion": str(view.version)},
            "status": fields,
        }
        try:
            item = await self.client.apply(
                kube.EXPERIMENT,
                view.namespace,
                view.name,
                body,
                manager=manager,
                subresource="status",
            )
        except NotFound:
            return view
        self.metrics.wrote(kube.EXPERIMENT.plural, "status")
        self.experiment_changed("MODIFIED", item)
        return Experiment.of(item)

    async def _emit(self, view: Experiment | Trial, event: Emit) -> None:
        """Record an Event; its name follows from what it says, so that twice is once."""
        text = f"{view.uid}{view.generation}{event.reason}{event.message}{event.about}"
        suffix = hashlib.sha256(text.encode()).hexdigest()[:16]
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "metadata": {"name": f"{view.name}.{suffix}", "namespace": view.namespace},
            "involvedObject": {
                "apiVersion": names.API_VERSION,
                "kind": "NASTrial" if isinstance(view, Trial) else "NASExperiment",
                "name": view.name,
                "namespace": view.namespace,
                "uid": view.uid,
            },
            "type": event.kind,
            "reason": event.reason,
            "message": event.message[:1000],
            "source": {"component": MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self.client.create(kube.EVENT, view.namespace, body)
        except ApiError as error:  # said for a person's convenience: never in the way
            if not isinstance(error, Conflict):
                log.info("event %s of %s/%s: %s", event.reason, view.namespace, view.name, error)

    def _of(self, resource: Resource) -> list[Informer[Any]]:
        if resource == kube.JOB:
            return list(self.jobs)
        return [informer for kind, informer in self.children if kind == resource]

    def _observe(self, informers: list[Informer[Any]], item: Object) -> None:
        """Take the reply to a write into the cache, ahead of its event."""
        for informer in informers:
            if informer.covers(item):
                informer.observe(item)


def _index(index: Index, name: Name, before: Any, after: Any) -> None:
    """Keep a name under what its object belongs to now."""
    if before is not None and before != after:
        del index[before][name]
        if not index[before]:
            del index[before]
    if after is not None:
        index.setdefault(after, {})[name] = None


def _reason(error: ApiError) -> str:
    """A word for a condition from what the API server said."""
    if error.reason == "NameConflict":
        return error.reason
    text = error.message
    if "exceeded quota" in text:
        return "QuotaExceeded"
    # admission may refuse with the status of an object that is invalid
    refused = isinstance(error, Forbidden) or "is forbidden" in text or "denied" in text
    return "Refused" if refused else "Invalid"


def _is_ours(item: Object) -> bool:
    """Whether an object has the label by which we watch."""
    return bool((item["metadata"].get("labels") or {}).get(names.MANAGED_BY) == names.MANAGER)


def _without_owner(body: Object) -> Object:
    metadata = {k: v for k, v in body["metadata"].items() if k in ("labels", "annotations")}
    fields = {k: v for k, v in body.items() if k not in ("metadata", "roleRef")}
    return {**fields, "metadata": metadata}
