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
from kinase.api import Kind, NASExperiment
from kinase.api.space import Space as SpaceModel
from kinase.api.trial import Architecture, TrialJob, TrialResult
from kinase.engine import Event, Finished
from kinase.engine.tabular import TabularEngine
from kinase.experiment.loop import Loop
from kinase.space import Space, derive_rng, make_space
from kinase.store import Store
from kinase.store.memory import MemoryStore
from kinase_trainer import trial

SIZE = {"cells": 3, "filters": 4}
SPACE: dict[str, Any] = {
    "type": "Cell",
    "cell": {"preset": "nasbench201", "search": SIZE, "evaluation": SIZE},
}
EPOCHS = 12
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
    "FairNAS": ({"type": "FairNAS"}, 2000),
    "Bender 2018": ({"type": "PathDropout"}, 2000),
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


METRICS = ("val_loss", "val_accuracy")


def from_scratch(data: str, architecture: Architecture, seed: int) -> dict[str, float]:
    """What a network trained alone measures."""
    found = trial.run(job(data, 1, EPOCHS, seed, architecture=architecture), MemoryStore())
    return {name: found.metrics[name] for name in METRICS}


def supernet(
    data: str, plan: dict[str, Any], epochs: int, seed: int
) -> tuple[MemoryStore, TrialResult]:
    """A trained supernet in a store."""
    store = MemoryStore()
    training = {**TRAINING, "epochs": epochs}
    changes = {"kind": "Supernet", "supernet": {"relaxation": plan}, "training": training}
    return store, trial.run(job(data, 0, epochs, seed, **changes), store)


def scores(
    data: str, store: MemoryStore, some: Sequence[Architecture], images: int
) -> list[dict[str, float]]:
    """What candidates measure with a supernet's weights."""
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
        found.append(trial.run(asked, store).metrics)
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
    """Trainings from scratch, kept in a file."""

    def __init__(self, path: Path, data: str) -> None:
        self._path, self._data = path, data
        self._known: dict[tuple[str, int], dict[str, float]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            row = json.loads(line)
            if row["data"] == data:
                self._known[row["key"], row["seed"]] = row["metrics"]

    def of(self, architecture: Architecture, seed: int) -> dict[str, float]:
        key = space().key(architecture), seed
        if key not in self._known:
            self._known[key] = from_scratch(self._data, architecture, seed)
            row = {"data": self._data, "key": key[0], "seed": seed, "metrics": self._known[key]}
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        return self._known[key]

    def mean(self, architecture: Architecture, seeds: Sequence[int], metric: str) -> float:
        return statistics.fmean(self.of(architecture, seed)[metric] for seed in seeds)


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


SEEDS = (1, 2, 3)
"""Of the trainings from scratch."""


def rank(options: argparse.Namespace) -> None:
    """Kendall's tau of a supernet's scores with trainings from scratch."""
    some = [a for a, _ in zip(architectures(1), range(options.count), strict=False)]
    trained = Trained(options.trained, options.data)
    truth = {m: [trained.mean(a, SEEDS, m) for a in some] for m in METRICS}
    print(f"{len(some)} architectures, {len(SEEDS)} trainings from scratch each")
    for metric in METRICS:
        low, high = min(truth[metric]), max(truth[metric])
        rest = [trained.mean(a, SEEDS[1:], metric) for a in some]
        one = kendalltau([trained.of(a, SEEDS[0])[metric] for a in some], rest).statistic
        print(f"{metric}: {low:.4f} to {high:.4f}; one training against the others: tau {one:.2f}")
    print(flush=True)
    for name in options.methods or METHODS:
        plan, images = METHODS[name]
        runs = [supernet(options.data, plan, options.epochs, s) for s in range(options.seeds)]
        found = [scores(options.data, store, some, images) for store, _ in runs]
        parts = []
        for metric in METRICS:
            each = [[row[metric] for row in rows] for rows in found]
            taus = [kendalltau(one, truth[metric]).statistic for one in each]
            together = list(np.mean(each, axis=0))
            low, high = interval(together, truth[metric])
            parts.append(
                f"{metric} {statistics.fmean(taus):.2f} ({', '.join(f'{t:.2f}' for t in taus)}), "
                f"of the mean score {kendalltau(together, truth[metric]).statistic:.2f} "
                f"({low:.2f} to {high:.2f})"
            )
        passes = runs[0][1].cost.samples
        print(f"{name}: {'; '.join(parts)}; {passes} passes", flush=True)


MEMBERS: dict[str, dict[str, Any]] = {
    "RandomNAS-WS": {"type": "Random"},
    "SPOS": {"type": "Evolution", "evolution": {"population": 20, "sample": 5}},
    "FairNAS and evolution": {"type": "Evolution", "evolution": {"population": 20, "sample": 5}},
    "Bender 2018": {"type": "Random"},
    "DARTS, first order": {"type": "DARTS", "darts": {"order": 1}},
    "DARTS, second order": {"type": "DARTS", "darts": {"order": 2}},
    "GDAS": {"type": "GDAS"},
    "SNAS": {"type": "SNAS"},
    "DrNAS": {"type": "DrNAS"},
    "GAEA": {"type": "GAEA"},
    "PC-DARTS": {"type": "PCDARTS", "pcdarts": {"partial": 4}},
    "ProxylessNAS": {"type": "ProxylessNAS"},
    "ENAS": {"type": "ENAS"},
}
SAMPLING = {"FairNAS and evolution": {"type": "FairNAS"}, "Bender 2018": {"type": "PathDropout"}}
RANDOM = "random search"
TRIALS = 20
"""Of random search, each trained from scratch."""


class InProcess(TabularEngine):
    """Runs trials in this process, one after another."""

    def __init__(self, experiment: NASExperiment, store: Store) -> None:
        spec = experiment.spec
        self.info = trial.describe(spec.task, spec.training)
        self.store = store
        super().__init__(lambda job: {}, self.info)

    def poll(self, timeout: float | None) -> Sequence[Event]:
        if not self._jobs:
            return ()
        asked = self._jobs.popleft()
        return (Finished(asked.trial, trial.run(asked, self.store)),)


def found_by(member: str, data: str, seed: int, epochs: int) -> tuple[Architecture, int]:
    """The architecture that a search found, and the sample passes of the search itself."""
    spec: dict[str, Any] = {
        "task": task(data),
        "training": TRAINING,
        "objective": {"metric": "val_loss"},
        "space": SPACE,
        "strategy": MEMBERS.get(member, {"type": "Random"}),
        "estimation": {"type": "Full"},
        "budget": {"trials": TRIALS},
        "control": {"share": 0},
        "finalists": {"count": 1, "epochs": 1},
        "seed": seed,
    }
    if member != RANDOM:
        shared: dict[str, Any] = {"epochs": epochs, "candidates": 100}
        if member in SAMPLING:
            shared["sampling"] = SAMPLING[member]
        spec |= {
            "estimation": {"type": "OneShot", "oneShot": shared},
            "budget": {"epochs": 10_000},
        }
    experiment = NASExperiment.model_validate(
        {
            "apiVersion": "kinase.dev/v1alpha1",
            "kind": "NASExperiment",
            "metadata": {"name": "bench"},
            "spec": spec,
        }
    )
    store = MemoryStore()
    engine = InProcess(experiment, store)
    loop = Loop(experiment, store, engine, engine.info)
    state = loop.run()
    assert loop.best is not None
    searched = [t for t in state.trials.values() if t.kind not in (Kind.FINAL, Kind.BASELINE)]
    return loop.best.architecture, sum(t.cost.samples for t in searched)


def cost(options: argparse.Namespace) -> None:
    """What searches find for a tenth of random search's sample passes: networks trained alone
    afterwards, against those of random search with the same seed."""
    trained = Trained(options.trained, options.data)
    random: list[tuple[dict[str, float], int]] = []
    for member in [RANDOM, *(options.methods or MEMBERS)]:
        rows = []
        for seed in range(options.seeds):
            # of a member whose step passes more samples, fewer epochs
            epochs = options.epochs
            if member in PASSES:
                epochs = round(epochs / PASSES[member])
            architecture, passes = found_by(member, options.data, seed, epochs)
            rows.append(({m: trained.mean(architecture, SEEDS, m) for m in METRICS}, passes))
        random = random or rows
        parts = []
        for metric in METRICS:
            found = [values[metric] for values, _ in rows]
            gains = [a - values[metric] for a, (values, _) in zip(found, random, strict=True)]
            as_good = sum(g <= 0 if metric == "val_loss" else g >= 0 for g in gains)
            spread = statistics.stdev(gains) / len(gains) ** 0.5 * T90[len(gains)]
            mean = statistics.fmean(gains)
            parts.append(
                f"{metric} {statistics.fmean(found):.4f} ({mean:+.4f}, {mean - spread:+.4f} to "
                f"{mean + spread:+.4f}; as good in {as_good} of {len(gains)})"
            )
        share = sum(p for _, p in rows) / sum(p for _, p in random)
        print(f"{member}: {share:.3f} of the passes; {'; '.join(parts)}", flush=True)


PASSES = {"DARTS, second order": 2.5}
"""Passes of an epoch relative to those of the others."""
T90 = {2: 6.314, 3: 2.920, 4: 2.353, 5: 2.132, 6: 2.015, 8: 1.895, 10: 1.833}
"""Student's t of a 90 % interval, by the number of pairs."""


def main() -> None:
    """Run a benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("rank", "cost"))
    parser.add_argument("--data", choices=DATA, default="digits")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--methods", nargs="*", choices=[*METHODS, *MEMBERS])
    parser.add_argument("--trained", type=Path, default=Path("trained.jsonl"))
    options = parser.parse_args()
    (rank if options.what == "rank" else cost)(options)


if __name__ == "__main__":
    main()
