"""Leader election among the controllers of an experiment, by a Lease, as in Kubernetes' own
controllers.

The journal's conditional put prevents double writes. The lease keeps two controllers from competing
for the journal, for example when a lost node is still alive.
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
"""Seconds for which the lease is valid after a renewal."""
RENEW = 5.0
"""Seconds between two renewals."""


class Lease:
    """Held by one controller at a time.

    It has expired if it has not changed for long enough by this machine's clock, so differences
    between the clocks of nodes do not matter.
    """

    def __init__(
        self, client: Client, namespace: str, name: str, holder: str, owner: Object
    ) -> None:
        """Send nothing yet."""
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
        """Wait until the lease is acquired: it is free, released, expired, or ours from before a
        restart."""
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
                # it belongs to a deleted experiment of this name
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
                continue  # it has changed in the meantime
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
        """Renew the lease; return when another controller holds it. While the API server does not
        answer, no other controller can acquire it either."""
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
                    log.error("another controller holds the lease")
                    return
            except ApiError as error:
                log.warning("cannot renew the lease: %s", error)

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
        """Release it, so that another controller can acquire it immediately."""
        if self._held is None:
            return
        spec = {**self._held["spec"], "holderIdentity": ""}
        with contextlib.suppress(Conflict, NotFound):
            await self._client.replace(
                kube.LEASE, self._namespace, self._name, {**self._held, "spec": spec}
            )
