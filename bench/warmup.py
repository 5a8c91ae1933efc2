"""What a warm-up that is scaled to a shorter training is worth, on the digits.

    python -m bench.warmup

A recipe of 20 epochs with 5 of warm-up, trained for 3: with the whole warm-up, which so short a
training never leaves, and with the same share of it, as the trainer has it.
"""

from __future__ import annotations

from contextlib import nullcontext
from statistics import mean
from unittest import mock

import torch

from kinase.api.space import Space
from kinase.api.task import Task, Training
from kinase.space import Frame, make_space
from kinase_trainer import train
from kinase_trainer.data import open_splits
from kinase_trainer.network import Network
from kinase_trainer.tasks import Classification

EPOCHS, SEEDS = 3, range(5)
CHAIN = {
    "layers": [
        {"op": "conv", "width": 16, "kernel": 3, "stride": 1},
        {"op": "conv", "width": 32, "kernel": 3, "stride": 2},
    ]
}


def accuracy(training: Training, seed: int) -> float:
    """Of the validation part, after the short training."""
    splits = open_splits(Task())
    graph = make_space(Space.model_validate({"type": "Chain"})).graph(
        CHAIN, Frame(splits.shape, splits.outputs)
    )
    torch.manual_seed(seed)
    network = Network(graph, splits.mean, splits.deviation)
    run = train.Run(
        network,
        train.make_optimizer(network, training),
        Classification(),
        training,
        torch.device("cpu"),
        splits.train,
        splits.validation,
        EPOCHS,
        seed,
    )
    for _ in range(EPOCHS):
        run.train_epoch()
    return run.score()["val_accuracy"]


def main() -> None:
    torch.set_num_threads(1)
    whole = mock.patch.object(train, "warmup_of", lambda t, epochs: min(t.warmup_epochs, epochs))
    for name, warmup in (("none", 0), ("whole", 5), ("scaled", 5)):
        training = Training.model_validate({"device": "cpu", "epochs": 20, "warmupEpochs": warmup})
        with whole if name == "whole" else nullcontext():
            found = [accuracy(training, seed) for seed in SEEDS]
        print(f"{name:8} mean {mean(found):.3f}, {min(found):.3f} to {max(found):.3f}")


if __name__ == "__main__":
    main()
