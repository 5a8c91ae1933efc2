"""Where the cluster's programs come from.

A folder that the user names in KUBEBUILDER_ASSETS, else the user's cache, else a build with Go
from the modules in `parts/`, whose go.sum holds the hash of every source file. versitygw, Helm from
3.14 on and Prometheus from 3.0 on may also be installed on the machine.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PARTS = Path(__file__).parent / "parts"
KUBERNETES = os.environ.get("KINASE_TEST_KUBERNETES", "1.37")
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
DEFAULT = (*CONTROL_PLANE, "versitygw")
"""What most tests use. Those that want another program name it: see NODE and TOOLS."""
NODE = ("kubelet", "kube-proxy", "coredns", "pause")
"""What a real node runs besides containerd."""
TOOLS = ("helm", "promtool", "prometheus")


class Unavailable(Exception):
    """A program does not exist and cannot be built; the message says what would help."""


@dataclass(frozen=True)
class _Part:
    """A program, the folder of `parts/` that it is built in, and its package."""

    name: str
    folder: str
    module: str
    package: str
    installed: tuple[int, ...] | None = None
    """The oldest version of it that will do where it is found on PATH; None: none will."""
    asked: tuple[str, ...] = ("--version",)
    """What it is called with to say its version."""

    @property
    def version(self) -> str:
        path = PARTS / self.folder / "go.mod"
        if not path.is_file():
            known = ", ".join(sorted(p.name.partition("-")[2] for p in PARTS.glob("kubernetes-*")))
            raise Unavailable(f"KINASE_TEST_KUBERNETES={KUBERNETES}: there are {known}")
        found = re.search(
            rf"^(?:require|\t)\s*{self.module} v(\S+)", path.read_text(), re.MULTILINE
        )
        assert found, f"{path} does not require {self.module}"
        return found[1]

    @property
    def cached(self) -> Path:
        return cache() / f"{self.folder.partition('-')[0]}-{self.version}" / self.name

    @property
    def ldflags(self) -> str:
        """A program's version: left unset, an API server calls itself v0.0.0."""
        major, minor, patch = self.version.split(".")
        match self.folder.partition("-")[0]:
            case "kubernetes":
                base = "k8s.io/component-base/version."
                named = {"gitVersion": f"v{self.version}", "gitMajor": major, "gitMinor": minor}
            case "helm":
                base, named = f"{self.module}/internal/version.", {"version": f"v{self.version}"}
            case "prometheus":  # Prometheus 3.16.0 is v0.316.0 of its module
                base = "github.com/prometheus/common/version."
                named = {"Version": f"{int(minor) // 100}.{int(minor) % 100}.{patch}"}
            case _:
                base, named = "", {}
        return " ".join(["-s -w", *(f"-X {base}{key}={value}" for key, value in named.items())])

    def on_path(self) -> Path | None:
        """The program as the machine has it, if its version will do."""
        if self.installed is None or not (found := shutil.which(self.name)):
            return None
        if self.installed:
            said = subprocess.run([found, *self.asked], capture_output=True, text=True).stdout
            version = re.search(r"(\d+)\.(\d+)", said)
            if not version or tuple(map(int, version.groups())) < self.installed:
                return None
        return Path(found)


def _part(name: str) -> _Part:
    if name == "etcd":
        module = "go.etcd.io/etcd/server/v3"
        return _Part(name, "etcd", module, module)
    if name == "versitygw":
        module = "github.com/versity/versitygw"
        return _Part(name, "versitygw", module, f"{module}/cmd/versitygw", installed=())
    if name == "helm":
        module = "helm.sh/helm/v4"
        asked = ("version", "--short")
        return _Part(name, "helm", module, f"{module}/cmd/helm", (3, 14), asked)
    if name in ("prometheus", "promtool"):
        module = "github.com/prometheus/prometheus"
        return _Part(name, "prometheus", module, f"{module}/cmd/{name}", (3, 0))
    if name in ("coredns", "pause"):
        return _Part(name, "node", "github.com/coredns/coredns", f"./{name}")
    module = "k8s.io/kubernetes"
    return _Part(name, f"kubernetes-{KUBERNETES}", module, f"{module}/cmd/{name}")


def cache() -> Path:
    """The user's folder for what is built."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kinase" / "bin"


def find(name: str) -> Path | None:
    """The program, if it is there already."""
    part = _part(name)
    if on_path := part.on_path():
        return on_path
    if (folder := os.environ.get("KUBEBUILDER_ASSETS")) and (
        found := shutil.which(name, path=folder)
    ):
        return Path(found)
    return part.cached if os.access(part.cached, os.X_OK) else None


def missing(names: Iterable[str] = DEFAULT) -> list[str]:
    """Those that would have to be built."""
    return [name for name in names if find(name) is None]


def get(name: str, say: Callable[[str], object] = print) -> Path:
    """The program, built if need be; Unavailable if that is not possible."""
    if found := find(name):
        return found
    part = _part(name)
    if not shutil.which("go"):
        raise Unavailable(
            f"{name} {part.version} does not exist: put it into a folder and name that in "
            "KUBEBUILDER_ASSETS, or install Go to build it"
        )
    part.cached.parent.mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for {name}: another process is building")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if found := find(name):
            return found
        say(f"building {name} {part.version} into {part.cached.parent} (once)")
        temporary = part.cached.with_name(f".{name}.{os.getpid()}")
        build = ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", part.ldflags]
        done = subprocess.run(
            [*build, "-o", str(temporary), part.package],
            cwd=PARTS / part.folder,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            temporary.unlink(missing_ok=True)
            said = "\n".join(
                line for line in done.stdout.splitlines() if not line.startswith("go: downloading")
            )
            raise Unavailable(f"{name} {part.version} could not be built: {said[-1000:]}")
        temporary.rename(part.cached)
    return part.cached


def build(names: Iterable[str] = DEFAULT, say: Callable[[str], object] = print) -> dict[str, Path]:
    """All of `names`. From nothing the default set takes some ten minutes on two cores."""
    return {name: get(name, say) for name in names}
