"""The real node itself: that it is one, and that it goes without a trace."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kinase.api import TrialPhase, TrialReason, names
from kinase_operator.ends import classify
from kinase_operator.job_specs import CREDENTIALS
from kinase_operator.views import Pod
from tests.cluster import system
from tests.cluster.fixtures import a_namespace
from tests.cluster.helpers import RESTRICTED, wait_for
from tests.cluster.lab.rest import ApiError
from tests.node.conftest import BUSYBOX, Lab
from tests.unit.operator import samples


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """A namespace of the test's own, under the Pod Security level `restricted`."""
    with a_namespace(lab.cluster) as name:
        yield name


def pod(name: str, *command: str, node: str = "", **more: Any) -> dict[str, Any]:
    """A pod that runs a command of busybox."""
    container = {
        "name": "main",
        "image": BUSYBOX,
        "command": ["/busybox", *command],
        "securityContext": RESTRICTED,
    }
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
            "containers": [container],
            **more,
        },
    }


def make(lab: Lab, namespace: str, plural: str, body: dict[str, Any]) -> str:
    """Make an object; its path."""
    path = f"/api/v1/namespaces/{namespace}/{plural}"
    lab.cluster.api.post(path, body)
    return f"{path}/{body['metadata']['name']}"


def said(lab: Lab, path: str) -> str:
    """What a pod has printed by its end."""

    def ended() -> bool:
        return lab.cluster.api.get(path)["status"]["phase"] in ("Succeeded", "Failed")

    wait_for(ended, 60, message=f"{path} has ended")
    return str(lab.cluster.api.get(f"{path}/log"))


def test_pods_find_a_service_by_its_name_from_every_node(lab: Lab, namespace: str) -> None:
    serve = "while true; do echo hello | /busybox nc -l -p 8080; done"
    make(lab, namespace, "pods", pod("web", "sh", "-c", serve, node="node-1"))
    service = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    make(lab, namespace, "services", {"metadata": {"name": "web"}, "spec": service})
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"

    def ready() -> bool:
        (found,) = lab.cluster.api.get(slices)["items"]
        return bool(found["endpoints"][0]["conditions"]["ready"])

    wait_for(ready, 60, message="the Service has its pod")
    for node in ("node-1", "node-2"):
        for host in (f"web.{namespace}.svc", f"web.{namespace}.svc.cluster.local", "web"):
            name = f"ask-{node}-{host.count('.')}"
            script = f"for i in 1 2 3 4 5; do /busybox nc -w 2 {host} 80 && exit; sleep 1; done"
            asked = make(lab, namespace, "pods", pod(name, "sh", "-c", script, node=node))
            assert said(lab, asked) == "hello\n", (node, host)
    absent = pod("absent", "nslookup", "absent.default.svc.cluster.local")
    assert "NXDOMAIN" in said(lab, make(lab, namespace, "pods", absent))


def test_pods_reach_the_api_server_where_they_expect_it(lab: Lab, namespace: str) -> None:
    script = "/busybox nc -w 5 kubernetes.default.svc 443 < /dev/null && echo reached"
    asking = pod("ask", "sh", "-c", script)
    assert said(lab, make(lab, namespace, "pods", asking)) == "reached\n"


def test_restricted_is_enforced_by_the_api_server_and_by_the_node(lab: Lab, namespace: str) -> None:
    body = pod("root", "id")
    body["spec"]["containers"][0]["securityContext"] = {}
    with pytest.raises(ApiError, match="violates PodSecurity"):
        make(lab, namespace, "pods", body)
    as_root = pod("root", "id", securityContext={"runAsUser": 0})
    with pytest.raises(ApiError, match="runAsUser=0"):
        make(lab, namespace, "pods", as_root)
    assert "uid=65535 " in said(lab, make(lab, namespace, "pods", pod("user", "id")))
    held = pod("held", "sh", "-c", "echo x > /x")
    held["spec"]["containers"][0]["securityContext"] = {
        **RESTRICTED,
        "readOnlyRootFilesystem": True,
    }
    assert "Read-only file system" in said(lab, make(lab, namespace, "pods", held))


def test_a_pod_that_a_kubelet_rejects_is_an_attempt_that_was_rejected(
    lab: Lab, namespace: str
) -> None:
    """The scheduler is passed over, so what does not fit is for the kubelet to say."""
    elsewhere = pod("affinity", "true", nodeName="node-1", nodeSelector={"lab": "elsewhere"})
    large = pod("cpu", "true", nodeName="node-1")
    large["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1000"}}
    for reason, body in (("NodeAffinity", elsewhere), ("OutOfcpu", large)):
        path = make(lab, namespace, "pods", body)

        def failed(path: str = path) -> Any:
            item = lab.cluster.api.get(path)
            return item if item["status"]["phase"] == "Failed" else None

        seen = Pod.of(wait_for(failed, message=f"{path} is rejected"))
        end = classify(None, [seen], samples.MANIFEST, samples.NOW)
        assert end is not None
        assert (end.phase, end.reason) == (TrialPhase.FAILED, TrialReason.REJECTED)
        assert end.message.startswith(f"{reason}: Pod was rejected: ")


ENDS = {
    "0": ("Succeeded", "Completed", 0),
    "42": ("Infeasible", "Infeasible", 42),
    "75": ("Failed", "Unavailable", 75),
    "143": ("Failed", "Terminated", 143),
    "3": ("Failed", "Crashed", 3),
    "memory": ("Failed", "OutOfMemory", 137),
    "slow": ("Infeasible", "DeadlineExceeded", 137),
}
"""What a trainer does, and what its trial then says."""
TRAINER = """
/busybox echo trains; how=$(/busybox cat /kinase/job.json)
case $how in
*memory*) exec /busybox tail /dev/zero ;;
*slow*) exec /busybox sleep 1000 ;;
esac
exit $(/busybox tr -dc 0-9 < /kinase/job.json)
"""


@pytest.fixture(scope="module")
def operator(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.Operator]:
    """The operator, as a process of this machine."""
    system.install_rights(lab.cluster)
    operator = system.Operator(lab.cluster, tmp_path_factory.mktemp("operator"))
    operator.start()
    yield operator
    operator.stop()


@pytest.mark.parametrize("native", [False, True], ids=["injected", "native"])
def test_a_trial_ends_as_its_trainer_does_beside_a_sidecar(
    lab: Lab, operator: system.Operator, namespace: str, native: bool
) -> None:
    api = lab.cluster.api
    secret = {"metadata": {"name": "s"}, "stringData": dict.fromkeys(CREDENTIALS, "x")}
    api.post(f"/api/v1/namespaces/{namespace}/secrets", secret)
    bucket = SimpleNamespace(name="b", endpoint="http://127.0.0.1:1", secret="s")
    template = {
        "image": BUSYBOX,
        "command": ["/busybox", "sh", "-c", TRAINER],
        "timeLimit": "8s",
        "gracePeriod": "1s",
        "resources": {"limits": {"memory": "32Mi"}},
    }
    with system.injected(
        lab.cluster, namespace, BUSYBOX, "/busybox", "sleep", "1000", native=native
    ):
        made = system.create(
            lab.cluster, system.experiment(namespace, bucket, trialTemplate=template)
        )
        for number, how in enumerate(ENDS):
            job = json.dumps({"how": how})
            wanted = {"experiment": "toy", "number": number, "kind": "Search", "job": job}
            body = {
                "apiVersion": names.API_VERSION,
                "kind": "NASTrial",
                "metadata": {
                    "name": names.trial_name("toy", number),
                    "labels": {names.EXPERIMENT_UID: made["metadata"]["uid"]},
                    "ownerReferences": [
                        {
                            "apiVersion": names.API_VERSION,
                            "kind": "NASExperiment",
                            "name": "toy",
                            "uid": made["metadata"]["uid"],
                            "controller": True,
                        }
                    ],
                },
                "spec": wanted,
            }
            api.post(system.TRIALS.format(namespace), body)

        def told() -> dict[str, Any]:
            found = [item.get("status", {}) for item in system.trials(lab.cluster, namespace)]
            seen = {
                how: (s.get("phase"), s.get("reason"), s.get("exitCode"))
                for how, s in zip(ENDS, found, strict=True)
            }
            return seen if all(s.get("completionTime") for s in found) else {}

        assert wait_for(told, 90, message="every trial's end", every=0.5) == ENDS

    def over() -> list[Any]:
        label = f"{names.COMPONENT}=trial"
        found = api.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={label}")["items"]
        phases = {p["status"]["phase"] for p in found}
        return found if len(found) == len(ENDS) and phases <= {"Succeeded", "Failed"} else []

    for item in wait_for(over, 60, message="no sidecar holds its pod", every=0.5):
        path = f"/api/v1/namespaces/{namespace}/pods/{item['metadata']['name']}/log"
        assert "trains" in str(api.get(f"{path}?container=kinase")), "its log stays"


def test_a_node_that_stops_leaves_nothing_on_the_machine(lab: Lab) -> None:
    def processes() -> Iterator[str]:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")

    def left(word: str) -> list[str]:
        places = ("ip address", "iptables -S", "iptables -t nat -S", "cat /proc/mounts")
        found = [subprocess.run(p.split(), capture_output=True, text=True).stdout for p in places]
        groups = [str(path) for path in Path("/sys/fs/cgroup").rglob("kinase*")]
        processes = [
            path.read_bytes().replace(b"\\0", b" ").decode(errors="replace")
            for path in Path("/proc").glob("[0-9]*/cmdline")
        ]
        lines = [*"".join(found).splitlines(), *groups, *processes]
        return [line for line in lines if word in line]

    one, two = lab.nodes
    mine = f"{two.network.bridge}n2"
    assert left(mine)
    assert left(str(two.folder))
    settings = {path: Path("/proc/sys", path).read_text() for path in ("kernel/panic",)}
    two.remove()
    assert not left(mine)
    assert not left(str(two.folder))
    assert not left(two.network.cgroup(two.name))
    assert left(one.network.cgroup(one.name)), "the other runs on"
    assert settings == {path: Path("/proc/sys", path).read_text() for path in settings}
    two.start()
