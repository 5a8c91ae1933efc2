"""A supernet's training: what learns from what, and that a pause changes no bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.api.task import Task, Training
from kinase.space import Frame
from kinase.space.cell import Cell
from kinase_trainer.data import open_splits
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.gdas import Gdas
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Learned
from kinase_trainer.supernet.run import SupernetRun, halves
from kinase_trainer.train import make_optimizer

SPLITS = open_splits(Task.model_validate({"dataset": "digits"}))
TRAINING = Training.model_validate({"epochs": 3, "batchSize": 64, "device": "cpu", "clipNorm": 5})


def a_run(kind: type[Learned] = Darts, *, seed: int = 1, **changes: Any) -> SupernetRun:
    """A small supernet on a part of the digits."""
    torch.manual_seed(seed)
    supernet = Cell(CellSpace(preset="nasbench201")).supernet(
        Frame((1, 8, 8), 10, Scale(cells=3, filters=4), searching=True)
    )
    assert supernet is not None
    network = Supernetwork(supernet)
    relaxation = kind(supernet, torch.Generator().manual_seed(seed))
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
        chooser=torch.optim.Adam(
            relaxation.parameters(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3
        ),
    )
    for name, value in changes.items():
        setattr(run, name, value)
    return run


def alphas(run: SupernetRun) -> torch.Tensor:
    """All parameters of the choices."""
    return torch.cat([p.detach().flatten() for p in run.relaxation.parameters()])


@pytest.mark.parametrize(("kind", "order"), [(Darts, 1), (Darts, 2), (Gdas, 1)])
def test_a_pause_after_each_epoch_changes_no_bit(kind: type[Learned], order: int) -> None:
    whole = a_run(kind, order=order)
    for _ in range(2):
        whole.train_epoch()
    paused = a_run(kind, order=order)
    paused.train_epoch()
    other = a_run(kind, seed=9, order=order)
    other.seed = 1
    other.unpack(paused.pack())
    other.train_epoch()
    for name, tensor in whole.pack().tensors.items():
        assert torch.equal(tensor, other.pack().tensors[name]), name
    assert whole.score() == other.score()


def test_choices_learn_and_only_when_they_may() -> None:
    run = a_run(frozen=1)
    before = alphas(run)
    first = run.train_epoch()
    assert torch.equal(alphas(run), before)
    second = run.train_epoch()
    assert not torch.equal(alphas(run), before)
    assert (first, second) == (128, 256), "the choices' passes are counted as well"


def test_the_weights_never_see_what_is_held_out() -> None:
    part = SPLITS.train
    weights, held = halves(part, 0.25, 3)
    assert len(held) == len(part) // 4
    assert len(weights) + len(held) == len(part)
    both = torch.cat([weights.images.flatten(1).float(), held.images.flatten(1).float()])
    assert sorted(map(tuple, both.tolist())) == sorted(
        map(tuple, part.images.flatten(1).float().tolist())
    )
    again, _ = halves(part, 0.25, 3)
    assert torch.equal(again.images, weights.images)


def test_too_few_samples_to_hold_out_are_refused() -> None:
    with pytest.raises(ValueError, match="leaves 1 for the choices"):
        halves(SPLITS.train.subset(torch.arange(10)), 0.1, 0)


def test_a_checkpoint_of_another_supernet_changes_nothing() -> None:
    run, saved = a_run(), a_run(seed=5).pack()
    before = run.pack().tensors
    saved.tensors.pop("model.nodes.classifier.weight")
    with pytest.raises(ValueError, match="another network"):
        run.unpack(saved)
    for name, tensor in run.pack().tensors.items():
        assert torch.equal(tensor, before[name]), name


def test_choices_that_are_not_numbers_are_refused() -> None:
    run, saved = a_run(), a_run().pack()
    name = next(n for n in saved.tensors if n.startswith("choices.model.alphas"))
    saved.tensors[name] = torch.full_like(saved.tensors[name], float("nan"))
    with pytest.raises(ValueError, match="its choices are not numbers"):
        run.unpack(saved)
