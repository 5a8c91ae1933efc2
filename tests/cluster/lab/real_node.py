"""A real node: containerd, kubelet, kube-proxy and CoreDNS, in namespaces of their own.

A node has its own mounts, processes and network, as a machine has, so that one machine holds
several and keeps nothing of them: what they mount, run and write into their packet filter is gone
with their first process (`node_init.py`). Nodes and the API server meet on a bridge of the machine.

    network = Network()
    network.start()
    cluster = ControlPlane(folder, address=network.address)
    cluster.start()
    node = RealNode(cluster, network, folder / "node-1")
    node.start()

There is no way out of it: names of the cluster resolve, others don't, and images are put there
with import_image(). Its network enforces no NetworkPolicy.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import yaml

from tests.cluster.lab import binaries, oci
from tests.cluster.lab.binaries import Unavailable
from tests.cluster.lab.control_plane import ControlPlane
from tests.cluster.lab.image_store import ImageStore, containerd, ctr
from tests.cluster.lab.node import REPOSITORY
from tests.cluster.lab.processes import Child
from tests.cluster.lab.rest import ApiError

PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "mount": "mount",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}
"""What a node takes besides what is built, and Debian's package with it."""
PLUGINS = ("/usr/lib/cni", "/opt/cni/bin")
PAUSE = "localhost/kinase-lab/pause:1"
CGROUPS = Path("/sys/fs/cgroup")
KUBELET = Path("/var/lib/kubelet")
"""A kubelet has some of its files there, whatever it is told."""
_DOMAIN = "cluster.local"


class Network:
    """A bridge that nodes hang on, and where the API server listens. One machine can have sixteen.

    Its addresses are of 198.18.0.0/15, which is set aside for tests of networks (RFC 2544). Node 1
    of the first has 198.18.0.2 and its pods 198.18.1.0/24; up to 15 nodes follow in that manner.
    """

    def __init__(self) -> None:
        self.number = -1
        self.folder = Path()
        """A place for what nodes hold: on the file system of the images, and removed at the end."""
        self._lock: Any = None
        self._used = 0

    def start(self) -> None:
        """Take the first that nobody has. It is ours as long as this process lives."""
        if problem := unavailable():
            raise Unavailable(problem)
        folder = binaries.cache().parent / "nodes"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(16):
            lock = (folder / f"{number}.lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            self.number, self._lock = number, lock
            self.folder = folder / str(number)
            self._remove()  # left by a process that was killed
            self.folder.mkdir()
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("address", "add", f"{self.address}/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
            return
        raise Unavailable("sixteen networks of nodes are in use on this machine")

    def stop(self) -> None:
        """Remove the bridge, the folder, and what nodes left in the cgroups if they were killed."""
        if self._lock:
            self._remove()
            self._lock.close()
            self._lock = None

    def place(self) -> int:
        """The number of one more node."""
        self._used += 1
        assert self._used < 16
        return self._used

    @property
    def bridge(self) -> str:
        return f"kinase{self.number}"

    @property
    def address(self) -> str:
        """This machine on the bridge."""
        return f"{self._prefix}.1"

    def node(self, place: int) -> str:
        """A node's address."""
        return f"{self._prefix}.{place + 1}"

    def pods(self, place: int) -> str:
        """A node's addresses for pods."""
        return f"198.18.{16 * self.number + place}.0/24"

    @property
    def all_pods(self) -> str:
        return f"198.18.{16 * self.number}.0/20"

    def cgroup(self, name: str) -> str:
        """Where a node's pods are counted."""
        return f"{self.bridge}-{name}"

    @property
    def _prefix(self) -> str:
        return f"198.18.{16 * self.number}"

    def _remove(self) -> None:
        for link in Path("/sys/class/net").glob(f"{self.bridge}*"):
            if link.name == self.bridge or link.name.startswith(f"{self.bridge}n"):
                _ip("link", "delete", link.name)  # and with it the routes over it
        for hierarchy in _hierarchies():
            for left in hierarchy.glob(self.cgroup("*")):
                _remove_cgroup(left)
        shutil.rmtree(self.folder, ignore_errors=True)


class RealNode:
    """One node, from start() to stop(), and no longer than the process that started it."""

    def __init__(
        self,
        cluster: ControlPlane,
        network: Network,
        folder: Path,
        name: str = "node-1",
        *,
        labels: Mapping[str, str] | None = None,
        images: ImageStore | None = None,
    ) -> None:
        """`images` are there from the start."""
        self.cluster = cluster
        self.network = network
        self.folder = folder
        self.name = name
        self._labels = dict(labels or {})
        self._images = images
        self._lent: TextIO | None = None
        self._place = network.place()
        self._child: Child | None = None
        self._pid = 0
        self._made_kubelet = False

    @property
    def address(self) -> str:
        return self.network.node(self._place)

    def start(self, timeout: float = 90) -> None:
        """Return when the node is Ready; Unavailable where the machine cannot have one."""
        if problem := unavailable():
            raise Unavailable(problem)
        deadline = time.monotonic() + timeout
        self._configure()
        argv = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--mount-proc"]
        argv += ["--kill-child", sys.executable, "-m", "tests.cluster.lab.node_init"]
        self._child = Child(
            [*argv, str(self.folder)], self.folder / "init.log", {"PYTHONPATH": str(REPOSITORY)}
        )
        try:
            self._pid = self._first_process(deadline)
            self._plug()
            self._wait(self._has_containerd, deadline)
            self.import_image(oci.archive(self.folder / "pause.tar", PAUSE, binaries.get("pause")))
            self._wait(self._ready, deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and all that runs on it at once. The Node object stays, and will be found lost."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, 9)  # it ends when all others of the node have ended
            self._pid = 0
        if self._child:
            self._child.process.wait(60)
            self._child = None
        with contextlib.suppress(RuntimeError):  # the kernel keeps it while connections are closing
            _ip("link", "delete", self._cable)
        for hierarchy in _hierarchies():
            _remove_cgroup(hierarchy / self.network.cgroup(self.name))
        for path in ("containerd", "kubelet", "state", "tmp"):
            shutil.rmtree(self.folder / path, ignore_errors=True)
        self.socket.unlink(missing_ok=True)
        if self._lent:
            self._lent.close()
        if self._made_kubelet:
            with contextlib.suppress(OSError):  # another node may still have it
                KUBELET.rmdir()

    def remove(self) -> None:
        """End it, and take it out of the cluster."""
        self.stop()
        self.cluster.api.delete(f"/api/v1/nodes/{self.name}")

    def import_image(self, archive: Path) -> None:
        """Put an image there: an archive of docker's or the OCI's format."""
        ctr(self.socket, "images", "import", str(archive))

    def images(self) -> list[str]:
        """The names of the images that it has."""
        names = ctr(self.socket, "images", "ls", "-q").split()
        return sorted(name for name in names if not name.startswith("sha256:"))

    def processes(self) -> list[str]:
        """The commands that pods of the node run."""
        found = set()
        for hierarchy in _hierarchies():
            for group in (hierarchy / self.network.cgroup(self.name)).rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    found |= {int(pid) for pid in group.read_text().split()}
        commands = []
        for pid in sorted(found):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                commands.append(command.replace(b"\0", b" ").decode(errors="replace").strip())
        return commands

    def run(self, *argv: str, check: bool = True) -> str:
        """What a command prints that runs on the node, with its network and processes."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        return _run([*enter, *argv], check=check)

    def _first_process(self, deadline: float) -> int:
        assert self._child
        unshare = self._child.process.pid
        children = Path(f"/proc/{unshare}/task/{unshare}/children")
        while not (found := children.read_text().split()):
            self._wait(lambda: True, deadline)
            time.sleep(0.01)
        return int(found[0])

    def _plug(self) -> None:
        """A cable from the bridge to the node's eth0."""
        veth = ("link", "add", self._cable, "type", "veth", "peer", "name", "eth0")
        _ip(*veth, "netns", str(self._pid))
        _ip("link", "set", self._cable, "master", self.network.bridge, "up")
        _ip("route", "replace", self.network.pods(self._place), "via", self.address)

    @property
    def _cable(self) -> str:
        return f"{self.network.bridge}n{self._place}"

    def _has_containerd(self) -> bool:
        with contextlib.suppress(RuntimeError):
            return bool(ctr(self.socket, "version"))
        return False

    def _ready(self) -> bool:
        """Ready, and free of the taint that says it was not."""
        with contextlib.suppress(ApiError):
            node = self.cluster.api.get(f"/api/v1/nodes/{self.name}")
            ready = {c["type"]: c["status"] for c in node["status"].get("conditions") or ()}
            return ready.get("Ready") == "True" and not node["spec"].get("taints")
        return False

    def _wait(self, condition: Any, deadline: float) -> None:
        assert self._child
        while not condition():
            if not self._child.alive or time.monotonic() > deadline:
                logs = {path.name: path.read_text()[-1000:] for path in self.folder.glob("*.log")}
                said = "\n".join(f"{name}: {log}" for name, log in logs.items())
                raise RuntimeError(f"the node {self.name} does not become ready:\n{said}")
            time.sleep(0.05)

    @property
    def socket(self) -> Path:
        """containerd's."""
        return self.folder / "containerd.sock"

    def _configure(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._images:
            self._lent = self._images.lend(self.folder / "containerd")
        for name in ("containerd", "kubelet", "state", "tmp", "cni", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._made_kubelet = not KUBELET.exists()
        KUBELET.mkdir(parents=True, exist_ok=True)
        for hierarchy in _hierarchies():
            _make_cgroup(hierarchy / self.network.cgroup(self.name))
        others = [place for place in range(1, 16) if place != self._place]
        self._write(
            "node.json",
            {
                "name": self.name,
                "address": self.address,
                "gateway": self.network.address,
                "routes": {self.network.pods(p): self.network.node(p) for p in others},
                "socket": str(self.socket),
                "programs": self._programs(),
            },
        )

    def _programs(self) -> dict[str, list[str]]:
        self._write("cni/10-pods.conflist", self._cni())
        (self.folder / "containerd.toml").write_text(self._containerd())
        (self.folder / "resolv.conf").write_text(f"nameserver {self.address}\n")
        account = self.cluster.user_kubeconfig
        kubelet = account(
            self.folder / "kubelet.kubeconfig",
            f"system:node:{self.name}",
            "system:nodes",
            (self.name, self.address),
        )
        proxy = account(self.folder / "kube-proxy.kubeconfig", "system:kube-proxy")
        self._write("kubelet.json", self._kubelet(kubelet))
        (self.folder / "Corefile").write_text(self._corefile())
        labels = ",".join(f"{key}={value}" for key, value in self._labels.items())
        return {
            "containerd": ["containerd", f"--config={self.folder / 'containerd.toml'}"],
            "kubelet": [
                str(binaries.get("kubelet")),
                f"--config={self.folder / 'kubelet.json'}",
                f"--kubeconfig={kubelet}",
                f"--hostname-override={self.name}",
                f"--node-ip={self.address}",
                f"--node-labels={labels}",
                f"--root-dir={KUBELET}",
                f"--cert-dir={self.folder}",
            ],
            "kube-proxy": [
                str(binaries.get("kube-proxy")),
                f"--kubeconfig={proxy}",
                f"--hostname-override={self.name}",
                f"--cluster-cidr={self.network.all_pods}",
                "--proxy-mode=iptables",
                "--conntrack-max-per-core=0",  # it is the machine's, and not ours to set
                "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
                "--metrics-bind-address=127.0.0.1:10249",
                "--healthz-bind-address=127.0.0.1:10256",
            ],
            "coredns": [str(binaries.get("coredns")), "-conf", str(self.folder / "Corefile")],
        }

    def _cni(self) -> dict[str, Any]:
        """A wire of its own for each pod. On a bridge, a pod that answers for a Service would do so
        past kube-proxy if the other is on the same node and the kernel has no br_netfilter.
        """
        ranges = [[{"subnet": self.network.pods(self._place)}]]
        ipam = {
            "type": "host-local",
            "dataDir": str(self.folder / "state" / "ipam"),
            "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        plugin = {"type": "ptp", "ipMasq": False, "ipam": ipam}
        return {"cniVersion": "0.4.0", "name": "lab", "plugins": [plugin]}

    def _containerd(self) -> str:
        runtime = f"""[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{_plugins()}"
    conf_dir = "{self.folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
        state = self.folder / "state" / "containerd"
        return containerd(self.folder / "containerd", state, self.socket, runtime)

    def _kubelet(self, kubeconfig: Path) -> dict[str, Any]:
        pki = self.cluster.folder / "pki"
        name = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": name["client-certificate"],
            "tlsPrivateKeyFile": name["client-key"],
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.network.cgroup(self.name)}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "maxOpenFiles": 20000,
            "clusterDNS": [self.address],
            "clusterDomain": _DOMAIN,
            "resolvConf": str(self.folder / "resolv.conf"),
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,  # what it removes could not be pulled again
            "imageGCLowThresholdPercent": 99,
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "podLogsDir": str(self.folder / "logs"),
            "readOnlyPort": 0,
            "nodeStatusUpdateFrequency": "4s",
            "nodeLeaseDurationSeconds": 8,
        }

    def _corefile(self) -> str:
        """Names of the cluster, asked of the API server as one who may look and nothing more."""
        kubeconfig = self.cluster.user_kubeconfig(self.folder / "dns.kubeconfig", "lab:dns")
        binding = {
            "metadata": {"name": "lab:dns"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "view",
            },
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "lab:dns"}
            ],
        }
        try:
            self.cluster.api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        except ApiError as problem:
            if problem.reason != "AlreadyExists":
                raise
        return f"""{_DOMAIN} in-addr.arpa {{
    bind {self.address}
    errors
    kubernetes {_DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig} lab
    }}
    cache 2
}}
"""

    def _write(self, name: str, content: Any) -> None:
        (self.folder / name).write_text(json.dumps(content, indent=1))


def unavailable() -> str:
    """Why this machine cannot have a real node; nothing if it can."""
    if sys.platform != "linux":
        return "a real node needs Linux"
    if os.geteuid() != 0:
        return "a real node needs root: it makes namespaces, mounts and network interfaces"
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        packages = sorted({PROGRAMS[name] for name in missing})
        return f"a real node needs {', '.join(missing)} (Debian: {' '.join(packages)})"
    if not _plugins():
        where = " or ".join(PLUGINS)
        return f"a real node needs the CNI plugins in {where} (Debian: containernetworking-plugins)"
    if not _hierarchies():
        return f"a real node needs cgroups, mounted at {CGROUPS}"
    probe = f"kinase-probe-{os.getpid()}"
    try:
        for hierarchy in _hierarchies():
            (hierarchy / probe).mkdir()
            (hierarchy / probe).rmdir()
    except OSError as problem:
        return f"a real node needs to make cgroups: {problem}"
    script = (
        "mount -t tmpfs tmpfs /mnt && mkdir /mnt/a /mnt/b /mnt/c /mnt/d && "
        "mount -t overlay -o lowerdir=/mnt/a,upperdir=/mnt/b,workdir=/mnt/c overlay /mnt/d && "
        "ip link add probe type veth peer name probe2 && iptables -t nat -S"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", script],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return f"a real node needs namespaces, overlayfs, veth and iptables: {done.stderr.strip()}"
    return ""


def _plugins() -> str:
    """The folder of the CNI plugins."""
    wanted = ("ptp", "host-local", "loopback")
    found = (p for p in PLUGINS if all(os.access(f"{p}/{name}", os.X_OK) for name in wanted))
    return next(found, "")


def _hierarchies() -> list[Path]:
    """Where cgroups are mounted: one place in version 2, one for each controller in version 1."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2") and Path(place).is_relative_to(CGROUPS):
            found.append(Path(place))
    return found


def _make_cgroup(path: Path) -> None:
    path.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty, and nothing may run there
        if (path / name).exists() and not (path / name).read_text().strip():
            with contextlib.suppress(OSError):
                (path / name).write_text((path.parent / name).read_text())
    cores = os.cpu_count() or 1
    for name, each in (("cpu.shares", 1024), ("cpu.weight", 100)):
        if (path / name).exists():  # else all of a node counts as one process of this machine
            (path / name).write_text(str(min(10_000, each * 4 * cores)))


def _remove_cgroup(path: Path, timeout: float = 10) -> None:
    """Remove it and those below it. Killed processes take a moment to leave."""
    deadline = time.monotonic() + timeout
    while path.exists():
        for folder, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        if time.monotonic() > deadline:
            raise RuntimeError(f"the cgroup {path} is still in use")
        if path.exists():
            time.sleep(0.05)


def _ip(*argv: str) -> None:
    _run(["ip", *argv])


def _run(argv: list[str], check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
