"""Kinase from its installation to its removal, on real nodes: the images of the Dockerfile, the
chart with the embedded store, and a search in whose middle a node is drained, pods are deleted and
the release is upgraded.

The nodes' network enforces no NetworkPolicy. So what a policy alone keeps a pod from is not tested
here: that trials reach nothing but names, their controller and the store's port.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from kinase.api import names
from kinase.api.task import Task
from kinase.api.trial import TrialProgress, TrialResult
from kinase.experiment.journal import Journal
from kinase.store import Store, open_uri
from tests.cluster import system
from tests.cluster.helpers import wait_for
from tests.cluster.lab import binaries, oci
from tests.cluster.lab.image_store import ImageStore
from tests.cluster.lab.processes import Child, free_ports
from tests.images import build as images
from tests.node.conftest import Lab, a_lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

CHART = system.REPOSITORY / "charts/kinase"
HOME, NAS = "kinase-system", "nas"
VERSITYGW = "localhost/kinase-lab/versitygw"
TRIALS, EPOCHS, FINAL = 8, 3, 6
"""Trials of the search, epochs of each, and of the one finalist."""
LONG = 30
"""Epochs of a trial in whose middle a worker is deleted."""
BORN_WITH = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
"""What every namespace has."""

Figure = Callable[[str, float, str], None]


@pytest.fixture(scope="module")
def lab(figure: Figure) -> Iterator[Lab]:
    """Two nodes that hold Kinase's images and the embedded store's."""
    store = ImageStore()
    try:
        built = [images.build(target) for target in images.TARGETS]
        server = binaries.get("versitygw")
        helm = binaries.get("helm")
    except (images.Unavailable, binaries.Unavailable) as problem:
        pytest.skip(f"no images or no tools: {problem}")
    assert helm
    archives = {image.name: image.archive for image in built}
    name = f"{VERSITYGW}:test"
    archive = archives[name] = store.folder / "versitygw.tar"
    if not archive.exists() or archive.stat().st_mtime < server.stat().st_mtime:
        store.folder.mkdir(parents=True, exist_ok=True)
        oci.archive(archive, name, server)
    began = time.monotonic()
    store.hold(archives, print)
    figure("images unpacked, if they are new", time.monotonic() - began, "s")
    with a_lab(store) as lab:
        figure("control plane and two nodes, until they are ready", lab.seconds, "s")
        yield lab


@dataclass(frozen=True)
class Release:
    """The chart, installed."""

    lab: Lab
    folder: Path
    began: float
    """When `helm install` did."""

    def helm(self, *argv: str) -> str:
        """Helm, with nothing of the user's."""
        own = {f"HELM_{name}_HOME": str(self.folder / name) for name in ("CACHE", "CONFIG", "DATA")}
        server = self.lab.cluster.address
        done = subprocess.run(
            [str(binaries.get("helm")), *argv],
            env={
                **os.environ,
                **own,
                "KUBECONFIG": str(self.lab.cluster.kubeconfig),
                "NO_PROXY": server,
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"helm {' '.join(argv)}: {done.stderr}{done.stdout}"
        return done.stdout

    def operator(self) -> str:
        """UID of the operator's pod that is ready."""
        label = "app.kubernetes.io/component=operator"
        for pod in pods(self.lab, HOME, label):
            ready = {c["type"]: c["status"] for c in pod["status"].get("conditions", ())}
            if ready.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
                return str(pod["metadata"]["uid"])
        return ""


def pods(lab: Lab, namespace: str, selector: str = "") -> list[dict[str, Any]]:
    """Pods of a namespace."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
    found: list[dict[str, Any]] = lab.cluster.api.get(path)["items"]
    return found


def volume(folder: Path) -> dict[str, Any]:
    """A volume that both nodes have, for they have this machine's files."""
    folder.mkdir()
    where = [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]
    return {
        "metadata": {"name": "lab"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "lab",
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": where}]}},
        },
    }


@pytest.fixture(scope="module")
def release(lab: Lab, tmp_path_factory: pytest.TempPathFactory, figure: Figure) -> Release:
    """Install the chart into namespaces under the Pod Security level `restricted`."""
    api = lab.cluster.api
    for name in (HOME, NAS):
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        api.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    folder = tmp_path_factory.mktemp("helm")
    data = lab.cluster.folder.parent / "volume"
    api.post("/api/v1/persistentvolumes", volume(data))
    values = {
        "images": {
            "pullPolicy": "IfNotPresent",
            **{t: {"repository": f"localhost/kinase-{t}", "tag": "e2e"} for t in images.TARGETS},
        },
        "crds": {"keep": False},
        "store": {
            "namespaces": [NAS],
            "embedded": {
                "enabled": True,
                "image": {"repository": VERSITYGW, "tag": "test"},
                "command": ["/versitygw"],
                "persistence": {"storageClass": "lab", "size": "1Gi", "keep": False},
            },
        },
        "networkPolicy": {"apiServer": {"ports": [int(lab.cluster.server.rpartition(":")[2])]}},
    }
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    release = Release(lab, folder, time.monotonic())
    install = ("install", "kinase", str(CHART), "--namespace", HOME)
    release.helm(*install, "--values", str(folder / "values.yaml"), "--wait", "--timeout=120s")
    figure("helm install until all of it is ready", time.monotonic() - release.began, "s")
    return release


def example() -> dict[str, Any]:
    """examples/cluster/digits.yaml, smaller, and kept where the cluster keeps experiments."""
    body = yaml.safe_load((system.REPOSITORY / "examples/cluster/digits.yaml").read_text())
    spec = body["spec"]
    del spec["storage"]
    spec["budget"] = {"trials": TRIALS, "parallelism": 2}
    spec["strategy"] = {"type": "Evolution", "evolution": {"population": 4, "sample": 2}}
    spec["estimation"]["lowerFidelity"]["epochs"] = EPOCHS
    spec["finalists"] = {"count": 1, "epochs": FINAL}
    return cast(dict[str, Any], body)


class Nas:
    """The namespace where experiments are."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.lab = release.lab
        self.scene = system.Scene(
            self.lab.cluster, cast(Any, None), cast(Any, None), NAS, cast(Any, None)
        )

    def apply(self, body: dict[str, Any]) -> None:
        """What a user does."""
        self.lab.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def get(self, experiment: str) -> dict[str, Any]:
        """An experiment."""
        return system.get(self.lab.cluster, NAS, experiment)

    def running(self, component: str, experiment: str) -> list[dict[str, Any]]:
        """Pods of an experiment that run and are not about to end."""
        own = {names.COMPONENT: component, names.EXPERIMENT: experiment}
        return [
            pod
            for pod in self.scene.all("pods", **own)
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def trials(self, experiment: str) -> list[dict[str, Any]]:
        """Pods of trials that run, but for the one that describes the task."""
        found = self.running("trial", experiment)
        return [p for p in found if re.fullmatch(r"\d+", p["metadata"]["labels"][names.TRIAL])]

    @contextlib.contextmanager
    def forward(self, namespace: str, target: str, port: int) -> Iterator[str]:
        """`kubectl port-forward`; the address on this machine."""
        (here,) = free_ports(1)
        argv = [str(binaries.get("kubectl")), f"--kubeconfig={self.lab.cluster.kubeconfig}"]
        argv += ["--namespace", namespace, "port-forward", target, f"{here}:{port}"]
        child = Child(argv, self.release.folder / "forward.log")
        try:
            wait_for(lambda: "Forwarding from" in child.said(), message=f"a way to {target}")
            yield f"http://127.0.0.1:{here}"
        finally:
            child.stop()

    @contextlib.contextmanager
    def store(self, experiment: str) -> Iterator[Store]:
        """What the embedded store has of an experiment, as this machine reaches it."""
        path = f"/api/v1/namespaces/{NAS}/secrets/kinase-store"
        keys = self.lab.cluster.api.get(path)["data"]
        uri = f"s3://kinase/experiments/{NAS}/{self.get(experiment)['metadata']['uid']}"
        with (
            self.forward(HOME, "svc/kinase-store", 7070) as endpoint,
            pytest.MonkeyPatch.context() as patch,
        ):
            for name, value in keys.items():
                patch.setenv(name, base64.b64decode(value).decode())
            yield open_uri(uri, endpoint, "us-east-1")

    def kinase(self, *argv: str) -> str:
        """The command on this machine."""
        command = [str(Path(sys.executable).with_name("kinase")), *argv]
        command += [f"--kubeconfig={self.lab.cluster.kubeconfig}", "--namespace", NAS]
        done = subprocess.run(
            command,
            env={**os.environ, "NO_PROXY": self.lab.cluster.address},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"kinase {' '.join(argv)}: {done.stderr}{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def nas(release: Release) -> Nas:
    """The namespace where experiments are."""
    return Nas(release)


def test_the_release_answers(release: Release) -> None:
    assert "Phase:          Succeeded" in release.helm("test", "kinase", "--namespace", HOME)
    # everything of it is under `restricted`, or would not have been let in
    assert {pod["status"]["phase"] for pod in pods(release.lab, HOME)} == {"Running"}


@dataclass(frozen=True)
class Search:
    """A search that has ended, and what was done to it."""

    item: dict[str, Any]
    drained: str
    """The node that was drained."""
    moved: str
    """The node where the controller went on."""
    operators: tuple[str, str]
    """UID of the operator's pod before and after the upgrade."""
    disturbed: set[int]
    """Trials whose pods were evicted or deleted."""


@pytest.fixture(scope="module")
def search(release: Release, nas: Nas, figure: Figure) -> Search:
    """The digits example; in its middle a drain, an upgrade, and deletions."""
    kubectl = nas.lab.cluster.kubectl
    began = time.monotonic()
    nas.apply(example())
    wait_for(lambda: nas.trials("digits"), 180, message="a trial runs")
    figure("helm install until the first trial runs", time.monotonic() - release.began, "s")

    def together() -> str:
        (controller,) = nas.running("controller", "digits")
        where = str(controller["spec"]["nodeName"])
        return where if any(p["spec"]["nodeName"] == where for p in nas.trials("digits")) else ""

    drained = wait_for(together, 60, message="a trial on the controller's node")
    evicted = [p for p in nas.trials("digits") if p["spec"]["nodeName"] == drained]
    drain = ("--delete-emptydir-data", "--ignore-daemonsets", "--timeout=120s")
    kubectl("drain", drained, *drain)
    (controller,) = wait_for(lambda: nas.running("controller", "digits"), 60)
    wait_for(lambda: nas.trials("digits"), 180, message="a trial runs elsewhere")
    kubectl("uncordon", drained)

    before = wait_for(release.operator, 60, message="the operator is ready elsewhere")
    change = ("--namespace", HOME, "--reuse-values", "--set", "operator.logLevel=DEBUG")
    release.helm("upgrade", "kinase", str(CHART), *change, "--wait", "--timeout=120s")

    (gone, *_) = wait_for(lambda: nas.trials("digits"), 180, message="a trial runs still")
    for pod in (gone, *nas.running("controller", "digits")):
        kubectl("delete", "pod", "--namespace", NAS, "--wait=false", pod["metadata"]["name"])
    kubectl(
        *("wait", "nasx/digits", "--namespace", NAS),
        *("--for=condition=Succeeded", "--timeout=900s"),
    )
    figure("the whole search, with all that was done to it", time.monotonic() - began, "s")
    numbers = {int(p["metadata"]["labels"][names.TRIAL]) for p in (*evicted, gone)}
    return Search(
        nas.get("digits"),
        drained,
        str(controller["spec"]["nodeName"]),
        (before, release.operator()),
        numbers,
    )


def test_what_was_done_to_the_search_was_done(search: Search) -> None:
    assert search.moved != search.drained
    before, after = search.operators
    assert after != before
    assert search.disturbed


def test_nothing_of_the_search_is_lost(nas: Nas, search: Search) -> None:
    with nas.store("digits") as store:
        entries = list(Journal(store).replay())
        begun = [
            json.loads(store.get(key))["epochsBegun"]
            for key in store.list("trials/")
            if key.endswith("progress.json")
        ]
    asked = [entry.trial for entry in entries if entry.type == "asked"]
    told = {entry.trial: entry for entry in entries if entry.type == "told"}
    assert asked == list(range(TRIALS + 1))
    assert sorted(told) == asked
    # what the space can give is not all feasible: strides may leave nothing of an image
    trained = [n for n in asked if told[n].outcome != "Infeasible"]
    assert {told[n].outcome for n in trained} == {"Succeeded"}, told
    assert len(trained) > TRIALS // 2
    for number in asked:
        epochs = FINAL if number == TRIALS else EPOCHS
        assert len(told[number].curve) == (epochs if number in trained else 0)
    again = [entry for entry in entries if entry.type == "attempt"]
    assert {entry.trial for entry in again} & search.disturbed
    assert not any(entry.crash for entry in again)
    assert search.item["status"]["cost"]["epochs"] == sum(begun)
    assert sum(begun) >= (len(trained) - 1) * EPOCHS + FINAL


def test_report_and_model_come_back(nas: Nas, search: Search, tmp_path: Path) -> None:
    from kinase_trainer import load
    from kinase_trainer.data import open_test, plain_batches

    with nas.forward(HOME, "svc/kinase-store", 7070) as endpoint:
        way = ("--endpoint", endpoint, "--credentials-from-secret")
        nas.kinase(
            "export", "digits", "--format", "safetensors", "--out", str(tmp_path / "model"), *way
        )
        nas.kinase("report", "digits", "--no-open", "--out", str(tmp_path / "report.html"), *way)
    assert "digits" in (tmp_path / "report.html").read_text()
    network, card = load(str(tmp_path / "model"))
    assert card["epochs"] == FINAL
    part = open_test(Task.model_validate({"dataset": "digits"}))[0]
    right = sum(
        int((network(images).argmax(1) == targets).sum()) for images, targets in plain_batches(part)
    )
    said = search.item["status"]["test"]["test_accuracy"]
    assert right / len(part) == pytest.approx(said, abs=1e-4)  # one image is 0.003
    assert said > 0.5, "by chance it is 0.1"


def test_two_workers_on_two_nodes_and_one_is_deleted(nas: Nas, figure: Figure) -> None:
    """They find each other by name, train over the nodes' network, and lose at most an epoch."""
    body = example()
    body["metadata"]["name"] = "pair"
    spec = body["spec"]
    spec["training"]["epochs"] = LONG
    # the one network is trained whatever is drawn: no stride leaves nothing of the image
    spec["space"]["chain"] |= {"maxDepth": 2, "strides": [1], "ops": ["conv"]}
    spec["estimation"] = {"type": "Full"}
    spec["budget"], spec["control"] = {"trials": 1, "parallelism": 1}, {"share": 0}
    spec["finalists"], spec["baselines"] = {"count": 1, "epochs": FINAL}, []
    labels = {"matchLabels": {names.EXPERIMENT: "pair", names.COMPONENT: "trial"}}
    apart = [{"labelSelector": labels, "topologyKey": "kubernetes.io/hostname"}]
    spec["trialTemplate"] |= {
        "workers": 2,
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": apart}},
    }
    nas.apply(body)

    def workers() -> list[dict[str, Any]] | None:
        found = [p for p in nas.trials("pair") if names.INDEX in p["metadata"]["labels"]]
        return found if len(found) == 2 else None

    both = wait_for(workers, 180)
    assert both is not None
    assert len({pod["spec"]["nodeName"] for pod in both}) == 2
    with nas.store("pair") as store:

        def ledger() -> TrialProgress:
            return TrialProgress.model_validate_json(store.get("trials/00000/progress.json"))

        wait_for(lambda: ledger().epochs_done >= 2, 180, message="two epochs")
        second = next(p for p in both if p["metadata"]["labels"][names.INDEX] == "1")
        name = second["metadata"]["name"]
        nas.lab.cluster.kubectl("delete", "pod", "--namespace", NAS, "--wait=false", name)
        nas.lab.cluster.kubectl(
            *("wait", "nasx/pair", "--namespace", NAS),
            *("--for=condition=Succeeded", "--timeout=600s"),
        )
        lost = ledger().epochs_begun - LONG
        result = TrialResult.model_validate_json(store.get("trials/00000/result.json"))
    figure("epochs lost with one of two workers", lost, "epochs")
    assert (result.attempt, result.facts["workers"]) == (2, 2)
    assert [point.epoch for point in result.curve] == list(range(1, LONG + 1))
    assert lost <= 1
    nas.lab.cluster.kubectl("delete", "nasx", "pair", "--namespace", NAS, "--timeout=60s")


@pytest.fixture(scope="module")
def held(nas: Nas, search: Search) -> list[dict[str, Any]]:
    """Pods of two trials that run for long."""
    body = example()
    body["metadata"]["name"] = "held"
    body["spec"]["training"]["epochs"] = 10_000
    body["spec"]["estimation"] = {"type": "Full"}
    body["spec"]["budget"] = {"trials": 4, "parallelism": 2}
    body["spec"]["finalists"] = {"count": 1}
    nas.apply(body)
    running = wait_for(lambda: (f := nas.trials("held")) and f[1:] and f, 120, message="two trials")
    assert isinstance(running, list)
    return running


PROBE = """
import json, os, ssl, sys, urllib.error, urllib.request
plain = ssl._create_unverified_context()
def answer(url, token="", body=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, body, headers), timeout=10, context=plain
        ) as got:
            return got.status
    except urllib.error.HTTPError as problem:
        return problem.code
mine, token = os.environ["KINASE_REPORT_URL"], os.environ["KINASE_REPORT_TOKEN"]
api = "https://kubernetes.default.svc"
print(json.dumps({
    "user": os.getuid(),
    "account": os.path.exists("/var/run/secrets/kubernetes.io"),
    "version": answer(f"{api}/version"),
    "secrets": answer(f"{api}/api/v1/namespaces/nas/secrets"),
    "mine": answer(mine, token, b"{}"),
    "other's": answer(sys.argv[1], token, b"{}"),
    "without": answer(mine, "", b"{}"),
}))
"""


def test_what_a_trial_may(nas: Nas, held: list[dict[str, Any]]) -> None:
    """From inside of a trial's pod. The API server answers, for no policy is enforced here, and
    knows the pod as nobody.
    """
    one, two = held
    environment = two["spec"]["containers"][0]["env"]
    url = next(e["value"] for e in environment if e["name"] == "KINASE_REPORT_URL")
    inside = ("--namespace", NAS, one["metadata"]["name"], "--", "python", "-c", PROBE, url)
    assert json.loads(nas.lab.cluster.kubectl("exec", *inside)) == {
        "user": 65532,
        "account": False,
        "version": 200,
        "secrets": 403,
        "mine": 400,  # let in, and the body is no point
        "other's": 401,
        "without": 401,
    }


def test_nothing_is_left(release: Release, nas: Nas, held: list[dict[str, Any]]) -> None:
    cluster = nas.lab.cluster
    for name in ("held", "digits"):  # the first in its middle
        cluster.kubectl("delete", "nasx", name, "--namespace", NAS, "--timeout=60s")
    wait_for(lambda: not pods(nas.lab, NAS), 60, message="no pod is left")
    release.helm("uninstall", "kinase", "--namespace", HOME, "--wait", "--timeout=120s")

    def kinds(namespaced: bool) -> str:
        which = ("--verbs=list", f"--namespaced={str(namespaced).lower()}", "-o", "name")
        return ",".join(cluster.kubectl("api-resources", *which).split())

    def left() -> set[str]:
        found = {
            f"{namespace} {item}"
            for namespace in (HOME, NAS)
            for item in cluster.kubectl("get", kinds(True), "-n", namespace, "-o", "name").split()
            if item not in BORN_WITH and not item.startswith("event")
        }
        whole = cluster.kubectl("get", kinds(False), "-o", "name").split()
        processes = {command for node in nas.lab.nodes for command in node.processes()}
        ours = {item for item in whole if "kinase" in item} - {f"namespace/{HOME}"}
        return found | ours | processes

    with contextlib.suppress(AssertionError):
        wait_for(lambda: not left(), 60, every=2)
    assert left() == set()
