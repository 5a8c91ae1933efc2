"""The storage of an experiment whose manifest leaves the choice to the cluster.

A manifest for one machine names a folder or, equivalently, no storage. Pods on a cluster do not
share a folder, so the administrator's default store is used instead. The choice is kept in the
status, because a search cannot move after it has started.
"""

from __future__ import annotations

from kinase.api import NASExperiment
from kinase.api.storage import Storage, is_shared
from kinase_operator.settings import STORE, Settings
from kinase_operator.views import Experiment, Object


def placed(manifest: NASExperiment, view: Experiment, settings: Settings) -> NASExperiment:
    """The manifest with the experiment's storage on this cluster."""
    if is_shared(manifest.spec.storage.uri):
        return manifest
    recorded = view.status.get("storage") if view.started else None
    if recorded:
        chosen = Storage.model_validate({k: v for k, v in recorded.items() if k in STORE})
    elif settings.store is not None:
        chosen = settings.store
    else:
        return manifest
    fields = {
        name: getattr(chosen, name)
        for name, info in Storage.model_fields.items()
        if (info.alias or name) in STORE  # the manifest still chooses what to keep
    }
    storage = manifest.spec.storage.model_copy(update=fields)
    return manifest.model_copy(
        update={"spec": manifest.spec.model_copy(update={"storage": storage})}
    )


def record(manifest: NASExperiment | str, view: Experiment) -> Object | None:
    """The storage for the status; None if the manifest sets it.

    Args:
        manifest: as returned by `placed`, or why it is invalid.
        view: the experiment.
    """
    if isinstance(manifest, str):
        return view.status.get("storage")
    written = (view.spec.get("storage") or {}).get("uri") or ""
    storage = manifest.spec.storage
    if is_shared(written) or not is_shared(storage.uri):
        return None
    found = storage.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: found[name] for name in STORE if name in found}
