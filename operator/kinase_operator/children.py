"""Children of an experiment other than the controller's Job: ServiceAccount, Role, Service,
policies."""

from __future__ import annotations

from urllib.parse import urlsplit

from kinase.api import NASExperiment, names
from kinase_kube import client as kube
from kinase_operator.objects import labels, new_object
from kinase_operator.settings import Settings
from kinase_operator.views import Experiment, Object

DNS = (53, 5353)
"""Ports of DNS: the usual one, and the one of OpenShift's DNS pods."""
NAMESPACE = "kubernetes.io/metadata.name"
"""Label of every namespace with its name."""


def wanted_children(
    view: Experiment, manifest: NASExperiment, settings: Settings
) -> list[tuple[kube.Resource, Object]]:
    """The children of an experiment except its controller's Job, in the order of creation."""
    name, given = names.controller_name(view.name), given_account(manifest, settings)
    selector = labels(view.name, view.uid, "controller")
    role = new_object(kube.ROLE, name, view, rules=controller_rules(view.name))
    binding = new_object(
        kube.ROLE_BINDING,
        name,
        view,
        roleRef={"apiGroup": kube.ROLE.group, "kind": "Role", "name": name},
        subjects=[{"kind": "ServiceAccount", "name": given or name, "namespace": view.namespace}],
    )
    annotations = settings.controller_service_account_annotations
    account = new_object(
        kube.SERVICE_ACCOUNT, name, view, annotations, automountServiceAccountToken=False
    )
    service = new_object(
        kube.SERVICE,
        name,
        view,
        spec={
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{"name": "http", "port": names.PORT, "targetPort": names.PORT}],
        },
    )
    policy = new_object(
        kube.NETWORK_POLICY,
        names.trials_policy_name(view.name),
        view,
        spec=_trials_policy(view, manifest, settings),
    )
    workers = new_object(
        kube.SERVICE,
        names.workers_name(view.name),
        view,
        spec={
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # they meet before they are ready
            "selector": labels(view.name, view.uid, "trial"),
            "ports": [{"name": "meeting", "port": names.MEETING, "targetPort": names.MEETING}],
        },
    )
    several = manifest.spec.trial_template.workers > 1
    return [
        *([] if given else [(kube.SERVICE_ACCOUNT, account)]),
        (kube.ROLE, role),
        (kube.ROLE_BINDING, binding),
        (kube.SERVICE, service),
        *([(kube.SERVICE, workers)] if several else []),
        (kube.NETWORK_POLICY, policy),
    ]


def given_account(manifest: NASExperiment, settings: Settings) -> str | None:
    """The ServiceAccount of the controller, if it is not one created for it."""
    return manifest.spec.controller.service_account_name or settings.controller_service_account


def controller_rules(experiment: str) -> list[Object]:
    """Permissions of an experiment's controller, in its namespace."""
    lease = names.controller_name(experiment)
    return [
        {
            "apiGroups": [names.GROUP],
            "resources": [names.EXPERIMENTS],
            "resourceNames": [experiment],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": [names.GROUP],
            "resources": [f"{names.EXPERIMENTS}/status"],
            "resourceNames": [experiment],
            "verbs": ["patch"],
        },
        {
            # needed for blockOwnerDeletion of trials, if the cluster checks that permission
            "apiGroups": [names.GROUP],
            "resources": [f"{names.EXPERIMENTS}/finalizers"],
            "resourceNames": [experiment],
            "verbs": ["update"],
        },
        {
            "apiGroups": [names.GROUP],
            "resources": [names.TRIALS],
            "verbs": ["get", "list", "watch", "create", "patch"],
        },
        {
            "apiGroups": [kube.LEASE.group],
            "resources": [kube.LEASE.plural],
            "verbs": ["create"],
        },
        {
            "apiGroups": [kube.LEASE.group],
            "resources": [kube.LEASE.plural],
            "resourceNames": [lease],
            "verbs": ["get", "update"],
        },
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    ]


def _trials_policy(view: Experiment, manifest: NASExperiment, settings: Settings) -> Object:
    """Trials accept no connections, except those with several workers, from trials of the same
    experiment. They can reach DNS, their controller, the store, and ports that the administrator
    has opened.

    A policy applies after the translation of a Service, so the ports of the pods count: the DNS
    pods of some clusters listen on 5353, and those of a store in the cluster on any port, so all
    ports of its namespace are open.
    """
    storage = manifest.spec.storage
    hosts = [storage.endpoint, storage.sts_endpoint]
    namespaces = (_namespace_of(urlsplit(h).hostname or "", view.namespace) for h in hosts if h)
    port = _port_of(storage.endpoint)
    ports = [port]
    if storage.role_arn is not None:
        ports.append(_port_of(storage.sts_endpoint))
    ports = list(dict.fromkeys([*ports, *settings.trial_egress_ports]))
    dns = [{"port": p, "protocol": kind} for p in DNS for kind in ("UDP", "TCP")]
    controller = labels(view.name, view.uid, "controller")
    egress: list[Object] = [
        {"ports": dns},
        {
            "to": [{"podSelector": {"matchLabels": controller}}],
            "ports": [{"port": names.PORT, "protocol": "TCP"}],
        },
        {"ports": [{"port": p, "protocol": "TCP"} for p in ports]},
    ]
    for namespace in dict.fromkeys(n for n in namespaces if n):
        egress.append({"to": [{"namespaceSelector": {"matchLabels": {NAMESPACE: namespace}}}]})
    trials = {"podSelector": {"matchLabels": labels(view.name, view.uid, "trial")}}
    policy: Object = {
        **trials,
        "policyTypes": ["Ingress", "Egress"],
        "egress": [{}] if settings.trial_egress_open else egress,
    }
    if manifest.spec.trial_template.workers > 1:  # they choose the ports of their connections
        policy["ingress"] = [{"from": [trials]}]
        egress.append({"to": [trials]})
    return policy


def _port_of(endpoint: str | None) -> int:
    """Port of a server; without an endpoint, that of AWS."""
    parts = urlsplit(endpoint or "https://aws")
    return parts.port or (443 if parts.scheme == "https" else 80)


def _namespace_of(host: str, own: str) -> str | None:
    """The namespace of a Service by its name (`store.ns.svc`, `store.ns`, or `store` in the
    experiment's own); None for an IP address and for a host outside the cluster."""
    parts = host.rstrip(".").split(".")
    if ":" in host or parts[-1].isdecimal() or not host:
        return None
    if len(parts) == 1:
        return own
    return parts[1] if len(parts) == 2 or parts[2] == "svc" else None
