"""The operator's view of the cluster: caches of its objects, and their relations.

An event only says which key to reconcile; the key is passed to `wake`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from kinase.api import NASExperiment, names
from kinase_kube import client as kube
from kinase_kube.client import Client, Resource
from kinase_kube.informer import Informer
from kinase_kube.informer import Key as Name
from kinase_operator import experiments, trials
from kinase_operator.settings import Settings
from kinase_operator.storage import placed
from kinase_operator.views import Child, Experiment, Job, Object, Pod, Trial

SELECTOR = f"{names.MANAGED_BY}={names.MANAGER}"
CHILDREN = (
    kube.SERVICE_ACCOUNT,
    kube.ROLE,
    kube.ROLE_BINDING,
    kube.SERVICE,
    kube.NETWORK_POLICY,
)

Kind = Literal["experiment", "trial"]
Key = tuple[Kind, str, str]
"""Key of a reconciled object: kind, namespace, name."""
Index = dict[Any, dict[Name, None]]
"""Names by the owner of their objects, in order of arrival."""


class Cache:
    """The experiments, trials and children in some namespaces, or in all."""

    def __init__(self, client: Client, settings: Settings, wake: Callable[[Key], None]) -> None:
        """Read nothing before the informers run.

        Args:
            client: reads the API server.
            settings: the operator's settings, with the namespaces.
            wake: called with each key to reconcile.
        """
        self._settings, self._wake_key = settings, wake
        self.experiments: dict[Name, Experiment] = {}
        self.refusals: dict[Key, tuple[str, str]] = {}
        """Reason and message of the last rejection by the API server, by key."""
        self._manifests: dict[str, tuple[int, NASExperiment | str]] = {}
        self._of_experiment: Index = {}
        """Trials by the UID of their experiment."""
        self._jobs_of: Index = {}
        """Jobs by the UID of their owner."""
        self._pods_of: Index = {}
        """Pods by the name of their trial, or of a controller's Job."""
        self.scopes = scopes = settings.namespaces or (None,)
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

    def informers(self) -> list[Informer[Any]]:
        """All informers, to run."""
        return [*self.trials, *self.jobs, *self.pods, *(informer for _, informer in self.children)]

    # -- observations ------------------------------------------------------------------

    def experiment_changed(self, kind: str | None, item: Object) -> None:
        """Handle an event of an experiment, from Kopf's watch."""
        view = Experiment.of(item)
        name = (view.namespace, view.name)
        before = self.experiments.get(name)
        if kind == "DELETED":
            self.gone(view)
            return
        if before is not None and before.version >= view.version:
            return
        self.experiments[name] = view
        self._wake_key(("experiment", *name))
        if before is None or before.uid != view.uid or before.generation != view.generation:
            for trial in self._of_experiment.get(view.uid, ()):
                self._wake_key(("trial", *trial))

    def gone(self, view: Experiment) -> None:
        """Forget an experiment that no longer exists."""
        name = (view.namespace, view.name)
        held = self.experiments.get(name)
        if held is not None and held.uid == view.uid:
            del self.experiments[name]
        self._manifests.pop(view.uid, None)
        self._wake_key(("experiment", *name))
        for trial in self._of_experiment.get(view.uid, ()):
            self._wake_key(("trial", *trial))

    def _trial_changed(self, name: Name, before: Trial | None, after: Trial | None) -> None:
        _index(
            self._of_experiment,
            name,
            before and before.experiment_uid,
            after and after.experiment_uid,
        )
        if after is None:
            self.refusals.pop(("trial", *name), None)
        else:
            self._wake_key(("trial", *name))

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
        for view in (before, after):  # its labels can also have changed
            if view is not None:
                self._wake(name[0], view.labels)

    def _wake(self, namespace: str, labels: dict[str, str]) -> None:
        """Queue the owner of an object, by its labels."""
        experiment = labels.get(names.EXPERIMENT)
        if experiment is None:
            return
        if labels.get(names.COMPONENT) == "controller":
            self._wake_key(("experiment", namespace, experiment))
            return
        attempt = labels.get(names.ATTEMPT)
        name = labels.get(names.JOB_TRIAL)
        if attempt is not None and name is not None:
            self._wake_key(("trial", namespace, name))

    def observe(self, resource: Resource, item: Object) -> None:
        """Update the cache with the reply to a write, before its event arrives."""
        for informer in self._of(resource):
            if informer.covers(item):
                informer.observe(item)

    def forget_trial(self, name: Name) -> None:
        """Forget a trial that no longer exists."""
        for informer in self.trials:
            informer.forget(name)

    def _of(self, resource: Resource) -> list[Informer[Any]]:
        known: dict[Resource, list[Informer[Any]]] = {
            kube.TRIAL: [*self.trials],
            kube.JOB: [*self.jobs],
            kube.POD: [*self.pods],
        }
        if resource in known:
            return known[resource]
        return [informer for kind, informer in self.children if kind == resource]

    # -- queries -----------------------------------------------------------------------

    def manifest(self, view: Experiment) -> NASExperiment | str:
        """The manifest of an experiment with its storage, or why it is invalid."""
        held = self._manifests.get(view.uid)
        if held is None or held[0] != view.generation:
            held = view.generation, experiments.parse(view)
            self._manifests[view.uid] = held
        manifest = held[1]
        if isinstance(manifest, str):
            return manifest
        return placed(manifest, view, self._settings)

    def trial(self, name: Name) -> Trial | None:
        """A trial by namespace and name."""
        found: Trial | None = _find(self.trials, name)
        return found

    def children_of(
        self, namespace: str, experiment: str
    ) -> tuple[Job | None, dict[tuple[str, str], Child]]:
        """The controller's Job and the other children of an experiment with this name, whoever owns
        them."""
        name = (namespace, names.controller_name(experiment))
        others = (names.trials_policy_name(experiment), names.workers_name(experiment))
        wanted = (name, *((namespace, other) for other in others))
        children = {
            (resource.kind, key[1]): informer.items[key]
            for resource, informer in self.children
            for key in wanted
            if key in informer.items
        }
        return _find(self.jobs, name), children

    def busy(self, view: Experiment, now: datetime) -> bool:
        """Whether any pod of an experiment's trials has not ended."""
        mine = self._of_experiment.get(view.uid, ())
        return any(not pod.ended for name in mine for pod in self.pods_of(view.uid, name, now))

    def jobs_of(self, trial: Trial) -> list[Job]:
        """The Jobs of a trial, and a Job with its name that has another owner."""
        mine = {**self._jobs_of.get(trial.uid, {}), (trial.namespace, trial.job_name): None}
        found = (_find(self.jobs, name) for name in mine)
        return [job for job in found if job is not None]

    def pods_of(self, experiment_uid: str, of: Name, now: datetime) -> list[Pod]:
        """The current pods of a trial, or of a controller's Job."""
        found = (_find(self.pods, name) for name in self._pods_of.get(of, ()))
        return [
            trials.settled(pod, now)
            for pod in found
            if pod is not None and pod.labels.get(names.EXPERIMENT_UID) == experiment_uid
        ]


def _find(informers: list[Informer[Any]], name: Name) -> Any:
    for informer in informers:
        if name in informer.items:
            return informer.items[name]
    return None


def _index(index: Index, name: Name, before: Any, after: Any) -> None:
    """Index a name under the current owner of its object."""
    if before is not None and before != after:
        del index[before][name]
        if not index[before]:
            del index[before]
    if after is not None:
        index.setdefault(after, {})[name] = None
