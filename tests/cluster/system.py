"""Kinase on a test cluster: CRDs, rights, and the operator as a process that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from kinase.api import names
from kinase.experiment.journal import Journal
from kinase.store import Store
from kinase.store.memory import MemoryStore
from kinase_operator import install
from tests.cluster.helpers import RESTRICTED, wait_for
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import PYTHON, Image, Node
from tests.cluster.lab.processes import Child
from tests.cluster.lab.rest import ApiError

REPOSITORY = Path(__file__).parents[2]
HOME = "kinase-system"
"""Namespace of the operator's ServiceAccount."""
CONTROLLER = "kinase/controller:test"
TRAINER = "kinase/trainer:test"
"""The trainer of this project, with torch."""
FAKE = "kinase/fake:test"
"""A trainer that honours the contract and trains nothing (tests/pod_trainer.py)."""
EXPERIMENTS = "/apis/kinase.dev/v1alpha1/namespaces/{}/nasexperiments"
TRIALS = "/apis/kinase.dev/v1alpha1/namespaces/{}/nastrials"


@dataclass(frozen=True)
class Checkout:
    """A checkout of Kinase, and where the commands of its environment are."""

    folder: Path = REPOSITORY
    commands: Path = Path(sys.executable).parent

    @property
    def env(self) -> dict[str, str]:
        """Variables of a process of it."""
        path = f"{self.commands}:{PYTHON.env['PATH']}"
        return {"PATH": path, "PYTHONPATH": str(self.folder), "AWS_DEFAULT_REGION": "us-east-1"}


THIS = Checkout()


def images(of: Checkout = THIS, **fake: str) -> dict[str, Image]:
    """The images of Kinase as processes of this machine; `fake` goes to the fake's environment."""
    env, python = of.env, "python"
    return {
        CONTROLLER: Image(env=env),
        TRAINER: Image(entrypoint=(python, "-m", "kinase_trainer"), env=env),
        FAKE: Image(
            entrypoint=(python, str(of.folder / "tests/pod_trainer.py")), env={**env, **fake}
        ),
    }


def put_images(node: Node, of: Checkout = THIS, **fake: str) -> None:
    """Have the node hold the images of Kinase."""
    for name, image in images(of, **fake).items():
        node.set_image(name, image)


def apply_or_exist(cluster: Cluster, path: str, body: dict[str, Any]) -> None:
    """Make an object, or bring one that is there to this."""
    try:
        cluster.api.post(path, body)
    except ApiError as problem:
        if problem.reason != "AlreadyExists":
            raise
        cluster.api.patch(f"{path}/{body['metadata']['name']}", body)


def install_crds(cluster: Cluster, of: Checkout = THIS) -> None:
    """The CRDs of a checkout, served."""
    base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for file in sorted((of.folder / "crds").glob("*.yaml")):
        body = yaml.safe_load(file.read_text())
        apply_or_exist(cluster, base, body)
        name = body["metadata"]["name"]

        def served(name: str = name) -> bool:
            found = cluster.api.get(f"{base}/{name}")["status"].get("conditions") or ()
            return any(c["type"] == "Established" and c["status"] == "True" for c in found)

        wait_for(served, message=f"{name} established")


def install_rights(cluster: Cluster, watched: tuple[str, ...] = ()) -> None:
    """The operator's ServiceAccount and the very rights that are shipped."""
    apply_or_exist(cluster, "/api/v1/namespaces", {"metadata": {"name": HOME}})
    account = {"metadata": {"name": install.NAME, "namespace": HOME}}
    apply_or_exist(cluster, f"/api/v1/namespaces/{HOME}/serviceaccounts", account)
    base = "/apis/rbac.authorization.k8s.io/v1"
    for body in install.rights(HOME, watched):
        kind = body["kind"].lower() + "s"
        namespace = body["metadata"].get("namespace")
        where = f"{base}/namespaces/{namespace}/{kind}" if namespace else f"{base}/{kind}"
        apply_or_exist(cluster, where, body)


class Operator:
    """The operator under its own ServiceAccount, as a process of this machine."""

    def __init__(
        self, cluster: Cluster, folder: Path, of: Checkout = THIS, **environment: str
    ) -> None:
        self.cluster, self.folder, self.of = cluster, folder, of
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "operator.log"
        self._environment = environment
        self._child: Child | None = None

    def start(self, *, wait: bool = True) -> Operator:
        """Start it; with `wait`, return when its caches are filled."""
        config = self.cluster.account_kubeconfig(
            self.folder / "operator.kubeconfig", HOME, install.NAME
        )
        environment = {
            "KUBECONFIG": str(config),
            "PYTHONPATH": str(self.of.folder),
            "KINASE_CONTROLLER_IMAGE": CONTROLLER,
            "KINASE_TRAINER_IMAGE": FAKE,
            "KINASE_PULL_POLICY": "IfNotPresent",
            "KINASE_PORT": "0",
            **self._environment,
        }
        start = self.log.stat().st_size if self.log.exists() else 0
        self._child = Child(
            [str(self.of.commands / "python"), "-m", "kinase_operator"], self.log, environment
        )
        if wait:
            wait_for(lambda: self.port(start), message="the operator's endpoint")
            wait_for(lambda: self.page("/readyz"), message="the operator ready")
        return self

    def port(self, start: int = 0) -> int:
        """Port of health and metrics."""
        text = self.log.read_text(errors="replace")[start:]
        found = re.findall(r"health and metrics on \[\('0\.0\.0\.0', (\d+)\)", text)
        return int(found[-1]) if found else 0

    def page(self, path: str) -> str:
        """What its endpoint answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port()}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.alive

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._child is not None
        return int(self._child.process.pid)

    def stop(self) -> None:
        """SIGTERM, as Kubernetes does."""
        if self._child is not None:
            self._child.stop(30)

    def kill(self) -> None:
        """SIGKILL."""
        if self._child is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._child.process.wait()


def experiment(
    namespace: str,
    bucket: Any,
    name: str = "toy",
    image: str = FAKE,
    **spec: Any,
) -> dict[str, Any]:
    """A small experiment on the fake trainer; `spec` replaces its fields."""
    base: dict[str, Any] = {
        "task": {"dataset": "ok"},
        "training": {"epochs": 3},
        # every one of them can be built: one that cannot be would have no object of its own
        "space": {"type": "Chain", "chain": {"maxDepth": 3, "widths": [4, 8]}},
        "strategy": {"type": "Evolution", "evolution": {"population": 6, "sample": 3}},
        "estimation": {"type": "LowerFidelity", "lowerFidelity": {"epochs": 2}},
        "budget": {"trials": 8, "parallelism": 2},
        "finalists": {"count": 2},
        "storage": {
            "uri": f"s3://{bucket.name}/nas",
            "endpoint": bucket.endpoint,
            "region": "us-east-1",
            "credentialsSecret": bucket.secret,
        },
        "trialTemplate": {"image": image},
    }
    return {
        "apiVersion": "kinase.dev/v1alpha1",
        "kind": "NASExperiment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**base, **spec},
    }


def create(cluster: Cluster, body: Mapping[str, Any]) -> dict[str, Any]:
    """Make an experiment."""
    made: dict[str, Any] = cluster.api.post(
        EXPERIMENTS.format(body["metadata"]["namespace"]), dict(body)
    )
    return made


def get(cluster: Cluster, namespace: str, name: str = "toy") -> dict[str, Any]:
    """An experiment."""
    found: dict[str, Any] = cluster.api.get(f"{EXPERIMENTS.format(namespace)}/{name}")
    return found


def condition(item: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A condition of an object, or one that says nothing."""
    found = (item.get("status") or {}).get("conditions") or ()
    return next(
        (c for c in found if c["type"] == kind), {"status": "", "reason": "", "message": ""}
    )


def finished(
    cluster: Cluster, namespace: str, name: str = "toy", timeout: float = 120
) -> dict[str, Any]:
    """Wait until an experiment has succeeded, and return it."""

    def seen() -> dict[str, Any] | None:
        item = get(cluster, namespace, name)
        if condition(item, "Failed")["status"] == "True":
            raise AssertionError(condition(item, "Failed")["message"])
        return item if condition(item, "Succeeded")["status"] == "True" else None

    found = wait_for(seen, timeout, message=f"{namespace}/{name} succeeded", every=0.2)
    assert found is not None
    return found


def trials(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """All trials of a namespace, by name."""
    items: list[dict[str, Any]] = cluster.api.get(TRIALS.format(namespace))["items"]
    return sorted(items, key=lambda item: str(item["metadata"]["name"]))


SIDECAR = "istio-proxy"
"""Name of a sidecar that sorts before ours."""
MARK = "patched"
"""Label of a pod that admission has patched."""


def sidecar(image: str, *command: str, native: bool = False) -> str:
    """The patch that puts a sidecar into a pod, as a service mesh does: an ordinary container, or a
    native sidecar."""
    kind = f"Object.spec.{'initContainers' if native else 'containers'}"
    own = f"{kind}.securityContext"
    security = (
        f"{own}{{allowPrivilegeEscalation: false, runAsNonRoot: true, "
        f'capabilities: {own}.capabilities{{drop: ["ALL"]}}, '
        f'seccompProfile: {own}.seccompProfile{{type: "RuntimeDefault"}}}}'
    )
    always = 'restartPolicy: "Always", ' if native else ""
    container = (
        f"{kind}{{name: {json.dumps(SIDECAR)}, image: {json.dumps(image)}, {always}"
        f"command: {json.dumps(command)}, securityContext: {security}}}"
    )
    path, value = ("initContainers", f"[{container}]") if native else ("containers/-", container)
    return f'JSONPatch{{op: "add", path: "/spec/{path}", value: {value}}}'


@contextlib.contextmanager
def admission(
    cluster: Cluster, namespace: str, patches: Sequence[str], label: str, values: Sequence[str]
) -> Iterator[None]:
    """Have admission patch each pod in a namespace that has a label with one of some values.

    Args:
        cluster: where.
        namespace: whose pods.
        patches: JSONPatch objects of CEL; they leave alone that the container is named `kinase`.
        label: that a pod must have.
        values: one of which is the label's.
    """
    name = f"patches.{namespace}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    selector = [{"key": label, "operator": "In", "values": list(values)}]
    mark = f'JSONPatch{{op: "add", path: "/metadata/labels/{MARK}", value: "yes"}}'
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "objectSelector": {"matchExpressions": selector},
                "resourceRules": [{**rule, "operations": ["CREATE"]}],
            },
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "JSONPatch",
                    "jsonPatch": {"expression": f"[{', '.join([*patches, mark])}]"},
                },
            ],
        },
    }
    base = "/apis/admissionregistration.k8s.io/v1"
    kinds = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
    cluster.api.post(f"{base}/{kinds[0]}", policy)
    bound = {"metadata": {"name": name}, "spec": {"policyName": name}}
    cluster.api.post(f"{base}/{kinds[1]}", bound)
    container = {"name": "kinase", "image": FAKE, "securityContext": RESTRICTED}
    probe = {
        "metadata": {"name": "probe", "labels": {label: values[0]}},
        "spec": {"containers": [container]},
    }

    def works() -> bool:
        made = cluster.api.post(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", probe)
        return MARK in made["metadata"]["labels"]

    try:
        wait_for(works, message="the policy of admission", every=0.1)
        yield
    finally:
        for plural in reversed(kinds):
            cluster.api.delete(f"{base}/{plural}/{name}")


@contextlib.contextmanager
def injected(
    cluster: Cluster, namespace: str, image: str, *command: str, native: bool = False
) -> Iterator[None]:
    """Have admission put a sidecar into each pod of ours in a namespace."""
    patch = sidecar(image, *command, native=native)
    with admission(cluster, namespace, [patch], names.MANAGED_BY, [names.MANAGER]):
        yield


@dataclass(frozen=True)
class Scene:
    """A namespace and a bucket of one test's own, on a cluster where Kinase runs."""

    cluster: Cluster
    node: Node
    operator: Operator
    namespace: str
    bucket: Any
    held: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)
    """Folders of the nodes in which `hold` left its marks."""

    def create(self, name: str = "toy", **spec: Any) -> dict[str, Any]:
        """Make a small experiment; `spec` replaces its fields."""
        return create(self.cluster, experiment(self.namespace, self.bucket, name, **spec))

    def path(self, plural: str = "nasexperiments", name: str = "") -> str:
        """Path of a kind of object, or of an object, in the namespace."""
        base = {
            "nasexperiments": "/apis/kinase.dev/v1alpha1",
            "nastrials": "/apis/kinase.dev/v1alpha1",
            "jobs": "/apis/batch/v1",
            "leases": "/apis/coordination.k8s.io/v1",
            "networkpolicies": "/apis/networking.k8s.io/v1",
            "roles": "/apis/rbac.authorization.k8s.io/v1",
            "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
        }.get(plural, "/api/v1")
        return f"{base}/namespaces/{self.namespace}/{plural}{'/' if name else ''}{name}"

    def get(self, name: str = "toy", plural: str = "nasexperiments") -> dict[str, Any]:
        """An object, an experiment by default."""
        found: dict[str, Any] = self.cluster.api.get(self.path(plural, name))
        return found

    def all(self, plural: str, **labels: str) -> list[dict[str, Any]]:
        """The objects of a kind that Kinase made, by name."""
        wanted = {names.MANAGED_BY: names.MANAGER, **labels}
        selector = ",".join(f"{key}={value}" for key, value in wanted.items())
        items: list[dict[str, Any]] = self.cluster.api.get(
            f"{self.path(plural)}?labelSelector={quote(selector)}"
        )["items"]
        return sorted(items, key=lambda item: str(item["metadata"]["name"]))

    def pods(self, component: str = "trial") -> list[dict[str, Any]]:
        """Pods of trials, or of the controller."""
        return self.all("pods", **{names.COMPONENT: component})

    def running(self, component: str = "trial") -> list[dict[str, Any]]:
        """Those of `pods` that run."""
        return [pod for pod in self.pods(component) if pod["status"].get("phase") == "Running"]

    def change(self, name: str = "toy", **spec: Any) -> dict[str, Any]:
        """Edit an experiment's spec as a user does."""
        found: dict[str, Any] = self.cluster.api.patch(self.path(name=name), {"spec": spec})
        return found

    def said(self, kind: str, name: str = "toy") -> tuple[str, str, str]:
        """Status, reason and message of an experiment's condition."""
        found = condition(self.get(name), kind)
        return found["status"], found["reason"], found["message"]

    def until(
        self, kind: str, status: str, reason: str = "", name: str = "toy", timeout: float = 60
    ) -> str:
        """Wait for a condition of an experiment; its message."""

        def seen() -> tuple[str, str, str] | None:
            found = self.said(kind, name)
            return found if found[0] == status and reason in ("", found[1]) else None

        wanted = f"{name}: {kind}={status} {reason}"
        try:
            found = wait_for(seen, timeout, message=wanted, every=0.1)
        except AssertionError as problem:
            raise AssertionError(f"{problem}; status: {self.get(name).get('status')}") from None
        assert found is not None
        return found[2]

    def finished(self, name: str = "toy", timeout: float = 120) -> dict[str, Any]:
        """Wait until an experiment has succeeded."""
        return finished(self.cluster, self.namespace, name, timeout)

    def trial(self, number: int | str, name: str = "toy") -> dict[str, Any]:
        """A trial by its number, or what stands for it: `task`."""
        ending = number if isinstance(number, str) else f"{number:05d}"
        return self.get(f"{name}-{ending}", "nastrials")

    def until_trial(self, number: int | str, *reasons: str, name: str = "toy") -> dict[str, Any]:
        """Wait until a trial's status has one of these reasons; the status."""

        def seen() -> dict[str, Any] | None:
            status: dict[str, Any] = self.trial(number, name).get("status") or {}
            return status if status.get("reason") in reasons else None

        found = wait_for(seen, 60, message=f"{name}, trial {number}: {reasons}", every=0.1)
        assert found is not None
        return found

    def events_of(self, reason: str, count: int = 1, name: str = "toy") -> list[str]:
        """Wait for so many Events of this reason about an experiment: they are written after what
        they tell of. Their messages, in the order of their first time."""

        def seen() -> list[str]:
            found = [e["message"] for e in self.events(name) if e["reason"] == reason]
            return found if len(found) >= count else []

        return wait_for(seen, message=f"{name}: {count} Events {reason}", every=0.1)

    def begins(self, trial: int, epoch: int = 1, attempt: int = 1, name: str = "toy") -> str:
        """Wait until a trial's epoch has begun; the pod that it begins in. The epoch is still under
        way only if it is held, see `hold`."""
        job = f"{name}-{trial:05d}-{attempt}"
        line = f"trial {trial} attempt {attempt} epoch {epoch} begins"

        def seen() -> str:
            for pod in self.node.pods():
                mine = pod["namespace"] == self.namespace and pod["name"].startswith(f"{job}-")
                if mine and line in Path(pod["log"]).read_text():
                    return str(pod["name"])
            return ""

        try:
            return wait_for(seen, 120, message=line)
        except AssertionError as problem:
            found = trials(self.cluster, self.namespace)
            said = {each["metadata"]["name"]: each.get("status") for each in found}
            raise AssertionError(f"{problem}; trials: {said}") from None

    def hold(
        self,
        trial: int,
        epoch: int = 1,
        attempt: int = 1,
        name: str = "toy",
        node: Node | None = None,
    ) -> None:
        """Have a trial's epoch last until `let`, or until a signal ends it, however slow the
        machine is: what a test does then comes in the middle of it. Call it before the trial
        starts."""
        held = (node or self.node).folder / "held" / self.namespace
        held.mkdir(parents=True, exist_ok=True)
        self.held.add(held)
        (held / f"{name}-{trial:05d}-{attempt}-{epoch}").touch()

    def let(self) -> None:
        """End every `hold`, on all nodes."""
        while self.held:
            shutil.rmtree(self.held.pop(), ignore_errors=True)

    def controller(self) -> str:
        """Wait until the controller is ready; its pod."""
        self.until("Ready", "True", "ControllerRunning")
        for pod in self.running("controller"):
            if "deletionTimestamp" not in pod["metadata"]:
                return str(pod["metadata"]["name"])
        raise LookupError("no controller runs")

    def store(self, name: str = "toy", below: str = "") -> Store:
        """A copy of what an experiment has in the bucket, or of the keys that begin with `below`.
        What is removed meanwhile is left out."""
        uid = self.get(name)["metadata"]["uid"]
        prefix = f"nas/{self.namespace}/{uid}/"
        client, copy = self.bucket.client, MemoryStore()
        pages = client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket.name, Prefix=f"{prefix}{below}"):
            for item in page.get("Contents", ()):
                with contextlib.suppress(client.exceptions.NoSuchKey):
                    got = client.get_object(Bucket=self.bucket.name, Key=item["Key"])
                    copy.put(item["Key"].removeprefix(prefix), got["Body"].read())
        return copy

    def journal(self, name: str = "toy", kind: str = "") -> list[Any]:
        """The entries of an experiment's journal, in order; those of one kind if it is named."""
        entries = Journal(self.store(name)).replay()
        return [entry for entry in entries if kind in ("", entry.type)]

    def events(self, name: str = "toy") -> list[dict[str, Any]]:
        """Events about an experiment, in the order of their first time."""
        uid = self.get(name)["metadata"]["uid"]
        where = quote(f"involvedObject.uid={uid}")
        items = self.cluster.api.get(f"{self.path('events')}?fieldSelector={where}")["items"]
        return sorted(items, key=lambda item: str(item["firstTimestamp"]))
