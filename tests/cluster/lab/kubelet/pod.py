"""One pod's life on the node, and what is reported of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import re
import shutil
import signal
import time
import traceback
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.cluster.lab.kubelet.inputs import (
    ACCOUNT,
    NotYet,
    Source,
    Volumes,
    environment,
    expand,
    rewriter,
)
from tests.cluster.lab.kubelet.process import Process
from tests.cluster.lab.rest import ApiError

if TYPE_CHECKING:
    from tests.cluster.lab.kubelet.node import Kubelet

_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:-]*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?")
_LOST = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
}
_MESSAGE_BYTES = 4096
_LOG_BYTES = 2048
_PATIENCE = 0.1
"""Seconds that a pod has to start before it is reported as not yet started."""


class _Stopped(Exception):
    """The pod is to end: it is being deleted, or its time is up."""


class _Container:
    """What is known of one container."""

    def __init__(self, spec: Any, folder: Path) -> None:
        self.spec = spec
        self.folder = folder
        self.state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        self.last: dict[str, Any] = {}
        self.restarts = 0
        self.ready = False
        self.started = False
        self.id = ""
        self.pid: int | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> Path:
        """Output of the present run, or of the last one while the next is waited for."""
        path = self.folder / f"{self.restarts}.log"
        before = self.folder / f"{self.restarts - 1}.log"
        return before if before.exists() and not path.exists() else path

    @property
    def message_file(self) -> Path:
        return self.folder / "termination-log"

    def was_started(self) -> bool:
        """An earlier stand-in began this run, and did not come to report it."""
        with contextlib.suppress(OSError, ValueError):
            began = int((self.folder / "run").read_text())
            return began == self.restarts and (
                self.state.get("waiting", {}).get("reason") != "CrashLoopBackOff"
            )
        return False

    def wait(self, reason: str, message: str = "") -> None:
        self.state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}

    def status(self) -> dict[str, Any]:
        image = self.spec["image"]
        return {
            "name": self.spec["name"],
            "image": image,
            "imageID": image if self.id else "",
            "containerID": self.id,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }


class Pod:
    """Runs the pod until it has ended or is gone."""

    def __init__(self, found: Any, node: Kubelet, ip: str) -> None:
        meta = found["metadata"]
        self.object = found
        self.namespace: str = meta["namespace"]
        self.name: str = meta["name"]
        self.uid: str = meta["uid"]
        self.ip = ip
        self.phase = "Pending"
        self.oom = False
        self._node = node
        self._folder = node.root / "pods" / self.uid
        self._source = Source(node.api, self.namespace)
        self._volumes = Volumes(self._source, self._folder / "volumes", ip, node.name)
        spec = found["spec"]
        inits = spec.get("initContainers") or ()
        self._inits = [self._container(c) for c in inits if not c.get("restartPolicy")]
        main = next((c for c in spec["containers"] if c["name"] == "kinase"), spec["containers"][0])
        self._main = self._container(main)
        # whoever admission has put beside the main container is said to run, and does nothing
        self._native = [self._container(c) for c in inits if c.get("restartPolicy")]
        self._beside = [self._container(c) for c in spec["containers"] if c is not main]
        self._rejected = False
        self._not_begun = "PodInitializing" if self._inits else "ContainerCreating"
        self._main.wait(self._not_begun)
        self._process: Process | None = None
        self._reason: dict[str, str] = {}
        self._conditions: dict[str, dict[str, Any]] = {}
        self._volumes_ready = False
        self._stop = asyncio.Event()
        self._kill_at = float("inf")
        self._dirty = asyncio.Event()
        self._clean = asyncio.Event()
        self._clean.set()
        before = found.get("status", {})
        self._started_at: str = before.get("startTime") or _now()
        self._recall(before)
        self._tasks = [asyncio.create_task(self._live()), asyncio.create_task(self._report())]

    def _container(self, spec: Any) -> _Container:
        return _Container(spec, self._folder / spec["name"])

    def update(self, found: Any) -> None:
        """The pod as the API server now has it."""
        self.object = found
        with contextlib.suppress(NotYet):
            self._volumes.refresh(found)
        meta = found["metadata"]
        self._set_deadline()
        if meta.get("deletionTimestamp"):
            self._end_within(meta.get("deletionGracePeriodSeconds") or 0)

    def gone(self) -> None:
        """The API server has it no more: so it runs no more."""
        for task in self._tasks:
            task.cancel()
        self.signal(signal.SIGKILL)
        shutil.rmtree(self._folder / "volumes", ignore_errors=True)

    def signal(self, number: int) -> bool:
        """To its process; False if it has none."""
        if self._process is None:
            return False
        self._process.signal(number)
        return True

    @property
    def runs(self) -> bool:
        """It has a process at the moment."""
        return self._process is not None

    def log(self, container: str, *, previous: bool = False) -> Path | None:
        """The file with the container's output."""
        for one in (*self._inits, self._main):
            if one.spec["name"] == container:
                return one.folder / f"{one.restarts - 1}.log" if previous else one.log
        return None

    def describe(self) -> dict[str, Any]:
        """For the control endpoint."""
        current = next((c for c in (*self._inits, self._main) if c.pid), self._main)
        return {
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "phase": self.phase,
            "ip": self.ip,
            "pid": current.pid,
            "log": str(current.log),
            "logs": {c.spec["name"]: str(c.log) for c in (*self._inits, self._main)},
            "folder": str(self._folder),
            "state": current.state,
            "ready": self._main.ready,
            "restartCount": self._main.restarts,
        }

    # What it does

    def _recall(self, before: Any) -> None:
        """Take up what an earlier stand-in reported of this pod."""
        statuses = {
            status["name"]: status
            for key in ("initContainerStatuses", "containerStatuses")
            for status in before.get(key) or ()
        }
        for container in (*self._inits, self._main):
            if status := statuses.get(container.spec["name"]):
                container.restarts = status["restartCount"]
                container.id = status.get("containerID", "")
                container.state = status["state"]
                container.last = status.get("lastState") or {}
        if before.get("phase") in ("Succeeded", "Failed"):
            self.phase = before["phase"]
        elif "running" in self._main.state or self._main.was_started():
            began = self._main.state.get("running", {}).get("startedAt", _now())
            self._main.state = {
                "terminated": {
                    **_LOST,
                    "startedAt": began,
                    "finishedAt": _now(),
                    "containerID": self._main.id,
                }
            }
            self.phase = "Running"

    async def _live(self) -> None:
        try:
            if self.phase in ("Pending", "Running"):
                await self._work()
        except _Stopped:
            if self.phase not in ("Succeeded", "Failed"):
                self._finish()
        except Exception as problem:  # a mistake of the stand-in's must not look like a hang
            self._reason = {"reason": "StandInFailed", "message": repr(problem)}
            self.phase = "Failed"
            self._changed()
            traceback.print_exc()
        while not self.object["metadata"].get("deletionTimestamp"):
            self._stop.clear()
            await self._stop.wait()
        await self._clean.wait()
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        while True:
            try:
                await self._node.api.delete(path, body)
                return
            except ApiError as problem:
                if problem.status in (404, 409):
                    return
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.2)

    async def _work(self) -> None:
        if self.object["metadata"].get("deletionTimestamp"):
            raise _Stopped
        asyncio.get_running_loop().call_later(_PATIENCE, self._changed)
        if rejection := self._node.rejections.get(self.namespace):
            self._reason, self._rejected, self.phase = rejection, True, "Failed"
            self._changed()
            return
        self._set_deadline()
        if not self._volumes_ready:
            await self._until_there(self._main, self._not_begun, self._make_volumes)
        for container in self._inits:
            await self._run(container, "OnFailure" if self._policy != "Never" else "Never")
            if container.state["terminated"]["exitCode"]:
                raise _Stopped
        for container in (*self._native, *self._beside):
            container.ready = container.started = True
            container.state = {"running": {"startedAt": _now()}}
        await self._run(self._main, self._policy)
        if self._beside:
            self._changed()
            await self._stop.wait()
            raise _Stopped
        self._finish()

    def _set_deadline(self) -> None:
        if seconds := self.object["spec"].get("activeDeadlineSeconds"):
            left = seconds - _seconds_since(self._started_at)
            asyncio.get_running_loop().call_later(max(0, left), self._deadline, seconds)

    @property
    def _initialized(self) -> bool:
        return all(c.state.get("terminated", {}).get("exitCode") == 0 for c in self._inits)

    @property
    def _policy(self) -> str:
        return str(self.object["spec"].get("restartPolicy", "Always"))

    async def _make_volumes(self) -> None:
        await self._volumes.make(self.object)
        self._volumes_ready = True

    async def _run(self, container: _Container, policy: str) -> None:
        """Until it has ended for good. An end that a stand-in before us saw counts."""
        while True:
            if "terminated" not in container.state:
                await self._once(container)
            code = container.state["terminated"]["exitCode"]
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                return
            self._changed()
            if container.restarts:
                back_off = min(self._node.back_off * 2 ** (container.restarts - 1), 300)
                container.last = container.state
                name = f"{self.name}_{self.namespace}({self.uid})"
                container.wait(
                    "CrashLoopBackOff",
                    f"back-off {back_off:g}s restarting failed "
                    f"container={container.spec['name']} pod={name}",
                )
                self._changed()
                await self._pause(back_off)
            else:
                container.last = container.state
            container.restarts += 1
            container.wait("ContainerCreating")

    async def _once(self, container: _Container) -> None:
        """One run of the container."""
        image = await self._image(container)
        while True:
            try:
                argv, env = await self._inputs(container, image)
                break
            except NotYet as problem:
                container.wait("CreateContainerConfigError", str(problem))
                self._changed()
                await self._pause(1)
        if self._stop.is_set():
            raise _Stopped
        container.message_file.write_bytes(b"")
        (container.folder / "run").write_text(str(container.restarts))
        container.id = f"lab://{uuid.uuid4().hex}"
        began = _now()
        home = Path(env["HOME"])
        workdir = container.spec.get("workingDir")
        cwd = Path(self._rewriter(container)(workdir)) if workdir else home
        home.mkdir(exist_ok=True)
        try:
            cwd.mkdir(parents=True, exist_ok=True)
            self._process = process = Process(argv, env, cwd, container.log)
        except OSError as problem:
            self._terminated(container, began, 128, "StartError", f"{argv[:1]}: {problem}")
            return
        container.pid = process.pid
        container.state = {"running": {"startedAt": began}}
        container.started = True
        if container is self._main:
            self.phase = "Running"
        probe = container.spec.get("readinessProbe")
        container.ready = not probe
        self._changed()
        prober = asyncio.create_task(self._probe(container, probe)) if probe else None
        try:
            code = await self._ended(process)
        finally:
            if prober:
                prober.cancel()
            self._process = container.pid = None
        reason = "OOMKilled" if self.oom else "Error" if code else "Completed"
        self.oom = False
        self._terminated(container, began, code, reason, self._message(container, code))
        if self._stop.is_set():
            raise _Stopped

    def _terminated(
        self, container: _Container, began: str, code: int, reason: str, message: str
    ) -> None:
        container.ready = container.started = False
        container.state = {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "startedAt": began,
                "finishedAt": _now(),
                "containerID": container.id,
                **({"message": message} if message else {}),
            }
        }

    async def _ended(self, process: Process) -> int:
        """Its exit code; when the pod is to end, TERM first, and KILL after the grace."""
        ended = asyncio.create_task(process.wait())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((ended, stop), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and self._kill_at > time.monotonic():
                process.signal(signal.SIGTERM)
            while not ended.done():
                left = self._kill_at - time.monotonic()
                if left <= 0:
                    process.signal(signal.SIGKILL)
                    await ended
                else:  # the grace may be shortened meanwhile
                    await asyncio.wait((ended,), timeout=min(left, 0.1))
            return ended.result()
        finally:
            stop.cancel()

    def _message(self, container: _Container, code: int) -> str:
        with contextlib.suppress(OSError):
            data = container.message_file.read_bytes()[:_MESSAGE_BYTES]
            if data:
                return data.decode(errors="replace")
            policy = container.spec.get("terminationMessagePolicy")
            if code and policy == "FallbackToLogsOnError":
                return container.log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
        return ""

    async def _image(self, container: _Container) -> dict[str, Any]:
        """The image from the node's list, once it is there."""
        name = container.spec["image"]
        if not _IMAGE.fullmatch(name):
            container.wait(
                "InvalidImageName",
                f'Failed to apply default image tag "{name}": couldn\'t parse image name '
                f'"{name}": invalid reference format',
            )
            self._changed()
            while True:
                await self._pause(60)
        pulled = f'failed to pull and unpack image "{name}": {name}: not found'
        tried = False
        while (image := self._node.images().get(name)) is None:
            if container.spec.get("imagePullPolicy") == "Never":
                container.wait(
                    "ErrImageNeverPull",
                    f'Container image "{name}" is not present with pull policy of Never',
                )
            elif tried:
                container.wait(
                    "ImagePullBackOff", f'Back-off pulling image "{name}": ErrImagePull: {pulled}'
                )
            else:
                container.wait("ErrImagePull", pulled)
            tried = True
            self._changed()
            await self._pause(1)
        return dict(image)

    async def _inputs(
        self, container: _Container, image: dict[str, Any]
    ) -> tuple[list[str], dict[str, str]]:
        """Command and environment, in paths of this machine."""
        spec = container.spec
        given = await environment(self._source, self.object, spec, self.ip, self._node.name)
        rewrite = self._rewriter(container)
        mounts = self._volumes.mounts(spec)
        command = [expand(part, given) for part in spec.get("command") or ()]
        args = [expand(part, given) for part in spec.get("args") or ()]
        argv = [rewrite(part) for part in command] or list(image.get("entrypoint", ()))
        if args or command:
            argv += [rewrite(part) for part in args]
        else:
            argv += image.get("cmd", ())
        if not argv:
            raise NotYet("no command specified")
        proxy = f"http://127.0.0.1:{self._node.proxy_port}"
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(container.folder / "home"),
            "HOSTNAME": self.name,
            "http_proxy": proxy,
            "no_proxy": "127.0.0.1,localhost",
            **self._node.mark,
            **image.get("env", {}),
        }
        if temporary := mounts.get("/tmp"):
            env["TMPDIR"] = temporary
        if account := mounts.get(ACCOUNT):
            env["KUBECONFIG"] = str(self._kubeconfig(container, Path(account)))
        env.update({name: rewrite(value) for name, value in given.items()})
        return argv, env

    def _rewriter(self, container: _Container) -> Any:
        path = container.spec.get("terminationMessagePath") or "/dev/termination-log"
        paths = {**self._volumes.mounts(container.spec), path: str(container.message_file)}
        return rewriter(paths, self.ip)

    def _kubeconfig(self, container: _Container, account: Path) -> Path:
        """How the container reaches the API server: an address in its variables would need the
        certificate and token at paths that only a container has."""
        path = container.folder / "kubeconfig"
        cluster = {
            "server": self._node.api.server,
            "certificate-authority": str(account / "ca.crt"),
        }
        context = {"cluster": "lab", "user": "lab", "namespace": self.namespace}
        path.write_text(
            json.dumps(  # which is YAML too, and quicker to write
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "lab", "cluster": cluster}],
                    "users": [{"name": "lab", "user": {"tokenFile": str(account / "token")}}],
                    "contexts": [{"name": "lab", "context": context}],
                    "current-context": "lab",
                }
            )
        )
        return path

    async def _probe(self, container: _Container, probe: Any) -> None:
        """Ready as long as it answers."""
        await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
        period = probe.get("periodSeconds") or 10
        failures = 0
        while True:
            failures = 0 if await self._answers(container, probe) else failures + 1
            ready = failures == 0 or (
                container.ready and failures < (probe.get("failureThreshold") or 3)
            )
            if ready != container.ready:
                container.ready = ready
                self._changed()
            await asyncio.sleep(period if container.ready else min(period, 0.25))

    async def _answers(self, container: _Container, probe: Any) -> bool:
        check = probe.get("httpGet") or probe.get("tcpSocket")
        if not check:
            return True
        port = check["port"]
        if isinstance(port, str) and not port.isdigit():
            ports = {p.get("name"): p["containerPort"] for p in container.spec.get("ports") or ()}
            port = ports[port]
        host = check.get("host") or self.ip
        timeout = probe.get("timeoutSeconds") or 1
        try:
            if "httpGet" not in probe:
                _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
                writer.close()
                return True
            url = f"{check.get('scheme', 'HTTP').lower()}://{host}:{port}{check.get('path', '/')}"
            headers = {h["name"]: h["value"] for h in check.get("httpHeaders") or ()}
            limit = aiohttp.ClientTimeout(total=timeout)
            async with self._node.http.get(url, timeout=limit, headers=headers, ssl=False) as got:
                return got.status < 400
        except (aiohttp.ClientError, OSError):
            return False

    async def _until_there(self, container: _Container, reason: str, action: Any) -> None:
        """Try again and again what may need something that does not exist yet."""
        wait = 0.05
        while True:
            try:
                await action()
                return
            except NotYet as problem:
                container.wait(reason, str(problem))
                self._changed()
            await self._pause(wait)
            wait = min(wait * 2, 1)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
        if self._stop.is_set():
            raise _Stopped

    async def renew_tokens(self) -> None:
        with contextlib.suppress(NotYet):
            await self._volumes.renew_tokens(self.object)

    # How it ends

    def _end_within(self, seconds: float) -> None:
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)
        self._stop.set()

    def _deadline(self, seconds: int) -> None:
        changed = seconds != self.object["spec"].get("activeDeadlineSeconds")
        if changed or self._reason or self.phase in ("Succeeded", "Failed"):
            return
        self._reason = {
            "reason": "DeadlineExceeded",
            "message": "Pod was active on the node longer than the specified deadline",
        }
        self._end_within(self.object["spec"].get("terminationGracePeriodSeconds", 30))

    def _finish(self) -> None:
        """Nothing of it runs any more, and nothing will."""
        containers = [*self._inits, self._main]
        if not self._initialized:
            containers.pop()  # it has not had its turn
        for container in containers:
            if "terminated" not in container.state:
                if "terminated" in container.last:
                    container.state, container.last = container.last, {}
                else:
                    container.state = {"terminated": {**_LOST}}
            container.ready = container.started = False
        for other in (*self._native, *self._beside):
            other.ready = other.started = False
            other.state = {"terminated": {"exitCode": 0, "finishedAt": _now()}}
        failed = self._reason or any(c.state["terminated"]["exitCode"] for c in containers)
        self.phase = "Failed" if failed else "Succeeded"
        self._changed()

    # What is reported

    def _changed(self) -> None:
        self._clean.clear()
        self._dirty.set()

    async def _report(self) -> None:
        sent: dict[str, Any] = {}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}/status"
        while True:
            await self._dirty.wait()
            await self._node.api.open.wait()
            self._dirty.clear()
            status = json.loads(json.dumps(self._status()))  # as it is now, whatever comes
            if status != sent:
                try:
                    await self._node.api.patch(
                        path, {"metadata": {"uid": self.uid}, "status": status}
                    )
                    sent = status
                except ApiError as problem:
                    if problem.status in (404, 409):
                        self._clean.set()
                        return
                    print(f"{self.namespace}/{self.name}: {problem}", flush=True)
                    self._dirty.set()
                    await asyncio.sleep(0.2)
                except (aiohttp.ClientError, OSError):
                    self._dirty.set()
                    await asyncio.sleep(0.2)
            if not self._dirty.is_set():
                self._clean.set()

    def _status(self) -> dict[str, Any]:
        over = self.phase in ("Succeeded", "Failed")
        if self.phase == "Succeeded":
            unready = ("PodCompleted", "")
        elif self.phase == "Failed":
            unready = ("PodFailed", "")
        else:
            unready = (
                "ContainersNotReady",
                f"containers with unready status: [{self._main.spec['name']}]",
            )
        self._condition("PodReadyToStartContainers", self._volumes_ready and not over)
        names = " ".join(c.spec["name"] for c in self._inits)
        self._condition(
            "Initialized",
            self._initialized,
            "ContainersNotInitialized",
            f"containers with incomplete status: [{names}]",
        )
        self._condition("ContainersReady", self._main.ready, *unready)
        self._condition("Ready", self._main.ready, *unready)
        status: dict[str, Any] = {
            "phase": self.phase,
            "startTime": self._started_at,
            "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}],
            "podIP": self.ip,
            "podIPs": [{"$patch": "replace"}, {"ip": self.ip}],
            "conditions": list(self._conditions.values()),
            **self._reason,
        }
        if self._rejected:  # no node took it, so nobody speaks of containers
            return status
        containers = [c.status() for c in (self._main, *self._beside)]
        status["containerStatuses"] = sorted(containers, key=lambda c: str(c["name"]))
        if self._inits or self._native:
            status["initContainerStatuses"] = [c.status() for c in (*self._inits, *self._native)]
        return status

    def _condition(self, kind: str, true: bool, reason: str = "", message: str = "") -> None:
        value = "True" if true else "False"
        before = self._conditions.get(kind, {})
        since = before["lastTransitionTime"] if before.get("status") == value else _now()
        self._conditions[kind] = {
            "type": kind,
            "status": value,
            "lastTransitionTime": since,
            "reason": None if true else reason or None,
            "message": None if true else message or None,
        }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds_since(moment: str) -> float:
    then = datetime.datetime.fromisoformat(moment)
    return (datetime.datetime.now(datetime.UTC) - then).total_seconds()
