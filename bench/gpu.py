"""The trainer on one GPU: that it is right there, and how fast it is.

    python -m bench.gpu                      # checks, and the trainer's epoch against one by hand
    python -m bench.gpu --search FILE ...    # searches of manifests, too, by `kinase run`

The checks are what a machine without a GPU cannot test: the same weights give the same logits as on
the CPU, a training that is stopped and resumed gives what the undisturbed one gives, a network that
does not fit in the device's memory is infeasible and the process continues with the next trial, and
a network trained there is loaded and scored on a CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.trainer_step import CHAIN, in_turn
from kinase.api.space import Space
from kinase.api.task import Training
from kinase.api.trial import Outcome, TrialJob, TrialResult
from kinase.space import Frame, make_space
from kinase.store.memory import MemoryStore
from kinase_trainer import model, trial
from kinase_trainer.data import Part
from kinase_trainer.network import Network
from kinase_trainer.tasks import Classification
from kinase_trainer.train import Run, autocast, make_optimizer

CUDA = torch.device("cuda")
LAYERS = [("conv", 64, 1), ("conv", 64, 1), ("conv", 128, 2), ("conv", 128, 1), ("conv", 256, 2)]


def chain(layers: list[tuple[str, int, int]]) -> dict[str, Any]:
    return {"layers": [{"op": o, "width": w, "kernel": 3, "stride": s} for o, w, s in layers]}


def spaces() -> dict[str, tuple[Any, Any]]:
    """The spaces' own networks at the size of CIFAR-10's images."""
    wide = {**CHAIN, "chain": {**CHAIN["chain"], "widths": [16, 32, 64, 128, 256]}}
    plain = make_space(Space.model_validate(wide))
    darts = make_space(Space.model_validate({"type": "Cell", "cell": {"preset": "darts"}}))
    drawn = darts.sample(np.random.default_rng(0))
    return {"chain of five": (plain, chain(LAYERS)), "cells of DARTS": (darts, drawn)}


def images(count: int, side: int = 32) -> Part:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    return Part(pixels, torch.randint(0, 10, (count,), generator=generator)).to(CUDA)


class ByHand:
    """The loop that one would write for this network and data alone."""

    def __init__(self, network: Network, part: Part, training: Training, epochs: int) -> None:
        self.network, self.part, self.training, self.epochs = network, part, training, epochs
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
        )
        self.criterion = nn.CrossEntropyLoss()
        self.epoch = 0

    def train_epoch(self) -> None:
        self.network.train()
        x, y, size = self.part.images, self.part.targets, self.training.batch_size
        assert isinstance(x, torch.Tensor)
        order = torch.randperm(len(y), device=CUDA)
        steps = math.ceil(len(y) / size)
        for step in range(steps):
            rate = 0.05 * (1 + math.cos(math.pi * (self.epoch + step / steps) / self.epochs))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            chosen = order[step * size : (step + 1) * size]
            with autocast(self.training, CUDA):
                loss = self.criterion(self.network(x[chosen].float() / 255), y[chosen])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        torch.cuda.synchronize()
        self.epoch += 1


def throughput(rounds: int, samples: int) -> None:
    """Samples a second of the trainer's epoch, and of the same by hand, in turn."""
    part = images(samples)
    for name, (space, architecture) in spaces().items():
        graph = space.graph(architecture, Frame((3, 32, 32), 10))
        for precision in ("float32", "auto"):
            training = Training.model_validate(
                {"device": "cuda", "precision": precision, "batchSize": 128}
            )
            torch.manual_seed(0)
            by_hand = ByHand(Network(graph).to(CUDA), part, training, rounds + 3)
            torch.manual_seed(0)
            network = Network(graph).to(CUDA)
            optimizer = make_optimizer(network, training)
            mine = Run(
                network, optimizer, Classification(), training, CUDA, part, part, rounds + 3, 0
            )

            def own(run: Run = mine) -> None:
                run.train_epoch()
                torch.cuda.synchronize()

            theirs, ours = in_turn(by_hand.train_epoch, own, rounds)
            ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
            low, ratio, high = statistics.quantiles(ratios, n=4)
            format = "bfloat16" if precision == "auto" else precision
            print(
                f"{name}, {graph.params():,} parameters, {format}, batches of 128: by hand "
                f"{samples / statistics.median(theirs):,.0f} samples/s, trainer "
                f"{samples / statistics.median(ours):,.0f} samples/s, ratio {ratio:.3f} "
                f"(quartiles {low:.3f} to {high:.3f}); "
                f"{torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB at most",
                flush=True,
            )
            torch.cuda.reset_peak_memory_stats()


# -- that it is right ----------------------------------------------------------------------


def job(device: str = "cuda", **changes: Any) -> TrialJob:
    """A small trial on the digits, that keeps its weights."""
    document: dict[str, Any] = {
        "experiment": "gpu",
        "trial": 0,
        "attempt": 1,
        "kind": "Final",
        "task": {"dataset": "digits"},
        "training": {"epochs": 6, "device": device, "precision": "float32", "batchSize": 64},
        "space": CHAIN,
        "architecture": chain([("conv", 16, 1), ("sepconv", 24, 2), ("conv", 32, 1)]),
        "fidelity": {"epochs": 6},
        "seed": 3,
        "prefix": "trials/0",
        "keepWeights": True,
    }
    return TrialJob.model_validate({**document, **changes})


def check_logits() -> str:
    worst = 0.0
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    for space, architecture in spaces().values():
        torch.manual_seed(0)
        network = Network(space.graph(architecture, Frame((3, 32, 32), 10))).double().eval()
        x = torch.rand(8, 3, 32, 32, dtype=torch.float64)
        with torch.no_grad():
            here = network(x)
            there = network.to(CUDA)(x.to(CUDA)).cpu()
        worst = max(worst, ((here - there).abs().max() / here.abs().max()).item())
    assert worst < 1e-9, worst
    return f"largest relative difference of logits, CPU and GPU, in float64: {worst:.1e}"


def check_resume() -> str:
    whole, again, parts = MemoryStore(), MemoryStore(), MemoryStore()
    undisturbed = trial.run(job(), whole)
    trial.run(job(), again)
    halves = iter([True, False])  # stopped after the second epoch
    trial.run(job(), parts, lambda point: next(halves))
    resumed = trial.run(job(attempt=2), parts)
    assert len(resumed.curve) == 6, resumed

    def apart(one: MemoryStore) -> float:
        ours, theirs = (model.load(store.sub("trials/0"))[0] for store in (one, whole))
        pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
        return max((a - b).abs().max().item() for a, b in pairs)

    # sums of a GPU come in no fixed order, so two undisturbed runs differ too
    assert apart(parts) < 10 * max(apart(again), 1e-3)
    assert abs(resumed.metrics["val_accuracy"] - undisturbed.metrics["val_accuracy"]) < 0.02
    return (
        f"largest difference of a weight after six epochs: stopped and resumed {apart(parts):.1e}, "
        f"begun again {apart(again):.1e}; accuracy {resumed.metrics['val_accuracy']:.4f} and "
        f"{undisturbed.metrics['val_accuracy']:.4f}"
    )


def check_memory() -> str:
    store = MemoryStore()
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(2**28 / total)
    try:
        wide = {**CHAIN, "chain": {**CHAIN["chain"], "widths": [16, 4096]}}
        large = trial.run(
            job(
                space=wide,
                architecture=chain([("conv", 4096, 1), ("conv", 4096, 1)]),
                prefix="trials/1",
            ),
            store,
        )
        small = trial.run(job(prefix="trials/2"), store)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert large.outcome is Outcome.INFEASIBLE, large
    assert "out of memory" in large.message
    assert small.outcome is Outcome.SUCCEEDED, small
    return "a network of 151 million weights in 256 MiB: infeasible; the next trial succeeded"


def check_elsewhere() -> str:
    store = MemoryStore()
    trained = trial.run(job(), store)
    scored: list[TrialResult] = []
    for device in ("cuda", "cpu"):
        store.delete(f"trials/0/{trial.TEST}")
        scored.append(trial.run(job(device, test=True), store))
    there, here = (result.metrics["test_accuracy"] for result in scored)
    assert abs(there - here) < 0.01, scored
    return (
        f"trained on the GPU (validation {trained.metrics['val_accuracy']:.4f}), test accuracy "
        f"there {there:.4f}, on a CPU {here:.4f}"
    )


def search(manifest: Path, options: list[str]) -> None:
    """A search by `kinase run` in a separate folder."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = [sys.executable, "-m", "kinase.cli", "run", str(manifest), *options]
        done = subprocess.run(
            [*command, "--store", f"file://{folder}"], capture_output=True, text=True
        )
        seconds = time.perf_counter() - began
        print(f"{manifest} {' '.join(options)}: {seconds:.0f} s, exit code {done.returncode}")
        print("\n".join((done.stdout + done.stderr).splitlines()[-25:]), flush=True)
        for file in Path(folder).rglob("final/model.json"):
            card = json.loads(file.read_text())
            print(json.dumps({k: card[k] for k in ("metrics", "params", "macs", "epochs")}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--search", type=Path, nargs="*", default=[])
    parser.add_argument("--options", default="", help="of `kinase run`")
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    for check in (check_logits, check_resume, check_memory, check_elsewhere):
        print(check(), flush=True)
    throughput(options.rounds, options.samples)
    for manifest in options.search:
        search(manifest, options.options.split())


if __name__ == "__main__":
    main()
