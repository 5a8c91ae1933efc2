"""The Kubernetes API as the operator and the controller use it: JSON in, JSON out, async."""

from kinase_kube.client import (
    ApiError,
    Client,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Resource,
    Unavailable,
)
from kinase_kube.informer import Informer
from kinase_kube.workqueue import WorkQueue

__all__ = [
    "ApiError",
    "Client",
    "Conflict",
    "Forbidden",
    "Gone",
    "Informer",
    "Invalid",
    "NotFound",
    "Resource",
    "Unavailable",
    "WorkQueue",
]
