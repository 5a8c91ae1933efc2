"""Which of several controllers of one experiment is the one: a Lease, as Kubernetes' own have it.

The journal's conditional put is the fence that lets nothing be written twice. The lease keeps two
controllers from taking turns at it, as after a node was lost that lives on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime

from kinase_kube import client as kube
from kinase_kube.client import ApiError, Client, Conflict, NotFound, Object

log = logging.getLogger("kinase")

SECONDS = 15
"""How long the lease holds after its last renewal."""
RENEW = 5.0
"""Seconds between two renewals."""


class Lease:
    """Held by one controller at a time.

    Whether it has run out is told by how long it was seen unchanged on this machine's clock, so
    clocks that differ between nodes do no harm.
    """

    def __init__(
        self, client: Client, namespace: str, name: str, holder: str, owner: Object
    ) -> None:
        """Nothing is sent yet."""
        self._client, self._namespace, self._name = client, namespace, name
        self._holder, self._owner = holder, owner
        self._held: Object | None = None

    def _spec(self, transitions: int) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": SECONDS,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    async def acquire(self) -> None:
        """Wait until the lease is ours: free, let go, run out, or ours from before a restart."""
        since, version = time.monotonic(), ""
        while True:
            try:
                try:
                    item = await self._client.get(kube.LEASE, self._namespace, self._name)
                except NotFound:
                    self._held = await self._client.create(kube.LEASE, self._namespace, self._new())
                    return
                if item["metadata"]["resourceVersion"] != version:
                    since, version = time.monotonic(), item["metadata"]["resourceVersion"]
                spec = item.get("spec") or {}
                holder = spec.get("holderIdentity")
                owners = item["metadata"].get("ownerReferences") or ()
                # that of a deleted experiment of this name is waited for by nobody
                left = not any(owner["uid"] == self._owner["uid"] for owner in owners)
                out = time.monotonic() - since > SECONDS
                if holder in (None, "", self._holder) or left or out:
                    changed = {
                        **item,
                        "metadata": {**item["metadata"], "ownerReferences": [self._owner]},
                        "spec": self._spec(int(spec.get("leaseTransitions") or 0) + 1),
                    }
                    self._held = await self._client.replace(
                        kube.LEASE, self._namespace, self._name, changed
                    )
                    return
                log.info("waiting for the lease, which %s holds", holder)
            except Conflict:
                continue  # it has changed in between
            except ApiError as error:
                log.warning("cannot acquire the lease: %s", error)
            await asyncio.sleep(1.0)

    def _new(self) -> Object:
        return {
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "ownerReferences": [self._owner],
            },
            "spec": self._spec(0),
        }

    async def renew(self) -> None:
        """Keep the lease; returns when it is another's. Where the API server does not answer,
        nobody else gets the lease either."""
        while True:
            await asyncio.sleep(RENEW)
            assert self._held is not None
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            changed = {**self._held, "spec": {**self._held["spec"], "renewTime": now}}
            try:
                self._held = await self._client.replace(
                    kube.LEASE, self._namespace, self._name, changed
                )
            except (Conflict, NotFound):
                if not await self._still_ours():
                    log.error("the lease is another controller's")
                    return
            except ApiError as error:
                log.warning("the lease cannot be renewed: %s", error)

    async def _still_ours(self) -> bool:
        try:
            item = await self._client.get(kube.LEASE, self._namespace, self._name)
        except NotFound:
            return False
        except ApiError:
            return True
        self._held = item
        return bool((item.get("spec") or {}).get("holderIdentity") == self._holder)

    async def release(self) -> None:
        """Let another have it at once."""
        if self._held is None:
            return
        spec = {**self._held["spec"], "holderIdentity": ""}
        with contextlib.suppress(Conflict, NotFound):
            await self._client.replace(
                kube.LEASE, self._namespace, self._name, {**self._held, "spec": spec}
            )
