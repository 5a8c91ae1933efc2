"""Searches with real training, Kinase's and those of Optuna and NePS, at the same cost.

    uv venv .venv-peers
    uv pip install --python .venv-peers --group peers --editable '.[trainer,report,curves]'
    .venv-peers/bin/python -m bench.peers --data digits --seeds 5
    .venv-peers/bin/python -m bench.peers --data digits --table

Every search has the same space, training, split and number of epochs, one trial at a time; the
trainer is called in this process, with one thread. Every epoch that is begun is charged, also of a
training that diverges, which measures 0. A network that cannot be built costs nothing and is
reported as a failure. The result of a search after a share of its epochs is the best value that any
of its networks had after any of those epochs. At the end that network is retrained in full, with
another seed, and scored on the test part.

A row of the results is one search. Rows that are there are not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from bench.compare import EPOCHS, EVOLUTION, INHERIT, LADDER, SPACE, manifest
from bench.fashion import DATA, whole_test
from bench.spending import TEST, InProcess, Purse, Spent, Trainings
from kinase.api.trial import Architecture
from kinase.experiment.loop import Loop
from kinase.store.memory import MemoryStore

SHARES = (0.25, 0.5, 1.0)
RESULTS = Path(__file__).parent / "data" / "peers.jsonl"
STRATEGIES: dict[str, dict[str, Any]] = {
    "Random": {"type": "Random"},
    "LocalSearch": {"type": "LocalSearch"},
    "Evolution": EVOLUTION,
    "NASH": {"type": "NASH", "nash": {"initial": 2, "start": "small", "neighbours": 4}},
    "NASH4": {"type": "NASH", "nash": {"initial": 4, "start": "small", "neighbours": 4}},
}
ESTIMATIONS: dict[str, dict[str, Any]] = {
    "Full": {"type": "Full"},
    "LowerFidelity": {"type": "LowerFidelity", "lowerFidelity": {"epochs": 4}},
    "ASHA": {"type": "ASHA"},
    "SuccessiveHalving": {"type": "SuccessiveHalving"},
    "Hyperband": {"type": "Hyperband"},
    "Morphism": INHERIT,
    "ASHA, inherited": LADDER,
}
GROWING = {"NASH": ("Morphism",), "NASH4": ("ASHA, inherited",)}
"""Strategies whose children inherit, and their estimations."""

FROM_SCRATCH = tuple(name for name in ESTIMATIONS if "inherit" not in name and name != "Morphism")

Search = Callable[[Purse, int], None]


def ours(strategy: str, estimation: str, purse: Purse, seed: int) -> None:
    """A search of Kinase. It must have a finalist, which gets one more epoch."""
    parts = STRATEGIES[strategy], ESTIMATIONS[estimation]
    experiment = manifest(*parts, seed, purse.epochs, purse.task, "/nowhere")
    store = MemoryStore()
    engine = InProcess(purse, store)
    info = engine.describe(experiment.spec.task, experiment.spec.training)
    Loop(experiment, store, engine, info).run()


def layer(choose: Callable[[str, tuple[Any, ...]], Any], index: int) -> dict[str, Any]:
    """One layer of a chain, by choices that have names."""
    name = f"layer{index}"
    op = choose(f"{name}.op", tuple(SPACE["ops"]))
    found = {"op": op, "kernel": 3, "stride": choose(f"{name}.stride", tuple(SPACE["strides"]))}
    return found | (
        {"width": choose(f"{name}.width", tuple(SPACE["widths"]))} if op == "conv" else {}
    )


def chain(choose: Callable[[str, tuple[Any, ...]], Any]) -> Architecture:
    """A chain: its depth, then each layer. What a smaller one does not have is not asked for."""
    depth = choose("depth", tuple(range(SPACE["minDepth"], SPACE["maxDepth"] + 1)))
    return {"layers": [layer(choose, index) for index in range(depth)]}


def optuna_tpe(pruned: bool, purse: Purse, seed: int) -> None:
    """Optuna's TPE by default, or with its pruner by Hyperband over the same epochs. It stops
    trials and continues none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = (
        optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3)
        if pruned
        else optuna.pruners.NopPruner()
    )
    sampler = optuna.samplers.TPESampler(seed=seed)
    name = f"seed-{seed}"  # the pruner draws a trial's bracket by it
    study = optuna.create_study(
        direction="maximize", sampler=sampler, pruner=pruner, study_name=name
    )

    def objective(trial: Any) -> float:
        architecture = chain(lambda name, values: trial.suggest_categorical(name, values))
        best = 0.0
        for epoch in range(EPOCHS):
            values = purse.train(trial.number, architecture, epoch + 1, epoch)
            if not values:
                raise ValueError("the network cannot be built")
            best = values[-1]
            trial.report(best, epoch + 1)
            if pruned and epoch + 1 < EPOCHS and trial.should_prune():
                raise optuna.TrialPruned
        return best

    try:
        study.optimize(objective, n_trials=None, catch=(ValueError,))
    except Spent:
        return


def _chosen(config: dict[str, Any], choice: str, values: tuple[Any, ...]) -> Any:
    return config[choice.replace(".", "_")]


def neps(name: str, purse: Purse, seed: int) -> None:
    """NePS' Hyperband or PriorBand, with trials that continue from their checkpoints. PriorBand's
    prior is a network that one would try first: four convolutions of 16 channels."""
    import neps as library

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    usual = {"op": "conv", "width": 16, "stride": 1}
    options: dict[str, tuple[Any, ...]] = {
        "depth": tuple(range(SPACE["minDepth"], SPACE["maxDepth"] + 1))
    }
    prior: dict[str, Any] = {"depth": 4}
    for index in range(SPACE["maxDepth"]):
        for field, values in (("op", "ops"), ("width", "widths"), ("stride", "strides")):
            options[f"layer{index}.{field}"] = tuple(SPACE[values])
            prior[f"layer{index}.{field}"] = usual[field]
    believed: dict[str, Any] = {"prior_confidence": "medium"} if name == "priorband" else {}

    def parameter(choice: str) -> Any:
        values = options[choice]
        if not believed:
            return library.Categorical(choices=values)
        return library.Categorical(choices=values, prior=values.index(prior[choice]), **believed)

    fields = {choice.replace(".", "_"): parameter(choice) for choice in options}
    fields["epochs"] = library.IntegerFidelity(lower=1, upper=EPOCHS)
    space = type("Chains", (library.PipelineSpace,), fields)()
    optimizer = library.AskAndTell(getattr(library.algorithms, name)(space))
    done: dict[str, int] = {}
    try:
        while True:
            trial = optimizer.ask()
            config = trial.config
            number, until = int(trial.id.partition("_")[0]), int(config["epochs"])
            architecture = chain(partial(_chosen, config))
            before = done.get(str(number), 0)
            values = purse.train(number, architecture, until, before)
            done[str(number)] = until if values else before
            optimizer.tell(trial, 1.0 - values[-1] if values else 1.0)
    except Spent:
        return


PEERS: dict[str, Search] = {
    "Optuna TPE": partial(optuna_tpe, False),
    "Optuna TPE, Hyperband": partial(optuna_tpe, True),
    "NePS Hyperband": partial(neps, "hyperband"),
    "NePS PriorBand": partial(neps, "priorband"),
}
OURS: dict[str, Search] = {
    f"{strategy}, {estimation}": partial(ours, strategy, estimation)
    for strategy in STRATEGIES
    for estimation in ESTIMATIONS
    if estimation in GROWING.get(strategy, FROM_SCRATCH)
}
METHODS = PEERS | OURS


def search(
    data: str, method: str, seed: int, epochs: int, task: dict[str, Any], trainings: Trainings
) -> dict[str, Any]:
    """One search as a row of the results."""
    experiment = manifest({"type": "Random"}, {"type": "Full"}, seed, epochs, task, "/nowhere")
    purse = Purse(experiment, epochs, trainings, task)
    began = time.perf_counter()
    METHODS[method](purse, seed)
    incumbent = purse.incumbent()
    measured = purse.test(incumbent.architecture)
    return {
        "data": data,
        "method": method,
        "seed": seed,
        "budget": epochs,
        "epochs": len(purse.seen),
        "networks": len({seen.number for seen in purse.seen}),
        "validation": [round(purse.best(share), 5) for share in SHARES],
        "retrained": round(measured.get("val_accuracy", 0.0), 5),
        "test": round(measured.get(TEST, 0.0), 5),
        "incumbent epochs": incumbent.epochs,
        "seconds": round(time.perf_counter() - began, 1),
        "architecture": incumbent.architecture,
    }


def rows(path: Path) -> list[dict[str, Any]]:
    """The results so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(found: list[dict[str, Any]], against: list[str]) -> None:
    """Medians and means, and wins of each method over others by seed, with the interval of 95 %
    of their share (Wilson 1927). Ties are no wins."""
    columns: list[tuple[str, Callable[[dict[str, Any]], float]]] = [
        (f"{share:.0%}", lambda row, at=at: float(row["validation"][at]))  # type: ignore[misc]
        for at, share in enumerate(SHARES)
    ]
    columns.append(("test", lambda row: float(row["test"])))
    methods: dict[str, dict[int, dict[str, Any]]] = {}
    for row in found:
        methods.setdefault(row["method"], {})[row["seed"]] = row
    heads = " | ".join(f"{name}: median, mean" for name, _ in columns)
    print(f"| method | seeds | networks | {heads} |")
    print("| --- " * (3 + len(columns)) + "|")
    for method, seeded in methods.items():
        cells = []
        for _, of in columns:
            values = [of(row) for row in seeded.values()]
            cells.append(f"{statistics.median(values):.4f}, {statistics.fmean(values):.4f}")
        networks = statistics.median(row["networks"] for row in seeded.values())
        print(f"| {method} | {len(seeded)} | {networks:g} | {' | '.join(cells)} |")
    print(f"\n| method | better than | seeds | {' | '.join(name for name, _ in columns)} |")
    print("| --- " * (3 + len(columns)) + "|")
    for method in (each for each in methods if each not in against):
        for other in against:
            paired = sorted(set(methods[method]) & set(methods.get(other, {})))
            if not paired:
                continue
            cells = []
            for _, of in columns:
                pairs = [(of(methods[method][seed]), of(methods[other][seed])) for seed in paired]
                wins = sum(one > two for one, two in pairs)
                ties = sum(one == two for one, two in pairs)
                share = binomtest(wins, len(pairs)).proportion_ci(method="wilson")
                cells.append(f"{wins} ({ties} equal), {share.low:.2f} to {share.high:.2f}")
            print(f"| {method} | {other} | {len(paired)} | {' | '.join(cells)} |")


def main() -> None:
    """Search, or print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="digits", choices=DATA)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="of the seeds")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no search after")
    parser.add_argument("--table", action="store_true", help="print the results that are there")
    parser.add_argument("--against", nargs="+", default=list(PEERS), choices=METHODS)
    options = parser.parse_args()
    done = [
        row
        for row in rows(options.results)
        if row["data"] == options.data and row["budget"] == options.epochs
    ]
    if options.table:
        table([row for row in done if row["method"] in options.methods], options.against)
        return
    torch.set_num_threads(1)
    there = {(row["method"], row["seed"]) for row in done}
    began, trainings = time.monotonic(), Trainings()
    with tempfile.TemporaryDirectory() as name:
        task: dict[str, Any] = {"dataset": "digits"}
        if options.data == "fashion":
            task = {"dataset": "npz", "path": str(whole_test(Path(name)))}
        for seed in range(options.first, options.first + options.seeds):
            trainings.clear()
            for method in options.methods:
                if (method, seed) in there or time.monotonic() - began > 60 * options.minutes:
                    continue
                row = search(options.data, method, seed, options.epochs, task, trainings)
                with options.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps({k: v for k, v in row.items() if k != "architecture"}), flush=True)


if __name__ == "__main__":
    main()
