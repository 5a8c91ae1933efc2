"""The operator's writes: each action of a plan is one request that is safe to repeat."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from datetime import datetime

from kinase.api import names
from kinase_kube import client as kube
from kinase_kube.client import ApiError, Client, Conflict, Forbidden, Invalid, NotFound, Resource
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
from kinase_operator.cache import CHILDREN, Cache
from kinase_operator.drift import MANAGER
from kinase_operator.metrics import Metrics
from kinase_operator.views import Child, Experiment, Object, Trial

log = logging.getLogger("kinase")

FOR_CONTROLLER = "kinase-operator-for-controller"
"""Field manager for writes on behalf of the controller."""
LARGE = 1_400_000
"""Bytes of JSON above which an object is rejected for its size: etcd's limit is 1.5 MiB."""


class Writer:
    """Carries out actions, and updates the cache with each reply."""

    def __init__(
        self, client: Client, cache: Cache, metrics: Metrics, now: Callable[[], datetime]
    ) -> None:
        """Write nothing before `act`."""
        self._client, self._cache, self._metrics, self._now = client, cache, metrics, now

    async def act(
        self, view: Experiment | Trial, actions: list[Action], again: Callable[[float], None]
    ) -> None:
        """Carry out the actions for an experiment or a trial.

        Args:
            view: object that the actions are for.
            actions: the actions, in order.
            again: called with the seconds until the next reconciliation.
        """
        for action in actions:
            match action:
                case Create(resource, body):
                    await self._create(resource, view, body)
                case Correct():
                    await self._correct(view.namespace, action)
                case Delete():
                    await self.delete(view.namespace, action)
                case Shorten():
                    await self._shorten(view.namespace, action)
                case TrialStatus(name, uid, fields):
                    # the API server does not compare the UID of a status, so the version identifies
                    # the object
                    metadata = {"uid": uid, "resourceVersion": str(view.version)}
                    body = {"metadata": metadata, "status": fields}
                    try:
                        item = await self._client.merge(
                            kube.TRIAL, view.namespace, name, body, "status"
                        )
                    except NotFound:
                        continue
                    self._metrics.wrote(kube.TRIAL.plural, "status")
                    if fields.get("completionTime"):
                        self._metrics.attempt_ended(str(fields["reason"]))
                    self._cache.observe(kube.TRIAL, item)
                case ExperimentStatus(fields, for_controller):
                    manager = FOR_CONTROLLER if for_controller else MANAGER
                    view = await self._apply_status(view, fields, manager)
                case Emit():
                    await self._emit(view, action)
                case Again(seconds):
                    again(seconds)

    async def delete(self, namespace: str, action: Delete) -> None:
        """Delete an object, if it is still the observed one."""
        with contextlib.suppress(NotFound):
            await self._client.delete(
                action.resource, namespace, action.name, uid=action.uid, policy=action.policy
            )
        self._metrics.wrote(action.resource.plural, "delete")

    async def _shorten(self, namespace: str, pod: Shorten) -> None:
        """Set a pod's deadline, one of the few fields of its spec that can change."""
        body = {"metadata": {"uid": pod.uid}, "spec": {"activeDeadlineSeconds": pod.seconds}}
        with contextlib.suppress(NotFound):
            item = await self._client.merge(kube.POD, namespace, pod.name, body)
            self._metrics.wrote(kube.POD.plural, "update")
            self._cache.observe(kube.POD, item)

    async def _create(self, resource: Resource, view: Experiment | Trial, body: Object) -> None:
        try:
            item = await self._client.create(resource, view.namespace, body)
        except Conflict:
            name = body["metadata"]["name"]
            item = await self._client.get(resource, view.namespace, name)
            owners = item["metadata"].get("ownerReferences") or ()
            if not any(owner["uid"] == view.uid for owner in owners):
                text = f"{resource.kind} {name} of another owner is there; delete it or choose "
                raise Forbidden(409, "NameConflict", text + "another name") from None
            if resource in CHILDREN and not _is_ours(item):
                # somebody removed the labels by which the operator watches it
                there = Child.of(item)
                patch = _without_owner(body)
                action = Correct(resource, name, there.uid, there.version, patch)
                await self._correct(view.namespace, action)
                return
            self._cache.observe(resource, item)
            return
        except Invalid as error:
            # for a Job that is too large, the API server reports a wrong selector, because it
            # retries with the object that the first attempt has filled in
            size = len(json.dumps(body))
            if size < LARGE:
                raise
            text = f"the {resource.kind} is too large: {size >> 10} KiB, of at most some 1400"
            raise Invalid(413, "TooLarge", text) from error
        self._metrics.wrote(resource.plural, "create")
        self._cache.observe(resource, item)

    async def _correct(self, namespace: str, action: Correct) -> None:
        resource = action.resource
        only = {"uid": action.uid, "resourceVersion": str(action.version)}
        body = {**action.patch, "metadata": {**action.patch["metadata"], **only}}
        try:
            item = await self._client.merge(resource, namespace, action.name, body)
        except NotFound:
            return  # it was deleted meanwhile; the next reconciliation creates it
        self._metrics.wrote(resource.plural, "update")
        self._cache.observe(resource, item)

    async def _apply_status(
        self, view: Experiment | Trial, fields: Object, manager: str
    ) -> Experiment | Trial:
        """Write an object if it still has the observed version; return the current object."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "NASExperiment",
            "metadata": {"name": view.name, "uid": view.uid, "resourceVersion": str(view.version)},
            "status": fields,
        }
        try:
            item = await self._client.apply(
                kube.EXPERIMENT,
                view.namespace,
                view.name,
                body,
                manager=manager,
                subresource="status",
            )
        except NotFound:
            return view
        self._metrics.wrote(kube.EXPERIMENT.plural, "status")
        self._cache.experiment_changed("MODIFIED", item)
        return Experiment.of(item)

    async def _emit(self, view: Experiment | Trial, event: Emit) -> None:
        """Record an Event. Its name is derived from its text, so that a repetition is recorded
        once."""
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
            await self._client.create(kube.EVENT, view.namespace, body)
        except ApiError as error:  # Events are a convenience: a failure is ignored
            if not isinstance(error, Conflict):
                log.info("event %s of %s/%s: %s", event.reason, view.namespace, view.name, error)


def _is_ours(item: Object) -> bool:
    """Whether an object has the label by which the operator watches."""
    return bool((item["metadata"].get("labels") or {}).get(names.MANAGED_BY) == names.MANAGER)


def _without_owner(body: Object) -> Object:
    metadata = {k: v for k, v in body["metadata"].items() if k in ("labels", "annotations")}
    fields = {k: v for k, v in body.items() if k not in ("metadata", "roleRef")}
    return {**fields, "metadata": metadata}
