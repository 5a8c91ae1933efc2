"""Jobs and networks small enough that a test trains them in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kinase.api import NASExperiment
from kinase.api.space import Space as SpaceModel
from kinase.api.trial import Architecture, TrialJob
from kinase.engine.base import Event, Finished
from kinase.engine.tabular import TabularEngine
from kinase.experiment.loop import Loop
from kinase.space import Frame, Graph, make_space
from kinase.space.base import Rng
from kinase.store import Store
from kinase.store.memory import MemoryStore
from kinase_trainer import trial

CHAIN: dict[str, Any] = {
    "type": "Chain",
    "chain": {"maxDepth": 4, "ops": ["conv", "sepconv", "maxpool", "avgpool"], "widths": [4, 8]},
}
SMALL: Architecture = {
    "layers": [
        {"op": "conv", "width": 4, "kernel": 3, "stride": 1},
        {"op": "maxpool", "kernel": 3, "stride": 2},
        {"op": "sepconv", "width": 8, "kernel": 3, "stride": 1},
    ]
}
DARTS: dict[str, Any] = {
    "type": "Cell",
    "cell": {"preset": "darts", "nodes": 2, "search": {"cells": 3, "filters": 4}},
}
EVERYTHING: dict[str, Any] = {
    "epochs": 5,
    "batchSize": 100,
    "warmupEpochs": 1,
    "labelSmoothing": 0.1,
    "clipNorm": 1.0,
    "dropPath": 0.3,
    "auxiliary": 0.4,
    "augmentation": {"crop": 1, "flip": True, "cutout": 3},
    "device": "cpu",
}
"""Every source of chance at once."""


def job(**changes: Any) -> TrialJob:
    document: dict[str, Any] = {
        "experiment": "test",
        "trial": 7,
        "task": {"dataset": "digits"},
        "training": {"epochs": 3, "device": "cpu"},
        "space": CHAIN,
        "architecture": SMALL,
        "fidelity": {"epochs": 3},
        "seed": 1,
        "prefix": "trials/00007",
    }
    return TrialJob.model_validate({**document, **changes})


def cell(rng: Rng) -> Architecture:
    return make_space(SpaceModel.model_validate(DARTS)).sample(rng)


def graph(space: dict[str, Any], architecture: Architecture, frame: Frame) -> Graph:
    return make_space(SpaceModel.model_validate(space)).graph(architecture, frame)


class LocalTrainer(TabularEngine):
    """Trains in this process, one trial after another."""

    def __init__(self, experiment: NASExperiment, store: Store) -> None:
        spec = experiment.spec
        self.told = trial.describe(spec.task, spec.training, spec.space.with_root, store)
        super().__init__(lambda job: {}, self.told)
        self.store = store

    def poll(self, timeout: float | None) -> Sequence[Event]:
        if not self._jobs:
            return ()
        job = self._jobs.popleft()
        return (Finished(job.trial, trial.run(job, self.store)),)


def search(name: str, **spec: Any) -> Loop:
    """A search of digits from its beginning to its end, its trials trained in this process."""
    experiment = NASExperiment.model_validate(
        {
            "apiVersion": "kinase.dev/v1alpha1",
            "kind": "NASExperiment",
            "metadata": {"name": name},
            "spec": {"task": {"dataset": "digits"}, **spec},
        }
    )
    return searched(experiment, MemoryStore())


def searched(experiment: NASExperiment, store: Store) -> Loop:
    """The same of any experiment."""
    engine = LocalTrainer(experiment, store)
    loop = Loop(experiment, store, engine, engine.told)
    assert loop.run().finished is not None
    return loop
