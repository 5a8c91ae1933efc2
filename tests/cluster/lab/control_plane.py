"""etcd, API server, controller manager and scheduler: the real ones, on ports of our own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.lab import binaries
from tests.cluster.lab.pki import Authority
from tests.cluster.lab.processes import Child, free_ports
from tests.cluster.lab.rest import ApiError, Rest

LOOPBACK = "127.0.0.1"
LOST = 8
"""Seconds without a heartbeat until a node counts as lost."""
EVICTED = 3
"""Seconds from then until its pods are deleted (a real cluster: 300)."""


class Cluster:
    """A cluster that is there, through its administrator's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._rest: Rest | None = None

    @property
    def api(self) -> Rest:
        """Requests as the administrator."""
        if self._rest is None:
            self._rest = Rest(self.kubeconfig)
        return self._rest

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """kubectl's output, as the administrator."""
        done = subprocess.run(
            [str(binaries.get("kubectl")), f"--kubeconfig={self.kubeconfig}", *args],
            input=stdin,
            capture_output=True,
            text=True,
        )
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def account_kubeconfig(
        self, path: Path, namespace: str, account: str, seconds: int = 3600
    ) -> Path:
        """A kubeconfig for a ServiceAccount, by a token that is valid that long."""
        answer = self.api.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            {"spec": {"expirationSeconds": seconds}},
        )
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        return write_kubeconfig(path, cluster, {"token": answer["status"]["token"]}, namespace)


class ControlPlane(Cluster):
    """A cluster of our own in a folder. Its processes end with the one that started them.

    It has no nodes. One counts as lost after `lost` seconds, and its pods are deleted EVICTED
    seconds later if another node is well (with none left the controller manager deletes nothing).
    At an `address` that pods can reach, they find the API server where they expect it.
    """

    def __init__(
        self, folder: Path, *, audit: bool = False, address: str = LOOPBACK, lost: int = LOST
    ) -> None:
        super().__init__(folder / "admin.kubeconfig")
        self.folder = folder
        self.address = address
        self.lost = lost
        self.audit_log = folder / "audit.jsonl" if audit else None
        self.server = ""
        self.children: dict[str, Child] = {}
        self._argv: dict[str, list[str]] = {}
        self._authority: Authority | None = None

    def start(self, timeout: float = 60) -> None:
        """Return when the API server is ready and the default namespace has its account."""
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout
        while True:
            self._configure()
            try:
                self._start(deadline)
                return
            except _PortTaken:  # another process took it between our look and its use
                self.stop()
                shutil.rmtree(self.folder / "etcd", ignore_errors=True)  # it knows its old port
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End everything; etcd last, since the API server needs it to end quickly."""
        for name in ("scheduler", "controller-manager"):
            if child := self.children.pop(name, None):
                child.stop(0)
        self.stop_apiserver()
        if child := self.children.pop("etcd", None):
            child.stop(0)

    def stop_apiserver(self, grace: float = 0) -> None:
        """An outage: watches are cut, requests are refused. What etcd holds is kept."""
        if child := self.children.pop("apiserver", None):
            child.stop(grace)

    def start_apiserver(self, timeout: float = 60) -> None:
        """The end of the outage, at the same address."""
        self._spawn("apiserver")
        self._wait(self._ready, time.monotonic() + timeout, "apiserver")

    def stop_controllers(self) -> None:
        """No controller manager and no scheduler, until start_controllers()."""
        for name in ("scheduler", "controller-manager"):
            if child := self.children.pop(name, None):
                child.stop(0)

    def start_controllers(self) -> None:
        for name in ("controller-manager", "scheduler"):
            self._spawn(name)

    def user_kubeconfig(
        self, path: Path, name: str, group: str | None = None, hosts: tuple[str, ...] = ()
    ) -> Path:
        """A kubeconfig for a user with a certificate, which is good for a server at `hosts` too."""
        assert self._authority, "start() comes first"
        certificate, key = self._authority.issue(name.replace(":", "-"), name, group, hosts)
        cluster = {
            "server": self.server,
            "certificate-authority": str(self._authority.certificate),
        }
        user = {"client-certificate": str(certificate), "client-key": str(key)}
        return write_kubeconfig(path, cluster, user)

    def _configure(self) -> None:
        etcd, peer, manager, scheduler = free_ports(4)
        (api,) = free_ports(1, self.address)
        pki = self._authority = Authority(self.folder / "pki")
        self.server = f"https://{self.address}:{api}"
        self._rest = None
        hosts = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        serving, serving_key = pki.issue(
            "apiserver", "kube-apiserver", hosts=(*hosts, self.address, "10.96.0.1")
        )
        public, private = pki.signing_key("serviceaccounts")
        client, client_key = pki.issue("kubelet-client", "kubelet-client", "system:masters")
        self.user_kubeconfig(self.kubeconfig, "admin", "system:masters")
        manager_config = self.user_kubeconfig(
            self.folder / "controller-manager.kubeconfig", "system:kube-controller-manager"
        )
        scheduler_config = self.folder / "scheduler.yaml"
        scheduler_config.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "kubescheduler.config.k8s.io/v1",
                    "kind": "KubeSchedulerConfiguration",
                    "leaderElection": {"leaderElect": False},
                    "podMaxBackoffSeconds": 2,
                    "clientConnection": {
                        "kubeconfig": str(
                            self.user_kubeconfig(
                                self.folder / "scheduler.kubeconfig", "system:kube-scheduler"
                            )
                        ),
                        "qps": 400,
                        "burst": 800,
                    },
                }
            )
        )
        endpoints = []
        if self.address == LOOPBACK:
            endpoints = ["--endpoint-reconciler-type=none"]  # it refuses loopback addresses
        audit = []
        if self.audit_log:
            policy = self.folder / "audit.yaml"
            policy.write_text(
                yaml.safe_dump(
                    {
                        "apiVersion": "audit.k8s.io/v1",
                        "kind": "Policy",
                        "omitStages": ["RequestReceived"],
                        "rules": [{"level": "Metadata"}],
                    }
                )
            )
            audit = [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]
        self._argv = {
            "etcd": [
                "etcd",
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{etcd}",
                f"--advertise-client-urls=http://127.0.0.1:{etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
                "--log-level=warn",
                "--unsafe-no-fsync",
            ],
            "apiserver": [
                "kube-apiserver",
                f"--etcd-servers=http://127.0.0.1:{etcd}",
                f"--bind-address={self.address}",
                f"--secure-port={api}",
                *endpoints,
                f"--tls-cert-file={serving}",
                f"--tls-private-key-file={serving_key}",
                f"--client-ca-file={pki.certificate}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--service-cluster-ip-range=10.96.0.0/16",
                f"--service-account-key-file={public}",
                f"--service-account-signing-key-file={private}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--kubelet-client-certificate={client}",
                f"--kubelet-client-key={client_key}",
                f"--kubelet-certificate-authority={pki.certificate}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--default-not-ready-toleration-seconds={EVICTED}",
                f"--default-unreachable-toleration-seconds={EVICTED}",
                "--profiling=true",
                *audit,
            ],
            "controller-manager": [
                "kube-controller-manager",
                "--bind-address=127.0.0.1",
                f"--secure-port={manager}",
                f"--kubeconfig={manager_config}",
                f"--service-account-private-key-file={private}",
                f"--root-ca-file={pki.certificate}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--kube-api-qps=400",
                "--kube-api-burst=800",
                "--concurrent-job-syncs=20",
                "--concurrent-gc-syncs=40",
                "--concurrent-namespace-syncs=20",
                "--concurrent-ttl-after-finished-syncs=20",
                "--node-monitor-period=1s",
                f"--node-monitor-grace-period={self.lost}s",
                f"--node-startup-grace-period={self.lost}s",
                "--node-eviction-rate=10",
                "--profiling=false",
            ],
            "scheduler": [
                "kube-scheduler",
                "--bind-address=127.0.0.1",
                f"--secure-port={scheduler}",
                f"--config={scheduler_config}",
                "--profiling=false",
            ],
        }

    def _start(self, deadline: float) -> None:
        self._spawn("etcd")
        self._spawn("apiserver")  # it waits for etcd by itself
        self._wait(self._ready, deadline, "etcd", "apiserver")
        self.start_controllers()
        self._wait(self._accounts, deadline, *self.children)

    def _spawn(self, name: str) -> None:
        program, *flags = self._argv[name]
        log = self.folder / f"{name}.log"
        self.children[name] = Child([str(binaries.get(program)), *flags], log)

    def _ready(self) -> bool:
        return bool(self.api.get("/readyz") == "ok")

    def _accounts(self) -> bool:
        return bool(self.api.get("/api/v1/namespaces/default/serviceaccounts/default"))

    def _wait(self, condition: Callable[[], Any], deadline: float, *needed: str) -> None:
        while True:
            with contextlib.suppress(OSError, ApiError):
                if condition():
                    return
            for name in needed:
                if not self.children[name].alive:
                    said = self.children[name].said()
                    if "address already in use" in said:
                        raise _PortTaken
                    raise RuntimeError(f"{name} has ended: {said}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"{name}: {self.children[name].said()}" for name in needed)
                raise TimeoutError(f"the control plane is not ready: {logs}")
            time.sleep(0.05)


class _PortTaken(Exception):
    pass


def write_kubeconfig(
    path: Path, cluster: dict[str, str], user: dict[str, str], namespace: str = "default"
) -> Path:
    """A kubeconfig with one user of one cluster."""
    context = {"cluster": "lab", "user": "lab", "namespace": namespace}
    text = yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "lab", "user": user}],
            "contexts": [{"name": "lab", "context": context}],
            "current-context": "lab",
        }
    )
    path.touch(mode=0o600)
    path.write_text(text)
    return path
