"""Searches by inheritance against searches that train every candidate from scratch.

    python -m bench.compare --data digits --seeds 5
    python -m bench.compare --data fashion --seeds 5

Every method has the same space, the same training, and the same number of epochs over the same
samples, finalists left out; methods are compared seed by seed.
What is printed: the best accuracy on the validation part after each tenth of the budget, and the
share of the budget after which a method is as good as random search is at its end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.fashion import DATA, task_of
from kinase.api import NASExperiment
from kinase.api.trial import Kind
from kinase.experiment.local import run

SPACE: dict[str, Any] = {
    "minDepth": 2,
    "maxDepth": 5,
    "ops": ["conv", "maxpool"],
    "widths": [4, 8, 16, 24],
    "kernels": [3],
    "strides": [1, 2],
}
EPOCHS = 15
"""Of a training from scratch; a child that inherits has a third."""
INHERIT: dict[str, Any] = {"type": "Morphism", "morphism": {"epochsPerChild": EPOCHS // 3}}
APPROXIMATE: dict[str, Any] = {
    "type": "Morphism",
    "morphism": {"epochsPerChild": EPOCHS // 3, "approximate": True, "distilEpochs": 2},
}
FULL: dict[str, Any] = {"type": "Full"}
EVOLUTION: dict[str, Any] = {
    "type": "Evolution",
    "evolution": {"population": 10, "sample": 3},
}
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "random": ({"type": "Random"}, FULL),
    "evolution": (EVOLUTION, FULL),
    "evolution, inherited": (EVOLUTION, INHERIT),
    "NASH": ({"type": "NASH", "nash": {"initial": 2, "start": "small"}}, INHERIT),
    "NASH, 2 edits": (
        {"type": "NASH", "nash": {"initial": 2, "start": "small", "morphisms": 2}},
        INHERIT,
    ),
    "LEMONADE": (
        {"type": "LEMONADE", "lemonade": {"initial": 2, "children": 40, "accepted": 8}},
        APPROXIMATE,
    ),
}


def manifest(method: str, seed: int, epochs: int, task: dict[str, Any], folder: str) -> Any:
    """One search; its finalist is there because there must be one, and is not counted."""
    strategy, estimation = METHODS[method]
    objective: dict[str, Any] = {"metric": "val_accuracy", "goal": "maximize"}
    if strategy["type"] == "LEMONADE":
        objective["also"] = [{"metric": "params", "goal": "minimize"}]
    return NASExperiment.model_validate(
        {
            "apiVersion": "kinase.dev/v1alpha1",
            "kind": "NASExperiment",
            "metadata": {"name": "search"},
            "spec": {
                "seed": seed,
                "task": task,
                "training": {
                    "epochs": EPOCHS,
                    "batchSize": 64,
                    "optimizer": {
                        "type": "AdamW",
                        "adamw": {"learningRate": 0.01, "weightDecay": 0.05},
                    },
                    "warmupEpochs": 1,
                    "labelSmoothing": 0.05,
                    "augmentation": {"crop": 1},
                    "device": "cpu",
                },
                "objective": objective,
                "space": {"type": "Chain", "chain": SPACE},
                "strategy": strategy,
                "estimation": estimation,
                "budget": {"epochs": epochs + 1, "parallelism": 1},
                "control": {"share": 0},
                "finalists": {"count": 1, "epochs": 1},
                "storage": {"uri": f"file://{folder}"},
            },
        }
    )


def stay(cores: Any) -> None:
    """Keep this process, and its trainer, on one core: each would take all for its threads."""
    os.sched_setaffinity(0, {cores.get()})


def curve(method: str, seed: int, epochs: int, task: dict[str, Any]) -> list[tuple[int, float]]:
    """(epochs spent, best accuracy so far) after each trial."""
    with tempfile.TemporaryDirectory() as folder:
        state = run(manifest(method, seed, epochs, task, folder)).state
    spent, best, points = 0, 0.0, []
    for trial in state.told:
        if trial.kind is Kind.SEARCH:
            spent += trial.cost.epochs
            best = max(best, trial.metrics.get("val_accuracy", 0.0))
            points.append((spent, best))
    return points


def at(points: list[tuple[int, float]], epochs: float) -> float:
    """The best accuracy when so many epochs were spent."""
    return max((value for spent, value in points if spent <= epochs), default=0.0)


def until(points: list[tuple[int, float]], goal: float) -> float:
    """The epochs after which a search is as good as that."""
    return next((spent for spent, value in points if value >= goal), float("inf"))


def main() -> None:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="digits", choices=DATA)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", help="a file for the curves")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        task = task_of(options.data, Path(folder))
        curves: dict[str, list[list[tuple[int, float]]]] = {}
        context = get_context("spawn")
        cores = context.Queue()
        for core in itertools.islice(
            itertools.cycle(sorted(os.sched_getaffinity(0))), options.processes
        ):
            cores.put(core)
        with ProcessPoolExecutor(
            options.processes, context, initializer=stay, initargs=(cores,)
        ) as pool:
            jobs = {
                (method, seed): pool.submit(curve, method, seed, options.epochs, task)
                for seed in range(options.seeds)
                for method in options.methods
            }
            for (method, seed), job in jobs.items():
                curves.setdefault(method, []).append(job.result())
                print(f"{method}, seed {seed}: {curves[method][-1][-1]}", flush=True)
                if options.json:
                    Path(options.json).write_text(json.dumps(curves))
    show(curves, options.epochs)


def show(curves: dict[str, list[list[tuple[int, float]]]], epochs: int) -> None:
    """Anytime accuracy, and the cost of what random search has at its end."""
    parts = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    print(f"\nmedian of {len(next(iter(curves.values())))} seeds, {epochs} epochs")
    print(f"{'':22}" + "".join(f"{part:>8.0%}" for part in parts) + "   as random: median, all")
    for method, runs in curves.items():
        row = "".join(
            f"{statistics.median(at(points, part * epochs) for points in runs):8.4f}"
            for part in parts
        )
        costs = []
        if "random" in curves:
            goals = [at(points, epochs) for points in curves["random"]]
            costs = [until(run, goal) / epochs for run, goal in zip(runs, goals, strict=True)]
        shown = ", ".join(f"{cost:.2f}" for cost in costs)
        middle = f"{statistics.median(costs):.2f}" if costs else ""
        print(f"{method:22}{row}   {middle}: {shown}")


if __name__ == "__main__":
    main()
