"""`kinase logs` and `kinase report` through a real kubelet and container runtime."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kinase.api import names
from kinase.cli_options import Access, Target
from kinase_kubectl.problem import Problem
from kinase_kubectl.report import current
from tests.cluster import system
from tests.cluster.fixtures import a_namespace
from tests.cluster.helpers import RESTRICTED, wait_for
from tests.cluster.lab import binaries
from tests.cluster.lab.processes import Child, free_ports
from tests.node.conftest import BUSYBOX, Lab

PAGE = "<h1>digits " + "x" * 300_000
"""A page of more than one frame."""
SERVE = (
    "cd /www && printf '<h1>digits ' > index.html && /busybox head -c 300000 /dev/zero"
    " | /busybox tr '\\0' x >> index.html && echo the search starts"
    " && exec /busybox httpd -f -p 8080"
)


@pytest.fixture(scope="module")
def namespace(lab: Lab) -> Iterator[str]:
    """An experiment without an operator, and a pod that stands for its controller."""
    with a_namespace(lab.cluster) as namespace:
        storage = {"uri": "s3://nas"}
        made = lab.cluster.api.post(
            system.EXPERIMENTS.format(namespace),
            {
                "apiVersion": names.API_VERSION,
                "kind": "NASExperiment",
                "metadata": {"name": "digits"},
                "spec": {
                    "space": {"type": "Chain", "chain": {}},
                    "strategy": {"type": "Random"},
                    "budget": {"trials": 3},
                    "storage": storage,
                },
            },
        )
        lab.cluster.api.post(f"/api/v1/namespaces/{namespace}/pods", pod(made["metadata"]["uid"]))
        path = f"/api/v1/namespaces/{namespace}/pods/digits-controller"

        def ready() -> bool:
            conditions = lab.cluster.api.get(path)["status"].get("conditions") or ()
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        wait_for(ready, 90, message="the pod is ready")
        yield namespace


def pod(uid: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "digits-controller",
            "labels": {
                names.EXPERIMENT: "digits",
                names.EXPERIMENT_UID: uid,
                names.COMPONENT: "controller",
            },
        },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "kinase",
                    "image": BUSYBOX,
                    "command": ["/busybox", "sh", "-c", SERVE],
                    "securityContext": RESTRICTED,
                    "volumeMounts": [{"name": "www", "mountPath": "/www"}],
                }
            ],
            "volumes": [{"name": "www", "emptyDir": {}}],
        },
    }


def test_the_report_comes_through_a_port_forward(lab: Lab, namespace: str) -> None:
    page = current(Target(namespace, None, lab.cluster.kubeconfig), "digits", Access())
    assert page.html.decode() == PAGE
    assert not page.final


def test_kubectl_forwards_the_same_page(lab: Lab, namespace: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    kubectl = [str(binaries.get("kubectl")), f"--kubeconfig={lab.cluster.kubeconfig}"]
    words = [*kubectl, "port-forward", "-n", namespace, "pod/digits-controller", f"{port}:8080"]
    child = Child(words, tmp_path / "forward.log")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answer() -> str:
        with opener.open(f"http://127.0.0.1:{port}/", timeout=10) as found:
            return str(found.read().decode())

    try:
        assert wait_for(answer, 30, message="the page") == PAGE
    finally:
        child.stop()


def test_the_log_by_the_experiments_name(lab: Lab, namespace: str) -> None:
    kinase = Path(sys.executable).with_name("kinase")
    words = ["logs", "digits", "-n", namespace, "--kubeconfig", str(lab.cluster.kubeconfig)]
    done = subprocess.run([str(kinase), *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "the search starts\n"), done.stderr


def test_a_port_where_nobody_listens(
    lab: Lab, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kinase_kubectl import forward

    monkeypatch.setattr(forward, "PORT", 8081)
    with pytest.raises(Problem, match="does not answer on port 8081"):
        current(Target(namespace, None, lab.cluster.kubeconfig), "digits", Access())
