"""Regret of the strategies on NAS-Bench-201, through the very loop of a run.

    python -m bench.nasbench201 --seeds 500
    python -m bench.nasbench201 --seeds 200 --populations
    python -m bench.nasbench201 --seeds 500 --rungs
    python -m bench.nasbench201 --seeds 100 --others
    python -m bench.nasbench201 --seeds 100 --compared
    python -m bench.nasbench201 --seeds 100 --screened

Every search is a separate experiment: the manifest's strategy, the loop with its journal (in
memory) and its budget, and an engine that looks results up in the table. Seeds are paired: all
methods see the same ones. Regret is what the best possible validation accuracy after 200 epochs
(91.57) exceeds that of the cell that the search returns by, in points.

`random, isomorphic cells apart` checks the harness: it draws cell strings without replacement, of
which the exact expectation is known (`expected_regret`, 0.71). Kinase's own `random` tries each
isomorphism class once, and so sees more different cells in as many trials.

`local search, 12 epochs` evaluates 200 cells by their accuracy after 12 epochs, then trains the
best 5 for 200 epochs and returns the best of these: a cost of 200 x 12 / 200 + 5 = 17 full
trainings.

With `--rungs`, a search has two rungs, trainings of 12 and of 200 epochs each with its schedule,
and a budget of 10 or 17 full trainings, in which what is trained at 200 epochs counts as 200: the
second one is a training from scratch, and so costs 212 in all. The finalist is the best of the
search, which has been trained in full, so it is not charged again.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from kinase.api import Kind, NASExperiment, TaskInfo, TrialJob
from kinase.engine.tabular import TabularEngine
from kinase.experiment.loop import Loop
from kinase.history import History
from kinase.report.control import expected_best
from kinase.space import Frame, make_space
from kinase.space.cell import Cell
from kinase.space.nasbench201 import from_nasbench201, to_nasbench201
from kinase.store.memory import MemoryStore

DATA = Path(__file__).parent / "data" / "nasbench201-cifar10.csv"
FULL = 200
INFO = TaskInfo(
    input=(3, 32, 32),
    outputs=10,
    train=25_000,
    validation=25_000,
    test=10_000,
    metrics=("val_accuracy",),
    device="table",
    supports=("until", "measure"),
)
FRAME = Frame(INFO.input, INFO.outputs)


@dataclass(frozen=True)
class Method:
    """What is compared: a strategy and what it may spend."""

    name: str
    strategy: dict[str, Any]
    trials: int
    epochs: int = FULL
    finalists: int = 1
    isomorphic: bool = True
    """Whether isomorphic cells count as one, as they do in Kinase."""
    slots: int = 1
    """Trials at once."""
    eta: int = 0
    """Of a scheduler over 12 and 200 epochs; 0: one fidelity."""
    scheduler: str = "ASHA"
    """Its type."""
    promote: str = "soon"
    """When ASHA promotes."""
    compared: str = "scale"
    """What strategies compare trials of both rungs by: all on one `scale`, as in Kinase, their
    `latest` values, or those of the `first` rung."""
    initial: int = 0
    """Candidates of a bracket of synchronous halving; 0: asynchronous."""
    cost: int = 0
    """Budget in full trainings, instead of trials."""
    pool: int = 1
    """Candidates of which the one with most parameters is trained."""
    first: int | None = None
    """Pools at the beginning of a search, after which there are none; None: all the time."""


METHODS = (
    Method("random, isomorphic cells apart", {"type": "Random"}, 150, isomorphic=False),
    Method("random", {"type": "Random"}, 150),
    Method(
        "evolution",
        {"type": "Evolution", "evolution": {"population": 30, "sample": 10}},
        150,
    ),
    Method("local search", {"type": "LocalSearch"}, 150),
    Method("local search, 16 at once", {"type": "LocalSearch"}, 150, slots=16),
    Method("local search, 12 epochs", {"type": "LocalSearch"}, 200, epochs=12, finalists=5),
)

POPULATIONS = tuple(
    Method(f"evolution, {trials} trials, {name}", {"type": "Evolution", "evolution": sizes}, trials)
    for trials in (40, 80, 120, 240, 400)
    for name, sizes in (
        ("default", {}),
        ("100 and 25", {"population": 100, "sample": 25}),
        ("30 and 10", {"population": 30, "sample": 10}),
    )
)
"""Evolution's default sizes, which follow the budget, against fixed ones."""


MEMBERS = (
    ("random", {"type": "Random"}),
    ("evolution", {"type": "Evolution"}),
    ("local search", {"type": "LocalSearch"}),
)
RUNGS = tuple(
    Method(
        f"cost {cost}, {name}, ASHA {promote}, eta {eta}",
        strategy,
        0,
        eta=eta,
        promote=promote,
        cost=cost,
    )
    for cost, promote, etas in (
        (17, "last", (40, 16, 4)),
        (10, "last", (24, 16, 4)),
        (17, "delayed", (40, 16, 4)),
        (10, "delayed", (24, 16, 4)),
        (17, "soon", (40, 16, 4)),
        (10, "soon", (24, 16, 4)),
    )
    for eta in etas
    for name, strategy in MEMBERS
) + tuple(
    Method(f"cost 17, {name}, halving of 200 to 5", strategy, 0, eta=40, cost=17, initial=200)
    for name, strategy in MEMBERS
)
OTHERS = tuple(
    Method(
        f"cost 17, {name}, {scheduler}, eta 40",
        strategy,
        0,
        eta=40,
        promote="delayed",
        cost=17,
        scheduler=scheduler,
    )
    for name, strategy, schedulers in (
        ("random", {"type": "Random"}, ("ASHA", "Hyperband", "AsyncHyperband")),
        ("BOHB", {"type": "BOHB"}, ("ASHA", "Hyperband", "AsyncHyperband")),
    )
    for scheduler in schedulers
)

COMPARED = tuple(
    Method(
        f"{name}, ASHA soon, eta 40, {compared}",
        strategy,
        0,
        eta=40,
        cost=17,
        compared=compared,
    )
    for name, strategy in MEMBERS[1:]
    for compared in ("latest", "scale", "first")
)


SCREENED = tuple(
    Method(f"{name}, {shown}, pool {pool}", strategy, 0, cost=cost, pool=pool, **options)
    for shown, cost, options in (
        ("40 trainings in full", 40, {}),
        ("ASHA last, eta 40, cost 17", 17, {"eta": 40, "promote": "last"}),
    )
    for name, strategy in MEMBERS
    for pool in (1, 2, 4, 8)
) + tuple(
    Method(
        f"{name}, 40 trainings in full, first {first} of a pool of 8",
        strategy,
        0,
        cost=40,
        pool=8,
        first=first,
    )
    for name, strategy in MEMBERS
    for first in (5, 10)
)


class Latest(History):
    """Strategies compare the latest values, whatever rung they are of."""

    def _rescale(self, rung: int) -> None:
        for trial in self.at(rung):
            if trial.usable_at(rung):
                trial.scale[rung] = trial.rungs[rung][0]
                if trial.losses and rung == trial.rung:
                    trial.losses = trial.rungs[rung]


class First(History):
    """Strategies compare the values at the first rung."""

    def _rescale(self, rung: int) -> None:
        for trial in self.at(rung):
            if trial.usable_at(rung):
                trial.scale[rung] = trial.rungs[0][0]


HISTORIES = {"scale": History, "latest": Latest, "first": First}


@lru_cache(maxsize=1)
def table() -> dict[str, dict[int, float]]:
    """Accuracy in percent by cell string and epochs."""
    with DATA.open() as stream:
        return {
            row["arch"]: {200: float(row["val_acc_200ep"]), 12: float(row["val_acc_12ep"])}
            for row in csv.DictReader(stream)
        }


@lru_cache(maxsize=1)
def best() -> float:
    """The best accuracy after the full training."""
    return max(row[FULL] for row in table().values())


def evaluate(job: TrialJob) -> dict[str, float]:
    """The table's answer to a trial."""
    text = to_nasbench201(job.architecture)
    if job.until == 0:
        return {"proxy_params": parameters(text)}
    return {"val_accuracy": table()[text][job.fidelity.epochs] / 100}


@cache
def parameters(text: str) -> float:
    """Parameters of a cell, in the benchmark's network."""
    return float(space(True).graph(from_nasbench201(text), FRAME).params())


def expected_regret(draws: int) -> float:
    """Exact expectation of the regret of `draws` cell strings without replacement."""
    values = sorted(row[FULL] for row in table().values())
    return values[-1] - expected_best(values, draws)


@lru_cache(maxsize=2)
def space(isomorphic: bool) -> Cell:
    """The space, which remembers the keys of its few cells."""
    model = manifest(METHODS[0], 0).spec.space
    made = make_space(model)
    assert isinstance(made, Cell)
    remembered: dict[str, str] = {}
    key = made.key if isomorphic else to_nasbench201

    def quick_key(architecture: dict[str, Any]) -> str:
        text = to_nasbench201(architecture)
        if text not in remembered:
            remembered[text] = key(architecture)
        return remembered[text]

    made.key = quick_key  # type: ignore[method-assign]
    return made


def manifest(method: Method, seed: int) -> NASExperiment:
    """The experiment of one method and seed."""
    budget = {"trials": method.trials}
    estimation: dict[str, Any] = {
        "type": "LowerFidelity",
        "lowerFidelity": {"epochs": method.epochs},
    }
    if method.eta:
        ladder = {"eta": method.eta, "rungs": [12], "horizon": "rung"}
        name = method.scheduler
        moment = {} if name == "Hyperband" else {"promote": method.promote}
        option = {"ASHA": "asha"}.get(name, name[0].lower() + name[1:])
        estimation = {"type": name, option: {**ladder, **moment}}
        if method.initial:
            halving = {**ladder, "initial": method.initial}
            estimation = {"type": "SuccessiveHalving", "successiveHalving": halving}
    if method.cost:
        budget = {"epochs": (method.cost + method.finalists) * FULL}
    if method.pool > 1:
        estimation["screen"] = {
            "pool": method.pool,
            "proxies": ["params"],
            "first": method.first,
        }
    return NASExperiment.model_validate(
        {
            "apiVersion": "kinase.dev/v1alpha1",
            "kind": "NASExperiment",
            "metadata": {"name": "nasbench201"},
            "spec": {
                "task": {"dataset": "cifar10"},
                "training": {"epochs": FULL},
                "space": {"type": "Cell", "cell": {"preset": "nasbench201"}},
                "strategy": method.strategy,
                "estimation": estimation,
                "budget": {**budget, "parallelism": method.slots},
                "finalists": {"count": method.finalists},
                "control": {"share": 0},
                "seed": seed,
            },
        }
    )


def search(method: Method, seed: int) -> tuple[float, float]:
    """Regret in points, and cost in full trainings, of one search.

    Where the search is at full fidelity already, its finalist is not charged again.
    """
    loop = Loop(
        manifest(method, seed),
        MemoryStore(),
        TabularEngine(evaluate, INFO, method.slots),
        INFO,
        space=space(method.isomorphic),
        appraise=lambda architecture: {},
        trainer_results=False,
    )
    loop.arms[Kind.SEARCH].history = HISTORIES[method.compared]()
    state = loop.run()
    assert state.finished is not None
    assert state.finished.winner is not None
    returned = state.trials[state.finished.winner]
    regret = best() - table()[to_nasbench201(returned.architecture)][FULL]
    epochs = sum(
        t.cost.epochs for t in state.told if t.kind is not Kind.FINAL or method.epochs < FULL
    )
    return regret, epochs / FULL


def run(method: Method, seeds: Iterable[int]) -> list[tuple[float, float]]:
    """All searches of a method."""
    return [search(method, seed) for seed in seeds]


def summary(results: list[tuple[float, float]]) -> dict[str, float]:
    """Mean regret with its standard error, and mean cost."""
    regrets = [regret for regret, _ in results]
    return {
        "mean regret": round(statistics.fmean(regrets), 3),
        "standard error": round(statistics.stdev(regrets) / math.sqrt(len(regrets)), 3),
        "median regret": round(statistics.median(regrets), 3),
        "full trainings": round(statistics.fmean(cost for _, cost in results), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", help="run the methods whose names begin so")
    parser.add_argument("--populations", action="store_true", help="evolution's sizes by budget")
    parser.add_argument("--rungs", action="store_true", help="two rungs, of 12 and 200 epochs")
    parser.add_argument("--others", action="store_true", help="Hyperband and BOHB on two rungs")
    parser.add_argument("--compared", action="store_true", help="what strategies compare then")
    parser.add_argument("--screened", action="store_true", help="pools of candidates")
    arguments = parser.parse_args()
    methods = POPULATIONS if arguments.populations else METHODS
    if arguments.rungs:
        methods = RUNGS
    if arguments.others:
        methods = OTHERS
    if arguments.compared:
        methods = COMPARED
    if arguments.screened:
        methods = SCREENED
    parts = arguments.processes * 4
    outcome = {}
    print(f"exact expectation of 150 random cell strings: {expected_regret(150):.3f}")
    with ProcessPoolExecutor(arguments.processes) as pool:
        for method in methods:
            if arguments.only and not method.name.startswith(arguments.only):
                continue
            futures = [
                pool.submit(run, method, range(part, arguments.seeds, parts))
                for part in range(parts)
            ]
            outcome[method.name] = summary([r for f in futures for r in f.result()])
            print(method.name, json.dumps(outcome[method.name]), flush=True)


if __name__ == "__main__":
    main()
