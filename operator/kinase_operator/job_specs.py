"""The Jobs of controllers and trials, as pure functions of the experiment and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinase.api import NASExperiment, names
from kinase.api.pod import TrialTemplate
from kinase.api.quantity import amount
from kinase.api.storage import Storage
from kinase_kube import client as kube
from kinase_operator.children import given_account
from kinase_operator.objects import labels, new_object, owner
from kinase_operator.settings import Settings
from kinase_operator.views import Experiment, Object, Trial

USER = 65532
"""User and group of every container: `nonroot` in common base images."""
GRACE = 30
"""Default grace period of a trial in seconds, to write a checkpoint."""
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Keys of the Secret that `storage.credentialsSecret` names."""
AUTHORITIES = "/kinase-ca"
"""Folder of the CA certificates for the store in a pod."""
IDENTITY = "/kinase-identity"
"""Folder of the token in a pod, to assume the store's role."""
AUDIENCE = "sts.amazonaws.com"
"""Default audience of that token."""
CACHE = "/kinase-cache"
"""Folder of the weights that trials on a node share."""
LONG_AGO = 1_000_000
"""Restarts of a controller before its Job gives up: practically unlimited."""

_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def controller_job(view: Experiment, manifest: NASExperiment, settings: Settings) -> Object:
    """The Job of the experiment's controller, which runs the search."""
    name = names.controller_name(view.name)
    mine = labels(view.name, view.uid, "controller")
    environment = [
        {"name": "KINASE_EXPERIMENT", "value": view.name},
        {"name": "KINASE_EXPERIMENT_UID", "value": view.uid},
        {"name": "KINASE_NAMESPACE", "value": view.namespace},
        {"name": "KINASE_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "KINASE_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "HOME", "value": "/tmp"},
        *_place(manifest.spec.storage),
        *_store_access(manifest.spec.storage, settings),
    ]
    container: Object = {
        "name": names.CONTAINER,
        "image": settings.controller_image,
        "command": ["python", "-m", "kinase_controller"],
        "env": environment,
        "ports": [{"name": "http", "containerPort": names.PORT}],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": names.PORT},
            "periodSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": names.PORT},
            "periodSeconds": 20,
            "failureThreshold": 6,
            "initialDelaySeconds": 30,
        },
        "resources": settings.controller_resources,
        "securityContext": _RESTRICTED,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "kinase-tmp", "mountPath": "/tmp"}],
    }
    pod: Object = {
        "restartPolicy": "OnFailure",
        "serviceAccountName": given_account(manifest, settings) or name,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": _pod_security(USER, USER, USER),
        "containers": [container],
        "volumes": [{"name": "kinase-tmp", "emptyDir": {}}],
    }
    _authorities(container, pod, manifest.spec.storage)
    _identity(container, pod, manifest.spec.storage)
    _image_options(container, pod, settings.pull_policy, settings.pull_secrets)
    if settings.controller_priority_class:
        pod["priorityClassName"] = settings.controller_priority_class
    if settings.controller_node_selector:
        pod["nodeSelector"] = settings.controller_node_selector
    if settings.controller_tolerations:
        pod["tolerations"] = list(settings.controller_tolerations)
    return new_object(
        kube.JOB,
        name,
        view,
        spec={
            "backoffLimit": LONG_AGO,
            "ttlSecondsAfterFinished": _seconds(manifest.spec.retention.pods),
            "template": {"metadata": {"labels": mine}, "spec": pod},
        },
    )


def trial_job(trial: Trial, manifest: NASExperiment, settings: Settings) -> Object:
    """The Job of one attempt of a trial, with a pod for each worker. It never retries: the
    experiment's controller decides whether the budget pays for another attempt."""
    assert trial.body is not None
    template = manifest.spec.trial_template
    own = {
        **labels(trial.experiment, trial.experiment_uid, "trial"),
        names.JOB_TRIAL: trial.name,
        names.TRIAL: str(trial.number),
        names.ATTEMPT: str(trial.attempt),
    }
    grace = _seconds(template.grace_period) if template.grace_period else GRACE
    own_tmp = any(mount.mount_path.rstrip("/") == "/tmp" for mount in template.volume_mounts)
    container: Object = {
        "name": names.CONTAINER,
        "image": template.image or settings.trainer_image,
        "env": [
            *_user_environment(template),
            *_trial_environment(trial, manifest, settings, grace),
        ],
        "securityContext": {**_RESTRICTED},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "kinase-job", "mountPath": "/kinase", "readOnly": True},
            *(() if own_tmp else [{"name": "kinase-tmp", "mountPath": "/tmp"}]),
            *(m.model_dump(by_alias=True, exclude_defaults=True) for m in template.volume_mounts),
        ],
    }
    if template.command:
        container["command"] = list(template.command)
    if template.args:
        container["args"] = list(template.args)
    if template.env_from:
        container["envFrom"] = [_plain(source) for source in template.env_from]
    resources = _plain(template.resources)
    if resources:
        container["resources"] = resources
    security = template.security
    if security.privileged:
        container["securityContext"] = {"privileged": True}
    job_file = {"fieldPath": f"metadata.annotations['{names.JOB}']"}
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": _pod_security(
            *(
                USER if given is None else given
                for given in (security.run_as_user, security.run_as_group, security.fs_group)
            )
        ),
        "containers": [container],
        "volumes": [
            {
                "name": "kinase-job",
                "downwardAPI": {"items": [{"path": "job.json", "fieldRef": job_file}]},
            },
            {"name": "kinase-tmp", "emptyDir": {}},
            *(_volume(v) for v in template.volumes),
        ],
    }
    if template.cache is not None:
        container["volumeMounts"].append({"name": template.cache.volume, "mountPath": CACHE})
    if template.shm_size is not None:
        size = str(template.shm_size)
        pod["volumes"].append(
            {"name": "kinase-shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
        )
        container["volumeMounts"].append({"name": "kinase-shm", "mountPath": "/dev/shm"})
    _authorities(container, pod, manifest.spec.storage)
    _identity(container, pod, manifest.spec.storage)
    _image_options(
        container,
        pod,
        template.image_pull_policy or settings.pull_policy,
        [ref.name for ref in template.image_pull_secrets] or settings.pull_secrets,
    )
    for field in ("affinity", "priority_class_name", "runtime_class_name", "scheduler_name"):
        value = getattr(template, field)
        if value is not None:
            pod[TrialTemplate.model_fields[field].alias or field] = value
    if template.service_account_name is not None:
        # for a cloud identity; the API server's token is still not mounted
        pod["serviceAccountName"] = template.service_account_name
    if template.node_selector:
        pod["nodeSelector"] = template.node_selector
    if template.tolerations:
        pod["tolerations"] = [_plain(t) for t in template.tolerations]
    spec: Object = {
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": names.CONTAINER,
                        "operator": "NotIn",
                        "values": [0],
                    },
                },
            ]
        },
        "ttlSecondsAfterFinished": _seconds(manifest.spec.retention.pods),
        "template": {
            "metadata": {
                "labels": {**template.labels, **own},
                "annotations": {
                    **template.annotations,
                    names.JOB: trial.body["job"],
                },
            },
            "spec": pod,
        },
    }
    if trial.workers > 1:
        _workers(spec, pod, container, trial)
    if template.managed_by is not None:
        spec["managedBy"] = template.managed_by
        if template.time_limit is not None:
            # its pods may be in another cluster, where only the Job's controller can end them
            spec["activeDeadlineSeconds"] = _seconds(template.time_limit)
    return {
        "apiVersion": kube.JOB.api_version,
        "kind": kube.JOB.kind,
        "metadata": {
            "name": trial.job_name,
            "namespace": trial.namespace,
            "labels": {**template.labels, **own},
            "annotations": dict(template.annotations),
            "ownerReferences": [owner(trial)],
        },
        "spec": spec,
    }


def _workers(spec: Object, pod: Object, container: Object, trial: Trial) -> None:
    """A pod for each worker. Worker 0 has the result, so its success is that of the Job; the first
    worker that is lost ends the Job."""
    spec |= {
        "completionMode": "Indexed",
        "completions": trial.workers,
        "parallelism": trial.workers,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    }
    service = names.workers_name(trial.experiment)
    pod["subdomain"] = service  # with it, each pod has a name: that of the Job and its number
    first = f"{trial.job_name}-0.{service}.{trial.namespace}.svc"
    index = {"fieldPath": f"metadata.annotations['{names.INDEX}']"}
    container["env"] += [
        {"name": "KINASE_RANK", "valueFrom": {"fieldRef": index}},
        {"name": "KINASE_WORLD", "value": str(trial.workers)},
        {"name": "KINASE_RENDEZVOUS", "value": f"{first}:{names.MEETING}"},
    ]


def _trial_environment(
    trial: Trial, manifest: NASExperiment, settings: Settings, grace: int
) -> list[Object]:
    """The environment of trial contract v1."""
    storage = manifest.spec.storage
    given = {variable.name for variable in manifest.spec.trial_template.env}
    uri = storage.uri.rstrip("/")
    place = f"{uri}/{trial.namespace}/{trial.experiment_uid}"
    values = {
        "KINASE_JOB": "/kinase/job.json",
        "KINASE_STORE": place,
        "KINASE_STORE_ENDPOINT": storage.endpoint,
        "KINASE_STORE_REGION": storage.region,
        "KINASE_METRIC": manifest.spec.objective.metric,
        "KINASE_TERMINATION_LOG": "/dev/termination-log",
        "KINASE_GRACE_SECONDS": str(grace),
        **{name: "/tmp" for name in ("HOME", "TMPDIR") if name not in given},
    }
    cache = manifest.spec.trial_template.cache
    if cache is not None:
        values["KINASE_CACHE_DIR"] = CACHE
        values["KINASE_CACHE_BYTES"] = str(amount(cache.size))
    token = trial.body and trial.body.get("token")
    if token:
        host = f"{names.controller_name(trial.experiment)}.{trial.namespace}.svc"
        values["KINASE_REPORT_URL"] = f"http://{host}:{names.PORT}/v1/trials/{trial.number}/points"
        values["KINASE_REPORT_TOKEN"] = token
    if settings.store_patience is not None:
        values["KINASE_STORE_PATIENCE"] = f"{settings.store_patience:g}"
    return [*_variables(values), *_store_access(storage, settings)]


def _place(storage: Storage) -> list[Object]:
    """The default storage as environment variables, if the manifest does not name a storage."""
    return _variables(
        {
            "KINASE_STORE_URI": storage.uri,
            "KINASE_STORE_ENDPOINT": storage.endpoint,
            "KINASE_STORE_REGION": storage.region,
        }
    )


def _variables(values: Mapping[str, str | None]) -> list[Object]:
    """Environment variables, without those that have no value."""
    return [{"name": name, "value": value} for name, value in values.items() if value is not None]


def _store_access(storage: Storage, settings: Settings) -> list[Object]:
    """Environment variables of a pod's S3 client."""
    found = [*_credentials(storage), *_role(storage)]
    if settings.store_checksums is not None:
        found += [
            {"name": name, "value": settings.store_checksums}
            for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
        ]
    if storage.ca_config_map is not None:
        found.append({"name": "AWS_CA_BUNDLE", "value": f"{AUTHORITIES}/ca.crt"})
    return found


def _role(storage: Storage) -> list[Object]:
    """Environment variables of the role that a pod assumes with its token, for the S3 client."""
    if storage.role_arn is None:
        return []
    return _variables(
        {
            "AWS_ROLE_ARN": storage.role_arn,
            "AWS_WEB_IDENTITY_TOKEN_FILE": f"{IDENTITY}/token",
            "AWS_ROLE_SESSION_NAME": "kinase",
            "AWS_ENDPOINT_URL_STS": storage.sts_endpoint,
            "AWS_DEFAULT_REGION": storage.region or "us-east-1",
        }
    )


def _identity(container: Object, pod: Object, storage: Storage) -> None:
    """Mount the token with which a pod assumes the store's role. It is a token of the pod's
    ServiceAccount with a separate audience, so the API server does not accept it."""
    if storage.role_arn is None:
        return
    token = {
        "audience": storage.token_audience or AUDIENCE,
        "expirationSeconds": 3600,
        "path": "token",
    }
    source = {"sources": [{"serviceAccountToken": token}]}
    pod["volumes"].append({"name": "kinase-identity", "projected": source})
    container["volumeMounts"].append(
        {"name": "kinase-identity", "mountPath": IDENTITY, "readOnly": True}
    )


def _authorities(container: Object, pod: Object, storage: Storage) -> None:
    """Mount the CA certificates for the store."""
    if storage.ca_config_map is None:
        return
    # a missing key prevents the pod from starting, with an Event that names it
    source = {"name": storage.ca_config_map, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    pod["volumes"].append({"name": "kinase-ca", "configMap": source})
    container["volumeMounts"].append(
        {"name": "kinase-ca", "mountPath": AUTHORITIES, "readOnly": True}
    )


def _credentials(storage: Storage) -> list[Object]:
    """Environment variables with the store's credentials, from the Secret in the manifest."""
    secret = storage.credentials_secret
    if secret is None:
        return []
    required = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for key in CREDENTIALS
    ]
    session = {"name": secret, "key": "AWS_SESSION_TOKEN", "optional": True}
    return [*required, {"name": "AWS_SESSION_TOKEN", "valueFrom": {"secretKeyRef": session}}]


def _user_environment(template: TrialTemplate) -> list[Object]:
    return [_plain(variable) for variable in template.env]


def _plain(model: Any) -> Object:
    """A part of the manifest in the form of the pod API, without unset fields."""
    found: Object = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return found


def _volume(volume: Any) -> Object:
    # an emptyDir without options is an empty object, which must be kept
    found: Object = volume.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found


def _pod_security(user: int, group: int, fs_group: int) -> Object:
    return {
        "runAsNonRoot": user != 0,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": fs_group,
        # otherwise every start of a pod walks through all files of a volume
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _image_options(container: Object, pod: Object, policy: str | None, secrets: Any) -> None:
    if policy:
        container["imagePullPolicy"] = policy
    if secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in secrets]


def _seconds(duration: Any) -> int:
    """Whole seconds, rounded up."""
    return -int(-duration.total_seconds() // 1)
