"""One-shot search by real training: how a supernet ranks, and what it costs to find as good a
network as random search.

    python -m bench.one_shot rank --data digits --epochs 200 --seeds 3
    python -m bench.one_shot cost --data digits --seeds 5

Cells of NAS-Bench-201 in a small skeleton. Trainings from scratch are kept in the file of
`--trained` and not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from bench.fashion import DATA, fashion
from kinase.api.space import Space as SpaceModel
from kinase.api.trial import Architecture, TrialJob, TrialResult
from kinase.space import Space, derive_rng, make_space
from kinase.store.memory import MemoryStore
from kinase_trainer import trial

SIZE = {"cells": 1, "filters": 8}
SPACE: dict[str, Any] = {
    "type": "Cell",
    "cell": {"preset": "nasbench201", "search": SIZE, "evaluation": SIZE},
}
EPOCHS = 20
"""Of a training from scratch."""
SGD = {"type": "SGD", "sgd": {"learningRate": 0.05, "weightDecay": 0.0005}}
TRAINING: dict[str, Any] = {
    "epochs": EPOCHS,
    "batchSize": 64,
    "device": "cpu",
    "clipNorm": 5,
    "optimizer": SGD,
}
METHODS: dict[str, tuple[dict[str, Any], int]] = {
    "SPOS": ({"type": "Uniform"}, 2000),
    "RandomNAS-WS": ({"type": "Uniform"}, 0),
    "DARTS, first order": ({"type": "DARTS", "darts": {"order": 1}}, 2000),
    "DARTS, second order": ({"type": "DARTS", "darts": {"order": 2}}, 2000),
    "GDAS": ({"type": "GDAS"}, 2000),
    "SNAS": ({"type": "SNAS"}, 2000),
    "DrNAS": ({"type": "DrNAS"}, 2000),
    "GAEA": ({"type": "GAEA"}, 2000),
}
"""A supernet's relaxation, and the training samples for a candidate's statistics."""


@cache
def space() -> Space:
    return make_space(SpaceModel.model_validate(SPACE))


def task(data: str) -> dict[str, Any]:
    if data == "digits":
        return {"dataset": "digits"}
    path = Path(tempfile.gettempdir()) / "kinase-bench-fashion" / "fashion.npz"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        fashion(path.parent)
    return {"dataset": "npz", "path": str(path)}


def job(data: str, number: int, epochs: int, seed: int, **changes: Any) -> TrialJob:
    return TrialJob.model_validate(
        {
            "experiment": "bench",
            "trial": number,
            "prefix": f"trials/{number:05d}",
            "task": task(data),
            "training": TRAINING,
            "space": SPACE,
            "architecture": {},
            "fidelity": {"epochs": epochs, "scale": SIZE},
            "seed": seed,
            **changes,
        }
    )


def from_scratch(data: str, architecture: Architecture, seed: int) -> float:
    """Validation accuracy of a network trained alone."""
    found = trial.run(job(data, 1, EPOCHS, seed, architecture=architecture), MemoryStore())
    return found.metrics.get("val_accuracy", 0.0)


def supernet(
    data: str, plan: dict[str, Any], epochs: int, seed: int
) -> tuple[MemoryStore, TrialResult]:
    """A trained supernet in a store."""
    store = MemoryStore()
    training = {**TRAINING, "epochs": epochs}
    changes = {"kind": "Supernet", "supernet": {"relaxation": plan}, "training": training}
    return store, trial.run(job(data, 0, epochs, seed, **changes), store)


def scores(data: str, store: MemoryStore, some: Sequence[Architecture], images: int) -> list[float]:
    """Validation accuracies with a supernet's weights."""
    found = []
    for number, architecture in enumerate(some, 1):
        asked = job(
            data,
            number,
            EPOCHS,
            0,
            architecture=architecture,
            until=0,
            slice={"prefix": "trials/00000", "recalibrate": images},
        )
        found.append(trial.run(asked, store).metrics["val_accuracy"])
    return found


def architectures(seed: int) -> Iterator[Architecture]:
    """Different cells, drawn at random; those whose output does not depend on the input are left
    out, as they are no networks."""
    seen = set()
    for number in count():
        architecture = space().sample(derive_rng(seed, number))
        if (key := space().key(architecture)) not in seen and space().paths(architecture):
            seen.add(key)
            yield architecture


class Trained:
    """Accuracies of trainings from scratch, kept in a file."""

    def __init__(self, path: Path, data: str) -> None:
        self._path, self._data = path, data
        self._known: dict[tuple[str, int], float] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            row = json.loads(line)
            if row["data"] == data:
                self._known[row["key"], row["seed"]] = row["accuracy"]

    def of(self, architecture: Architecture, seed: int) -> float:
        key = space().key(architecture), seed
        if key not in self._known:
            self._known[key] = from_scratch(self._data, architecture, seed)
            row = {"data": self._data, "key": key[0], "seed": seed, "accuracy": self._known[key]}
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        return self._known[key]

    def mean(self, architecture: Architecture, seeds: Sequence[int]) -> float:
        return statistics.fmean(self.of(architecture, seed) for seed in seeds)


def interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """90 % interval of Kendall's tau, from 1,000 draws of the architectures."""
    rng = np.random.default_rng(0)
    a, b = np.array(ours), np.array(theirs)
    draws = []
    for _ in range(1000):
        chosen = rng.integers(len(a), size=len(a))
        draws.append(kendalltau(a[chosen], b[chosen]).statistic)
    low, high = np.nanquantile(draws, (0.05, 0.95))
    return float(low), float(high)


def rank(options: argparse.Namespace) -> None:
    """Kendall's tau of a supernet's scores with trainings from scratch."""
    some = [a for a, _ in zip(architectures(1), range(options.count), strict=False)]
    trained = Trained(options.trained, options.data)
    truth = [trained.mean(a, (1, 2)) for a in some]
    first = [trained.of(a, 1) for a in some]
    second = [trained.of(a, 2) for a in some]
    ceiling = kendalltau(first, second).statistic
    print(f"{len(some)} trainings from scratch: {min(truth):.4f} to {max(truth):.4f}", flush=True)
    print(f"one seed against another: tau {ceiling:.2f}", flush=True)
    for name in options.methods or METHODS:
        plan, images = METHODS[name]
        taus, tops = [], []
        together = np.zeros(len(some))
        for seed in range(options.seeds):
            store, result = supernet(options.data, plan, options.epochs, seed)
            found = scores(options.data, store, some, images)
            together += found
            taus.append(kendalltau(found, truth).statistic)
            tops.append(truth[int(np.argmax(found))])
        low, high = interval(list(together), truth)
        print(
            f"{name}: tau {statistics.fmean(taus):.2f} (seeds {', '.join(f'{t:.2f}' for t in taus)}"
            f"; of the mean score {kendalltau(together, truth).statistic:.2f}, 90 % {low:.2f} to "
            f"{high:.2f}); the best by score has {statistics.fmean(tops):.4f}; "
            f"{result.cost.samples} passes",
            flush=True,
        )


def main() -> None:
    """Run a benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("rank",))
    parser.add_argument("--data", choices=DATA, default="digits")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--methods", nargs="*", choices=METHODS)
    parser.add_argument("--trained", type=Path, default=Path("trained.jsonl"))
    rank(parser.parse_args())


if __name__ == "__main__":
    main()
