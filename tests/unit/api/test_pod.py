"""`spec.trialTemplate`: what a pod may be given."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kinase.api.pod import TrialTemplate, unrestricted
from kinase.api.quantity import amount

GPU_POD = {
    "image": "registry.example/trainer:1",
    "imagePullPolicy": "IfNotPresent",
    "imagePullSecrets": [{"name": "registry"}],
    "resources": {
        "limits": {"nvidia.com/gpu": 1, "memory": "32Gi", "cpu": "8"},
        "requests": {"cpu": "500m", "ephemeral-storage": "10Gi"},
    },
    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                ]
            }
        }
    },
    "tolerations": [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
    ],
    "volumes": [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "c", "items": [{"key": "k", "path": "a/b"}]}},
        {"name": "keys", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "tokens", "projected": {"sources": [{"secret": {"name": "s"}}]}},
    ],
    "volumeMounts": [
        {"name": "data", "mountPath": "/data", "readOnly": True},
        {"name": "scratch", "mountPath": "/scratch", "subPath": "a"},
    ],
    "env": [
        {"name": "NCCL_DEBUG", "value": "INFO"},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "HOST", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.x"}}},
        {"name": "THREADS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ],
    "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}],
    "shmSize": "2Gi",
    "labels": {"kueue.x-k8s.io/queue-name": "team-a"},
    "annotations": {"example.com/note": "any text at all"},
    "gracePeriod": "2m",
}


def test_what_users_of_gpus_write_is_taken() -> None:
    template = TrialTemplate.model_validate(GPU_POD)
    assert template.resources.limits == {"nvidia.com/gpu": 1, "memory": "32Gi", "cpu": "8"}
    assert not unrestricted(template)


def test_a_pods_fields_keep_their_names_and_shapes() -> None:
    """What is not ours is written as in a pod, and comes out as it was put in."""
    ours = {"shmSize", "gracePeriod", "labels", "annotations"}
    dumped = TrialTemplate.model_validate(GPU_POD).model_dump(
        mode="json", by_alias=True, exclude_defaults=True
    )
    for name, value in GPU_POD.items():
        if name == "volumes":
            [*_, scratch, config, keys, tokens] = dumped[name]
            assert scratch == {"name": "scratch", "emptyDir": {}}
            assert config["configMap"]["items"] == [{"key": "k", "path": "a/b"}]
            assert keys["secret"] == {"secretName": "s", "defaultMode": 0o400}
            assert tokens == value[-1]  # type: ignore[index]
        elif name not in ours:
            assert dumped[name] == value


CLAIM = {"claimName": "c"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a variable of two values": (
        {"env": [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
        "value and valueFrom are both set",
    ),
    "a variable of ours": ({"env": [{"name": "KINASE_JOB"}]}, "start with KINASE_ belong"),
    "a variable with no name of one": ({"env": [{"name": "1A"}]}, "pattern"),
    "a variable twice": ({"env": [{"name": "A"}, {"name": "A"}]}, "name 'A' is given twice"),
    "a source of nothing": ({"env": [{"name": "A", "valueFrom": {}}]}, "set exactly one of"),
    "variables of two objects": (
        {"envFrom": [{"secretRef": {"name": "a"}, "configMapRef": {"name": "b"}}]},
        "set exactly one of secretRef, configMapRef",
    ),
    "variables of nothing": ({"envFrom": [{}]}, "set exactly one of secretRef, configMapRef"),
    "a volume of nothing": ({"volumes": [{"name": "a"}]}, "volume 'a' has 0 sources"),
    "a volume of two sources": (
        {"volumes": [{"name": "a", "emptyDir": {}, "secret": {"secretName": "s"}}]},
        "volume 'a' has 2 sources",
    ),
    "a volume of ours": (
        {"volumes": [{"name": "kinase-a", "emptyDir": {}}]},
        "'kinase-a' is reserved",
    ),
    "a volume twice": (
        {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]},
        "name 'a' is given twice",
    ),
    "a mount of nothing": (
        {"volumeMounts": [{"name": "a", "mountPath": "/a"}]},
        r"does not exist: 'a' \(volumes: none\)",
    ),
    "a mount of another": (
        {
            "volumes": [{"name": "b", "emptyDir": {}}],
            "volumeMounts": [{"name": "a", "mountPath": "/a"}],
        },
        r"does not exist: 'a' \(volumes: b\)",
    ),
    "a relative place": ({"volumeMounts": [{"name": "a", "mountPath": "a"}]}, "pattern"),
    "a place of ours": ({"volumeMounts": [{"name": "a", "mountPath": "/kinase/"}]}, "reserved"),
    "shared memory twice": (
        {
            "volumes": [{"name": "a", "emptyDir": {"medium": "Memory"}}],
            "volumeMounts": [{"name": "a", "mountPath": "/dev/shm"}],
            "shmSize": "1Gi",
        },
        "shmSize already mounts /dev/shm",
    ),
    **{
        f"a cache in {what}": (
            {"volumes": [{"name": "a", **source}], "cache": {"volume": name}},
            f"cache.volume '{name}' does not refer to a volume that outlives",
        )
        for what, name, source in (
            ("nothing", "b", {"hostPath": {"path": "/a"}}),
            ("scratch space", "a", {"emptyDir": {}}),
            ("what cannot be written", "a", {"persistentVolumeClaim": {**CLAIM, "readOnly": True}}),
        )
    },
    "a label of ours": ({"labels": {"kinase.dev/trial": "1"}}, "labels has the reserved key"),
    "an annotation of ours": (
        {"annotations": {"kinase.dev/job": "1"}},
        "annotations has the reserved key",
    ),
    "a label of no form": ({"labels": {"a/b/c": "x"}}, "pattern"),
    "a value of no form": ({"labels": {"a": "-"}}, "pattern"),
    "a value where there is none": (
        {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
        "operator Exists takes no value; got 'b'",
    ),
    "a toleration of nothing": ({"tolerations": [{}]}, "operator Equal needs a key"),
    "a time where nothing is evicted": (
        {"tolerations": [{"key": "a", "tolerationSeconds": 5}]},
        "tolerationSeconds requires the effect NoExecute",
    ),
    "no amount": ({"resources": {"limits": {"cpu": "two"}}}, "a quantity is written like"),
    "less than nothing": ({"resources": {"limits": {"cpu": -1}}}, "a quantity is written like"),
    "an amount of truth": ({"shmSize": True}, "a quantity is written like"),
    "an amount of many digits": ({"shmSize": "1" * 33}, "a quantity is written like"),
    "a mode of nine digits": (
        {"volumes": [{"name": "a", "secret": {"secretName": "s", "defaultMode": 0o1000}}]},
        "less than or equal to 511",
    ),
}


@pytest.mark.parametrize(("fields", "message"), BAD.values(), ids=BAD)
def test_what_no_pod_could_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrialTemplate.model_validate(fields)


@pytest.mark.parametrize("size", [0, 4, "0", "1.5", ".5", "500m", "4Gi", "1e3", "2E", "10k", "+1"])
def test_amounts(size: int | str) -> None:
    assert TrialTemplate(shm_size=size).shm_size == size


def test_what_an_amount_comes_to() -> None:
    known = {0: 0, 4: 4, "1.5": 1, "500m": 0, "4Gi": 4 * 2**30, "1e3": 1000, "2E": 2 * 10**18}
    known |= {"10k": 10_000, "+1": 1, ".5Ki": 512, "1.25G": 1_250_000_000, "3000000u": 3}
    assert {each: amount(each) for each in known} == known


@pytest.mark.parametrize(
    "source",
    [{"hostPath": {"path": "/a"}}, {"csi": {"driver": "d"}}, {"persistentVolumeClaim": CLAIM}],
)
def test_a_cache_lies_in_what_outlasts_a_pod(source: dict[str, Any]) -> None:
    fields = {"volumes": [{"name": "a", **source}], "cache": {"volume": "a"}}
    assert TrialTemplate.model_validate(fields).cache is not None


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, []),
        ({"security": {"runAsUser": 1000, "runAsGroup": 0, "fsGroup": 0}}, []),
        ({"security": {"runAsUser": 0}}, ["security.runAsUser"]),
        ({"security": {"privileged": True}}, ["security.privileged"]),
        (
            {
                "security": {"runAsUser": 0, "privileged": True},
                "volumes": [
                    {"name": "a", "emptyDir": {}},
                    {"name": "b", "hostPath": {"path": "/b"}},
                ],
            },
            ["volumes[1].hostPath", "security.privileged", "security.runAsUser"],
        ),
    ],
)
def test_what_breaks_pod_security(fields: dict[str, Any], found: list[str]) -> None:
    named = unrestricted(TrialTemplate.model_validate(fields))
    assert [field for field, _ in named] == found
    assert all(reason for _, reason in named)
