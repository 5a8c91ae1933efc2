"""`spec.trialTemplate` on a real API server: what is written in a manifest is what runs."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kinase.api.pod import TrialTemplate
from tests.cluster import system
from tests.cluster.beside import beside
from tests.cluster.fixtures import a_bucket
from tests.cluster.helpers import wait_for
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import Node
from tests.cluster.lab.rest import ApiError
from tests.cluster.lab.s3 import S3Server
from tests.cluster.system import Scene

TINY: dict[str, Any] = {
    "budget": {"trials": 2, "parallelism": 2},
    "control": {"share": 0},
    "finalists": {"count": 1},
}
TRAINER = f"exec python {system.REPOSITORY / 'tests/pod_trainer.py'}"
QUEUE = "kueue.x-k8s.io/queue-name"


def holds(there: Any, wanted: Any, place: str = "") -> None:
    """All that is wanted is there; the API server may have added to it."""
    if isinstance(wanted, dict):
        assert isinstance(there, dict), f"{place}: {there!r}"
        for key, value in wanted.items():
            assert key in there, f"{place}.{key} does not exist: {there}"
            holds(there[key], value, f"{place}.{key}")
    elif isinstance(wanted, list):
        assert isinstance(there, list), f"{place}: {there!r}"
        named = wanted and isinstance(wanted[0], dict) and ("name" in wanted[0])
        if named and len({item["name"] for item in wanted}) == len(wanted):
            by_name = {item["name"]: item for item in there}
            for item in wanted:
                assert item["name"] in by_name, f"{place} has no {item['name']}: {there}"
                holds(by_name[item["name"]], item, f"{place}.{item['name']}")
        else:
            for item in wanted:
                assert any(_is_held(other, item) for other in there), f"{place}: no {item}"
    else:
        assert there == wanted, f"{place}: {there!r} is not {wanted!r}"


def _is_held(there: Any, wanted: Any) -> bool:
    try:
        holds(there, wanted)
    except AssertionError:
        return False
    return True


@pytest.fixture
def classes(cluster: Cluster) -> Iterator[str]:
    """A PriorityClass and a RuntimeClass of this name, which is that of a PersistentVolume too."""
    name = f"test-{secrets.token_hex(4)}"
    places = {
        f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}": {"value": 7},
        f"/apis/node.k8s.io/v1/runtimeclasses/{name}": {"handler": "runc"},
    }
    for path, body in places.items():
        cluster.api.post(path.rpartition("/")[0], {"metadata": {"name": name}, **body})
    yield name
    for path in (*places, f"/api/v1/persistentvolumes/{name}"):
        with contextlib.suppress(ApiError):  # a test without data has no volume
            cluster.api.delete(path)


def claim(scene: Scene, name: str, folder: Path) -> None:
    """A claim `data` that is bound to a folder."""
    spec: dict[str, Any] = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    reference = {"namespace": scene.namespace, "name": "data"}
    volume = {
        **spec,
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": str(folder)},
        "claimRef": reference,
        "persistentVolumeReclaimPolicy": "Retain",
    }
    scene.cluster.api.post(
        "/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": volume}
    )
    body = {**spec, "volumeName": name, "resources": {"requests": {"storage": "1Gi"}}}
    scene.cluster.api.post(
        scene.path("persistentvolumeclaims"), {"metadata": {"name": "data"}, "spec": body}
    )
    bound = lambda: scene.get("data", "persistentvolumeclaims")["status"]["phase"] == "Bound"  # noqa: E731
    wait_for(bound, message="the claim is bound")


SCRIPT = f"""
env | sed 's/^/env /'
for file in /data/part /config/renamed /keys/key /both/one /scratch/. /dev/shm/.
do test -e $file && echo "there $file $(cat $file 2>/dev/null)"; done
{TRAINER}
"""


def whole(classes: str) -> dict[str, Any]:
    """A template in which every field is set that a trial can run with here."""
    return {
        "timeLimit": "5m",
        "maxRetries": 1,
        "maxDisruptions": 5,
        "image": system.FAKE,
        "imagePullPolicy": "IfNotPresent",
        "imagePullSecrets": [{"name": "pull"}],
        "command": ["/bin/sh"],
        "args": ["-c", SCRIPT],
        "resources": {
            "limits": {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": 1},
            "requests": {"cpu": "50m", "memory": "64Mi"},
        },
        "nodeSelector": {"kubernetes.io/hostname": "node-1"},
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 5,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"team": "vision"}},
                        },
                    }
                ]
            }
        },
        "tolerations": [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {
                "key": "spot",
                "value": "yes",
                "effect": "NoExecute",
                "tolerationSeconds": 60,
            },
        ],
        "priorityClassName": classes,
        "runtimeClassName": classes,
        "schedulerName": "default-scheduler",
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
            {
                "name": "config",
                "configMap": {
                    "name": "settings",
                    "items": [{"key": "one", "path": "renamed", "mode": 0o440}],
                    "defaultMode": 0o444,
                },
            },
            {"name": "keys", "secret": {"secretName": "secret", "defaultMode": 0o400}},
            {"name": "both", "projected": {"sources": [{"configMap": {"name": "settings"}}]}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "cache", "emptyDir": {}},
            {"name": "weights", "persistentVolumeClaim": {"claimName": "data"}},
        ],
        "volumeMounts": [
            {"name": "data", "mountPath": "/data", "readOnly": True},
            {"name": "config", "mountPath": "/config"},
            {"name": "keys", "mountPath": "/keys"},
            {"name": "both", "mountPath": "/both"},
            {"name": "scratch", "mountPath": "/scratch", "subPath": "inner"},
        ],
        "env": [
            {"name": "PLAIN", "value": "plain"},
            {
                "name": "FROM_SECRET",
                "valueFrom": {"secretKeyRef": {"name": "secret", "key": "key"}},
            },
            {
                "name": "FROM_CONFIG",
                "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "one"}},
            },
            {
                "name": "OPTIONAL",
                "valueFrom": {"secretKeyRef": {"name": "absent", "key": "key", "optional": True}},
            },
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {
                "name": "THREADS",
                "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}},
            },
        ],
        "envFrom": [
            {"prefix": "CONFIG_", "configMapRef": {"name": "settings"}},
            {"secretRef": {"name": "more", "optional": True}},
        ],
        "cache": {"volume": "weights", "size": "1Gi"},
        "shmSize": "1Gi",
        "labels": {QUEUE: "gpus", "team": "vision"},
        "annotations": {"example.com/note": "a note"},
        "gracePeriod": "45s",
        "security": {"runAsUser": 1234, "runAsGroup": 1235, "fsGroup": 1236},
    }


def objects(scene: Scene) -> None:
    """What `whole` refers to."""
    data = {"metadata": {"name": "settings"}, "data": {"one": "1", "two": "2"}}
    scene.cluster.api.post(scene.path("configmaps"), data)
    for name, keys in (("secret", {"key": "hidden"}), ("pull", {".dockerconfigjson": "{}"})):
        body: dict[str, Any] = {"metadata": {"name": name}, "stringData": keys}
        if name == "pull":
            body["type"] = "kubernetes.io/dockerconfigjson"
        scene.cluster.api.post(scene.path("secrets"), body)


def test_every_field_is_in_the_job_and_its_pod_and_reaches_the_process(
    scene: Scene, classes: str, tmp_path: Path
) -> None:
    template = whole(classes)
    known = {info.alias for info in TrialTemplate.model_fields.values()}
    others = {"managedBy", "serviceAccountName", "workers"}
    assert known - set(template) == others, "which have tests of their own"
    objects(scene)
    (tmp_path / "part").write_text("of the data")
    claim(scene, classes, tmp_path)
    scene.create(**TINY, trialTemplate=template)
    scene.finished()
    job = scene.get("toy-00000-1", "jobs")
    [pod] = [p for p in scene.pods() if p["metadata"]["name"].startswith("toy-00000-1-")]
    for item in (job, pod):
        holds(item["metadata"]["labels"], template["labels"])
        holds(item["metadata"]["annotations"], template["annotations"])
    assert "activeDeadlineSeconds" not in job["spec"]  # the limit counts from the start
    for spec in (job["spec"]["template"]["spec"], pod["spec"]):
        for field in (
            "imagePullSecrets",
            "nodeSelector",
            "affinity",
            "tolerations",
            "priorityClassName",
            "runtimeClassName",
            "schedulerName",
            "volumes",
        ):
            holds(spec[field], template[field], field)
        assert spec["terminationGracePeriodSeconds"] == 45
        holds(spec["securityContext"], {**template["security"], "runAsNonRoot": True})
        [container] = spec["containers"]
        for field in (
            "image",
            "imagePullPolicy",
            "command",
            "args",
            "volumeMounts",
            "env",
            "envFrom",
        ):
            holds(container[field], template[field], field)
        holds(container["resources"]["requests"], template["resources"]["requests"])
        assert container["resources"]["limits"] == {
            "cpu": "2",
            "memory": "1Gi",
            "nvidia.com/gpu": "1",
        }
        shm = [m["name"] for m in container["volumeMounts"] if m["mountPath"] == "/dev/shm"]
        memory = {"medium": "Memory", "sizeLimit": "1Gi"}
        holds(spec["volumes"], [{"name": shm[0], "emptyDir": memory}])
        assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["spec"]["priority"] == 7
    assert pod["spec"]["nodeName"] == "node-1"
    said = scene.node.log(scene.namespace, pod["metadata"]["name"]).splitlines()
    for line in (
        "env PLAIN=plain",
        "env FROM_SECRET=hidden",
        "env FROM_CONFIG=1",
        "env NODE=node-1",
        "env THREADS=2",
        "env CONFIG_one=1",
        "env CONFIG_two=2",
        f"env KINASE_CACHE_BYTES={2**30}",
    ):
        assert line in said
    assert not [line for line in said if line.startswith("env OPTIONAL")]
    there = {line.split()[1].rsplit("/", 1)[-1]: line for line in said if line.startswith("there")}
    assert there["part"].endswith(" of the data")
    assert there["renamed"].endswith(" 1")
    assert there["key"].endswith(" hidden")
    assert there["one"].endswith(" 1")
    assert len([line for line in said if line.startswith("there")]) == 6


@beside
def test_volumes_of_drivers_and_another_controller_of_jobs_are_taken_as_they_are(
    scene: Scene, folder: Path
) -> None:
    """The stand-in node cannot mount these, and nobody here is that controller."""
    volumes = [
        {
            "name": "inline",
            "csi": {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": {"a": "b"}},
        },
        {
            "name": "disk",
            "ephemeral": {
                "volumeClaimTemplate": {
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "1Gi"}},
                    }
                }
            },
        },
    ]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    common = {"image": system.FAKE, "volumes": volumes, "volumeMounts": mounts}
    scene.create("here", **TINY, trialTemplate=common)
    managed = {"image": system.FAKE, "managedBy": "kueue.x-k8s.io/multikueue"}
    scene.create("there", **TINY, trialTemplate=managed)
    pod = wait_for(lambda: next(iter(scene.pods()), None), message="the task's pod")
    assert pod is not None
    holds(pod["spec"]["volumes"], volumes)
    job = wait_for(lambda: scene.get("there-task-1", "jobs"), message="the task's Job")
    assert job["spec"]["managedBy"] == "kueue.x-k8s.io/multikueue"
    assert [p["metadata"]["labels"]["kinase.dev/experiment"] for p in scene.pods()] == ["here"]


# -- queues --------------------------------------------------------------------------------


@pytest.fixture
def queue(scene: Scene) -> Iterator[Scene]:
    """Jobs of a queue are suspended when they are made, as Kueue has it."""
    base = "/apis/admissionregistration.k8s.io/v1"
    name = scene.namespace
    suspend = "Object{spec: Object.spec{suspend: true}}"
    policy = {
        "metadata": {"name": name},
        "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["batch"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["jobs"],
                    }
                ]
            },
            "matchConditions": [
                {
                    "name": "queued",
                    "expression": f"'{QUEUE}' in object.metadata.?labels.orValue({{}})",
                }
            ],
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": suspend},
                }
            ],
        },
    }
    where = {"matchLabels": {"kubernetes.io/metadata.name": name}}
    binding = {
        "metadata": {"name": name},
        "spec": {"policyName": name, "matchResources": {"namespaceSelector": where}},
    }
    try:
        scene.cluster.api.post(f"{base}/mutatingadmissionpolicies", policy)
    except ApiError as problem:
        if problem.status == 404:
            pytest.skip("this API server has no MutatingAdmissionPolicy")
        raise
    scene.cluster.api.post(f"{base}/mutatingadmissionpolicybindings", binding)
    probe = {
        "metadata": {"name": "probe", "labels": {QUEUE: "gpus"}},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "probe", "image": "probe"}],
                }
            }
        },
    }
    dry = f"{scene.path('jobs')}?dryRun=All"
    wait_for(lambda: scene.cluster.api.post(dry, probe)["spec"]["suspend"], message="the queue")
    yield scene
    for kind in ("mutatingadmissionpolicybindings", "mutatingadmissionpolicies"):
        scene.cluster.api.delete(f"{base}/{kind}/{name}")


def admit(scene: Scene, name: str, admitted: bool = True) -> None:
    """The queue lets a Job run, or takes that back."""
    scene.cluster.api.patch(scene.path("jobs", name), {"spec": {"suspend": not admitted}})


def admit_all(scene: Scene, but: str = "") -> None:
    """The queue lets run what waits."""
    for job in scene.all("jobs"):
        name = job["metadata"]["name"]
        if job["spec"].get("suspend") and name != but:
            admit(scene, name)


def test_what_a_queue_holds_back_waits_and_what_it_preempts_goes_on_later(queue: Scene) -> None:
    scene = queue
    scene.hold(0)
    scene.create(**TINY, trialTemplate={"image": system.FAKE, "labels": {QUEUE: "gpus"}})
    said = scene.until("Progressing", "False", "TaskPending")
    assert "Queued" in said
    admit(scene, "toy-task-1")

    def queued(number: int, attempt: int = 1) -> bool:
        status = scene.trial(number).get("status") or {}
        seen = status.get("phase"), status.get("reason"), status.get("attempt")
        return seen == ("Pending", "Queued", attempt)

    wait_for(lambda: queued(0) and queued(1), message="both trials wait in the queue")
    assert not scene.running("trial")
    said = scene.until("Progressing", "False", "TrialsPending")
    waits = "toy-00000: Queued: the Job is suspended: a queue holds it back"
    assert said == f"all 2 trials under way wait: {waits}"
    status = scene.get()["status"]
    assert (status["phase"], status["trials"]["running"]) == ("Searching", 0)
    admit_all(scene)
    scene.begins(0)
    scene.until("Progressing", "True", "Searching")
    admit(scene, "toy-00000-1", False)  # the queue needs the place for another
    wait_for(lambda: queued(0, 2), message="its next attempt waits in the queue")

    def done() -> bool:
        admit_all(scene)
        return scene.said("Succeeded")[0] == "True"

    wait_for(done, 60, message="the end", every=0.3)
    [again] = scene.journal("toy", "attempt")
    assert (again.trial, again.attempt, again.crash) == (0, 2, False)


# -- what breaks Pod Security --------------------------------------------------------------

BREAKS: dict[str, dict[str, Any]] = {
    "volumes[0].hostPath": {
        "volumes": [{"name": "node", "hostPath": {"path": "/etc", "type": "Directory"}}],
        "volumeMounts": [{"name": "node", "mountPath": "/node", "readOnly": True}],
    },
    "security.privileged": {"security": {"privileged": True}},
    "security.runAsUser": {"security": {"runAsUser": 0}},
}


@beside
def test_what_breaks_pod_security_is_refused_by_the_name_of_the_field(
    scene: Scene, folder: Path
) -> None:
    names = {field: f"toy-{number}" for number, field in enumerate(BREAKS)}
    for field, fields in BREAKS.items():
        scene.create(names[field], **TINY, trialTemplate={"image": system.FAKE, **fields})
    for field, name in names.items():
        said = scene.until("Ready", "False", "Forbidden", name)
        assert said.startswith(f"spec.trialTemplate.{field}: ")
        assert "KINASE_ALLOW_UNRESTRICTED" in said
    assert not scene.all("jobs")
    name = names["security.runAsUser"]
    scene.change(name, trialTemplate={"security": {"runAsUser": 1000}})
    scene.finished(name)


@pytest.fixture
def lenient(
    cluster: Cluster, kinase: system.Operator, alone: None, tmp_path: Path
) -> Iterator[system.Operator]:
    """An operator that lets templates break Pod Security, while that of the session rests."""
    kinase.stop()
    operator = system.Operator(cluster, tmp_path / "lenient", KINASE_ALLOW_UNRESTRICTED="true")
    operator.start()
    yield operator
    operator.stop()
    kinase.start()


def test_where_the_administrator_allows_it_it_runs_unless_the_namespace_forbids_it(
    scene: Scene, lenient: system.Operator, cluster: Cluster, node: Node, s3_server: S3Server
) -> None:
    template = {
        "image": system.FAKE,
        **BREAKS["volumes[0].hostPath"],
        **BREAKS["security.runAsUser"],  # the test cluster takes no privileged pod at all
    }
    free = f"test-{secrets.token_hex(4)}"
    cluster.api.post("/api/v1/namespaces", {"metadata": {"name": free}})
    default = f"/api/v1/namespaces/{free}/serviceaccounts/default"
    wait_for(lambda: cluster.api.get(default), message=default)
    there = Scene(cluster, node, lenient, free, a_bucket(cluster, free, s3_server))
    scene.create(**TINY, trialTemplate=template)
    there.create(**TINY, trialTemplate=template)
    there.finished()
    [pod] = [p for p in there.pods() if p["metadata"]["name"].startswith("toy-00000-1-")]
    holds(pod["spec"]["volumes"], template["volumes"])
    holds(pod["spec"]["securityContext"], {"runAsUser": 0, "runAsNonRoot": False})
    said = scene.until("Progressing", "False", "TaskPending")
    assert 'violates PodSecurity "restricted' in said
    cluster.api.delete(f"/api/v1/namespaces/{free}")
