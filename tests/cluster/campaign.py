"""A morphism search on a cluster, beside the same on this machine: for a test and a benchmark."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from kinase.api import NASExperiment
from kinase.api.trial import TrialResult
from kinase.experiment.entries import Asked, Told
from kinase.experiment.journal import Journal
from kinase.store import Store
from kinase.store.file import FileStore
from tests.cluster import system
from tests.cluster.lab.processes import Child

ONE_CPU = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from kinase.cli import main
main()
"""
"""`kinase run` with a worker of one thread, as our pods have it: sums depend on that."""


def spec(trials: int, **changes: Any) -> dict[str, Any]:
    """A small NASH search on the digits, one trial at a time."""
    base: dict[str, Any] = {
        "task": {"dataset": "digits"},
        "training": {"epochs": 4, "device": "cpu"},
        "space": {
            "type": "Chain",
            "chain": {"maxDepth": 4, "ops": ["conv"], "widths": [4, 8, 16], "strides": [1]},
        },
        "strategy": {"type": "NASH", "nash": {"neighbours": 3, "morphisms": 2, "initial": 2}},
        "estimation": {"type": "Morphism", "morphism": {"epochsPerChild": 4}},
        "budget": {"trials": trials, "parallelism": 1},
        "control": {"share": 0},
        "finalists": {"count": 1},
        "trialTemplate": {
            "image": system.TRAINER,
            "maxRetries": 100,
            "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
        },
    }
    return {**base, **changes}


class Undisturbed:
    """The same search on this machine, in a process beside us."""

    def __init__(self, body: dict[str, Any], folder: Path) -> None:
        storage = {"uri": f"file://{folder}/runs"}
        local = {**body, "spec": {**body["spec"], "storage": storage}}
        manifest = folder / "local.yaml"
        manifest.write_text(yaml.safe_dump(local))
        directory = NASExperiment.model_validate(local).directory
        self.store = FileStore(f"{folder}/runs/{directory}")
        argv = [sys.executable, "-c", ONE_CPU, "run", str(manifest)]
        self.child = Child(argv, folder / "log", {"PYTHONPATH": str(system.REPOSITORY)})

    def wait(self, timeout: float) -> Store:
        """Its store, once it has ended well."""
        if self.child.process.wait(timeout):
            raise AssertionError(self.child.said())
        return self.store


def story(store: Store) -> dict[int, dict[str, Any]]:
    """Of every trial what was asked, and what was told of it, without times and costs."""
    found: dict[int, dict[str, Any]] = {}
    for entry in Journal(store).replay():
        if isinstance(entry, Asked):
            assert entry.trial not in found
            found[entry.trial] = {"asked": entry.model_dump(exclude={"elapsed"})}
        elif isinstance(entry, Told):
            assert "told" not in found[entry.trial], f"trial {entry.trial} was told twice"
            left_out = {"elapsed", "cost", "facts"}
            found[entry.trial]["told"] = entry.model_dump(exclude=left_out)
    return found


def results(store: Store) -> dict[int, TrialResult]:
    """What the trials left."""
    keys = [key for key in store.list("trials/") if key.endswith("/result.json")]
    found = [TrialResult.model_validate_json(store.get(key)) for key in keys]
    return {result.trial: result for result in found}


def lost(store: Store) -> list[str]:
    """The children that did not begin with their own parent's weights."""
    found = []
    for number, trial in story(store).items():
        inherit, inherited = trial["asked"]["inherit"], trial["told"]["inherited"]
        if inherit is None:
            continue
        parent = inherit["ancestors"][0]["trial"]
        if inherited is None or inherited["trial"] != parent or inherited["message"]:
            found.append(f"trial {number} of parent {parent}: {inherited}")
    return found
