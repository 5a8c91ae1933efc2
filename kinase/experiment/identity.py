"""Which experiment a path in the storage belongs to."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

import kinase
from kinase.api import limits
from kinase.api.auto import WRAPS
from kinase.api.changes import BETWEEN_RUNS
from kinase.api.estimation import Estimation
from kinase.api.experiment import NASExperiment
from kinase.api.objective import goal_of
from kinase.api.spec import ExperimentSpec
from kinase.api.strategy import EvolutionStrategy
from kinase.api.task import FolderImages
from kinase.store import Conflict, NotFound, Store, StoreError

KEY = "experiment.json"
TASK = "task.json"
"""The trainer's description of the task."""


SETTLED = ("strategy.evolution.population", "strategy.evolution.sample")
"""Fields whose defaults depend on fields that can change. The defaults are fixed when the
experiment starts; later, a manifest without these fields means the recorded values."""


class MismatchError(StoreError):
    """The path in the storage belongs to another experiment."""


class ReadOtherwise(MismatchError):
    """The data is read differently from the version that started the experiment."""


def claim(store: Store, experiment: NASExperiment, supports: Collection[str] | None = None) -> bool:
    """Claim the experiment's path in the storage, or verify that it is already claimed for it.
    Before the first trial, a changed manifest replaces the recorded one.

    Args:
        store: the experiment's place in the storage.
        experiment: the manifest.
        supports: what the trainer supports, once it is known: then the estimation that the type
            `Auto` means is recorded.

    Returns:
        Whether an earlier run's journal exists there.

    Raises:
        MismatchError: it holds an experiment that differs in fields that cannot change.
        StoreError: it cannot be written.
    """
    found = experiment.spec if supports is None else experiment.spec.settled(supports)
    spec = _settled(found.sized())
    document = {"name": experiment.metadata.name, "version": kinase.__version__, "spec": spec}
    try:
        store.put(KEY, json.dumps(document, indent=2).encode(), if_absent=True)
        return False
    except Conflict:
        pass
    if begun(store):
        agree(store, experiment)
        return True
    store.delete(TASK)  # the task may have changed
    store.put(KEY, json.dumps(document, indent=2).encode())
    return False


def begun(store: Store) -> bool:
    """Whether a trial has been started: the journal has an entry."""
    return next(iter(store.list("journal/")), None) is not None


def agree(store: Store, experiment: NASExperiment) -> None:
    """Compare a manifest with that of the recorded experiment.

    Raises:
        MismatchError: they differ in fields that cannot change.
    """
    found, spec = _read(store), _settled(experiment.spec)
    if spec["estimation"]["type"] == "Auto":
        spec["estimation"] = _chosen(found, spec["estimation"])
    different = [
        change
        for field in spec
        for change in _differences(found.get(field), spec[field], f"spec.{field}")
    ]
    if different:
        shown = "; ".join(different[:5])
        raise MismatchError(
            f"{store.uri} holds an experiment of this name that differs: {shown}. "
            f"Give this one another metadata.name or storage.uri, or restore the manifest; "
            f"only {', '.join(BETWEEN_RUNS)} may change"
        )


def _settled(spec: ExperimentSpec) -> dict[str, Any]:
    """A spec with all defaults, including goals that follow from the metrics, so that omitting a
    field equals setting its default."""
    document = spec.model_dump(mode="json", by_alias=True)
    objective = document["objective"]
    for measure in (objective, *objective["also"]):
        measure["goal"] = measure["goal"] or goal_of(spec.task.type, measure["metric"])
    return document


def _chosen(found: dict[str, Any], estimation: dict[str, Any]) -> dict[str, Any]:
    """An estimation of the type `Auto` with the type and the options that were recorded."""
    kept = found.get("estimation")
    if not isinstance(kept, dict):
        return estimation
    return kept | {name: estimation.get(name) for name in WRAPS}


def settled(store: Store, experiment: NASExperiment) -> NASExperiment:
    """The experiment with the defaults that were fixed when it started; unchanged if it has not
    started.

    Raises:
        StoreError: its record is damaged.
    """
    if not begun(store):
        return experiment
    task = experiment.spec.task
    if task.dataset == "folder" and task.folder is None and without_digests(store):
        task = task.model_copy(update={"folder": FolderImages(fit="crop")})
        spec = experiment.spec.model_copy(update={"task": task})
        experiment = experiment.model_copy(update={"spec": spec})
    return _sizes_settled(store, _estimation_settled(store, experiment))


def _estimation_settled(store: Store, experiment: NASExperiment) -> NASExperiment:
    if experiment.spec.estimation.type != "Auto":
        return experiment
    wanted = experiment.spec.estimation.model_dump(mode="json", by_alias=True)
    try:
        estimation = Estimation.model_validate(_chosen(recorded(store)["spec"], wanted))
    except ValidationError:  # `claim` reports what differs
        return experiment
    spec = experiment.spec.model_copy(update={"estimation": estimation})
    return experiment.model_copy(update={"spec": spec})


def without_digests(store: Store) -> bool:
    """Whether the task was described by a version that stored no digests of the data. That version
    cropped the images of a folder."""
    try:
        document = json.loads(store.get(TASK, limits.RESULT))
    except (NotFound, ValueError):
        return False
    return isinstance(document, dict) and not document.get("data")


def _sizes_settled(store: Store, experiment: NASExperiment) -> NASExperiment:
    evolution = experiment.spec.strategy.evolution
    if evolution is None:
        return experiment
    kept = recorded(store)["spec"].get("strategy", {}).get("evolution") or {}
    unset = {
        name: kept.get(name) for name in ("population", "sample") if not getattr(evolution, name)
    }
    spec, strategy = experiment.spec, experiment.spec.strategy
    try:
        evolution = EvolutionStrategy.model_validate({**evolution.model_dump(), **unset})
    except ValidationError:  # `claim` reports what differs
        return experiment
    strategy = strategy.model_copy(update={"evolution": evolution})
    spec = spec.model_copy(update={"strategy": strategy})
    return experiment.model_copy(update={"spec": spec})


def recorded(store: Store) -> dict[str, Any]:
    """The record that `claim` wrote: name, version and spec.

    Raises:
        StoreError: there is no experiment, or its record is damaged.
    """
    try:
        document = json.loads(store.get(KEY, limits.RECORD))
        if isinstance(document, dict) and isinstance(document.get("spec"), dict):
            return document
    except (ValidationError, ValueError):
        pass
    raise MismatchError(f"{store.uri}/{KEY} is damaged; restore it or use another storage.uri")


def _read(store: Store) -> dict[str, Any]:
    """The recorded spec, with defaults for fields that its version did not have."""
    spec: dict[str, Any] = recorded(store)["spec"]
    try:
        return _settled(ExperimentSpec.model_validate(spec))
    except ValidationError:  # its version had other rules
        return spec


def _differences(found: Any, wanted: Any, path: str) -> list[str]:
    """Text with the fields that differ between two specs but cannot change."""
    if path.removeprefix("spec.") in BETWEEN_RUNS:
        return []
    if path.removeprefix("spec.") in SETTLED and wanted is None:
        return []
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            line
            for key in {**found, **wanted}
            for line in _differences(found.get(key), wanted.get(key), f"{path}.{key}")
        ]
    if found == wanted:
        return []
    return [f"{path} is {json.dumps(found)} there and {json.dumps(wanted)} here"]
