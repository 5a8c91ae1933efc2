"""The stand-in node as tests see it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.lab.control_plane import Cluster, ControlPlane
from tests.cluster.lab.processes import Child
from tests.cluster.lab.rest import ApiError

_LOST = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class Image:
    """What a container of this image is on this machine: a command and variables."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


PYTHON = Image(env={"PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"})
"""The interpreter and the commands of the environment that the tests run in."""
IMAGES = {"lab/python": PYTHON}


class Node:
    """A stand-in for a kubelet, in a process of its own.

    One that another process has started is controlled by an object for the same folder.
    """

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        name: str = "node-1",
        *,
        images: Mapping[str, Image] = IMAGES,
        resources: Mapping[str, str | int] | None = None,
        labels: Mapping[str, str] | None = None,
        back_off: float = 10,
    ) -> None:
        self.cluster = cluster
        self.folder = folder
        self.name = name
        self._images = dict(images)
        self._resources = dict(resources or {})
        self._labels = dict(labels or {})
        self._back_off = back_off
        self._child: Child | None = None

    def start(self, timeout: float = 30) -> None:
        """Return when the node is Ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_images({name: asdict(image) for name, image in self._images.items()})
        (self.folder / "control.json").unlink(missing_ok=True)
        argv = [sys.executable, "-m", "tests.cluster.lab.kubelet"]
        argv += ["--kubeconfig", str(self._kubeconfig()), "--name", self.name]
        argv += ["--root", str(self.folder), "--back-off", str(self._back_off)]
        for flag, values in (("--resource", self._resources), ("--label", self._labels)):
            for key, value in values.items():
                argv += [flag, f"{key}={value}"]
        env = {"PYTHONPATH": str(REPOSITORY)}
        self._child = Child(argv, self.folder / "kubelet.log", env)
        deadline = time.monotonic() + timeout
        while not (self._child.alive and (self.folder / "control.json").exists() and self.ready):
            if not self._child.alive or time.monotonic() > deadline:
                said = self._child.said()
                self.stop()
                raise RuntimeError(f"the node {self.name} does not become ready: {said}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it and all that runs on it. The Node object stays, and will be found lost."""
        if self._child:
            self._child.stop()

    def remove(self) -> None:
        """End it, and take it out of the cluster."""
        self.stop()
        self.cluster.api.delete(f"/api/v1/nodes/{self.name}")

    def crash(self) -> None:
        """The machine is gone: SIGKILL for the stand-in, and with it for all that runs on it."""
        if self._child:
            self._child.stop(0)

    @property
    def ready(self) -> bool:
        """Ready, and free of the taints that say it was not."""
        try:
            node = self.cluster.api.get(f"/api/v1/nodes/{self.name}")
        except ApiError:
            return False
        conditions = node["status"].get("conditions") or ()
        taints = {taint["key"] for taint in node["spec"].get("taints") or ()}
        return taints.isdisjoint(_LOST) and any(
            c["type"] == "Ready" and c["status"] == "True" for c in conditions
        )

    def set_image(self, name: str, image: Image | None) -> None:
        """From now on the node has this image; None: it has it no more."""
        images = json.loads((self.folder / "images.json").read_text())
        images.pop(name, None)
        if image is not None:
            images[name] = asdict(image)
        self._write_images(images)

    def pods(self) -> list[dict[str, Any]]:
        """The pods on it: namespace, name, uid, phase, ip, pid, log, folder, state, ..."""
        pods: list[dict[str, Any]] = self._control("GET", "/pods")
        return pods

    def pod(self, namespace: str, name: str) -> dict[str, Any]:
        """One of pods()."""
        for pod in self.pods():
            if (pod["namespace"], pod["name"]) == (namespace, name):
                return pod
        raise LookupError(f"no pod {namespace}/{name} on {self.name}")

    def log(self, namespace: str, name: str) -> str:
        """What the pod's container has printed in its present or last run."""
        return Path(self.pod(namespace, name)["log"]).read_text(errors="replace")

    def kill(self, namespace: str, name: str, number: int = signal.SIGKILL) -> None:
        """Send the pod's process a signal, as nothing in the cluster would."""
        self._control("POST", "/kill", {"namespace": namespace, "pod": name, "signal": number})

    def oom(self, namespace: str, name: str) -> None:
        """Kill the pod's process as the kernel does when memory is short."""
        self._control("POST", "/oom", {"namespace": namespace, "pod": name})

    def reject(self, namespace: str, reason: str = "", message: str = "") -> None:
        """Take no pod of the namespace from now on, as admission by a node does; without a reason
        take them again."""
        body = {"namespace": namespace, "reason": reason, "message": message}
        self._control("POST", "/reject", body)

    def pause(self) -> None:
        """Cut the node off: no heartbeats, no reports, no orders heard. Its pods run on."""
        self._control("POST", "/pause", {})

    def resume(self) -> None:
        """Join it again."""
        self._control("POST", "/resume", {})

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        url = json.loads((self.folder / "control.json").read_text())["url"]
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as problem:
            raise LookupError(f"{body}: {problem.read().decode()}") from None

    def _write_images(self, images: dict[str, Any]) -> None:
        temporary = self.folder / ".images.json"
        temporary.write_text(json.dumps(images))
        temporary.rename(self.folder / "images.json")

    def _kubeconfig(self) -> Path:
        """A node's own rights, and those of a proxy to see where a Service leads to."""
        if not isinstance(self.cluster, ControlPlane):
            return self.cluster.kubeconfig
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        role = {
            "metadata": {"name": "lab:node"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}],
        }
        binding = {
            "metadata": {"name": "lab:node"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "lab:node",
            },
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}
            ],
        }
        for kind, body in (("clusterroles", role), ("clusterrolebindings", binding)):
            try:
                self.cluster.api.post(f"{rbac}/{kind}", body)
            except ApiError as problem:
                if problem.reason != "AlreadyExists":
                    raise
        return self.cluster.user_kubeconfig(
            self.folder / "kubeconfig", f"system:node:{self.name}", "system:nodes", ("127.0.0.1",)
        )
