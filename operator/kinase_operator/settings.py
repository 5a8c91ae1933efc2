"""The operator's settings, from environment variables."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from kinase.api.storage import Storage, is_shared

CHECKSUMS = ("when_required", "when_supported")
STORE = {
    "uri": "KINASE_STORE_URI",
    "endpoint": "KINASE_STORE_ENDPOINT",
    "region": "KINASE_STORE_REGION",
    "credentialsSecret": "KINASE_STORE_SECRET",
    "roleArn": "KINASE_STORE_ROLE",
    "tokenAudience": "KINASE_STORE_AUDIENCE",
    "stsEndpoint": "KINASE_STORE_STS",
    "caConfigMap": "KINASE_STORE_CA",
}
"""Fields of the default store, as in `spec.storage`, and their variables."""
_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the operator and their defaults."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to serve. Default: all. KINASE_NAMESPACES, separated by commas."""
    controller_image: str = "kinase-controller:latest"
    """Image of the experiments' controllers. KINASE_CONTROLLER_IMAGE."""
    trainer_image: str = "kinase-trainer:latest"
    """Image of trials whose experiment does not set one. KINASE_TRAINER_IMAGE."""
    pull_policy: str | None = None
    """imagePullPolicy of both. Default: as in Kubernetes. KINASE_PULL_POLICY."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets for pulling both, in the experiments' namespaces. KINASE_PULL_SECRETS."""
    allow_unrestricted: bool = False
    """Whether a trial template may violate Pod Security `restricted`. KINASE_ALLOW_UNRESTRICTED."""
    controller_resources: dict[str, Any] = field(
        default_factory=lambda: {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "1Gi"},
        }
    )
    """Resources of a controller's container. The default suffices for 10,000 trials.
    KINASE_CONTROLLER_RESOURCES, as JSON."""
    controller_priority_class: str | None = None
    """PriorityClass of the controllers. KINASE_CONTROLLER_PRIORITY_CLASS."""
    controller_node_selector: dict[str, str] = field(default_factory=dict)
    """Node selector of the controllers, which need no GPU. KINASE_CONTROLLER_NODE_SELECTOR, as
    JSON."""
    controller_tolerations: tuple[dict[str, Any], ...] = ()
    """Taints that the controllers tolerate. KINASE_CONTROLLER_TOLERATIONS, as JSON."""
    controller_service_account: str | None = None
    """ServiceAccount of the controllers, in each namespace with experiments, unless the manifest
    sets one. Default: one is created for each controller. KINASE_CONTROLLER_SERVICE_ACCOUNT."""
    controller_service_account_annotations: dict[str, str] = field(default_factory=dict)
    """Annotations of the created ServiceAccounts, such as a cloud role.
    KINASE_CONTROLLER_SERVICE_ACCOUNT_ANNOTATIONS, as JSON."""
    service_accounts: tuple[str, ...] = ()
    """ServiceAccounts that a manifest can use for its trials and its controller: NAME in any served
    namespace, NAMESPACE/NAME in one. Default: none. KINASE_SERVICE_ACCOUNTS, separated by
    commas."""
    trial_egress_ports: tuple[int, ...] = ()
    """TCP ports that trials can reach on any address, in addition to the store's, for example for a
    proxy or a data server. KINASE_TRIAL_EGRESS_PORTS, separated by commas."""
    trial_egress_open: bool = False
    """Whether trials can reach any address. They never accept connections.
    KINASE_TRIAL_EGRESS_OPEN."""
    store: Storage | None = None
    """Default store, for manifests whose storage pods cannot reach, so that a manifest from a
    laptop runs unchanged. KINASE_STORE_URI, with KINASE_STORE_ENDPOINT, KINASE_STORE_REGION, and,
    in the experiment's namespace, the Secret KINASE_STORE_SECRET and the ConfigMap KINASE_STORE_CA.
    KINASE_STORE_ROLE, with KINASE_STORE_AUDIENCE and KINASE_STORE_STS, replaces the Secret."""
    store_checksums: str | None = None
    """When requests to stores have checksums: when_required (default, because many servers support
    no others) or when_supported. KINASE_STORE_CHECKSUMS."""
    store_patience: float | None = None
    """Seconds that a trial waits for an unavailable store before it ends, to be retried.
    KINASE_STORE_PATIENCE."""
    port: int = 8081
    """Port of health and metrics; 0 chooses a free one. KINASE_PORT."""
    workers: int = 32
    """Number of concurrent reconciliations. They mostly wait for the API server. KINASE_WORKERS."""
    running_after: float = 5.0
    """Seconds that a pod runs before its trial's status says so, which saves a write for short
    trials. KINASE_RUNNING_AFTER."""
    backoff_first: float = 10.0
    """Seconds before a disrupted trial is retried, for example after its node rejected the pod.
    Doubled after each further disruption. KINASE_BACKOFF_FIRST."""
    backoff_most: float = 300.0
    """Longest of these waits. Causes of rejected pods are rarely fixed sooner, and after a fix,
    nobody waits longer than this. KINASE_BACKOFF_MOST."""
    resync: float = 60.0
    """Seconds after which every unfinished experiment is reconciled again, even without an
    event."""

    def allows_account(self, namespace: str, name: str) -> bool:
        """Whether a manifest in this namespace can run its pods as this ServiceAccount."""
        return not {name, f"{namespace}/{name}"}.isdisjoint(self.service_accounts)


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises:
        ValueError: a variable is invalid; the message names it.
    """
    env = os.environ if environment is None else environment
    given: dict[str, Any] = {}
    for name, key in (
        ("controller_image", "KINASE_CONTROLLER_IMAGE"),
        ("trainer_image", "KINASE_TRAINER_IMAGE"),
        ("pull_policy", "KINASE_PULL_POLICY"),
        ("controller_priority_class", "KINASE_CONTROLLER_PRIORITY_CLASS"),
        ("controller_service_account", "KINASE_CONTROLLER_SERVICE_ACCOUNT"),
    ):
        if env.get(key):
            given[name] = env[key]
    for name, key in (
        ("namespaces", "KINASE_NAMESPACES"),
        ("pull_secrets", "KINASE_PULL_SECRETS"),
        ("service_accounts", "KINASE_SERVICE_ACCOUNTS"),
    ):
        given[name] = _parts(env, key)
    for name, key in (
        ("allow_unrestricted", "KINASE_ALLOW_UNRESTRICTED"),
        ("trial_egress_open", "KINASE_TRIAL_EGRESS_OPEN"),
    ):
        given[name] = env.get(key, "").lower() in _TRUE
    given["trial_egress_ports"] = tuple(_port(p) for p in _parts(env, "KINASE_TRIAL_EGRESS_PORTS"))
    for name, key, kind in (
        ("port", "KINASE_PORT", int),
        ("workers", "KINASE_WORKERS", int),
        ("running_after", "KINASE_RUNNING_AFTER", float),
        ("resync", "KINASE_RESYNC", float),
        ("backoff_first", "KINASE_BACKOFF_FIRST", float),
        ("backoff_most", "KINASE_BACKOFF_MOST", float),
        ("store_patience", "KINASE_STORE_PATIENCE", float),
    ):
        if env.get(key):
            try:
                number = kind(env[key])
            except ValueError:
                raise ValueError(f"{key} is {env[key]!r}; it must be a number") from None
            if not 0 <= number < math.inf:
                raise ValueError(f"{key} is {env[key]!r}; it must be 0 or more, and finite")
            given[name] = number
    for name, key, shape in (
        ("controller_resources", "KINASE_CONTROLLER_RESOURCES", dict),
        ("controller_node_selector", "KINASE_CONTROLLER_NODE_SELECTOR", dict),
        ("controller_tolerations", "KINASE_CONTROLLER_TOLERATIONS", list),
        (
            "controller_service_account_annotations",
            "KINASE_CONTROLLER_SERVICE_ACCOUNT_ANNOTATIONS",
            dict,
        ),
    ):
        if env.get(key):
            value = _json(key, env[key], shape)
            given[name] = tuple(value) if shape is list else value
    if checksums := env.get("KINASE_STORE_CHECKSUMS"):
        if checksums not in CHECKSUMS:
            raise ValueError(
                f"KINASE_STORE_CHECKSUMS is {checksums!r}; it must be one of {', '.join(CHECKSUMS)}"
            )
        given["store_checksums"] = checksums
    given["store"] = _store(env)
    return Settings(**given)


def _parts(env: Mapping[str, str], key: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in env.get(key, "").split(",") if part.strip())


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError(f"KINASE_TRIAL_EGRESS_PORTS has {text!r}; a port is a number in 1..65535")
    return int(text)


def _json(key: str, text: str, shape: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{key} is not JSON: {error}") from None
    if not isinstance(value, shape):
        raise ValueError(f"{key} must be a JSON {'list' if shape is list else 'object'}")
    return value


def _store(env: Mapping[str, str]) -> Storage | None:
    given = {field: env[key] for field, key in STORE.items() if env.get(key)}
    if "uri" not in given:
        if given:
            raise ValueError(f"{STORE[next(iter(given))]} is set, and KINASE_STORE_URI is not")
        return None
    if not is_shared(given["uri"]):
        raise ValueError(f"KINASE_STORE_URI is {given['uri']!r}; it must be s3://BUCKET/PREFIX")
    try:
        return Storage.model_validate(given)
    except ValidationError as error:
        [first, *_] = error.errors()
        said = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise ValueError(f"KINASE_STORE_ROLE: {said}") from None
        key = STORE.get(str(first["loc"][0]), "KINASE_STORE_URI")
        raise ValueError(f"{key} is {env.get(key)!r}: {said}") from None
