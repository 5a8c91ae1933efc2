"""Small experiments without torch: a chain space, a function instead of training."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from kinase.api import NASExperiment, TaskInfo, TrialJob
from kinase.engine.tabular import TabularEngine
from kinase.experiment import artifacts
from kinase.experiment.loop import Loop
from kinase.store import Store
from kinase.store.memory import MemoryStore

INFO = TaskInfo(
    input=(1, 8, 8),
    outputs=10,
    train=1000,
    validation=200,
    test=200,
    metrics=("val_accuracy", "val_loss"),
    device="cpu",
    supports=("until", "measure", "workers"),
)

WRITES = pytest.mark.parametrize(
    "every",
    [pytest.param(3, id="third"), pytest.param(1, id="each", marks=pytest.mark.soak)],
)
"""Of the writes at which a run is killed: every third in `make test`, each in `make soak`."""


def experiment(**spec: Any) -> NASExperiment:
    base: dict[str, Any] = {
        "space": {"type": "Chain", "chain": {"maxDepth": 4, "widths": [4, 8]}},
        "strategy": {"type": "Evolution", "evolution": {"population": 6, "sample": 3}},
        "training": {"epochs": 4},
        "estimation": {"type": "LowerFidelity", "lowerFidelity": {"epochs": 2}},
        "budget": {"trials": 20},
        "finalists": {"count": 2},
    }
    return NASExperiment.model_validate(
        {
            "apiVersion": "kinase.dev/v1alpha1",
            "kind": "NASExperiment",
            "metadata": {"name": "toy"},
            "spec": {**base, **spec},
        }
    )


def score(job: TrialJob) -> dict[str, float]:
    """A value that depends on the architecture and, slightly, on the fidelity and the seed."""
    text = repr((job.architecture, job.fidelity.epochs, job.seed)).encode()
    noise = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") / 2**32
    depth = len(job.architecture["layers"])
    return {"val_accuracy": 0.5 + 0.1 * depth + 0.05 * noise, "val_loss": 1.0 - 0.1 * depth}


def make_loop(
    manifest: NASExperiment, store: Store | None = None, slots: int = 1, **options: Any
) -> Loop:
    info = options.pop("info", INFO)
    return Loop(
        manifest,
        store if store is not None else MemoryStore(),
        options.pop("engine", None) or TabularEngine(options.pop("evaluate", score), info, slots),
        info,
        trainer_results=options.pop("trainer_results", False),
        **options,
    )


def told(loop: Loop) -> list[tuple[Any, ...]]:
    """What must be the same however often a run was killed."""
    return [
        (t.number, t.kind, t.key, t.seed, t.parents, t.outcome, t.metrics, t.cost.epochs)
        for t in loop.state.trials.values()
    ]


def with_weights(store: Store) -> set[int | None]:
    """The trials whose weights exist."""
    return {artifacts.trial_of(place) for place in artifacts.places_with_weights(store)}
