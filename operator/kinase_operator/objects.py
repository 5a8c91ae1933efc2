"""Common parts of the objects that the operator creates: labels, owner, digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kinase.api import names
from kinase_kube import client as kube
from kinase_operator.views import Experiment, Object, Trial


def digest(body: Object) -> str:
    """Short digest of the desired object."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def owner(view: Experiment | Trial) -> Object:
    """Owner reference, by which an object is deleted with its owner."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "NASExperiment" if isinstance(view, Experiment) else "NASTrial",
        "name": view.name,
        "uid": view.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def labels(experiment: str, uid: str, component: str) -> dict[str, str]:
    """Labels of every object that belongs to an experiment."""
    return {
        names.MANAGED_BY: names.MANAGER,
        names.COMPONENT: component,
        names.EXPERIMENT: experiment,
        names.EXPERIMENT_UID: uid,
    }


def new_object(
    resource: kube.Resource,
    name: str,
    view: Experiment,
    annotations: Mapping[str, str] | None = None,
    **fields: Any,
) -> Object:
    """An object of an experiment, with the digest of its desired state."""
    own = {**annotations} if annotations else {}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": name,
            "namespace": view.namespace,
            "labels": labels(view.name, view.uid, "controller"),
            "annotations": {**own, names.SPEC_HASH: digest({**fields, **own})},
            "ownerReferences": [owner(view)],
        },
        **fields,
    }
