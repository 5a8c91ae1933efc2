"""The node: registered, kept alive, and given its pods."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import os
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.cluster.lab.kubelet.client import Api
from tests.cluster.lab.kubelet.pod import Pod
from tests.cluster.lab.kubelet.process import end_leftovers
from tests.cluster.lab.rest import ApiError

_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_MARK = "LAB_NODE"
_CAPACITY = {"cpu": "256", "memory": "1Ti", "pods": "1000", "ephemeral-storage": "1Ti"}
_STATUS_EVERY = 10
_NET_LOCK = 47077  # a port: who listens there on a network's last address has the network


@dataclass(frozen=True)
class Options:
    """How the node presents itself."""

    name: str
    root: Path
    resources: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    back_off: float = 10
    heartbeat: float = 2


class Kubelet:
    """Everything that happens on one node."""

    def __init__(self, api: Api, options: Options) -> None:
        self.api = api
        self.name = options.name
        self.root = options.root
        self.back_off = options.back_off
        self.mark = {_MARK: mark(options.root)}
        """What its processes have in their environment, so that none is left behind."""
        self.http = aiohttp.ClientSession()
        self.pods: dict[str, Pod] = {}
        self.everywhere: dict[str, Any] = {}
        """All pods of the cluster by UID: where a Service may lead to."""
        self.services: dict[tuple[str, str], Any] = {}
        """By namespace and name. Like a node's network they outlive the API server."""
        self.rejections: dict[str, dict[str, str]] = {}
        """By namespace: reason and message with which the node takes none of its pods."""
        self.proxy_port = 0
        self.port = 0
        self._options = options
        self._images: tuple[int, dict[str, Any]] = (0, {})
        self._lock, self._addresses = _network()

    def images(self) -> dict[str, Any]:
        """What images the node has: a file that tests may change at any time."""
        path = self.root / "images.json"
        with contextlib.suppress(FileNotFoundError):
            changed = path.stat().st_mtime_ns
            if changed != self._images[0]:
                self._images = (changed, json.loads(path.read_text()))
        return self._images[1]

    def find(self, namespace: str, name: str) -> Pod | None:
        """The pod of that name that runs here."""
        for pod in self.pods.values():
            if (pod.namespace, pod.name) == (namespace, name):
                return pod
        return None

    async def run(self) -> None:
        """Until cancelled."""
        end_leftovers(f"{_MARK}={self.root}:")
        await self._register()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._heartbeats())
                tasks.create_task(self._watch_pods())
                tasks.create_task(self._watch_services())
                tasks.create_task(self._tokens())
        finally:
            for pod in self.pods.values():
                pod.gone()
            await self.http.close()
            self._lock.close()

    async def _watch_pods(self) -> None:
        async for kind, found in self.api.watch("/api/v1/pods"):
            if kind == "SYNC":
                there = {pod["metadata"]["uid"] for pod in found}
                for uid in self.everywhere.keys() - there:
                    self._forget(uid)
                for pod in found:
                    self._take(pod)
            elif kind == "DELETED":
                self._forget(found["metadata"]["uid"])
            else:
                self._take(found)

    async def _watch_services(self) -> None:
        async for kind, found in self.api.watch("/api/v1/services"):
            if kind == "SYNC":
                self.services.clear()
            for service in found if kind == "SYNC" else [found]:
                meta = service["metadata"]
                self.services[meta["namespace"], meta["name"]] = service
                if kind == "DELETED":
                    del self.services[meta["namespace"], meta["name"]]

    def _take(self, found: Any) -> None:
        uid = found["metadata"]["uid"]
        self.everywhere[uid] = found
        if found["spec"].get("nodeName") != self.name:
            return
        if pod := self.pods.get(uid):
            pod.update(found)
        else:
            self.pods[uid] = Pod(found, self, str(next(self._addresses)))

    def _forget(self, uid: str) -> None:
        self.everywhere.pop(uid, None)
        if pod := self.pods.pop(uid, None):
            pod.gone()

    async def _register(self) -> None:
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(
                platform.machine(), platform.machine()
            ),
            **self._options.labels,
        }
        node = {"metadata": {"name": self.name, "labels": labels}, "spec": {}}
        while True:
            try:
                await self.api.post("/api/v1/nodes", node)
                break
            except ApiError as problem:
                if problem.reason == "AlreadyExists":
                    break
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.2)
        (self.root / "pods").mkdir(parents=True, exist_ok=True)

    async def _heartbeats(self) -> None:
        """Node status and Lease, every few seconds."""
        path = f"/api/v1/nodes/{self.name}/status"
        ready_since = _now()
        due = 0.0
        while True:
            try:
                await self._lease()
                if time.monotonic() > due:
                    await self.api.patch(path, {"status": self._status(ready_since)})
                    due = time.monotonic() + _STATUS_EVERY
            except (ApiError, aiohttp.ClientError, OSError):
                due = 0
                await asyncio.sleep(0.2)
            else:
                await asyncio.sleep(self._options.heartbeat)

    async def _lease(self) -> None:
        spec = {
            "holderIdentity": self.name,
            "leaseDurationSeconds": 40,
            "renewTime": datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z"),
        }
        try:
            lease = await self.api.get(f"{_LEASES}/{self.name}")
            await self.api.put(f"{_LEASES}/{self.name}", {**lease, "spec": spec})
        except ApiError as problem:
            if problem.status != 404:
                raise
            await self.api.post(_LEASES, {"metadata": {"name": self.name}, "spec": spec})

    def _status(self, since: str) -> dict[str, Any]:
        resources = {**_CAPACITY, **self._options.resources}
        reasons = {
            "Ready": ("KubeletReady", "True"),
            "MemoryPressure": ("KubeletHasSufficientMemory", "False"),
            "DiskPressure": ("KubeletHasNoDiskPressure", "False"),
            "PIDPressure": ("KubeletHasSufficientPID", "False"),
        }
        return {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": self.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            "nodeInfo": {
                "machineID": self.name,
                "systemUUID": self.name,
                "bootID": self.name,
                "kernelVersion": platform.release(),
                "osImage": "kinase test lab",
                "containerRuntimeVersion": "lab://1",
                "kubeletVersion": "v1.37.0-lab",
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": platform.machine(),
            },
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": reason,
                    "lastHeartbeatTime": _now(),
                    "lastTransitionTime": since,
                }
                for kind, (reason, status) in reasons.items()
            ],
        }

    async def _tokens(self) -> None:
        while True:
            await asyncio.sleep(20)
            for pod in list(self.pods.values()):
                with contextlib.suppress(
                    ApiError, aiohttp.ClientError, OSError, asyncio.TimeoutError
                ):
                    await pod.renew_tokens()


def mark(root: Path) -> str:
    """Of the processes of this very stand-in."""
    return f"{root}:{os.getpid()}"


def guard(root: Path) -> None:
    """Leave a process behind that waits for our end, however it comes, and ends our pods' then.

    The kernel kills the first process of each pod with us, but not those that it has started.
    To be called before there is a thread or a connection.
    """
    text = f"{_MARK}={mark(root)}"
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.close(writer)
        os.read(reader, 1)  # returns when the other end is closed, by our end at the latest
        end_leftovers(text)
        os._exit(0)
    os.close(reader)


def _network() -> tuple[socket.socket, Iterator[ipaddress.IPv4Address]]:
    """Loopback addresses that no other stand-in on this machine gives to its pods."""
    for number in range(77, 251):
        network = ipaddress.ip_network(f"127.{number}.0.0/16")
        lock = socket.socket()
        try:
            lock.bind((str(network[-2]), _NET_LOCK))
            lock.listen()
        except OSError:
            lock.close()
        else:
            hosts = iter(network.hosts())
            next(hosts)  # .0.1 is easily mistaken
            return lock, hosts  # type: ignore[return-value]
    raise RuntimeError("no loopback network is free")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
