"""The test cluster itself."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.fixtures import Bucket
from tests.cluster.helpers import pod, wait_for
from tests.cluster.lab import binaries
from tests.cluster.lab.control_plane import Cluster, ControlPlane
from tests.cluster.lab.node import Image, Node
from tests.cluster.lab.rest import ApiError, Rest

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


def test_environment_from_whole_objects(pods: InNamespace) -> None:
    pods.create("configmaps", {"metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}})
    optional = {"name": "missing", "optional": True}
    references = [{"configMapRef": {"name": "m"}, "prefix": "M_"}, {"secretRef": optional}]
    pods.run("p", "echo $M_a$M_b > /dev/termination-log", envFrom=references)
    assert pods.ended("p", "Succeeded")["message"] == "12\n"


def test_volumes_are_folders_of_the_pod(pods: InNamespace, node: Node) -> None:
    pods.create("configmaps", {"metadata": {"name": "m"}, "data": {"key": "from a map"}})
    field = {"fieldPath": "metadata.annotations['say']"}
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "map", "configMap": {"name": "m"}},
        {"name": "info", "downwardAPI": {"items": [{"path": "said", "fieldRef": field}]}},
    ]
    script = """
        until [ "$(cat /etc/info/said)" = stop ]; do sleep 0.05; done
        cat /etc/map/key > "$PLACE/x"; cat /scratch/x > /dev/termination-log
    """
    pods.run(
        "p",
        script,
        volumes=volumes,
        env=[{"name": "PLACE", "value": "/scratch"}],
        volumeMounts=[
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "map", "mountPath": "/etc/map"},
            {"name": "info", "mountPath": "/etc/info"},
        ],
        metadata={"annotations": {"say": "go"}},
    )
    pods.running("p")
    pods.api.patch(f"{pods.core}/pods/p", {"metadata": {"annotations": {"say": "stop"}}})
    assert pods.ended("p", "Succeeded")["message"] == "from a map"


def test_a_volume_whose_secret_is_missing(pods: InNamespace) -> None:
    pods.run(
        "p",
        "cat /s/k > /dev/termination-log",
        volumes=[{"name": "s", "secret": {"secretName": "s"}}],
        volumeMounts=[{"name": "s", "mountPath": "/s"}],
    )
    wait_for(lambda: 'secret "s" not found' in pods.waiting("p", "ContainerCreating"))
    pods.create("secrets", {"metadata": {"name": "s"}, "stringData": {"k": "v"}})
    assert pods.ended("p", "Succeeded")["message"] == "v"


def test_an_image_that_comes_late(pods: InNamespace, node: Node) -> None:
    image = f"lab/late:{pods.name}"
    pods.create("pods", pod("p", "", image=image, command=None))
    pods.waiting("p", "ErrImagePull")
    assert image in pods.waiting("p", "ImagePullBackOff")
    node.set_image(image, Image(("/bin/sh", "-c"), ("exit 4",)))
    assert pods.ended("p", "Failed")["exitCode"] == 4


def test_a_pod_speaks_to_the_api_server(pods: InNamespace) -> None:
    pods.run("p", f"{binaries.get('kubectl')} auth whoami -o name > /dev/termination-log 2>&1")
    assert "selfsubjectreview" in pods.ended("p", "Succeeded").get("message", "")


def test_logs_through_the_api_server(pods: InNamespace, cluster: Cluster) -> None:
    pods.run("p", "echo first; echo second; sleep 1; echo third")
    pods.running("p")
    followed = cluster.kubectl("logs", "-n", pods.name, "p", "-f")
    assert followed == "first\nsecond\nthird\n"
    assert cluster.kubectl("logs", "-n", pods.name, "p", "--tail=1") == "third\n"


def test_deletion_leaves_time_to_end(pods: InNamespace) -> None:
    pods.create("configmaps", {"metadata": {"name": "m"}, "data": {}})
    script = """
        trap 'echo ended > /dev/termination-log; exit 5' TERM
        while true; do sleep 0.05; done
    """
    finalizer = {"metadata": {"finalizers": ["kinase.dev/test"]}}
    pods.run("p", script, **finalizer)
    pods.running("p")
    pods.delete("p")
    ended = pods.ended("p", "Failed")
    assert (ended["exitCode"], ended["message"]) == (5, "ended\n")
    pods.api.patch(f"{pods.core}/pods/p", {"metadata": {"finalizers": None}})
    wait_for(lambda: pods.gone("p"), message="the pod is gone")


def test_deletion_kills_in_the_end(pods: InNamespace, node: Node) -> None:
    pods.run("p", "trap '' TERM; while true; do sleep 0.05; done", terminationGracePeriodSeconds=1)
    pods.running("p")
    status = Path("/proc") / str(node.pod(pods.name, "p")["pid"]) / "status"
    term = 1 << signal.SIGTERM - 1
    wait_for(lambda: int(re.findall(r"SigIgn:\s*(\w+)", status.read_text())[0], 16) & term)
    began = time.monotonic()
    pods.delete("p")
    wait_for(lambda: pods.gone("p"), message="the pod is gone")
    assert 0.9 < time.monotonic() - began < 15  # not the 30 s of the default


def test_forced_deletion_kills_at_once(pods: InNamespace, node: Node) -> None:
    pods.run("p", "sleep 1000")
    pods.running("p")
    pid = node.pod(pods.name, "p")["pid"]
    pods.delete("p", gracePeriodSeconds=0)
    wait_for(lambda: not alive(pid), message="the process has gone")


def test_eviction_is_marked(pods: InNamespace) -> None:
    pods.run("p", "sleep 1000", metadata={"finalizers": ["kinase.dev/test"]})
    pods.running("p")
    pods.create("pods/p/eviction", {"metadata": {"name": "p"}})
    assert pods.ended("p", "Failed")["exitCode"] == 143
    conditions = {c["type"]: c for c in pods.pod("p")["status"]["conditions"]}
    assert conditions["DisruptionTarget"]["reason"] == "EvictionByEvictionAPI"
    assert conditions["Ready"]["status"] == "False"
    pods.api.patch(f"{pods.core}/pods/p", {"metadata": {"finalizers": None}})


def test_a_process_that_is_killed(pods: InNamespace, node: Node) -> None:
    for name in ("killed", "oom"):
        pods.run(name, "sleep 1000 & sleep 1000")
        pods.running(name)
    node.kill(pods.name, "killed")
    node.oom(pods.name, "oom")
    ended = pods.ended("killed", "Failed")
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    ended = pods.ended("oom", "Failed")
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
    with pytest.raises(LookupError, match="no process"):
        node.kill(pods.name, "oom")


def test_time_that_is_up(pods: InNamespace) -> None:
    pods.run("p", "sleep 1000", activeDeadlineSeconds=3)
    assert pods.ended("p", "Failed")["exitCode"] == 143
    assert pods.pod("p")["status"]["reason"] == "DeadlineExceeded"


def test_restarts_back_off(pods: InNamespace) -> None:
    script = 'echo $HOSTNAME; test "$(ls /n | wc -l)" = 2 || { mktemp -p /n; exit 1; }'
    pods.run(
        "p",
        script,
        restartPolicy="OnFailure",
        volumes=[{"name": "n", "emptyDir": {}}],
        volumeMounts=[{"name": "n", "mountPath": "/n"}],
    )
    message = pods.waiting("p", "CrashLoopBackOff")
    assert message.startswith("back-off 1s restarting failed container=main pod=p_")
    assert pods.ended("p", "Succeeded")["exitCode"] == 0
    (status,) = pods.pod("p")["status"]["containerStatuses"]
    assert status["restartCount"] == 2
    assert status["lastState"]["terminated"]["exitCode"] == 1


def test_containers_that_come_first(pods: InNamespace) -> None:
    mounts = [{"name": "v", "mountPath": "/v"}]
    first = pod("", "echo made > /v/x", volumeMounts=mounts)["spec"]["containers"][0]
    more = {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": mounts}
    pods.run(
        "p", "cat /v/x > /dev/termination-log", initContainers=[{**first, "name": "i"}], **more
    )
    assert pods.ended("p", "Succeeded")["message"] == "made\n"
    fails = {**first, "name": "i", "command": ["/no/such/program"]}
    pods.create("pods", pod("q", "true", initContainers=[fails], **more))
    wait_for(lambda: pods.pod("q")["status"]["phase"] == "Failed", message="it fails")
    status = pods.pod("q")["status"]
    assert status["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "StartError"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"


def test_a_service_leads_to_a_pod_that_is_ready(pods: InNamespace) -> None:
    pods.create("configmaps", {"metadata": {"name": "server"}, "data": {"server.py": SERVER}})
    ports = [{"name": "http", "containerPort": 8080}]
    for name in ("one", "two"):  # on the same port
        pods.run(
            name,
            "",
            metadata={"labels": {"app": name}},
            command=["python", "/code/server.py", "0.0.0.0", name],
            ports=ports,
            readinessProbe={"httpGet": {"path": "/healthz", "port": "http"}},
            volumes=[{"name": "code", "configMap": {"name": "server"}}],
            volumeMounts=[{"name": "code", "mountPath": "/code"}],
        )
        pods.create(
            "services",
            {
                "metadata": {"name": name},
                "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
            },
        )

    def ready(name: str) -> bool:
        conditions = {c["type"]: c["status"] for c in pods.pod(name)["status"]["conditions"]}
        return bool(conditions["Ready"] == "True")

    wait_for(lambda: ready("one") and ready("two"), message="both are ready")
    fetch = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode(), end='')"
    urls = {name: f"http://{name}.{pods.name}.svc/x?y=z" for name in ("one", "two", "three")}
    for name in ("one", "two"):
        client = f"from-{name}"
        pods.run(client, f'python -c "{fetch}" {urls[name]} > /dev/termination-log')
        assert pods.ended(client, "Succeeded")["message"] == f"{name} /x?y=z"
    pods.run("lost", f'python -c "{fetch}" {urls["three"]}')
    pods.ended("lost", "Failed")


def test_an_outage_of_the_api_server(pods: InNamespace, cluster: Cluster, node: Node) -> None:
    if not isinstance(cluster, ControlPlane):
        pytest.skip("only on a control plane that the test has started itself")
    pods.run("p", "sleep 1; exit 6")
    pods.run("q", "sleep 1000", terminationGracePeriodSeconds=1)
    pods.running("p"), pods.running("q")
    cluster.stop_apiserver()
    wait_for(lambda: not node.pod(pods.name, "p")["pid"], message="p ends meanwhile")
    cluster.start_apiserver()
    assert pods.ended("p", "Failed")["exitCode"] == 6
    pods.delete("q")
    wait_for(lambda: pods.gone("q"), message="q is gone")


def test_many_pods_at_once(pods: InNamespace, node: Node) -> None:
    template = pod("", "sleep 1000")["spec"]
    job = {"parallelism": 24, "completions": 24, "template": {"spec": template}}
    jobs = f"/apis/batch/v1/namespaces/{pods.name}/jobs"
    pods.api.post(jobs, {"metadata": {"name": "many"}, "spec": job})

    def run() -> int:
        return sum(p["pid"] is not None for p in node.pods() if p["namespace"] == pods.name)

    wait_for(lambda: run() == 24, 90, message="24 run at once")
    pods.api.delete(f"{jobs}/many", {"propagationPolicy": "Background"})
    wait_for(lambda: run() == 0, 90, message="none runs")


@pytest.fixture
def second(cluster: Cluster, node: Node, tmp_path: Path) -> Iterator[Node]:
    """Another node, on which only pods come that name it."""
    second = Node(cluster, tmp_path / "node", "node-2", labels={"lab": "second"})
    second.start()
    cluster.api.patch("/api/v1/nodes/node-2", {"spec": {"unschedulable": True}})
    yield second
    second.remove()


def test_a_node_that_crashes_and_comes_back(pods: InNamespace, second: Node) -> None:
    pods.run("never", "sleep 1000 & sleep 1000", nodeName="node-2")
    pods.run("always", "sleep 1000", nodeName="node-2", restartPolicy="Always")
    pods.running("never"), pods.running("always")
    assert len(processes(second)) > 2
    second.crash()
    wait_for(lambda: not processes(second), message="the processes die with their node")
    second.start()
    assert pods.ended("never", "Failed")["exitCode"] == 137
    wait_for(
        lambda: (
            pods.pod("always")["status"]["containerStatuses"][0]["restartCount"] == 1
            and pods.running("always")
        ),
        message="the other one is restarted",
    )


def test_a_node_that_is_lost(pods: InNamespace, cluster: Cluster, second: Node) -> None:
    pods.run("p", "sleep 1000", nodeName="node-2", terminationGracePeriodSeconds=1)
    pods.running("p")
    second.pause()
    wait_for(lambda: not second.ready, message="the node is missed")
    wait_for(lambda: "deletionTimestamp" in pods.pod("p")["metadata"], message="p is evicted")
    assert second.pod(pods.name, "p")["pid"], "nobody has told the node"
    second.resume()
    wait_for(lambda: pods.gone("p"), message="p is gone")
    wait_for(lambda: second.ready, message="the node is well again")


def processes(node: Node) -> list[str]:
    """All processes that its pods have started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"LAB_NODE={node.folder}:".encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
