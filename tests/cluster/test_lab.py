"""The test cluster itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Bucket
from tests.cluster.helpers import pod, wait_for
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import Node
from tests.cluster.lab.rest import ApiError, Rest

Pods = Callable[..., "InNamespace"]

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(f"{sys.argv[2]} {self.path}".encode())
http.server.HTTPServer((sys.argv[1], 8080), Handler).serve_forever()
"""


class InNamespace:
    """Objects of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.api = cluster.api
        self.name = namespace
        self.core = f"/api/v1/namespaces/{namespace}"

    def create(self, kind: str, body: dict[str, Any]) -> Any:
        return self.api.post(f"{self.core}/{kind}", body)

    def run(self, name: str, script: str, **more: Any) -> None:
        self.create("pods", pod(name, script, **more))

    def pod(self, name: str) -> Any:
        return self.api.get(f"{self.core}/pods/{name}")

    def delete(self, name: str, **options: Any) -> None:
        self.api.delete(f"{self.core}/pods/{name}", options)

    def state(self, name: str) -> Any:
        return self.pod(name)["status"]["containerStatuses"][0]["state"]

    def running(self, name: str) -> Any:
        return wait_for(lambda: self.state(name).get("running"), message=f"{name} runs")

    def waiting(self, name: str, reason: str) -> str:
        """The message with which the container waits for that reason."""

        def message() -> Any:
            waiting = self.state(name)["waiting"]
            return waiting["reason"] == reason and waiting

        return str(wait_for(message, message=f"{name} waits: {reason}")["message"])

    def ended(self, name: str, phase: str) -> Any:
        """The container's last state, once the pod has this phase."""

        def over() -> Any:
            status = self.pod(name)["status"]
            return status["phase"] in ("Succeeded", "Failed") and status

        status = wait_for(over, message=f"{name} ends")
        assert status["phase"] == phase, status
        return status["containerStatuses"][0]["state"]["terminated"]

    def gone(self, name: str) -> bool:
        try:
            self.pod(name)
        except ApiError as problem:
            return problem.status == 404
        return False


@pytest.fixture
def pods(cluster: Cluster, namespace: str, node: Node) -> InNamespace:
    return InNamespace(cluster, namespace)


def test_a_namespace_is_restricted(pods: InNamespace) -> None:
    with pytest.raises(ApiError, match="violates PodSecurity"):
        pods.run("p", "true", securityContext={})


def test_an_account_has_its_own_rights(pods: InNamespace, cluster: Cluster, tmp_path: Path) -> None:
    pods.create("serviceaccounts", {"metadata": {"name": "someone"}})
    path = cluster.account_kubeconfig(tmp_path / "kubeconfig", pods.name, "someone")
    with pytest.raises(ApiError, match=f"system:serviceaccount:{pods.name}:someone"):
        Rest(path).get(f"{pods.core}/pods")


def test_a_bucket_comes_with_a_secret(pods: InNamespace, s3_bucket: Bucket) -> None:
    secret = pods.api.get(f"{pods.core}/secrets/{s3_bucket.secret}")
    assert sorted(secret["data"]) == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    assert s3_bucket.endpoint.startswith("http")


def test_a_job_succeeds_with_a_message(pods: InNamespace) -> None:
    template = pod("", "echo all is well > /dev/termination-log")["spec"]
    job = {"metadata": {"name": "j"}, "spec": {"backoffLimit": 0, "template": {"spec": template}}}
    jobs = f"/apis/batch/v1/namespaces/{pods.name}/jobs"
    pods.api.post(jobs, job)
    wait_for(lambda: pods.api.get(f"{jobs}/j")["status"].get("succeeded") == 1, message="the job")
    (run,) = pods.api.get(f"{pods.core}/pods")["items"]
    ended = pods.ended(run["metadata"]["name"], "Succeeded")
    assert ended["message"] == "all is well\n"
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")


def test_a_failure_has_its_code(pods: InNamespace) -> None:
    policy = "FallbackToLogsOnError"
    pods.run("p", "echo some log; exit 3", terminationMessagePolicy=policy)
    ended = pods.ended("p", "Failed")
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "some log\n")


def test_a_secret_that_comes_late(pods: InNamespace, node: Node) -> None:
    reference = {"secretKeyRef": {"name": "s", "key": "k"}}
    env = [
        {"name": "FROM", "valueFrom": reference},
        {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "BOTH", "value": "$(WHO)-$(FROM)-$$(WHO)-$(NOBODY)"},
    ]
    pods.run("p", 'echo "$BOTH" > /dev/termination-log', env=env)
    assert pods.waiting("p", "CreateContainerConfigError") == 'secret "s" not found'
    pods.create("secrets", {"metadata": {"name": "s"}, "stringData": {"other": "x"}})
    wait_for(
        lambda: (
            pods.waiting("p", "CreateContainerConfigError")
            == f"couldn't find key k in Secret {pods.name}/s"
        ),
        message="the key is missed",
    )
    pods.api.patch(f"{pods.core}/secrets/s", {"stringData": {"k": "value"}})
    assert pods.ended("p", "Succeeded")["message"] == "p-value-$(WHO)-$(NOBODY)\n"
