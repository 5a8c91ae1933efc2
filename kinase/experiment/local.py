"""An experiment on this machine: `kinase run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kinase import registry
from kinase.api import limits
from kinase.api.experiment import NASExperiment
from kinase.api.names import API_VERSION
from kinase.api.spec import ExperimentSpec
from kinase.api.trial import TaskInfo
from kinase.engine import EngineError
from kinase.engine.command import Command, command_of
from kinase.engine.local import LocalEngine
from kinase.experiment import identity, lock
from kinase.experiment.final_outputs import RESULT, TASK, keep_final, same_task
from kinase.experiment.interrupts import interruptible
from kinase.experiment.listener import Listener
from kinase.experiment.loop import Loop
from kinase.experiment.record import Record
from kinase.experiment.reopening import goes_on
from kinase.store import NotFound, Store, StoreError, open_store, probe
from kinase.words import counted

MANIFEST = "manifest.json"
"""The manifest of the latest run, in the run's folder on this machine. `experiment.json` keeps the
limits with which the search started."""


def run(
    experiment: NASExperiment,
    *,
    trainer: str = "torch",
    listener: Listener | None = None,
    say: Callable[[str], None] = lambda text: None,
    received: list[int] | None = None,
) -> Record:
    """Search on this machine's processes, from the manifest to the tested winner.

    The same call resumes a search that was interrupted or killed, and one that has ended if a limit
    of the budget was raised since. Ctrl-C stops the search cleanly and keeps everything.

    Args:
        experiment: the manifest.
        trainer: entry point of the group `kinase.trainers`, or an import path.
        listener: receives events.
        say: receives messages about steps that take time before the search starts.
        received: signals that stopped the search are added to this list.

    Raises:
        StoreError: the storage cannot be used, or holds another experiment.
        EngineError: no trial can run.
    """
    root = open_store(experiment.spec.storage)
    store = root.sub(experiment.directory)
    probe(store)
    folder = lock.scratch(store)
    limit = experiment.spec.trial_template.time_limit
    with lock.exclusive(folder):
        # not earlier: it would overwrite the record of a run that has not started a trial yet
        begun = identity.claim(store, experiment)
        over = _over(experiment) if begun and store.exists(f"final/{RESULT}") else None
        given = experiment.spec.model_dump_json(by_alias=True, exclude_unset=True)
        (folder / MANIFEST).write_text(given)
        experiment = identity.settled(store, experiment)
        slots = experiment.spec.budget.parallelism if over is None else 1
        say(f"starting {counted(slots, 'worker')} ...")
        engine = LocalEngine(
            slots,
            experiment.spec.storage,
            experiment.directory,
            trainer=trainer,
            command=own_trainer(experiment, trainer),
            time_limit=limit.total_seconds() if limit else None,
            scratch=folder,
        )
        try:
            spec = experiment.spec
            try:
                info = engine.describe(spec.task, spec.training, spec.space.with_root)
            except EngineError as error:
                if over is None:
                    raise
                over.unchecked = str(error)
                keep_final(store, over)
                return over
            if not begun:  # the type `Auto` means what suits this trainer
                identity.claim(store, experiment, info.supports)
            try:
                same_task(store, info)
            except identity.ReadOtherwise as error:
                if over is None:
                    raise
                over.unchecked = str(error)
                keep_final(store, over)
                return over
            loop = Loop(experiment, store, engine, info, listener=listener)
            with interruptible(loop, [] if received is None else received):
                loop.run()
        finally:
            engine.close()
        if loop.state.finished is not None:
            keep_final(store, loop)
    return loop


def own_trainer(experiment: NASExperiment, trainer: str = "torch") -> Command | None:
    """The trainer that runs in separate processes: the manifest's custom one, or Kinase's own if a
    trial has several workers; None if it runs in the engine's workers. Variables that come from
    objects of a cluster are taken from this process's environment."""
    template = experiment.spec.trial_template
    given = {e.name: e.value or "" for e in template.env if e.value_from is None}
    name, metric = experiment.metadata.name, experiment.spec.objective.metric
    if template.workers > 1 and trainer == "torch" and not template.command:
        try:
            module = registry.package("kinase.trainers", trainer)
        except registry.UnknownMember:
            return None  # the engine's workers report it
        python = (sys.executable, "-m", module)
        return Command(
            experiment=name, metric=metric, words=python, environment=given, custom=False
        )
    words = (*template.command, *template.args) if template.command else ()
    return command_of(name, metric, words, given)


def _over(experiment: NASExperiment) -> Record | None:
    """A finished run that does not continue, or None."""
    loop = open_run(experiment)
    return loop if loop.state.finished is not None and not goes_on(loop) else None


def set_aside(experiment: NASExperiment) -> str | None:
    """Set an earlier run of this name aside: its folder `NAME` is renamed to the first of `NAME.1`,
    `NAME.2`, ... that is free. Nothing is deleted.

    Returns:
        The new location, or None if there was no earlier run.

    Raises:
        StoreError: the run is still running, or its store cannot rename.
    """
    store = open_store(experiment.spec.storage).sub(experiment.directory)
    # a folder without a run is not ours, and stays where it is
    if not store.exists(identity.KEY) and not identity.begun(store):
        return None
    if not store.uri.startswith("file://"):
        raise StoreError(
            f"--fresh renames the folder of the earlier run, and {store.uri} is in a store without "
            "folders; give this run another metadata.name or storage.uri, or delete "
            "the earlier one yourself"
        )
    folder = Path(store.uri.removeprefix("file://"))
    with lock.exclusive(lock.scratch(store)):
        number = 1
        while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        try:
            folder.rename(aside)
        except OSError as error:
            raise StoreError(f"{folder} cannot be renamed to {aside}: {error.strerror}") from error
    return str(aside)


def open_run(experiment: NASExperiment) -> Record:
    """A finished or unfinished run, replayed for reading; nothing is trained.

    Raises:
        StoreError: there is no run, or it belongs to another experiment.
    """
    store = open_store(experiment.spec.storage).sub(experiment.directory)
    identity.recorded(store)
    identity.agree(store, experiment)
    return _replayed(store, identity.settled(store, experiment))


def reopen(store: Store, namespace: str) -> Record:
    """A run by its place in a store alone, replayed for reading: by the manifest that was run last
    where this machine ran it, else by the one with which it began.

    Raises:
        StoreError: there is no run, or it is damaged or of another version.
    """
    record = identity.recorded(store)
    try:
        experiment = NASExperiment.model_validate(
            {
                "apiVersion": API_VERSION,
                "kind": "NASExperiment",
                "metadata": {"name": record.get("name"), "namespace": namespace},
                "spec": last_spec(store),
            }
        )
    except ValidationError as error:
        raise StoreError(
            f"{store.uri} was made by version {record.get('version')} of Kinase, and this one does "
            f"not read its manifest: {error.errors()[0]['msg']}"
        ) from None
    return _replayed(store, identity.settled(store, experiment))


def last_spec(store: Store) -> Any:
    """The spec of a run as plain data: that of the latest run on this machine, or else the one with
    which it started.

    Raises:
        StoreError: the run does not exist.
    """
    recorded = identity.recorded(store)["spec"]
    try:
        with (lock.scratch_place(store) / MANIFEST).open("rb") as file:
            spec = json.loads(file.read(limits.RECORD))
        ExperimentSpec.model_validate(spec)  # an earlier version left out its defaults
    except (OSError, ValueError):
        return recorded
    return spec


def _replayed(store: Store, experiment: NASExperiment) -> Record:
    again = "kinase run with the manifest of this run writes it again, and trains nothing of a run "
    again += "that has finished"
    try:
        info = TaskInfo.model_validate_json(store.get(TASK, limits.RESULT))
    except NotFound as error:
        raise StoreError(f"{store.uri}/{TASK} is missing: {again}") from error
    except ValidationError as error:
        raise StoreError(f"{store.uri}/{TASK} is damaged: restore or delete it; {again}") from error
    try:
        record = Record(experiment, store, info)
    except registry.UnknownMember as error:
        why = f"{error}; install the package that it is from"
        raise StoreError(f"{store.uri} cannot be read: {why}") from None
    record.replay()
    return record
