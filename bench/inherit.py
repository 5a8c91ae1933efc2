"""How soon a child that inherits its parent's weights is as good as one trained from scratch.

    python -m bench.inherit --pairs 30 --epochs 30
    python -m bench.inherit --pairs 30 --epochs 30 --data fashion
    python -m bench.inherit --bridges 400

For each pair: a random chain is trained (the parent), and a mutation of it that
morphisms lead to is trained twice: from scratch for `--epochs`, and with the parent's weights for a
third, two thirds and all of them, the shortest first, each with its own cosine schedule. What
counts is the first epoch after which the child's accuracy on the validation part is that of the
child from scratch at its end.

The second counts the mutations and the neighbours of random architectures that morphisms lead to.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bench.fashion import DATA, SIDE, task_of
from kinase.api.space import Space as SpaceModel
from kinase.api.trial import Architecture, TrialJob, TrialResult
from kinase.morphism import dump_chain
from kinase.morphism.bridge import bridge
from kinase.morphism.widen import Growth
from kinase.space import Frame, InfeasibleError, Space, make_space
from kinase.store.memory import MemoryStore

SPACE: dict[str, Any] = {
    "type": "Chain",
    "chain": {
        "minDepth": 2,
        "maxDepth": 6,
        "ops": ["conv", "sepconv", "maxpool"],
        "widths": [8, 16, 32],
        "kernels": [3, 5],
        "strides": [1, 2],
    },
}
TRAINING: dict[str, Any] = {
    "batchSize": 64,
    "optimizer": {"type": "AdamW", "adamw": {"learningRate": 0.01, "weightDecay": 0.05}},
    "warmupEpochs": 1,
    "labelSmoothing": 0.05,
    "augmentation": {"crop": 1},
    "device": "cpu",
}
METRIC = "val_accuracy"
SPACES: dict[str, dict[str, Any]] = {
    "Chain": {"type": "Chain"},
    "Chain, skips": {"type": "Chain", "chain": {"skips": True}},
    "MultiBranch": {"type": "MultiBranch"},
    "Cell, nasbench201": {"type": "Cell", "cell": {"preset": "nasbench201"}},
    "Cell, darts": {
        "type": "Cell",
        "cell": {"preset": "darts", "search": {"cells": 3, "filters": 8}},
    },
}


def pair_of(
    space: Space, frame: Frame, seed: int, rule: Growth
) -> tuple[Architecture, Architecture, list[dict[str, Any]]]:
    """A parent that has a layer with weights, a child, and the way there."""
    rng = np.random.default_rng(seed)
    while True:
        parent = space.sample(rng)
        child = space.mutate(parent, rng)
        try:
            found = bridge(space, parent, child, frame, seed=seed, noise=0.01, rule=rule)
            space.graph(child, frame)
        except InfeasibleError:
            continue
        if found is not None and any(layer["op"] != "maxpool" for layer in parent["layers"]):
            return parent, child, dump_chain(found.morphisms)


def bridges(name: str, count: int) -> str:
    """The share of mutations, and of neighbours, of random architectures that have a way."""
    space = make_space(SpaceModel.model_validate(SPACES[name]))
    frame = Frame((3, 32, 32), 10, space.scale(final=False))
    rng = np.random.default_rng(0)
    found, seconds, done = [0, 0], 0.0, 0
    while done < count:
        parent = space.sample(rng)
        children = space.mutate(parent, rng), space.any_neighbour(parent, rng)
        try:
            for each in (parent, *children):
                space.graph(each, frame)
        except InfeasibleError:
            continue
        done += 1
        for place, child in enumerate(children):
            began = time.perf_counter()
            found[place] += bridge(space, parent, child, frame) is not None
            seconds += time.perf_counter() - began
    shares = f"mutations {found[0] / count:.1%}, neighbours {found[1] / count:.1%}"
    return f"{name}: {shares}; {1000 * seconds / (2 * count):.1f} ms each"


def measure(
    seed: int, epochs: int, factor: float, share: float, rule: Growth, task: dict[str, Any]
) -> dict[str, Any]:
    """One pair."""
    import torch

    from kinase_trainer import trial

    torch.set_num_threads(1)
    side = 8 if task["dataset"] == "digits" else SIDE
    space = make_space(SpaceModel.model_validate(SPACE))
    parent, child, morphisms = pair_of(space, Frame((1, side, side), 10), seed, rule)
    store = MemoryStore()

    def train(number: int, architecture: Architecture, length: int, **more: Any) -> TrialResult:
        document = {
            "experiment": "inherit",
            "trial": number,
            "task": task,
            "training": {**TRAINING, "epochs": length},
            "space": SPACE,
            "architecture": architecture,
            "fidelity": {"epochs": length, "dataFraction": share},
            "seed": 10 * seed + number,
            "prefix": f"trials/{number:05d}",
            "keepWeights": True,
            **more,
        }
        return trial.run(TrialJob.model_validate(document), store)

    first = train(0, parent, epochs)
    anew = train(1, child, epochs)
    goal = anew.metrics.get(METRIC, 0.0)
    inherit = {
        "ancestors": [
            {
                "trial": 0,
                "prefix": "trials/00000",
                "architecture": parent,
                "morphisms": morphisms,
            }
        ],
        "learningRateFactor": factor,
    }
    reached, ends = None, []
    for part, length in enumerate((-(-epochs // 3), -(-2 * epochs // 3), epochs)):
        result = train(2 + part, child, length, inherit=inherit)
        assert result.inherited is not None
        assert result.inherited.trial == 0
        ends.append(result.metrics.get(METRIC, 0.0))
        good = [p.epoch for p in result.curve if p.metrics.get(METRIC, 0.0) >= goal]
        if good:
            reached = good[0]
            break
    return {
        "seed": seed,
        "ops": sorted({m["op"] for m in morphisms}),
        "parent": first.metrics.get(METRIC),
        "scratch": goal,
        "third": ends[0],
        "reached": reached,
    }


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--data", default="digits", choices=DATA)
    parser.add_argument("--share", type=float, default=1.0, help="of the training part")
    parser.add_argument("--factor", type=float, default=1.0, help="on a child's learning rate")
    parser.add_argument("--rule", default="zero", choices=get_args(Growth), help="of new units")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", help="a file for the single pairs")
    parser.add_argument("--bridges", type=int, help="count ways in each space instead")
    options = parser.parse_args()
    if options.bridges:
        for name in SPACES:
            print(bridges(name, options.bridges), flush=True)
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool,
    ):
        task = task_of(options.data, Path(folder))
        jobs = [
            pool.submit(
                measure,
                seed,
                options.epochs,
                options.factor,
                options.share,
                options.rule,
                task,
            )
            for seed in range(options.pairs)
        ]
        pairs = []
        for job in jobs:
            pairs.append(job.result())
            print(json.dumps(pairs[-1]), flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(pairs, file, indent=1)
    shares = [p["reached"] / options.epochs if p["reached"] else float("inf") for p in pairs]
    low, middle, high = statistics.quantiles(shares, n=4)
    gains = [p["third"] - p["scratch"] for p in pairs]
    within = sum(share <= 1 / 3 for share in shares)
    print(f"{len(pairs)} pairs, {options.epochs} epochs, learning rate x {options.factor:g}")
    print(f"share of the epochs: median {middle:.2f}, quartiles {low:.2f} to {high:.2f}")
    print(f"within a third: {within}; never: {sum(share > 1 for share in shares)}")
    print(f"after a third against scratch: median {statistics.median(gains):+.4f}")


if __name__ == "__main__":
    main()
