"""An API server in memory: what `kinase_kube.client.Client` is told by a real one."""

from __future__ import annotations

import asyncio
import copy
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from kinase_kube import client as kube
from kinase_kube.client import ApiError, Conflict, NotFound, Resource

Object = dict[str, Any]


class FakeApi:
    """Objects with UIDs, versions and watches. The client's methods are coroutines; those for
    tests are not, and may be called from any thread."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.requests: list[tuple[str, str, str]] = []
        """Verb, plural and name of every request so far."""
        self.fault: Callable[[str, str], ApiError | None] = lambda verb, plural: None
        """Asked before every request for an error to answer with."""
        self._objects: dict[tuple[str, str], Object] = {}
        self._log: list[tuple[int, str, str, Object]] = []
        self._version = 100
        self.closed = False

    # -- for tests ---------------------------------------------------------------------

    def put(self, resource: Resource, body: Object) -> Object:
        """Make or change an object, as somebody else does."""
        with self.lock:
            key = resource.plural, body["metadata"]["name"]
            held = self._objects.get(key)
            kind = "MODIFIED" if held else "ADDED"
            metadata = {
                "namespace": "ns",
                "uid": held["metadata"]["uid"] if held else str(uuid.uuid4()),
                "generation": 1,
                **body["metadata"],
            }
            if held is not None and held.get("spec") != body.get("spec"):
                metadata["generation"] = held["metadata"]["generation"] + 1
            return self._keep(kind, resource.plural, {**body, "metadata": metadata})

    def see(self, resource: Resource, name: str) -> Object | None:
        """An object as it is."""
        with self.lock:
            found = self._objects.get((resource.plural, name))
            return copy.deepcopy(found) if found else None

    def all(self, resource: Resource) -> list[Object]:
        """All objects of a kind, by name."""
        with self.lock:
            found = [o for (plural, _), o in self._objects.items() if plural == resource.plural]
            return copy.deepcopy(sorted(found, key=lambda o: str(o["metadata"]["name"])))

    def change(self, resource: Resource, name: str, **parts: Object) -> Object:
        """Merge into `spec`, `status` or `metadata`, as somebody else does."""
        with self.lock:
            held = self.see(resource, name)
            assert held is not None, name
            return self.put(resource, _merged(held, parts))

    def remove(self, resource: Resource, name: str) -> None:
        """The object is gone."""
        with self.lock:
            body = self._objects.pop((resource.plural, name))
            self._version += 1
            body["metadata"]["resourceVersion"] = str(self._version)
            self._log.append((self._version, "DELETED", resource.plural, copy.deepcopy(body)))

    def count(self, verb: str, resource: Resource, name: str = "") -> int:
        """Requests so far of a verb for a kind, or for an object."""
        with self.lock:
            return sum(
                v == verb and p == resource.plural and name in ("", n) for v, p, n in self.requests
            )

    # -- the client --------------------------------------------------------------------

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        self._ask("get", resource, name)
        with self.lock:
            return copy.deepcopy(self._find(resource, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        keep: Callable[[Object], Any] = lambda item: item,
        **params: Any,
    ) -> tuple[list[Any], str]:
        self._ask("list", resource, "")
        with self.lock:
            found = [keep(o) for o in self.all(resource) if _selected(o, params)]
            return found, str(self._version)

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        name = body["metadata"]["name"]
        self._ask("create", resource, name)
        with self.lock:
            if (resource.plural, name) in self._objects:
                raise Conflict(409, "AlreadyExists", f"{name} is there")
            return self.put(resource, copy.deepcopy(body))

    async def merge(
        self, resource: Resource, namespace: str, name: str, body: Object, subresource: str = ""
    ) -> Object:
        self._ask("merge", resource, name)
        with self.lock:
            held = copy.deepcopy(self._find(resource, name))
            self._precondition(held, body)
            return self.put(resource, _merged(held, {k: body[k] for k in ("spec",) if k in body}))

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Object,
        *,
        manager: str,
        subresource: str = "",
    ) -> Object:
        self._ask("apply", resource, name)
        with self.lock:
            held = copy.deepcopy(self._find(resource, name))
            self._precondition(held, body)
            return self.put(resource, {**held, "status": copy.deepcopy(body["status"])})

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        self._ask("replace", resource, name)
        with self.lock:
            held = self._find(resource, name)
            if held["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                raise Conflict(409, "Conflict", f"{name} has changed")
            return self.put(resource, copy.deepcopy(body))

    async def watch(
        self, resource: Resource, namespace: str | None, version: str, **params: Any
    ) -> AsyncIterator[tuple[str, Object]]:
        self._ask("watch", resource, "")
        seen = int(version)
        while True:
            with self.lock:
                news = [entry for entry in self._log if entry[0] > seen]
            for number, kind, plural, body in news:
                seen = number
                if plural == resource.plural and _selected(body, params):
                    yield kind, copy.deepcopy(body)
            error = self.fault("watch", resource.plural)
            if error is not None:
                raise error
            await asyncio.sleep(0.002)

    async def close(self) -> None:
        self.closed = True

    # -- within ------------------------------------------------------------------------

    def _ask(self, verb: str, resource: Resource, name: str) -> None:
        with self.lock:
            self.requests.append((verb, resource.plural, name))
        error = self.fault(verb, resource.plural)
        if error is not None:
            raise error

    def _find(self, resource: Resource, name: str) -> Object:
        try:
            return self._objects[resource.plural, name]
        except KeyError:
            raise NotFound(404, "NotFound", f"{name} does not exist") from None

    def _precondition(self, held: Object, body: Object) -> None:
        uid = body["metadata"].get("uid")
        if uid is not None and uid != held["metadata"]["uid"]:
            raise Conflict(409, "Conflict", "the UID in the precondition is another")

    def _keep(self, kind: str, plural: str, body: Object) -> Object:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self._objects[plural, body["metadata"]["name"]] = body
        self._log.append((self._version, kind, plural, copy.deepcopy(body)))
        return copy.deepcopy(body)


def unavailable() -> ApiError:
    """What a request ends with while the API server is away."""
    return kube.Unavailable(0, "ClientConnectorError", "the API server is away")


def _merged(held: Object, parts: Object) -> Object:
    found = dict(held)
    for key, value in parts.items():
        if isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = _merged(found[key], value)
        elif value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found


def _selected(item: Object, params: Object) -> bool:
    labels = item["metadata"].get("labels") or {}
    for part in filter(None, str(params.get("labelSelector", "")).split(",")):
        key, _, value = part.partition("=")
        if labels.get(key) != value:
            return False
    where = params.get("fieldSelector", "")
    return not where or where == f"metadata.name={item['metadata']['name']}"
