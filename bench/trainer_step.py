"""The trainer's loop against a loop by hand: same network, same data, same steps.

    python -m bench.trainer_step

The loop by hand is what one would write for this network and data alone: no checkpoints, no
ledger, no schedule object, the data a tensor in memory. It uses the same network, because the
network is not what is measured. Both train an epoch of a few steps in turn, so that whatever else
runs on the machine meets both alike; the ratio is the median over the pairs.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kinase.api.space import Space
from kinase.api.task import Training
from kinase.api.trial import Point
from kinase.space import Frame, make_space
from kinase.store.file import FileStore
from kinase_trainer import checkpoint, trial
from kinase_trainer.data import Part
from kinase_trainer.ledger import Meter
from kinase_trainer.network import Network
from kinase_trainer.tasks import Classification
from kinase_trainer.train import Run, make_optimizer

CHAIN: dict[str, Any] = {
    "type": "Chain",
    "chain": {"maxDepth": 8, "ops": ["conv", "sepconv", "maxpool"], "widths": [16, 24, 32, 64]},
}
SMALL = [("conv", 16, 1), ("sepconv", 24, 2), ("sepconv", 32, 1)]
WARM_UP = 3
"""Rounds that are not counted."""
LARGE = [("conv", 32, 1), ("conv", 32, 1), ("conv", 64, 2), ("conv", 64, 1), ("conv", 64, 2)]


def network(layers: list[tuple[str, int, int]], shape: tuple[int, int, int]) -> Network:
    torch.manual_seed(0)
    space = make_space(Space.model_validate(CHAIN))
    chain = [{"op": op, "width": w, "kernel": 3, "stride": s} for op, w, s in layers]
    return Network(space.graph({"layers": chain}, Frame(shape, 10)), (0.3,), (0.4,))


def images(count: int, channels: int, side: int) -> Part:
    generator = torch.Generator().manual_seed(0)
    return Part(
        torch.rand(count, channels, side, side, generator=generator),
        torch.randint(0, 10, (count,), generator=generator),
    )


class ByHand:
    """SGD with Nesterov momentum and a cosine, 64 samples a step."""

    def __init__(self, model: Network, part: Part, epochs: int) -> None:
        assert isinstance(part.images, torch.Tensor)
        self.model, self.x, self.y, self.epochs, self.epoch = (
            model,
            part.images,
            part.targets,
            epochs,
            0,
        )
        decayed = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": 5e-4}, {"params": rest}],
            lr=0.1,
            momentum=0.9,
            nesterov=True,
            fused=True,
        )
        self.criterion = nn.CrossEntropyLoss()

    def train_epoch(self) -> None:
        self.model.train()
        order = torch.randperm(len(self.y))
        steps = math.ceil(len(self.y) / 64)
        for step in range(steps):
            rate = 0.05 * (1 + math.cos(math.pi * (self.epoch + step / steps) / self.epochs))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            chosen = order[step * 64 : (step + 1) * 64]
            loss = self.criterion(self.model(self.x[chosen]), self.y[chosen])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.epoch += 1


def ours(model: Network, part: Part, epochs: int) -> Run:
    training = Training(device="cpu")
    cpu = torch.device("cpu")
    optimizer = make_optimizer(model, training)
    return Run(model, optimizer, Classification(), training, cpu, part, part, epochs, 0)


def in_turn(
    one: Callable[[], object], other: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of each call, made in turn, the order changed every round."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + WARM_UP):
        pairs = [(one, times[0]), (other, times[1])]
        for call, into in pairs if turn % 2 else pairs[::-1]:
            began = time.perf_counter()
            call()
            if turn >= WARM_UP:
                into.append(time.perf_counter() - began)
    return times


def keeping(model: Network, part: Part, folder: str, rounds: int) -> tuple[float, float]:
    """Median seconds that an epoch spends on its ledger, and on its checkpoint."""
    run = ours(model, part, 10)
    run.train_epoch()
    run.curve.append(Point(epoch=1, metrics={"val_accuracy": 0.5}, device_seconds=1.0))
    store = FileStore(folder)
    meter = Meter(store, "trial", 1)

    def ledger() -> None:
        meter.begin(len(part))
        meter.done(len(part), 1.0, {"val_accuracy": 0.5})

    with checkpoint.Uploads(store, "trial", meter.kept) as uploads:

        def save() -> None:
            trial._save(run, uploads, None)
            uploads.wait()

        ledgers, saves = in_turn(ledger, save, rounds)
    return statistics.median(ledgers), statistics.median(saves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds = options.rounds
    cases = {
        "small, 8x8": (SMALL, (1, 8, 8), images(1024, 1, 8)),
        "larger, 32x32": (LARGE, (3, 32, 32), images(128, 3, 32)),
    }
    for name, (layers, shape, part) in cases.items():
        model = network(layers, shape)
        by_hand = ByHand(network(layers, shape), part, rounds + WARM_UP)
        mine = ours(model, part, rounds + WARM_UP)
        theirs, own = in_turn(by_hand.train_epoch, mine.train_epoch, rounds)
        ratios = [a / b for a, b in zip(theirs, own, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        with tempfile.TemporaryDirectory() as folder:
            ledger, saving = keeping(model, part, folder, rounds)
        print(
            f"{name}, {sum(p.numel() for p in model.parameters()):,} parameters: "
            f"by hand {len(part) / statistics.median(theirs):,.0f} samples/s, "
            f"trainer {len(part) / statistics.median(own):,.0f} samples/s, "
            f"ratio {ratio:.3f} (quartiles {low:.3f} to {high:.3f}); "
            f"each epoch's ledger {ledger * 1e3:.2f} ms, checkpoint {saving * 1e3:.2f} ms"
        )


if __name__ == "__main__":
    main()
