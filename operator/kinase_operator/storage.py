"""Where an experiment keeps what it earns, if its manifest leaves that to the cluster.

A manifest that was written for one machine names a folder, or nothing, which is the same. On a
cluster no two pods share such a place, so the administrator's default store takes its part. The
choice is kept in the status, for a search that has begun must not move.
"""

from __future__ import annotations

from kinase.api import NASExperiment
from kinase.api.storage import Storage, is_shared
from kinase_operator.settings import STORE, Settings
from kinase_operator.views import Experiment, Object


def placed(manifest: NASExperiment, view: Experiment, settings: Settings) -> NASExperiment:
    """The manifest with the place where the experiment is kept on this cluster."""
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
        if (info.alias or name) in STORE  # what is kept there is the manifest's to say
    }
    storage = manifest.spec.storage.model_copy(update=fields)
    return manifest.model_copy(
        update={"spec": manifest.spec.model_copy(update={"storage": storage})}
    )


def record(manifest: NASExperiment | str, view: Experiment) -> Object | None:
    """What the status says of it: nothing where the manifest itself says it.

    Args:
        manifest: as `placed` gives it, or what is wrong with it.
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
