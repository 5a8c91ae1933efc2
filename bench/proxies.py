"""How well zero-cost proxies rank the networks of NAS-Bench-201, as the trainer measures them.

    python -m bench.proxies synflow --networks 1000
    python -m bench.proxies nwot jacob_cov snip --networks 200 --samples 32 --images noise

Cells are drawn without replacement, each isomorphism class once, and built at the benchmark's full
size: 15 cells, 16 filters, images of 3 x 32 x 32. What is printed is Spearman's rank correlation
with the validation accuracy on CIFAR-10 after 200 epochs, with a 95 % interval by bootstrap; a
value that is not finite ranks last. CIFAR-10's images are not used: `--images fashion` takes
Fashion-MNIST's (see bench/fashion.py), each in the middle of 32 x 32 black pixels and in three
channels, `noise` independent uniform pixels with random labels. Synflow looks at none.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

from bench.fashion import FASHION
from kinase.api.space import Space as SpaceModel
from kinase.space import Frame, InfeasibleError, make_space
from kinase.space.nasbench201 import from_nasbench201
from kinase_trainer.network import Network
from kinase_trainer.proxies import Batch, load, measure_one

DATA = Path(__file__).parent / "data" / "nasbench201-cifar10.csv"
FRAME = Frame((3, 32, 32), 10)


def batch(images: str, samples: int) -> Batch:
    """What the proxies see."""
    generator = np.random.default_rng(0)
    if images == "noise":
        x = torch.from_numpy(generator.random((samples, 3, 32, 32), np.float32))
        y = torch.from_numpy(generator.integers(0, 10, samples))
    else:
        with gzip.open(FASHION / "train-images-idx3-ubyte.gz") as file:
            whole = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
        with gzip.open(FASHION / "train-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
        chosen = generator.permutation(len(whole))[:samples]
        gray = torch.from_numpy(whole[chosen].astype(np.float32) / 255)
        x = F.pad(gray, (2, 2, 2, 2)).expand(-1, 3, -1, -1).contiguous()
        y = torch.from_numpy(labels[chosen].astype(np.int64))
    return Batch(x, y, F.cross_entropy, y)


def networks(seed: int) -> Iterator[tuple[Network, float, str]]:
    """Networks with their accuracy in percent and their cell, in a random order."""
    space = make_space(
        SpaceModel.model_validate({"type": "Cell", "cell": {"preset": "nasbench201"}})
    )
    with DATA.open() as stream:
        rows = [(row["arch"], float(row["val_acc_200ep"])) for row in csv.DictReader(stream)]
    seen: set[str] = set()
    for index in np.random.default_rng(seed).permutation(len(rows)):
        text, accuracy = rows[index]
        architecture = from_nasbench201(text)
        try:
            space.validate(architecture)
            key = space.key(architecture)
            graph = space.graph(architecture, FRAME)
        except (ValueError, InfeasibleError):  # nothing leads from the input to the output
            continue
        if key in seen:
            continue
        seen.add(key)
        torch.manual_seed(int(index))
        yield Network(graph, (0.5,), (0.25,)), accuracy, text


def correlation(values: list[float], accuracies: list[float]) -> tuple[float, float, float]:
    """Spearman's, and the ends of its 95 % interval."""
    finite = [v if math.isfinite(v) else -math.inf for v in values]
    a, b = np.array(finite), np.array(accuracies)
    rng, found = np.random.default_rng(0), []
    for _ in range(500):
        chosen = rng.integers(0, len(a), len(a))
        found.append(float(spearmanr(a[chosen], b[chosen])[0]))
    low, high = np.nanquantile(found, (0.025, 0.975))
    return float(spearmanr(a, b)[0]), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("proxies", nargs="+")
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--images", choices=("fashion", "noise"), default="noise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=50, help="networks between two reports")
    parser.add_argument("--values", type=Path, help="a CSV file for the value of each network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    given = batch(options.images, options.samples)
    members = {name: load(name) for name in options.proxies}
    values: dict[str, list[float]] = {name: [] for name in members}
    seconds = dict.fromkeys(members, 0.0)
    accuracies: list[float] = []
    if options.values is not None:
        options.values.write_text(",".join(["arch", *members]) + "\n")
    for network, accuracy, cell in networks(options.seed):
        accuracies.append(accuracy)
        for name, member in members.items():
            began = time.process_time()
            values[name].append(measure_one(member, network, given, options.seed))
            seconds[name] += time.process_time() - began
        if options.values is not None:
            with options.values.open("a") as file:
                file.write(",".join([cell, *(repr(values[name][-1]) for name in members)]) + "\n")
        count = len(accuracies)
        if count % options.every == 0 or count == options.networks:
            for name in members:
                rho, low, high = correlation(values[name], accuracies)
                said: dict[str, Any] = {
                    "proxy": name,
                    "networks": count,
                    "spearman": round(rho, 3),
                    "interval": [round(low, 3), round(high, 3)],
                    "CPU seconds each": round(seconds[name] / count, 3),
                }
                print(json.dumps(said), flush=True)
        if count == options.networks:
            return
    sys.exit("the space has no more networks")


if __name__ == "__main__":
    main()
