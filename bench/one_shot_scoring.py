"""Candidates of a supernet: one trainer process with a batch against a loop in one process.

    OMP_NUM_THREADS=1 python -m bench.one_shot_scoring

The loop is what one would write for this supernet alone: it is in memory, follows one path after
the other, computes the statistics of batch normalizations again and scores the path. It reads and
writes nothing. The trainer is the process of a pod: it reads its part of the stored supernet for
each candidate, builds and checks the candidate's network, and leaves two objects in a store. Both
score the same candidates with the same images, in separate processes that run in turn. The
first candidate of either is not counted, as it loads the data. CPU seconds count, because other
processes of the machine change them little; the rate by the clock is shown, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kinase.api.trial import TrialJob
from kinase.space import Frame, Space, make_space
from kinase.space.supernet import Supernet
from kinase.store.file import FileStore

PREFIX = "trials/00000"


def job_of(cells: int, filters: int, side: int, **fields: Any) -> TrialJob:
    return TrialJob.model_validate(
        {
            "experiment": "bench",
            "trial": 0,
            "task": {"dataset": "digits"},
            "training": {"epochs": 1, "device": "cpu"},
            "space": {"type": "Cell", "cell": {"preset": "darts"}},
            "architecture": {},
            "fidelity": {
                "epochs": 1,
                "resolution": side,
                "scale": {"cells": cells, "filters": filters},
            },
            "seed": 0,
            "prefix": PREFIX,
            **fields,
        }
    )


def batch_of(job: TrialJob, count: int, recalibrate: int) -> TrialJob:
    """A job of so many candidates."""
    space = make_space(job.space)
    weights = {"prefix": PREFIX, "recalibrate": recalibrate}
    document = job.model_dump(by_alias=True)
    members = [
        TrialJob.model_validate(
            {
                **document,
                "trial": number,
                "prefix": f"trials/{number:05d}",
                "architecture": space.sample(np.random.default_rng(number)),
                "until": 0,
                "slice": weights,
            }
        )
        for number in range(1, count + 1)
    ]
    return members[0].with_also(members[1:])


def supernet_of(job: TrialJob) -> tuple[Space, Frame, Supernet]:
    side = job.fidelity.resolution
    assert side is not None
    space = make_space(job.space)
    frame = Frame((1, side, side), 10, job.fidelity.scale, searching=True)
    found = space.supernet(frame)
    assert found is not None
    return space, frame, found


def params_of(job: TrialJob) -> int:
    space, frame, _ = supernet_of(job)
    return space.graph(job.architecture, frame).params()


def store_supernet(job: TrialJob, place: Path) -> int:
    """Store a supernet with random weights; its bytes."""
    import torch

    from kinase_trainer.supernet import stored
    from kinase_trainer.supernet.network import Supernetwork

    _, frame, found = supernet_of(job)
    torch.manual_seed(0)
    store = FileStore(place)
    stored.save(store, job, Supernetwork(found), frame)
    names = (stored.WEIGHTS, stored.CARD)
    return sum(len(store.get(f"{PREFIX}/{name}")) for name in names)


def by_hand(batch: TrialJob) -> list[tuple[float, float]]:
    """When each candidate was scored, by the clock and in CPU seconds."""
    import torch
    from torch import nn

    from kinase_trainer.data import open_parts, open_splits, plain_size
    from kinase_trainer.supernet.network import Supernetwork

    assert batch.slice is not None
    space, _, found = supernet_of(batch)
    torch.manual_seed(0)
    network = Supernetwork(found)
    splits = open_splits(batch.task)
    network.mean.fill_(splits.mean[0])
    network.deviation.fill_(splits.deviation[0])
    side = batch.fidelity.resolution
    train, validation = open_parts(batch.task, 1.0, side, torch.device("cpu"))
    count = min(batch.slice.recalibrate, len(train))
    images, _ = next(train.read(torch.arange(count), count))
    scored, targets = next(validation.read(torch.arange(len(validation)), len(validation)))
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    ends, size = [], plain_size(validation)
    with torch.no_grad():
        for member in batch.members:
            network.follow(space.path(member.architecture))
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
            network.train()
            for part in images.split(256):
                network(part)
            network.eval()
            right, loss = 0, 0.0
            for part, labels in zip(scored.split(size), targets.split(size), strict=True):
                output = network(part)
                right += int((output.argmax(1) == labels).sum())
                loss += float(nn.functional.cross_entropy(output, labels, reduction="sum"))
            ends.append((time.time(), time.process_time()))
    return ends


def by_trainer(batch: TrialJob, place: Path) -> tuple[float, float]:
    """Seconds for a candidate in a trainer process, by the clock and of the CPU: those of the whole
    batch without those of a process that scores the first candidate alone."""
    spent, ends = [], []
    for name, job in (("first", batch.members[0]), ("whole", batch)):
        folder = place / name
        for key in ("supernet.json", "supernet.safetensors"):
            FileStore(folder).put(f"{PREFIX}/{key}", FileStore(place).get(f"{PREFIX}/{key}"))
        path = folder / "job.json"
        path.write_text(job.model_dump_json(by_alias=True, exclude_none=True))
        environment = {**os.environ, "KINASE_JOB": str(path), "KINASE_STORE": f"file://{folder}"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "kinase_trainer"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        results = [folder / member.prefix / "result.json" for member in job.members]
        ends = [each.stat().st_mtime_ns / 1e9 for each in results]
    count = len(ends) - 1
    return (ends[-1] - ends[0]) / count, (spent[1] - spent[0]) / count


def by_hand_apart(batch: TrialJob, place: Path) -> tuple[float, float]:
    """The same for the loop."""
    path = place / "job.json"
    path.write_text(batch.model_dump_json(by_alias=True, exclude_none=True))
    command = [sys.executable, "-m", "bench.one_shot_scoring", "--by-hand", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    ends = json.loads(done.stdout)
    clock, cpu = ((ends[-1][n] - ends[0][n]) / (len(ends) - 1) for n in (0, 1))
    return clock, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--recalibrate", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--by-hand", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.by_hand is not None:
        print(json.dumps(by_hand(TrialJob.model_validate_json(given.by_hand.read_bytes()))))
        return
    plan = {"relaxation": {"type": "Uniform"}}
    job = job_of(given.cells, given.filters, given.side, kind="Supernet", supernet=plan)
    candidates = job_of(given.cells, given.filters, given.side)
    batch = batch_of(candidates, given.candidates, given.recalibrate)
    clock, cpu = [], []
    for turn in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            size = store_supernet(job, place)
            runs = [by_hand_apart, by_trainer]
            found = {run: run(batch, place) for run in (runs[::-1] if turn % 2 else runs)}
            hand, ours = found[by_hand_apart], found[by_trainer]
            read = [
                json.loads((place / "whole" / m.prefix / "result.json").read_text())["facts"]
                for m in batch.members
            ]
        clock.append(hand[0] / ours[0])
        cpu.append(hand[1] / ours[1])
        print(
            f"round {turn + 1}: CPU seconds for a candidate: by hand {hand[1]:.3f}, trainer "
            f"{ours[1]:.3f}, ratio {cpu[-1]:.3f}; by the clock {hand[0]:.2f}, {ours[0]:.2f}, "
            f"{clock[-1]:.3f}",
            flush=True,
        )
    middle = statistics.median
    print(f"candidates a second against the loop: {middle(cpu):.3f}; clock {middle(clock):.3f}")
    own = statistics.mean(4 * params_of(member) for member in batch.members)
    print(f"supernet: {size / 1e6:.2f} MB; parameters of a candidate: {own / 1e6:.2f} MB")
    every = [facts["bytesRead"] for facts in read]
    print(
        f"bytes read by the first candidate: {every[0] / 1e6:.2f} MB, "
        f"by each on average {statistics.mean(every) / 1e6:.3f} MB, "
        f"by all {sum(every) / size:.2f} times the supernet"
    )


if __name__ == "__main__":
    main()
