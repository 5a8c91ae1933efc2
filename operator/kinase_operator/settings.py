"""What the operator's administrator sets, by environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    """Resources of a controller's container: a search's history with 10,000 trials fits."""
    port: int = 8081
    """Port of health and metrics. KINASE_PORT; 0 takes a free one."""
    workers: int = 32
    """Reconciliations at once. They wait for the API server most of the time. KINASE_WORKERS."""
    running_after: float = 5.0
    """Seconds that a pod runs before its trial is said to be running: short trials need no
    word of it, and a write is spared. KINASE_RUNNING_AFTER."""
    resync: float = 60.0
    """Seconds after which every unfinished experiment is looked at again, whatever was seen."""


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
    ):
        if env.get(key):
            given[name] = env[key]
    for name, key in (("namespaces", "KINASE_NAMESPACES"), ("pull_secrets", "KINASE_PULL_SECRETS")):
        given[name] = tuple(part.strip() for part in env.get(key, "").split(",") if part.strip())
    given["allow_unrestricted"] = env.get("KINASE_ALLOW_UNRESTRICTED", "").lower() in _TRUE
    for name, key, kind in (
        ("port", "KINASE_PORT", int),
        ("workers", "KINASE_WORKERS", int),
        ("running_after", "KINASE_RUNNING_AFTER", float),
        ("resync", "KINASE_RESYNC", float),
    ):
        if env.get(key):
            try:
                given[name] = kind(env[key])
            except ValueError:
                raise ValueError(f"{key} is {env[key]!r}; it must be a number") from None
    return Settings(**given)
