"""A small supernet in training."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.api.task import Task, Training
from kinase.space import Frame
from kinase.space.cell import Cell
from kinase.space.supernet import Supernet
from kinase_trainer.data import open_splits
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Relaxation
from kinase_trainer.supernet.run import SupernetRun, halves
from kinase_trainer.train import make_optimizer

SPACE = Cell(CellSpace(preset="nasbench201"))
SPLITS = open_splits(Task.model_validate({"dataset": "digits"}))
TRAINING = Training.model_validate({"epochs": 3, "batchSize": 64, "device": "cpu", "clipNorm": 5})


def a_run(
    kind: Callable[[Supernet, torch.Generator], Relaxation] = Darts,
    *,
    seed: int = 1,
    space: Cell = SPACE,
    **changes: Any,
) -> SupernetRun:
    """A small supernet on a part of the digits.

    Args:
        kind: makes the relaxation.
        space: whose supernet it is.
        seed: of weights and choices.
        changes: to fields of the run.
    """
    torch.manual_seed(seed)
    supernet = space.supernet(Frame((1, 8, 8), 10, Scale(cells=3, filters=4), searching=True))
    assert supernet is not None
    network = Supernetwork(supernet)
    relaxation = kind(supernet, torch.Generator().manual_seed(seed))
    parameters = list(relaxation.parameters())
    part = SPLITS.train.subset(torch.arange(256))
    weights, held = halves(part, 0.5, 1)
    run = SupernetRun(
        model=network,
        optimizer=make_optimizer(network, TRAINING, paths=True),
        task=SPLITS.learning,
        training=TRAINING,
        device=torch.device("cpu"),
        train=weights,
        validation=SPLITS.validation.subset(torch.arange(64)),
        epochs=3,
        seed=seed,
        relaxation=relaxation,
        held=held,
        chooser=torch.optim.Adam(parameters, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
        if parameters
        else None,
    )
    for name, value in changes.items():
        setattr(run, name, value)
    return run


def assert_a_pause_changes_nothing(make: Callable[[int], SupernetRun], epochs: int = 2) -> None:
    """Train one run at a stretch, and one that another takes up after the first epoch: they are
    the same bit for bit.

    Args:
        make: a run, of a seed for its first values.
        epochs: of each.
    """
    whole, paused, other = make(1), make(1), make(9)
    for _ in range(epochs):
        whole.train_epoch()
    paused.train_epoch()
    other.seed = 1
    other.unpack(packed := paused.pack())
    json.dumps(packed.scalars)
    for _ in range(1, epochs):
        other.train_epoch()
    one, two = whole.pack(), other.pack()
    assert one.tensors.keys() == two.tensors.keys()
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, two.tensors[name]), name
    assert one.scalars == two.scalars
    assert whole.score() == other.score()
    assert whole.derived() == other.derived()


def alphas(run: SupernetRun) -> torch.Tensor:
    """All parameters of the choices."""
    return torch.cat([p.detach().flatten() for p in run.relaxation.parameters()])
