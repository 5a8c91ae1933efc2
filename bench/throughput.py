"""The local engine against plain in-process loops over the same short trials.

    python -m bench.throughput --trials 200

The same 200 trials (the same architectures, seeds and data; about 0.3 s each) are trained
1. by `slots` plain processes, each a bare `for` loop over its share: the ideal, and
2. by the whole thing: loop, journal, engine with `slots` workers, results in the store.
Both have imported torch and loaded the data when the clock starts. Rounds alternate; the ratio
is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from kinase.api import NASExperiment, TrialJob
from kinase.engine.local import LocalEngine
from kinase.engine.worker import load_trainer
from kinase.experiment.loop import Loop
from kinase.space import make_space
from kinase.store import open_store
from kinase.strategy import derive_rng


def manifest(trials: int, slots: int, epochs: int, folder: Path) -> NASExperiment:
    return NASExperiment.model_validate(
        {
            "apiVersion": "kinase.dev/v1alpha1",
            "kind": "NASExperiment",
            "metadata": {"name": "throughput"},
            "spec": {
                "task": {"dataset": "digits"},
                "training": {"epochs": epochs, "device": "cpu"},
                "space": {
                    "type": "Chain",
                    "chain": {"minDepth": 3, "maxDepth": 3, "ops": ["conv"], "widths": [8, 16]},
                },
                "strategy": {"type": "Random"},
                "control": {"share": 0},
                "budget": {"trials": trials, "parallelism": slots},
                "finalists": {"count": 1},
                "storage": {"uri": f"file://{folder}/runs"},
            },
        }
    )


class Clock:
    """Records when the search's trials started and ended."""

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.began = self.ended = 0.0
        self.told_count = 0

    def started(self, loop: Loop) -> None:
        self.began = time.perf_counter()

    def progressed(self, loop: Loop, trial: int, point: Any) -> None:
        pass

    def rested(self, loop: Loop, trial: Any) -> None:
        pass

    def told(self, loop: Loop, trial: Any) -> None:
        self.told_count += 1
        if self.told_count == self.trials:
            self.ended = time.perf_counter()

    def tick(self, loop: Loop) -> None:
        pass


def whole(experiment: NASExperiment) -> tuple[float, list[str]]:
    """Seconds from the first launch to the last told trial, and the jobs that were run."""
    trials = experiment.spec.budget.trials or 0
    store = open_store(experiment.spec.storage).sub(experiment.directory)
    engine = LocalEngine(
        experiment.spec.budget.parallelism, experiment.spec.storage, experiment.directory
    )
    try:
        info = engine.describe(experiment.spec.task, experiment.spec.training)
        warm(engine, experiment)
        clock = Clock(trials)
        loop = Loop(experiment, store, engine, info, listener=clock)
        loop.run()
    finally:
        engine.close()
    jobs = [loop._job(t).model_dump_json() for t in loop.state.trials.values()][:trials]
    return clock.ended - clock.began, jobs


def warm(engine: LocalEngine, experiment: NASExperiment) -> None:
    """Have every worker train once, so that data and kernels are loaded."""
    space = make_space(experiment.spec.space)
    for slot in range(engine.slots):
        engine.launch(job(experiment, 10_000 + slot, space.sample(derive_rng(slot))))
    while engine.running():
        engine.poll(1.0)


def job(experiment: NASExperiment, number: int, architecture: dict[str, Any]) -> TrialJob:
    return TrialJob.model_validate(
        {
            "experiment": "warm",
            "trial": number,
            "task": experiment.spec.task,
            "training": experiment.spec.training,
            "space": experiment.spec.space,
            "architecture": architecture,
            "fidelity": {"epochs": 1},
            "seed": number,
            "prefix": f"warm/{number}",
        }
    )


def plain(jobs: list[str], folder: str, threads: int, barrier: Any, seconds: Any) -> None:
    """One process of the ideal: a bare loop over its share."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    trainer = load_trainer("torch")
    store = open_store_at(folder)
    parsed = [TrialJob.model_validate_json(text) for text in jobs]
    trainer.run(parsed[0].model_copy(update={"prefix": "warm"}), store, lambda point: True)
    barrier.wait()
    began = time.perf_counter()
    for each in parsed:
        trainer.run(each, store, lambda point: True)
    seconds.put(time.perf_counter() - began)


def open_store_at(folder: str) -> Any:
    from kinase.store import open_uri

    return open_uri(f"file://{folder}")


def ideal(jobs: list[str], slots: int, folder: Path) -> float:
    """Seconds of the slowest of `slots` plain processes that share the jobs evenly."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // slots)
    barrier, seconds = context.Barrier(slots), context.Queue()
    processes = [
        context.Process(
            target=plain, args=(jobs[i::slots], str(folder / str(i)), threads, barrier, seconds)
        )
        for i in range(slots)
    ]
    for process in processes:
        process.start()
    taken = [seconds.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(taken) / len(taken)  # the ideal shares the last trials perfectly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            taken, jobs = whole(
                manifest(arguments.trials, arguments.slots, arguments.epochs, folder)
            )
            ours.append(taken)
            theirs.append(ideal(jobs, arguments.slots, folder / "plain"))
    print(
        json.dumps(
            {
                "trials": arguments.trials,
                "slots": arguments.slots,
                "seconds, engine": [round(t, 2) for t in ours],
                "seconds, plain loops": [round(t, 2) for t in theirs],
                "seconds a trial, plain": round(
                    statistics.median(theirs) * arguments.slots / arguments.trials, 3
                ),
                "share of the ideal throughput": round(
                    statistics.median(theirs) / statistics.median(ours), 3
                ),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
