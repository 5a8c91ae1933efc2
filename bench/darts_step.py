"""A step of DARTS on the supernet of its paper, against a loop and a network written by hand.

    python -m bench.darts_step                                  # on a CPU: small batches
    python -m bench.darts_step --device cuda --batch 64 --steps 20 --rounds 8

The network by hand is what one writes from the paper in plain torch: mixed operations in a
`ModuleList`, a sum weighted by a softmax. Both have the same number of parameters, and train the
same number of steps in turn; the ratio is the median over the pairs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.api.task import Training
from kinase.space import Frame
from kinase.space.cell import Cell
from kinase_trainer.data import Part
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.run import SupernetRun
from kinase_trainer.tasks import Classification
from kinase_trainer.train import make_optimizer

CELLS, FILTERS, NODES = 8, 16, 4
OPS = 7
"""Without none, as the space's preset."""


def norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=False)


class Reduce(nn.Module):
    """Halves a map."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(before, after // 2, 1, 2, bias=False)
        self.two = nn.Conv2d(before, after // 2, 1, 2, bias=False)
        self.norm = norm(after)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.norm(torch.cat([self.one(x), self.two(x[:, :, 1:, 1:])], 1))


def depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels),
    ]


def operations(channels: int, stride: int) -> nn.ModuleList:
    skip = nn.Identity() if stride == 1 else Reduce(channels, channels)
    found: list[nn.Module] = [
        nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(channels)),
        nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm(channels)),
        skip,
    ]
    found += [
        nn.Sequential(*depthwise(channels, k, stride), *depthwise(channels, k, 1)) for k in (3, 5)
    ]
    found += [nn.Sequential(*depthwise(channels, k, stride, 2)) for k in (3, 5)]
    return nn.ModuleList(found)


class ByHandCell(nn.Module):
    """A cell of mixed operations."""

    def __init__(self, two: int, one: int, channels: int, reduces: bool, was: bool) -> None:
        super().__init__()
        self.reduces = reduces
        first = nn.Sequential(nn.ReLU(), nn.Conv2d(two, channels, 1, bias=False), norm(channels))
        self.first: nn.Module = Reduce(two, channels) if was else first
        self.second = nn.Sequential(
            nn.ReLU(), nn.Conv2d(one, channels, 1, bias=False), norm(channels)
        )
        self.edges = nn.ModuleList(
            operations(channels, 2 if reduces and source < 2 else 1)
            for node in range(NODES)
            for source in range(2 + node)
        )

    def forward(self, two: Tensor, one: Tensor, weights: Tensor) -> Tensor:
        states = [self.first(two), self.second(one)]
        edge = 0
        for _ in range(NODES):
            total: Tensor | int = 0
            for state in states:
                for weight, op in zip(weights[edge], self.edges[edge], strict=True):
                    total = total + weight * op(state)
                edge += 1
            states.append(total)  # type: ignore[arg-type]
        return torch.cat(states[2:], 1)


class ByHand(nn.Module):
    """The supernet of DARTS."""

    def __init__(self) -> None:
        super().__init__()
        channels = FILTERS
        self.stem = nn.Sequential(
            nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
        )
        two = one = 3 * channels
        self.cells = nn.ModuleList()
        was = False
        for index in range(CELLS):
            reduces = index in (CELLS // 3, 2 * CELLS // 3)
            channels *= 2 if reduces else 1
            self.cells.append(ByHandCell(two, one, channels, reduces, was))
            two, one, was = one, NODES * channels, reduces
        self.classifier = nn.Linear(one, 10)
        edges = sum(2 + node for node in range(NODES))
        self.alphas = [
            (1e-3 * torch.randn(edges, OPS)).requires_grad_() for _ in ("normal", "reduction")
        ]

    def forward(self, x: Tensor) -> Tensor:
        normal, reduction = (F.softmax(a, -1) for a in self.alphas)
        two = one = self.stem(x)
        for cell in self.cells:
            two, one = one, cell(two, one, reduction if cell.reduces else normal)
        return self.classifier(one.mean((2, 3)))


def by_hand(part: Part, held: Part, batch: int, device: torch.device) -> Callable[[], None]:
    """Steps of the first order over the part, once."""
    network = ByHand().to(device)
    network.alphas = [a.detach().to(device).requires_grad_() for a in network.alphas]
    weights = torch.optim.SGD(network.parameters(), 0.025, 0.9, weight_decay=3e-4)
    choices = torch.optim.Adam(network.alphas, 3e-4, (0.5, 0.999), weight_decay=1e-3)

    def run() -> None:
        network.train()
        order, other = (torch.randperm(len(p)) for p in (part, held))
        for place in range(0, len(part), batch):
            ours, theirs = (o[place : place + batch].to(device) for o in (order, other))
            choices.zero_grad()
            F.cross_entropy(network(held.images[theirs]), held.targets[theirs]).backward()
            choices.step()
            weights.zero_grad()
            F.cross_entropy(network(part.images[ours]), part.targets[ours]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            weights.step()

    run.__dict__["parameters"] = sum(p.numel() for p in network.parameters())
    return run


def trainer(part: Part, held: Part, batch: int, device: torch.device) -> Callable[[], None]:
    """The same by the trainer."""
    frame = Frame((3, 32, 32), 10, Scale(cells=CELLS, filters=FILTERS), searching=True)
    supernet = Cell(CellSpace(preset="darts", ops=None)).supernet(frame)
    assert supernet is not None
    network = Supernetwork(supernet).to(device)
    relaxation = Darts(supernet, torch.Generator().manual_seed(0))
    training = Training.model_validate(
        {
            "epochs": 1000,
            "batchSize": batch,
            "clipNorm": 5,
            "precision": "float32",
            "optimizer": {"type": "SGD", "sgd": {"learningRate": 0.025, "weightDecay": 3e-4}},
        }
    )
    run = SupernetRun(
        model=network,
        optimizer=make_optimizer(network, training, paths=True),
        task=Classification(10),
        training=training,
        device=device,
        train=part,
        validation=held,
        epochs=1000,
        seed=0,
        relaxation=relaxation,
        held=held,
        chooser=torch.optim.Adam(relaxation.parameters(), 3e-4, (0.5, 0.999), weight_decay=1e-3),
        order=1,
    )

    def train() -> None:
        run.train_epoch()

    train.__dict__["parameters"] = sum(p.numel() for p in network.parameters())
    return train


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """What it takes, with the device's."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    device = torch.device(options.device)
    generator = torch.Generator().manual_seed(0)
    count = options.batch * options.steps
    part, held = (
        Part(
            torch.rand(count, 3, 32, 32, generator=generator),
            torch.randint(0, 10, (count,), generator=generator),
        ).to(device)
        for _ in range(2)
    )
    works = [make(part, held, options.batch, device) for make in (by_hand, trainer)]
    ours = [work.__dict__["parameters"] for work in works]
    assert ours[0] == ours[1], f"{ours[0]} parameters by hand, {ours[1]} in the trainer"
    for work in works:
        seconds(work, device)
    pairs = [[seconds(work, device) for work in works] for _ in range(options.rounds)]
    ratios = sorted(hand / trained for hand, trained in pairs)
    hand, trained = (
        statistics.median(column) / options.steps for column in zip(*pairs, strict=True)
    )
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{ours[0]:,} parameters, batches of {options.batch} on {device}: {hand:.3f} s a step by "
        f"hand, {trained:.3f} s in the trainer; ratio {middle:.3f} ({low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
