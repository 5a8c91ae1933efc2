"""What inheritance costs: time before a child's first step, and uploads during training.

    python -m bench.inheritance inherit                  # 1, 25 and 100 million parameters, from S3
    python -m bench.inheritance upload --rate 50         # checkpoints to a store of 50 MB/s

Both use the trainer as in a pod. The first has a real S3 server on this machine (versitygw),
and takes the time that a trial spends on inheritance between its start and its first step, of the
clock and of its processor, and the bytes. The second writes through a store that takes as long
as a slow network, with and without the upload thread.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import torch

from kinase.api.space import Space as SpaceModel
from kinase.api.trial import Architecture, TrialJob
from kinase.morphism import dump_chain
from kinase.morphism.bridge import bridge
from kinase.space import Frame, make_space
from kinase.store import CountingStore, Store, open_uri
from kinase.store.memory import MemoryStore
from kinase_trainer import checkpoint, lineage, model, trial
from kinase_trainer.cache import FOLDER, Cache
from kinase_trainer.setting import set_up
from tests.cluster.lab.s3 import VersityGW

FRAME = Frame((1, 8, 8), 10)
SIZES = {1: (128, 7), 25: (512, 12), 100: (1024, 12)}
"""Millions of parameters: width and number of the convolutions that hold nearly all of them."""
SPACE: dict[str, Any] = {
    "type": "Chain",
    "chain": {
        "maxDepth": 16,
        "ops": ["conv"],
        "widths": [16, 32, 64, 128, 512, 1024],
        "kernels": [3],
        "strides": [1, 2],
    },
}


def network(width: int, count: int) -> Architecture:
    """Three strides to maps of one pixel, where many parameters take little time."""
    layers = [(16, 2), (32, 2), (64, 2), *[(width, 1)] * count]
    return {
        "layers": [{"op": "conv", "width": w, "kernel": 3, "stride": s} for w, s in layers],
    }


def count_of(architecture: Architecture) -> str:
    """Its parameters."""
    space = make_space(SpaceModel.model_validate(SPACE))
    return f"{space.graph(architecture, FRAME).params():,}"


def job_of(number: int, architecture: Architecture, epochs: int = 1, **more: Any) -> TrialJob:
    """A trial on a tenth of the digits."""
    document = {
        "experiment": "inheritance",
        "trial": number,
        "task": {"dataset": "digits"},
        "training": {"epochs": epochs, "device": "cpu", "batchSize": 54},
        "space": SPACE,
        "architecture": architecture,
        "fidelity": {"epochs": epochs, "dataFraction": 0.1},
        "seed": number,
        "prefix": f"trials/{number:05d}",
        **more,
    }
    return TrialJob.model_validate(document)


def keep(store: Store, architecture: Architecture) -> int:
    """Leave a network as a trial does that was trained; the bytes."""
    job = job_of(0, architecture)
    made = set_up(job, store)
    return model.save(store, job.prefix, job, made.network, made.frame, made.splits, {})


class _Begun(Exception):
    """The first step would be next."""


@dataclass
class Cost:
    """Of a child before its first step."""

    seconds: float = 0.0
    processor: float = 0.0
    read: int = 0
    cached: int = 0


def child(store: Store, parent: Architecture, architecture: Architecture) -> Cost:
    """A child of trial 0, until its first step."""
    space = make_space(SpaceModel.model_validate(SPACE))
    found = bridge(space, parent, architecture, FRAME)
    ancestor = {
        "trial": 0,
        "prefix": "trials/00000",
        "architecture": parent,
        "morphisms": None if found is None else dump_chain(found.morphisms),
    }
    job = job_of(1, architecture, inherit={"ancestors": [ancestor]})
    counting, cost = CountingStore(store), Cost()
    begin = lineage.begin

    def timed(*arguments: Any, **named: Any) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        said = begin(*arguments, **named)
        cost.seconds = time.perf_counter() - wall
        cost.processor = time.process_time() - processor
        assert said.trial == 0, said.message
        assert (said.morphisms is None) == (found is None), said.message
        caches = [each for each in (*arguments, *named.values()) if isinstance(each, Cache)]
        cost.cached = sum(cache.bytes_read for cache in caches)
        return said

    def stop(done: int) -> None:
        raise _Begun

    lineage.begin = timed
    try:
        trial.run(job, counting, begin=stop)
    except _Begun:
        pass
    finally:
        lineage.begin = begin
    cost.read = counting.traffic.read
    return cost


def inherit(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seconds and bytes, by size and by how the child is reached."""
    with tempfile.TemporaryDirectory(prefix="kinase-bench-") as name:
        folder = Path(name)
        s3 = VersityGW(folder / "s3")
        s3.start()
        try:
            os.environ |= {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": "s"}
            client = boto3.client("s3", endpoint_url=s3.endpoint, region_name="us-east-1")
            client.create_bucket(Bucket="bench")
            for million in options.sizes:
                store = open_uri(f"s3://bench/{million}", s3.endpoint, "us-east-1")
                width, count = SIZES[million]
                parent = network(width, count)
                params = count_of(parent)
                kept = keep(store, parent)
                longer, half = network(width, count + 1), network(width, count // 2)
                for how, architecture, place in (
                    ("a convolution put in", longer, "S3"),
                    ("a convolution put in", longer, "cache"),
                    ("half of the tensors match", half, "S3"),
                ):
                    cache = folder / "cache"
                    os.environ.pop(FOLDER, None)
                    if place == "cache":
                        os.environ[FOLDER] = str(cache)
                        child(store, parent, architecture)  # which fills it
                    costs = [child(store, parent, architecture) for _ in range(options.runs)]
                    shutil.rmtree(cache, ignore_errors=True)
                    seconds = [c.seconds for c in costs]
                    yield {
                        "parameters": params,
                        "file MB": round(kept / 1e6, 1),
                        "child": how,
                        "from": place,
                        "seconds": [round(f(seconds), 2) for f in (statistics.median, min, max)],
                        "processor seconds": round(
                            statistics.median([c.processor for c in costs]), 2
                        ),
                        "read MB": round(costs[-1].read / 1e6, 1),
                        "from cache MB": round(costs[-1].cached / 1e6, 1),
                    }
        finally:
            s3.stop()


class Slow(MemoryStore):
    """Takes as long as a network of so many bytes a second, with a round trip."""

    rate = math.inf
    trip = 0.01

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object, in its time."""
        time.sleep(self.trip + len(data) / self.rate)
        super().put(key, data, if_absent=if_absent)


def upload(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seconds an epoch, with the checkpoint written before the next one and during it."""
    Slow.rate = options.rate * 1e6
    for width, count in ((16, 2), (128, 2), (128, 6), (512, 3), (512, 6)):
        architecture = network(width, count)
        found: dict[str, Any] = {"parameters": count_of(architecture)}
        for how, small in (("before", math.inf), ("during", -1)):
            checkpoint.SMALL = small  # type: ignore[assignment]
            seconds: list[float] = []
            for _ in range(options.runs):
                began = time.perf_counter()
                trial.run(job_of(0, architecture, options.epochs), Slow())
                seconds.append((time.perf_counter() - began) / options.epochs)
            found[f"{how}, ms an epoch"] = round(1000 * statistics.median(seconds))
        fast = []
        checkpoint.SMALL = 1 << 62
        for _ in range(options.runs):
            began = time.perf_counter()
            trial.run(job_of(0, architecture, options.epochs), MemoryStore())
            fast.append((time.perf_counter() - began) / options.epochs)
        found["no network, ms an epoch"] = round(1000 * statistics.median(fast))
        yield found


def main() -> None:
    """Measure, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    each = commands.add_parser("inherit")
    each.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    each.add_argument("--runs", type=int, default=3)
    each.set_defaults(run=inherit)
    each = commands.add_parser("upload")
    each.add_argument("--rate", type=float, default=50, help="MB/s of the store")
    each.add_argument("--epochs", type=int, default=8)
    each.add_argument("--runs", type=int, default=3)
    each.set_defaults(run=upload)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for line in options.run(options):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
