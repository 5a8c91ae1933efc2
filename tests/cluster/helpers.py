"""Small things that tests on a cluster need."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

COLLECTED = 90.0
"""Seconds within which Kubernetes frees what a deleted experiment owned. Its garbage collector
looks for new kinds of objects every 30 seconds only, and a test may begin sooner."""

RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The securityContext of a container that the Pod Security level `restricted` lets in."""


def wait_for(
    what: Callable[[], T], timeout: float = 30, *, message: str = "", every: float = 0.05
) -> T:
    """The first value of `what()` that is true. An exception counts as not yet, unless it is an
    AssertionError: what it says will not come right by waiting.

    When time is up the message holds what was seen last.
    """
    deadline = time.monotonic() + timeout
    seen: Any = None
    while True:
        try:
            value = what()
            seen = value
            if value:
                return value
        except AssertionError:
            raise
        except Exception as problem:
            seen = problem
        if time.monotonic() > deadline:
            name = message or getattr(what, "__name__", "it")
            raise AssertionError(f"{name}: not within {timeout:g} s; seen last: {seen!r}")
        time.sleep(every)


def pod(name: str, script: str, **more: Any) -> dict[str, Any]:
    """A pod that runs a shell script once, on the image that every stand-in node has.

    `more` goes into the container, but for the keys of a pod's spec and `metadata`.
    """
    metadata = {"name": name, **more.pop("metadata", {})}
    keys = (
        "activeDeadlineSeconds",
        "initContainers",
        "nodeName",
        "nodeSelector",
        "restartPolicy",
        "serviceAccountName",
        "terminationGracePeriodSeconds",
        "tolerations",
        "volumes",
    )
    spec = {"restartPolicy": "Never", **{key: more.pop(key) for key in keys if key in more}}
    container = {
        "name": "main",
        "image": "lab/python",
        "command": ["/bin/sh", "-c", script],
        "securityContext": RESTRICTED,
        **more,
    }
    return {"metadata": metadata, "spec": {**spec, "containers": [container]}}
