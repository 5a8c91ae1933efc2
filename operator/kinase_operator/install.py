"""The objects that the operator needs on a cluster: its permissions and its Deployment.

The permissions have no wildcards, and are tested (`tests/cluster/test_rights.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from kinase.api import names
from kinase_kube import client as kube
from kinase_operator.children import controller_rules
from kinase_operator.job_specs import USER
from kinase_operator.views import Object

NAME = "kinase-operator"


@dataclass(frozen=True, slots=True)
class Images:
    """Images of the three components."""

    operator: str
    controller: str
    trainer: str


def operator_rules() -> list[Object]:
    """Permissions of the operator in each namespace that it serves.

    They include those of an experiment's controller, because Kubernetes only allows granting
    permissions that one has.
    """
    watch = ["get", "list", "watch"]
    change = [*watch, "create", "patch", "delete"]
    return [
        {
            "apiGroups": [names.GROUP],
            "resources": [names.EXPERIMENTS],
            "verbs": [*watch, "delete"],
        },
        {
            "apiGroups": [names.GROUP],
            "resources": [names.TRIALS],
            "verbs": change,
        },
        {
            "apiGroups": [names.GROUP],
            "resources": [f"{names.EXPERIMENTS}/status", f"{names.TRIALS}/status"],
            "verbs": ["patch"],
        },
        {
            # needed for blockOwnerDeletion, if the cluster checks that permission
            "apiGroups": [names.GROUP],
            "resources": [f"{names.EXPERIMENTS}/finalizers", f"{names.TRIALS}/finalizers"],
            "verbs": ["update"],
        },
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": [*watch, "create", "delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch"]},
        {"apiGroups": [""], "resources": ["services", "serviceaccounts"], "verbs": change},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "create"]},
        {
            "apiGroups": [kube.ROLE.group],
            "resources": ["roles", "rolebindings"],
            "verbs": change,
        },
        {
            "apiGroups": [kube.NETWORK_POLICY.group],
            "resources": ["networkpolicies"],
            "verbs": change,
        },
        {
            "apiGroups": [kube.LEASE.group],
            "resources": ["leases"],
            "verbs": ["get", "create", "update"],
        },
    ]


def _meta(name: str, namespace: str | None = None) -> Object:
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "kinase"}
    metadata: Object = {"name": name, "labels": labels}
    if namespace:
        metadata["namespace"] = namespace
    return metadata


def rights(namespace: str, watched: tuple[str, ...]) -> list[Object]:
    """Roles and bindings of the operator's ServiceAccount: for the whole cluster, or only for the
    watched namespaces."""
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": namespace}
    group = kube.ROLE.group
    found: list[Object] = []
    if not watched:
        found.append(
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRole",
                "metadata": _meta(NAME),
                "rules": operator_rules(),
            }
        )
        found.append(
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": _meta(NAME),
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": NAME},
                "subjects": [subject],
            }
        )
    for each in watched:
        found.append(
            {
                "apiVersion": f"{group}/v1",
                "kind": "Role",
                "metadata": _meta(NAME, each),
                "rules": operator_rules(),
            }
        )
        found.append(
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": _meta(NAME, each),
                "roleRef": {"apiGroup": group, "kind": "Role", "name": NAME},
                "subjects": [subject],
            }
        )
    return found


def install(namespace: str, watched: tuple[str, ...], images: Images) -> list[Object]:
    """Namespace, ServiceAccount, permissions and Deployment; the CRDs are in `crds/`."""
    selector = {"app.kubernetes.io/name": NAME}
    environment = {
        "KINASE_CONTROLLER_IMAGE": images.controller,
        "KINASE_TRAINER_IMAGE": images.trainer,
        "KINASE_NAMESPACES": ",".join(watched),
    }
    container: Object = {
        "name": "operator",
        "image": images.operator,
        "command": ["python", "-m", "kinase_operator"],
        "env": [{"name": key, "value": value} for key, value in environment.items() if value],
        "ports": [{"name": "http", "containerPort": 8081}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 2},
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    pod: Object = {
        "serviceAccountName": NAME,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": _meta(namespace)},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(NAME, namespace)},
        *rights(namespace, watched),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _meta(NAME, namespace),
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": selector},
                "template": {"metadata": {"labels": selector}, "spec": pod},
            },
        },
    ]


__all__ = ["NAME", "Images", "controller_rules", "install", "operator_rules", "rights"]
