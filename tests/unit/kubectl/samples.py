"""Experiments and trials as an API server gives them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kinase_kubectl.views import Experiment, Trial

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def ago(seconds: float) -> str:
    """A moment before NOW, as Kubernetes writes it."""
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: str, reason: str, message: str = "", since: float = 60) -> Any:
    """A condition that has been so for some seconds."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": ago(since),
    }


def item(name: str = "digits", spec: Any = None, **status: Any) -> dict[str, Any]:
    """An experiment's object."""
    return {
        "apiVersion": "kinase.dev/v1alpha1",
        "kind": "NASExperiment",
        "metadata": {
            "name": name,
            "namespace": "nas",
            "uid": f"uid-of-{name}",
            "resourceVersion": "7",
            "creationTimestamp": ago(131),
            "managedFields": [{"manager": "kinase-operator"}],
        },
        "spec": {
            "objective": {"metric": "val_accuracy"},
            "strategy": {"type": "Evolution"},
            "space": {"type": "Chain"},
            "storage": {
                "uri": "s3://nas/experiments",
                "endpoint": "http://minio.minio:9000",
                "credentialsSecret": "nas-s3",
            },
            **(spec or {}),
        },
        "status": status,
    }


def searching(**changes: Any) -> dict[str, Any]:
    """The status of one that has run 24 of 60 trials in two minutes."""
    return {
        "phase": "Searching",
        "startTime": ago(120),
        "progress": "24/60",
        "trials": {"total": 26, "running": 2, "succeeded": 22, "failed": 2},
        "best": {
            "trial": 17,
            "value": 0.980501,
            "metrics": {"params": 12138, "macs": 79344},
            "architecture": {"layers": [{"op": "conv", "width": 32, "kernel": 3}]},
        },
        "control": {"trial": 3, "value": 0.9611},
        "budget": [{"name": "trials", "spent": 26, "left": 34, "total": 60}],
        "budgetLeft": "34 trials",
        "cost": {"epochs": 330, "deviceSeconds": 252.4},
        "conditions": [
            condition("Ready", "True", "ControllerRunning"),
            condition("Progressing", "True", "Searching"),
        ],
        **changes,
    }


def experiment(name: str = "digits", spec: Any = None, **status: Any) -> Experiment:
    """The same, as the commands hold it."""
    return Experiment.of(item(name, spec, **status))


def trial(number: int, phase: str = "Succeeded", made: float = 60, **status: Any) -> Trial:
    """A trial of `digits`, made some seconds ago."""
    return Trial.of(
        {
            "metadata": {
                "name": f"digits-{number:05d}",
                "namespace": "nas",
                "uid": f"uid-{number}",
                "resourceVersion": "9",
                "creationTimestamp": ago(made),
                "labels": {"kinase.dev/experiment-uid": "uid-of-digits"},
            },
            "spec": {"experiment": "digits", "number": number, "kind": "Search", "attempt": 1},
            "status": {"phase": phase, "attempt": 1, **status},
        }
    )
