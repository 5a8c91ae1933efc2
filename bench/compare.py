"""Searches by inheritance against searches that train every candidate from scratch.

    python -m bench.compare --data digits --seeds 5 --report digits.html
    python -m bench.compare --data fashion --seeds 5

Every method has the same space, the same training, and the same number of epochs over the same
samples, finalists left out; methods are compared seed by seed.
What is printed: the best accuracy on the validation part after shares of the budget, and the share
of it after which a method is as good as random search of the same seed is at its end. The page has
the curves.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.fashion import DATA, task_of
from kinase.api import NASExperiment
from kinase.api.trial import Kind
from kinase.experiment.entries import AnyEntry, Asked, Rested, Told
from kinase.experiment.local import run
from kinase.morphism import KINDS
from kinase.report import ReportData, render_comparison
from kinase.report.anytime import Curve, middle, reach
from kinase.report.control import valued
from kinase.report.gather import gather
from kinase.report.versus import PARTS

SPACE: dict[str, Any] = {
    "minDepth": 2,
    "maxDepth": 5,
    "ops": ["conv", "maxpool"],
    "widths": [4, 8, 16, 24],
    "kernels": [3],
    "strides": [1, 2],
}
METRIC = "val_accuracy"
PARAMS = (500, 1000, 2000, 4000, 8000)
EPOCHS = 15
"""Of a training from scratch; a child that inherits has a third."""
INHERIT: dict[str, Any] = {"type": "Morphism", "morphism": {"epochsPerChild": EPOCHS // 3}}
APPROXIMATE: dict[str, Any] = {
    "type": "Morphism",
    "morphism": {"epochsPerChild": EPOCHS // 3, "approximate": True, "distilEpochs": 1},
}
FULL: dict[str, Any] = {"type": "Full"}
LADDER: dict[str, Any] = {"type": "ASHA", "inherit": {"epochsPerChild": EPOCHS // 3}}
EVOLUTION: dict[str, Any] = {
    "type": "Evolution",
    "evolution": {"population": 10, "sample": 3},
}
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "random": ({"type": "Random"}, FULL),
    "evolution": (EVOLUTION, FULL),
    "evolution, inherited": (EVOLUTION, INHERIT),
    "NASH": ({"type": "NASH", "nash": {"initial": 2, "start": "small", "neighbours": 4}}, INHERIT),
    "evolution, ASHA": (EVOLUTION, {"type": "ASHA"}),
    "evolution, inherited, ASHA": (EVOLUTION, LADDER),
    "NASH, ASHA": (
        {"type": "NASH", "nash": {"initial": 3, "start": "small", "neighbours": 4}},
        LADDER,
    ),
    "LEMONADE": (
        {"type": "LEMONADE", "lemonade": {"initial": 2, "children": 20, "accepted": 4}},
        APPROXIMATE,
    ),
}


def manifest(
    strategy: dict[str, Any],
    estimation: dict[str, Any],
    seed: int,
    epochs: int,
    task: dict[str, Any],
    folder: str,
) -> NASExperiment:
    """One search; its finalist is there because there must be one, and is not counted."""
    objective: dict[str, Any] = {"metric": METRIC, "goal": "maximize"}
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


def search(
    method: str, seed: int, epochs: int, task: dict[str, Any]
) -> tuple[ReportData, Curve, Counter[str]]:
    """One search: as the report sees it, its best value over the epochs, and what its children
    began with."""
    with tempfile.TemporaryDirectory() as folder:
        done = run(manifest(*METHODS[method], seed, epochs, task, folder))
        return gather(done), anytime(done.journal.replay()), beginnings(done.journal.replay())


def anytime(entries: Iterable[AnyEntry]) -> Curve:
    """The best accuracy after so many epochs of the search, the values of trials that rest
    included."""
    searched: set[int] = set()
    spent: dict[int, int] = {}
    xs, ys = list[float](), list[float]()
    for entry in entries:
        if isinstance(entry, Asked) and entry.kind is Kind.SEARCH:
            searched.add(entry.trial)
        if isinstance(entry, Rested | Told) and entry.trial in searched:
            spent[entry.trial] = entry.cost.epochs
            value = entry.metrics.get(METRIC, -math.inf)
            if value > (ys[-1] if ys else -math.inf):
                xs.append(sum(spent.values()))
                ys.append(value)
    return Curve(tuple(xs), tuple(ys), sum(spent.values()), 1.0)


def beginnings(entries: Iterable[AnyEntry]) -> Counter[str]:
    """What the trials of a search began with."""
    found = Counter[str]()
    for entry in entries:
        if isinstance(entry, Asked) and entry.kind is Kind.SEARCH:
            found[_beginning(entry)] += 1
    return found


def _beginning(entry: Asked) -> str:
    if entry.inherit is None:
        return "scratch"
    morphisms = entry.inherit.ancestors[0].morphisms
    if morphisms is None:
        return "matching"
    if not morphisms:
        return "continued"
    exact = all(KINDS[each["op"]].exact for each in morphisms)
    return "exact" if exact else "approximate"


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="digits", choices=DATA)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="of the seeds")
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--parts", type=float, nargs="+", default=PARTS, help="of the budget")
    parser.add_argument("--report", type=Path, help="a file for the page with all curves")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        task = task_of(options.data, Path(folder))
        context = get_context("spawn")
        cores = context.Queue()
        for core in itertools.islice(
            itertools.cycle(sorted(os.sched_getaffinity(0))), options.processes
        ):
            cores.put(core)
        with ProcessPoolExecutor(
            options.processes, context, initializer=stay, initargs=(cores,)
        ) as pool:
            jobs = [
                (method, seed, pool.submit(search, method, seed, options.epochs, task))
                for seed in range(options.first, options.first + options.seeds)
                for method in options.methods
            ]
            runs = []
            curves: dict[str, list[tuple[int, Curve]]] = {}
            for method, seed, job in jobs:
                data, found, begun = job.result()
                runs.append((method, data))
                curves.setdefault(method, []).append((seed, found))
                counts = ", ".join(f"{count} {what}" for what, count in sorted(begun.items()))
                print(f"{method}, seed {seed}: {found.final}; {counts}", flush=True)
                if options.report and len(runs) > 1:
                    options.report.write_text(render_comparison(runs))
    show(curves, options.epochs, options.parts)
    fronts(runs)


def show(curves: dict[str, list[tuple[int, Curve]]], epochs: int, parts: Sequence[float]) -> None:
    """Anytime accuracy, and the cost of what random search has at its end."""
    print(f"\nmedian of {len(next(iter(curves.values())))} seeds, {epochs} epochs")
    print(f"{'':22}" + "".join(f"{part:>8.0%}" for part in parts) + "   as random: median, all")
    for method, seeded in curves.items():
        row = [middle([each.at(part * epochs) for _, each in seeded]) for part in parts]
        found = reach(seeded, curves.get("random", []))
        shares = (found.median, *found.shares)
        for seed, each in seeded:
            values = (each.at(part * epochs) or 0 for part in parts)
            print(f"  seed {seed:<15}" + "".join(f"{value:8.4f}" for value in values))
        print(
            f"{method:22}"
            + "".join(f"{value or 0:8.4f}" for value in row)
            + "   "
            + ", ".join("never" if share is None else f"{share:.2f}" for share in shares)
        )


def fronts(runs: list[tuple[str, ReportData]]) -> None:
    """The best accuracy of small networks, which is what LEMONADE looks for as well."""
    print("\nmedian of the best accuracy at the end, with at most so many parameters")
    print(f"{'':22}" + "".join(f"{most:>8,}" for most in PARAMS))
    methods = dict.fromkeys(method for method, _ in runs)
    for method in methods:
        best = [
            middle([_best(data, most) for each, data in runs if each == method]) for most in PARAMS
        ]
        print(f"{method:22}" + "".join(f"{value or 0:8.4f}" for value in best))


def _best(data: ReportData, most: int) -> float | None:
    found = (v for t, v in valued(data, Kind.SEARCH) if t.metrics["params"] <= most)
    return max(found, default=None)


if __name__ == "__main__":
    main()
