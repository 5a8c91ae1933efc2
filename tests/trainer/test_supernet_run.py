"""A supernet's training: what learns from what, and that a pause changes no bit."""

from __future__ import annotations

import pytest
import torch

from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.gdas import Gdas
from kinase_trainer.supernet.relaxation import Learned
from kinase_trainer.supernet.run import halves
from tests.trainer.supernets import SPLITS, a_run, alphas, assert_a_pause_changes_nothing


@pytest.mark.parametrize(("kind", "order"), [(Darts, 1), (Darts, 2), (Gdas, 1)])
def test_a_pause_after_each_epoch_changes_no_bit(kind: type[Learned], order: int) -> None:
    assert_a_pause_changes_nothing(lambda seed: a_run(kind, seed=seed, order=order))


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
