"""Kills one of the two workers of a trial at random moments, again and again. Compares the trial
with an undisturbed one of two workers.

    python -m bench.workers --kills 10 --seed 0

The trial is a network of digits, or a supernet (DARTS). Its workers are processes on this machine
that exchange gradients by gloo. After a kill, of either worker, the next attempt continues. Epochs
lost are those that began more than once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinase.api.trial import WORKER_LOST_EXIT, TrialResult
from kinase.store import open_uri
from kinase_trainer.ledger import read_ledger
from tests.trainer.test_workers import workers

EPOCHS = 12
PREFIX = "trials/00007"
NETWORK: dict[str, Any] = {
    "training": {"epochs": EPOCHS, "device": "cpu", "batchSize": 32},
    "fidelity": {"epochs": EPOCHS, "dataFraction": 0.1},
    "keepWeights": True,
}
SUPERNET: dict[str, Any] = {
    "kind": "Supernet",
    "space": {"type": "Cell", "cell": {"preset": "nasbench201"}},
    "architecture": {},
    "training": {"epochs": EPOCHS, "batchSize": 64, "device": "cpu"},
    "fidelity": {"epochs": EPOCHS, "dataFraction": 0.1, "scale": {"cells": 1, "filters": 4}},
    "supernet": {"relaxation": {"type": "DARTS"}},
    "keepWeights": True,
}


@dataclass
class End:
    """What a trial came to."""

    result: TrialResult
    weights: str
    lost: int
    kills: int
    slowest: float
    """Most seconds from a kill until the other worker had ended."""
    codes: set[int]
    """Exit codes of workers whose other one was killed."""


def trained(job: dict[str, Any], size: int, kills: int, rng: random.Random) -> End:
    """A trial from its first attempt to its end.

    Args:
        job: fields of the job.
        size: number of workers.
        kills: how often one of them is killed.
        rng: draws which one, and when.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, attempt, done, slowest = Path(name), 0, 0, 0.0
        codes: set[int] = set()
        store = open_uri(f"file://{folder}/store")
        while not store.exists(f"{PREFIX}/result.json"):
            attempt += 1
            with workers(folder, tuple(range(size)), size, attempt=attempt, **job) as processes:
                if done < kills:
                    # a moment in one of the next epochs; most of an attempt is its start
                    target = read_ledger(store, PREFIX).epochs_begun + rng.randint(1, 3)
                    while read_ledger(store, PREFIX).epochs_begun < target:
                        if processes[0].poll() is not None:
                            raise AssertionError(processes[0].communicate()[0])
                        time.sleep(0.002)
                    time.sleep(rng.random() * 0.1)
                    victim = rng.randrange(size)
                    processes[victim].kill()
                    began = time.monotonic()
                    done += 1
                    ends = [p.wait(60) for n, p in enumerate(processes) if n != victim]
                    slowest = max(slowest, time.monotonic() - began)
                    codes |= set(ends)
                else:
                    for each in processes:
                        assert each.wait(600) == 0
        result = TrialResult.model_validate_json(store.get(f"{PREFIX}/result.json"))
        kept = "supernet" if "supernet" in job else "weights"
        digest = hashlib.sha256(store.get(f"{PREFIX}/{kept}.safetensors")).hexdigest()
        lost = read_ledger(store, PREFIX).epochs_begun - len(result.curve)
        return End(result, digest, lost, done, slowest, codes)


def main() -> None:
    """Print a line for each kind of trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", choices=("network", "supernet"), help="default: both")
    given = parser.parse_args()
    jobs = {"network": NETWORK, "supernet": SUPERNET}
    for name, job in jobs.items():
        if given.trial not in (None, name):
            continue
        rng = random.Random(given.seed)
        whole = trained(job, 2, 0, rng)
        disturbed = trained(job, 2, given.kills, rng)
        curves = [[p.metrics for p in each.result.curve] for each in (whole, disturbed)]
        found = {
            "trial": name,
            "epochs": len(disturbed.result.curve),
            "kills": disturbed.kills,
            "epochs lost": disturbed.lost,
            "most seconds until the other worker ended": round(disturbed.slowest, 2),
            "ends with the exit code of a lost worker": disturbed.codes <= {WORKER_LOST_EXIT},
            "curve as undisturbed": curves[0] == curves[1],
            "weights as undisturbed, bit for bit": whole.weights == disturbed.weights,
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
