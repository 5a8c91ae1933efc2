"""What the operator's administrator sets, by environment variables."""

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
"""The default store's fields, as `spec.storage` has them, and their variables."""
_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the operator, with their defaults and why these."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to serve; none means all. KINASE_NAMESPACES, separated by commas."""
    controller_image: str = "kinase-controller:latest"
    """Image of the experiments' controllers. KINASE_CONTROLLER_IMAGE."""
    trainer_image: str = "kinase-trainer:latest"
    """Image of trials whose experiment names none. KINASE_TRAINER_IMAGE."""
    pull_policy: str | None = None
    """imagePullPolicy of both; None is Kubernetes' default. KINASE_PULL_POLICY."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets, in the experiments' namespaces, to pull both with. KINASE_PULL_SECRETS."""
    allow_unrestricted: bool = False
    """Whether a trial template may break Pod Security `restricted`. KINASE_ALLOW_UNRESTRICTED."""
    controller_resources: dict[str, Any] = field(
        default_factory=lambda: {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "1Gi"},
        }
    )
    """Resources of a controller's container: a search's history with 10,000 trials fits.
    KINASE_CONTROLLER_RESOURCES, as JSON."""
    controller_priority_class: str | None = None
    """PriorityClass of the controllers. KINASE_CONTROLLER_PRIORITY_CLASS."""
    controller_node_selector: dict[str, str] = field(default_factory=dict)
    """Nodes of the controllers, which need no GPU. KINASE_CONTROLLER_NODE_SELECTOR, as JSON."""
    controller_tolerations: tuple[dict[str, Any], ...] = ()
    """Taints that the controllers tolerate. KINASE_CONTROLLER_TOLERATIONS, as JSON."""
    controller_service_account: str | None = None
    """ServiceAccount, in each namespace with experiments, that the controllers run as, where their
    manifest names none. None: each has one of its own. KINASE_CONTROLLER_SERVICE_ACCOUNT."""
    controller_service_account_annotations: dict[str, str] = field(default_factory=dict)
    """Annotations of the controllers' own ServiceAccounts, such as a cloud's role.
    KINASE_CONTROLLER_SERVICE_ACCOUNT_ANNOTATIONS, as JSON."""
    service_accounts: tuple[str, ...] = ()
    """ServiceAccounts that a manifest may name for its trials and its controller: NAME in any
    namespace that is served, NAMESPACE/NAME in one. None means none. KINASE_SERVICE_ACCOUNTS,
    separated by commas."""
    trial_egress_ports: tuple[int, ...] = ()
    """TCP ports that trials reach on any address, in addition to the store's: those of a proxy, a
    tracker, a data set's server. KINASE_TRIAL_EGRESS_PORTS, separated by commas."""
    trial_egress_open: bool = False
    """Whether trials reach everything; nobody reaches them. KINASE_TRIAL_EGRESS_OPEN."""
    store: Storage | None = None
    """Where experiments are kept whose manifest names no place that pods reach, so that a laptop's
    manifest runs as it is. KINASE_STORE_URI, with KINASE_STORE_ENDPOINT, KINASE_STORE_REGION, and,
    in the experiment's namespace, the Secret KINASE_STORE_SECRET and the ConfigMap
    KINASE_STORE_CA. In place of the Secret KINASE_STORE_ROLE, with KINASE_STORE_AUDIENCE and
    KINASE_STORE_STS."""
    store_checksums: str | None = None
    """When requests to stores carry checksums: when_required (the default: many servers know no
    others) or when_supported. KINASE_STORE_CHECKSUMS."""
    store_patience: float | None = None
    """Seconds that a trial waits for a store that is away before it ends, to be begun again.
    KINASE_STORE_PATIENCE."""
    port: int = 8081
    """Port of health and metrics. KINASE_PORT; 0 takes a free one."""
    workers: int = 32
    """Reconciliations at once. They wait for the API server most of the time. KINASE_WORKERS."""
    running_after: float = 5.0
    """Seconds that a pod runs before its trial is said to be running: short trials need no
    word of it, and a write is spared. KINASE_RUNNING_AFTER."""
    backoff_first: float = 10.0
    """Seconds before a trial is begun again that was lost for no fault of its own, as when its node
    did not take the pod; twice as long after each further loss. KINASE_BACKOFF_FIRST."""
    backoff_most: float = 300.0
    """Longest of these waits: what keeps nodes from taking pods is seldom mended sooner, and a
    person who has mended it waits no longer. KINASE_BACKOFF_MOST."""
    resync: float = 60.0
    """Seconds after which every unfinished experiment is looked at again, whatever was seen."""

    def allows_account(self, namespace: str, name: str) -> bool:
        """Whether a manifest in this namespace may have its pods run as this ServiceAccount."""
        return not {name, f"{namespace}/{name}"}.isdisjoint(self.service_accounts)


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings by the environment.

    Raises:
        ValueError: a variable cannot be read; the message names it.
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
        raise ValueError(f"{key} is no JSON: {error}") from None
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
