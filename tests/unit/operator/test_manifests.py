"""The objects that the operator makes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from kubernetes.aio.client import models

from kinase.api import NASExperiment, names
from kinase.api._base import MAX_NAME
from kinase.api.pod import TrialTemplate
from kinase_operator import job_specs
from kinase_operator.children import controller_rules, wanted_children
from kinase_operator.install import Images, install
from kinase_operator.settings import Settings
from kinase_operator.views import Object
from tests.unit.operator.samples import SETTINGS, manifest, trial, view

FULL: Object = {
    "timeLimit": "90.5s",
    "image": "registry/mine:1",
    "imagePullPolicy": "Always",
    "imagePullSecrets": [{"name": "pull"}],
    "command": ["python", "mine.py"],
    "args": ["--fast"],
    "resources": {
        "limits": {"nvidia.com/gpu": "1", "memory": "8Gi"},
        "requests": {"cpu": "500m"},
    },
    "nodeSelector": {"gpu": "a100"},
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}
            ]
        }
    },
    "tolerations": [
        {"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0},
        {"key": "team", "value": "nas"},
    ],
    "priorityClassName": "low",
    "runtimeClassName": "nvidia",
    "schedulerName": "volcano",
    "volumes": [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
        {"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "config", "configMap": {"name": "c", "items": [{"key": "a", "path": "b"}]}},
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400, "optional": True}},
        {"name": "csi", "csi": {"driver": "d", "volumeAttributes": {"a": "b"}}},
        {
            "name": "claim",
            "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}},
        },
        {"name": "projected", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
    ],
    "volumeMounts": [
        {"name": "data", "mountPath": "/data", "subPath": "sets", "readOnly": True},
        {"name": "scratch", "mountPath": "/scratch"},
    ],
    "env": [
        {"name": "PLAIN", "value": "x"},
        {"name": "EMPTY", "value": ""},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {
            "name": "MAYBE",
            "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}},
        },
        {"name": "FIELD", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ],
    "envFrom": [
        {"secretRef": {"name": "s"}},
        {"prefix": "P_", "configMapRef": {"name": "c", "optional": True}},
    ],
    "cache": {"volume": "weights", "size": "2Gi"},
    "shmSize": "2Gi",
    "labels": {"kueue.x-k8s.io/queue-name": "gpus"},
    "annotations": {"team": "nas"},
    "gracePeriod": "2m",
    "managedBy": "kueue.x-k8s.io/multikueue",
    "serviceAccountName": "bucket-reader",
    "security": {"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 1002},
}
"""A template that uses every field that Pod Security `restricted` lets in."""


def trial_job(template: Object | None = None, **more: Any) -> Object:
    settings = more.pop("settings", SETTINGS)
    this = more.pop("trial", trial(token="token-0123456789"))
    wanted = manifest(trialTemplate=template or {}, **more)
    return job_specs.trial_job(this, wanted, settings)


def pod_of(job: Object) -> tuple[Object, Object]:
    """The pod's spec and its only container."""
    spec = job["spec"]["template"]["spec"]
    [container] = spec["containers"]
    return spec, container


def environment(container: Object) -> Object:
    """The value (or its source) of each variable, as the container sees it: the last one wins."""
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}


def controller_job(settings: Settings = SETTINGS, **spec: Any) -> Object:
    return job_specs.controller_job(view(**spec), manifest(**spec), settings)


def deployment() -> Object:
    return install("kinase-system", (), Images("operator", "controller", "trainer"))[-1]


# -- the pod API's words -------------------------------------------------------------------

MODELS: dict[str, Any] = {
    "Job": models.V1Job,
    "Role": models.V1Role,
    "RoleBinding": models.V1RoleBinding,
    "Service": models.V1Service,
    "ServiceAccount": models.V1ServiceAccount,
    "NetworkPolicy": models.V1NetworkPolicy,
    "Deployment": models.V1Deployment,
}


def objects() -> list[Object]:
    return [
        trial_job(),
        trial_job(FULL, storage={"uri": "s3://b/r", "credentialsSecret": "s3"}),
        controller_job(storage={"uri": "s3://b/r", "credentialsSecret": "s3"}),
        *(body for _, body in wanted_children(view(), manifest(), SETTINGS)),
        deployment(),
    ]


@pytest.mark.parametrize("body", objects(), ids=lambda body: str(body["kind"]))
def test_every_field_is_one_that_the_api_knows(body: Object) -> None:
    """The generated models hold the API's schema; what they do not know gets lost in them."""
    parsed = MODELS[body["kind"]].from_dict(json.loads(json.dumps(body)))
    assert json.loads(parsed.to_json()) == json.loads(json.dumps(body))


@pytest.mark.parametrize("field", [f.alias for f in TrialTemplate.model_fields.values()])
def test_every_field_of_the_template_makes_a_difference(field: str) -> None:
    # the first two are counted, not asked of the pod; the trial says how many workers it has
    if field in ("maxRetries", "maxDisruptions", "workers"):
        return
    rest = {name: value for name, value in FULL.items() if name != field}
    if field == "volumes":
        del rest["volumeMounts"], rest["cache"]
    assert field in FULL
    assert trial_job(FULL) != trial_job(rest)


def test_the_template_lands_where_the_pod_api_has_it() -> None:
    job = trial_job(FULL)
    pod, container = pod_of(job)
    assert job["spec"]["activeDeadlineSeconds"] == 91, "which is for Jobs that another manages"
    here = trial_job({k: v for k, v in FULL.items() if k != "managedBy"})
    assert "activeDeadlineSeconds" not in here["spec"], "a Job would count the wait for a node"
    assert job["spec"]["managedBy"] == "kueue.x-k8s.io/multikueue"
    for name in ("image", "imagePullPolicy", "command", "args", "resources", "envFrom"):
        assert container[name] == FULL[name]
    for name in (
        "imagePullSecrets",
        "nodeSelector",
        "affinity",
        "tolerations",
        "priorityClassName",
        "runtimeClassName",
        "schedulerName",
    ):
        assert pod[name] == FULL[name]
    assert pod["terminationGracePeriodSeconds"] == 120
    assert [e for e in container["env"] if e in FULL["env"]] == FULL["env"]
    for mount in FULL["volumeMounts"]:
        assert mount in container["volumeMounts"]
    volumes = {v["name"]: v for v in pod["volumes"]}
    for volume in FULL["volumes"]:
        [kind] = set(volume) - {"name"}
        assert volume[kind].items() <= volumes[volume["name"]][kind].items()
    assert volumes["kinase-shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert {"name": "kinase-shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert {"name": "weights", "mountPath": "/kinase-cache"} in container["volumeMounts"]
    assert environment(container)["KINASE_CACHE_DIR"] == "/kinase-cache"
    assert environment(container)["KINASE_CACHE_BYTES"] == str(2 * 2**30)
    wanted = {"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 1002}
    assert wanted.items() <= pod["securityContext"].items()
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        assert FULL["labels"].items() <= metadata["labels"].items()
        assert FULL["annotations"].items() <= metadata["annotations"].items()


def test_without_a_template_the_operators_defaults_hold() -> None:
    settings = Settings(trainer_image="t:1", pull_policy="Never", pull_secrets=("pull",))
    job = trial_job(settings=settings)
    pod, container = pod_of(job)
    assert container["image"] == "t:1"
    assert container["imagePullPolicy"] == "Never"
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["terminationGracePeriodSeconds"] == job_specs.GRACE
    assert "activeDeadlineSeconds" not in job["spec"]
    assert "command" not in container
    pod, container = pod_of(controller_job(replace(settings, controller_image="c:1")))
    assert (container["image"], container["imagePullPolicy"]) == ("c:1", "Never")
    assert pod["imagePullSecrets"] == [{"name": "pull"}]


def test_a_job_never_tries_again_by_itself_and_goes_after_its_time() -> None:
    spec = trial_job(retention={"pods": "90s"})["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["ttlSecondsAfterFinished"] == 90
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    [disrupted, exited] = spec["podFailurePolicy"]["rules"]
    assert disrupted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert (exited["onExitCodes"]["operator"], exited["onExitCodes"]["values"]) == ("NotIn", [0])
    assert {rule["action"] for rule in (disrupted, exited)} == {"FailJob"}


# -- security ------------------------------------------------------------------------------

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def breaches(pod: Object) -> list[str]:
    """What of a pod's spec breaks Pod Security `restricted`
    (kubernetes.io/docs/concepts/security/pod-security-standards)."""
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    for volume in pod.get("volumes", ()):
        found += [f"volume {kind}" for kind in set(volume) - {"name"} - ALLOWED_VOLUMES]
    own = pod.get("securityContext", {})
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        security = {**own, **container.get("securityContext", {})}
        checks = {
            "privileged": not security.get("privileged"),
            "escalation": security.get("allowPrivilegeEscalation") is False,
            "capabilities": security.get("capabilities") == {"drop": ["ALL"]},
            "runAsNonRoot": security.get("runAsNonRoot") is True,
            "runAsUser": security.get("runAsUser") != 0,
            "seccomp": security.get("seccompProfile") == {"type": "RuntimeDefault"},
            "ports": not any("hostPort" in port for port in container.get("ports", ())),
            "procMount": "procMount" not in security,
            "sysctls": "sysctls" not in own,
        }
        found += [name for name, fine in checks.items() if not fine]
    return found


def test_all_pods_keep_to_pod_security_restricted() -> None:
    for job in (trial_job(), trial_job(FULL), controller_job(), deployment()):
        assert breaches(job["spec"]["template"]["spec"]) == []


@pytest.mark.parametrize(
    ("template", "broken"),
    [
        ({"security": {"runAsUser": 0}}, {"runAsNonRoot", "runAsUser"}),
        ({"security": {"privileged": True}}, {"privileged", "escalation", "capabilities"}),
        ({"volumes": [{"name": "h", "hostPath": {"path": "/d"}}]}, {"volume hostPath"}),
    ],
)
def test_what_the_administrator_allows_is_as_it_is_written(
    template: Object, broken: set[str]
) -> None:
    assert set(breaches(pod_of(trial_job(template))[0])) == broken


def test_only_the_controller_has_a_service_accounts_token() -> None:
    for template in ({}, FULL):
        pod, _ = pod_of(trial_job(template))
        assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod_of(trial_job({}))[0]
    pod, _ = pod_of(controller_job())
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == "toy-controller"
    [account] = [
        b for r, b in wanted_children(view(), manifest(), SETTINGS) if r.kind == "ServiceAccount"
    ]
    assert account["metadata"]["name"] == "toy-controller"
    assert account["automountServiceAccountToken"] is False


def test_the_root_file_system_is_read_only_and_tmp_is_there() -> None:
    for job in (trial_job(), controller_job()):
        _, container = pod_of(job)
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert "/tmp" in {m["mountPath"] for m in container["volumeMounts"]}
        assert environment(container)["HOME"] == "/tmp"


def test_a_tmp_of_the_users_own_takes_the_place_of_ours() -> None:
    """Two mounts at one path are refused by the API server."""
    _, container = pod_of(
        trial_job(
            {
                "volumes": [{"name": "big", "emptyDir": {"sizeLimit": "1Ti"}}],
                "volumeMounts": [{"name": "big", "mountPath": "/tmp"}],
            }
        )
    )
    paths = [m["mountPath"] for m in container["volumeMounts"]]
    assert sorted(paths) == ["/kinase", "/tmp"]
    assert {"name": "big", "mountPath": "/tmp"} in container["volumeMounts"]


def test_the_controllers_rights_end_at_its_namespace_and_its_own_names() -> None:
    rules = controller_rules("toy")
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert not {"secrets", "pods", "jobs", "roles"} & set(rule["resources"])
        if names.EXPERIMENTS in rule["resources"]:
            assert rule["resourceNames"] == ["toy"]
    [binding] = [
        b for r, b in wanted_children(view(), manifest(), SETTINGS) if r.kind == "RoleBinding"
    ]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "toy-controller", "namespace": "ns"}
    ]
    assert binding["roleRef"]["kind"] == "Role"


# -- the trial contract --------------------------------------------------------------------


def test_the_environment_is_that_of_the_trial_contract() -> None:
    storage = {
        "uri": "s3://bucket/runs/",
        "endpoint": "http://minio:9000",
        "region": "eu-1",
        "credentialsSecret": "s3",
    }
    pod, container = pod_of(trial_job({"gracePeriod": "90s"}, storage=storage))
    host = "http://toy-controller.ns.svc:8080"

    def key(name: str) -> Object:
        return {"secretKeyRef": {"name": "s3", "key": name}}

    assert environment(container) == {
        "KINASE_JOB": "/kinase/job.json",
        "KINASE_STORE": "s3://bucket/runs/ns/exp-uid",
        "KINASE_STORE_ENDPOINT": "http://minio:9000",
        "KINASE_STORE_REGION": "eu-1",
        "KINASE_METRIC": "val_accuracy",
        "KINASE_TERMINATION_LOG": "/dev/termination-log",
        "KINASE_GRACE_SECONDS": "90",
        "KINASE_REPORT_URL": f"{host}/v1/trials/7/points",
        "KINASE_REPORT_TOKEN": "token-0123456789",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "AWS_ACCESS_KEY_ID": key("AWS_ACCESS_KEY_ID"),
        "AWS_SECRET_ACCESS_KEY": key("AWS_SECRET_ACCESS_KEY"),
        "AWS_SESSION_TOKEN": {
            "secretKeyRef": {"name": "s3", "key": "AWS_SESSION_TOKEN", "optional": True}
        },
    }
    assert pod["terminationGracePeriodSeconds"] == 90


def test_what_is_not_set_is_not_in_the_environment() -> None:
    _, container = pod_of(trial_job(trial=trial()))
    assert set(environment(container)) == {
        "KINASE_JOB",
        "KINASE_STORE",
        "KINASE_METRIC",
        "KINASE_TERMINATION_LOG",
        "KINASE_GRACE_SECONDS",
        "HOME",
        "TMPDIR",
    }


def test_the_store_is_the_one_that_the_controller_uses() -> None:
    _, container = pod_of(trial_job())
    document = manifest()
    assert isinstance(document, NASExperiment)
    place = f"{document.spec.storage.uri}/{document.directory}"
    assert environment(container)["KINASE_STORE"] == place


def test_the_job_file_is_an_annotation_of_the_pod_and_no_limit_of_a_shell_or_a_variable() -> None:
    this = trial(job='{"text": "a \\"quoted\\" $(HOME) ü\\n", "one": 1.0}')
    job = trial_job(trial=this)
    pod, container = pod_of(job)
    text = job["spec"]["template"]["metadata"]["annotations"][names.JOB]
    assert text == this.body["job"]  # type: ignore[index]
    assert names.JOB not in job["metadata"]["annotations"]
    [volume] = [v for v in pod["volumes"] if v["name"] == "kinase-job"]
    [item] = volume["downwardAPI"]["items"]
    path = f"metadata.annotations['{names.JOB}']"
    assert (item["path"], item["fieldRef"]["fieldPath"]) == ("job.json", path)
    mount = {"name": "kinase-job", "mountPath": "/kinase", "readOnly": True}
    assert mount in container["volumeMounts"]


def test_the_users_home_wins_and_the_contracts_variables_cannot_be_touched() -> None:
    _, container = pod_of(trial_job({"env": [{"name": "HOME", "value": "/data"}]}))
    assert environment(container)["HOME"] == "/data"
    assert len(container["env"]) == len(environment(container))
    with pytest.raises(AssertionError, match="reserved"):
        trial_job({"env": [{"name": "KINASE_STORE", "value": "s3://other"}]})


# -- names and labels ----------------------------------------------------------------------


def test_labels_tell_whose_an_object_is_and_the_users_cannot_override_them() -> None:
    mine = {names.MANAGED_BY: "me", names.COMPONENT: "controller", "team": "nas"}
    job = trial_job({"labels": mine})
    wanted = {
        names.MANAGED_BY: "kinase",
        names.COMPONENT: "trial",
        names.EXPERIMENT: "toy",
        names.EXPERIMENT_UID: "exp-uid",
        names.JOB_TRIAL: "toy-00007",
        names.TRIAL: "7",
        names.ATTEMPT: "1",
        "team": "nas",
    }
    assert job["metadata"]["labels"] == wanted
    assert job["spec"]["template"]["metadata"]["labels"] == wanted
    for key in (names.EXPERIMENT, names.JOB):
        with pytest.raises(AssertionError, match="reserved"):
            trial_job({"labels": {key: "x"}})
        with pytest.raises(AssertionError, match="reserved"):
            trial_job({"annotations": {key: "x"}})


def test_everything_is_owned_and_goes_with_its_owner() -> None:
    for _, body in wanted_children(view(), manifest(), SETTINGS):
        [reference] = body["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["kind"]) == ("exp-uid", "NASExperiment")
        assert reference["controller"] is reference["blockOwnerDeletion"] is True
    [reference] = controller_job()["metadata"]["ownerReferences"]
    assert reference["uid"] == "exp-uid"
    [reference] = trial_job()["metadata"]["ownerReferences"]
    assert (reference["uid"], reference["kind"]) == ("trial-uid", "NASTrial")


def test_the_trials_policy_selects_trials_and_the_service_the_controller() -> None:
    children = {r.kind: b for r, b in wanted_children(view(), manifest(), SETTINGS)}
    trial_labels = trial_job()["spec"]["template"]["metadata"]["labels"]
    controller_labels = controller_job()["spec"]["template"]["metadata"]["labels"]
    policy = children["NetworkPolicy"]["spec"]
    selected = policy["podSelector"]["matchLabels"]
    assert selected.items() <= trial_labels.items()
    assert not selected.items() <= controller_labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    selector = children["Service"]["spec"]["selector"]
    assert selector.items() <= controller_labels.items()
    assert not selector.items() <= trial_labels.items()


def egress(settings: Settings = SETTINGS, **storage: Any) -> list[Object]:
    """What trials reach, but for names and their controller."""
    given = manifest(storage={"uri": "s3://b/r", **storage})
    found = {r.kind: b for r, b in wanted_children(view(), given, settings)}
    rules: list[Object] = found["NetworkPolicy"]["spec"]["egress"]
    return rules[2:] if len(rules) > 1 else rules


def ports(*numbers: int) -> Object:
    return {"ports": [{"port": number, "protocol": "TCP"} for number in numbers]}


@pytest.mark.parametrize(
    ("endpoint", "port", "namespace"),
    [
        (None, 443, None),
        ("https://s3.eu-west-1.amazonaws.com", 443, None),
        ("https://s3.example.com:9000", 9000, None),
        ("http://minio", 80, "ns"),
        ("http://minio:9000", 9000, "ns"),
        ("http://minio.storage:80", 80, "storage"),
        ("http://minio.storage.svc:80", 80, "storage"),
        ("https://minio.storage.svc.cluster.local.", 443, "storage"),
        ("http://[::1]:9000", 9000, None),
        ("http://10.0.0.7:9000", 9000, None),
    ],
)
def test_trials_reach_the_store(endpoint: str | None, port: int, namespace: str | None) -> None:
    """A policy holds after a Service's translation: 80 of the Service may be 9000 of the pod."""
    rules = egress(**({"endpoint": endpoint} if endpoint else {}))
    inside = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    assert rules == [ports(port), *([{"to": [inside]}] if namespace else [])]


def test_trials_reach_names_on_both_ports_of_dns_and_what_the_administrator_opens() -> None:
    [policy] = [
        b for r, b in wanted_children(view(), manifest(), SETTINGS) if r.kind == "NetworkPolicy"
    ]
    dns, controller, _ = policy["spec"]["egress"]
    assert {(p["port"], p["protocol"]) for p in dns["ports"]} == {
        (53, "UDP"),
        (53, "TCP"),
        (5353, "UDP"),
        (5353, "TCP"),
    }
    assert controller["ports"] == ports(8080)["ports"]
    assert egress(replace(SETTINGS, trial_egress_ports=(443, 3128, 5000))) == [
        ports(443, 3128, 5000)
    ]
    assert egress(replace(SETTINGS, trial_egress_open=True)) == [{}]


# -- identity ------------------------------------------------------------------------------


def test_trials_run_as_the_account_that_is_named_and_have_no_token_of_the_api_server() -> None:
    pod, _ = pod_of(trial_job({"serviceAccountName": "bucket-reader"}))
    assert pod["serviceAccountName"] == "bucket-reader"
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("of", ["trial", "controller"])
def test_a_role_is_taken_by_a_token_for_its_audience_alone(of: str) -> None:
    storage = {"uri": "s3://b/r", "region": "eu-west-1", "roleArn": "arn:aws:iam::1:role/nas"}

    def made(**more: str) -> tuple[Object, Object]:
        given = {**storage, **more}
        job = trial_job(storage=given) if of == "trial" else controller_job(storage=given)
        return pod_of(job)

    pod, container = made()
    [volume] = [v for v in pod["volumes"] if v["name"] == "kinase-identity"]
    token = {"audience": "sts.amazonaws.com", "expirationSeconds": 3600, "path": "token"}
    assert volume["projected"] == {"sources": [{"serviceAccountToken": token}]}
    [mount] = [m for m in container["volumeMounts"] if m["name"] == "kinase-identity"]
    env = environment(container)
    assert env["AWS_ROLE_ARN"] == storage["roleArn"]
    assert env["AWS_WEB_IDENTITY_TOKEN_FILE"] == f"{mount['mountPath']}/token"
    assert env["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert not {"AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL_STS"} & set(env)
    pod, container = made(tokenAudience="nas", stsEndpoint="http://sts.iam:81")
    [volume] = [v for v in pod["volumes"] if v["name"] == "kinase-identity"]
    assert volume["projected"]["sources"][0]["serviceAccountToken"]["audience"] == "nas"
    assert environment(container)["AWS_ENDPOINT_URL_STS"] == "http://sts.iam:81"


def test_trials_reach_the_service_that_knows_their_role() -> None:
    role = "arn:aws:iam::1:role/nas"
    assert egress(endpoint="http://10.0.0.7:9000", roleArn=role) == [ports(9000, 443)]
    inside = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "iam"}}}
    assert egress(roleArn=role, stsEndpoint="http://sts.iam:81") == [
        ports(443, 81),
        {"to": [inside]},
    ]


@pytest.mark.parametrize("by", ["manifest", "settings"])
def test_a_controller_runs_as_a_given_account_which_gets_its_rights(by: str) -> None:
    spec: Object = {"controller": {"serviceAccountName": "cloud"}} if by == "manifest" else {}
    name = "other" if by == "manifest" else "cloud"  # the manifest's word is the nearer one
    settings = replace(SETTINGS, controller_service_account=name)
    pod, _ = pod_of(controller_job(settings, **spec))
    assert pod["serviceAccountName"] == "cloud"
    found = {r.kind: b for r, b in wanted_children(view(**spec), manifest(**spec), settings)}
    assert "ServiceAccount" not in found
    assert found["RoleBinding"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "cloud", "namespace": "ns"}
    ]
    assert found["RoleBinding"]["roleRef"]["name"] == "toy-controller"


def test_a_controllers_own_account_has_the_annotations_that_are_set() -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/nas"}
    settings = replace(SETTINGS, controller_service_account_annotations=role)
    digests = []
    for each in (SETTINGS, settings):
        [account] = [
            b for r, b in wanted_children(view(), manifest(), each) if r.kind == "ServiceAccount"
        ]
        digests.append(account["metadata"]["annotations"].pop(names.SPEC_HASH))
    assert account["metadata"]["annotations"] == role
    assert digests[0] != digests[1]


@pytest.mark.parametrize("template", [{}, {"security": {"fsGroup": 1002}}])
def test_volumes_are_walked_through_only_where_their_owner_is_another(template: Object) -> None:
    for job in (trial_job(template), controller_job()):
        pod, _ = pod_of(job)
        assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_names_fit_into_a_label() -> None:
    """A Job's name becomes a label of its pods: 63 characters at most."""
    longest = "x" * MAX_NAME
    found = [
        names.controller_name(longest),
        names.trials_policy_name(longest),
        names.attempt_name(names.task_name(longest), 999),
        names.attempt_name(names.trial_name(longest, 9_999_999, test=True), 999),
    ]
    assert max(map(len, found)) <= 63


def test_a_digest_follows_what_is_wanted_and_nothing_else() -> None:
    def digests(**spec: Any) -> dict[str, str]:
        found = wanted_children(view(**spec), manifest(**spec), SETTINGS)
        return {r.kind: b["metadata"]["annotations"][names.SPEC_HASH] for r, b in found}

    assert digests() == digests(seed=5)
    changed = digests(storage={"uri": "s3://b/r", "endpoint": "http://minio:9000"})
    differ = {kind for kind, digest in digests().items() if changed[kind] != digest}
    assert differ == {"NetworkPolicy"}
