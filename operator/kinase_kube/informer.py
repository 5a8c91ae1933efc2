"""A cache of objects kept up to date by list and watch."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from kinase_kube.client import ApiError, Client, Gone, Object, Resource

Key = tuple[str, str]
"""Namespace and name."""

log = logging.getLogger(__name__)


class View(Protocol):
    """An informer's view of an object: at least its UID and version."""

    @property
    def uid(self) -> str:
        """The object's UID."""

    @property
    def version(self) -> int:
        """The object's resource version."""


V = TypeVar("V", bound=View)


def key_of(item: Object) -> Key:
    """Namespace and name of an object."""
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class Informer(Generic[V]):
    """Cache of all objects of a kind that match a label selector.

    Only the result of `view` is kept, so that thousands of objects take little memory. `changed` is
    called after a change of the cache, with the views before and after (None if the object does not
    exist). It is also called for differences in a new list, so missed events do no harm. Events
    older than the cache are ignored.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        view: Callable[[Object], V],
        changed: Callable[[Key, V | None, V | None], Any],
        *,
        namespace: str | None = None,
        selector: str = "",
        field_selector: str = "",
    ) -> None:
        """Read nothing before `run`."""
        self._client = client
        self._resource = resource
        self._view = view
        self._changed = changed
        self._namespace = namespace
        self._params = {
            name: text
            for name, text in (("labelSelector", selector), ("fieldSelector", field_selector))
            if text
        }
        self.items: dict[Key, V] = {}
        """The views, by namespace and name."""
        self.synced = asyncio.Event()
        """Set after the first list."""
        self.relists = 0
        """Number of lists so far."""
        self._buried: dict[Key, int] = {}
        self._listed = 0

    async def run(self) -> None:
        """List and watch until cancelled. Errors and silent streams are retried."""
        delay = 0.2
        version: str | None = None
        while True:
            wait = True
            try:
                if version is None:
                    version = await self._list()
                    delay = 0.2
                async for kind, item in self._client.watch(
                    self._resource, self._namespace, version, **self._params
                ):
                    version = item["metadata"]["resourceVersion"]
                    delay, wait = 0.2, False
                    if kind != "BOOKMARK":
                        self._take(kind, item)
            except Gone:
                version = None
            except ApiError as error:
                log.warning("%s: %s; retrying in %.1f s", self._resource.plural, error, delay)
                wait = True
                if error.status and error.status != 429 and error.status < 500:
                    version = None
            if wait:
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))
                delay = min(2 * delay, 15.0)

    async def _list(self) -> str:
        def keep(item: Object) -> tuple[Key, V]:
            return key_of(item), self._view(item)

        found, version = await self._client.list(
            self._resource, self._namespace, keep=keep, **self._params
        )
        self.relists += 1
        views = dict(found)
        for key in [key for key in self.items if key not in views]:
            # created after the list; its event is still to come
            if self.items[key].version <= int(version):
                self._remove(key, int(version))
        for key, view in views.items():
            self._put(key, view)
        self._buried.clear()
        self._listed = int(version)
        self.synced.set()
        return version

    def _take(self, kind: str, item: Object) -> None:
        if kind == "DELETED":
            key = key_of(item)
            held = self.items.get(key)
            version = int(item["metadata"]["resourceVersion"])
            if held is None or held.version <= version:
                self._remove(key, version)
        else:
            self.observe(item)

    def _remove(self, key: Key, version: int) -> None:
        before = self.items.pop(key, None)
        self._buried[key] = max(version, self._buried.get(key, version))
        if len(self._buried) > 4096:  # only needed for seconds, for replies that overtake events
            for old in list(self._buried)[:2048]:
                del self._buried[old]
        if before is not None:
            self._changed(key, before, None)

    def observe(self, item: Object) -> None:
        """Update the cache with an object from an event or from the reply to a write. An object
        that is older than the cache, or than a list without it, is ignored."""
        key = key_of(item)
        version = int(item["metadata"]["resourceVersion"])
        held = self.items.get(key)
        if held is None and version <= self._buried.get(key, self._listed):
            return
        if held is None or held.version < version:
            self._put(key, self._view(item))

    def _put(self, key: Key, after: V) -> None:
        before = self.items.get(key)
        if before is None or before.version < after.version:
            self.items[key] = after
            self._changed(key, before, after)

    def forget(self, key: Key) -> None:
        """Remove an object that a request has shown to be deleted."""
        if key in self.items:
            self._remove(key, self.items[key].version)

    def covers(self, item: Object) -> bool:
        """Whether this informer watches the namespace."""
        return self._namespace is None or key_of(item)[0] == self._namespace
