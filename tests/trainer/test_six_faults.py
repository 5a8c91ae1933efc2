"""Six faults that searches by gradients are known for, and one of weight sharing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import kinase_trainer.supernet
from kinase.api import supernet as api
from kinase.api import supernet_options as repairs
from kinase.space.supernet import Supernet
from kinase.space.supernet_costs import option_costs
from kinase_trainer.supernet.cost import Cost
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.enas import Enas
from kinase_trainer.supernet.gdas import Gdas
from kinase_trainer.supernet.proxyless import Proxyless
from kinase_trainer.supernet.relaxation import Relaxation
from kinase_trainer.supernet.run import SupernetRun
from kinase_trainer.supernet.uniform import Uniform
from tests.trainer.supernets import SPACE, a_run, alphas


def held_batches(run: SupernetRun, epochs: int) -> list[Tensor]:
    """The images of each step of the choices."""
    found: list[Tensor] = []
    held_batch = run.held_batch

    def noted() -> tuple[Tensor, Tensor]:
        batch = held_batch()
        found.append(batch[0])
        return batch

    run.held_batch = noted  # type: ignore[method-assign]
    for _ in range(epochs):
        run.train_epoch()
    return found


def test_the_choices_see_another_held_out_batch_in_each_step() -> None:
    run = a_run(Gdas)
    run.held = run.held.subset(torch.arange(100))  # two batches: one of the third step is new
    run.train = run.train.subset(torch.arange(128).repeat(2)[:192])
    found = held_batches(run, 2)
    assert len(found) == 6
    for one, two in itertools.pairwise(found):
        assert one.shape != two.shape or not torch.equal(one, two)
    assert not torch.equal(found[0], found[3]), "nor the first one again in the next epoch"
    both = torch.cat(found[:2]).flatten(1)
    assert len(torch.unique(both, dim=0)) == len(torch.unique(run.held.images.flatten(1), dim=0))


def test_the_step_of_the_weights_reaches_the_choices() -> None:
    # a loss of the choices' step that depends on them through the step of the weights alone
    run = a_run(Darts, order=2)
    weight = next(iter(run.network.parameters()))
    first, *_ = run.relaxation.parameters()
    moved: list[Tensor] = []
    learn = run.relaxation.learn  # type: ignore[operator]
    run.choices_loss = lambda images, _, __: (  # type: ignore[method-assign]
        (weight * first.square().sum()).sum() if images is run._batch[0] else weight.sum()  # type: ignore[index]
    )
    run.relaxation.learn = lambda found, chooser: (moved.append(found[0]), learn(found, chooser))  # type: ignore[assignment]
    run.train = run.train.subset(torch.arange(64))
    before = first.detach().clone()
    run.train_epoch()
    # held-out: sum(w - r (a.a + d w)), so its derivative in a is -2 r a for each weight
    rate = run.training.optimizer.member.learning_rate
    torch.testing.assert_close(moved[0], -2 * rate * weight.numel() * before, rtol=1e-3, atol=1e-9)


def test_the_best_path_is_returned_and_not_the_last() -> None:
    run = a_run(lambda s, g: Enas(s, g, api.ENAS(derived=6)))
    relaxation = run.relaxation
    assert isinstance(relaxation, Enas)
    seen: list[float] = []

    def reward(path: object) -> float:
        seen.append([0.2, 0.9, 0.5, 0.4, 0.3, 0.1][len(seen)])
        return seen[-1]

    relaxation.conclude(reward, torch.Generator().manual_seed(0))
    assert len(seen) > 2
    found = [score for _, score in run.derived()]
    assert found[0] == 0.9
    assert found == sorted(seen, reverse=True)


def test_no_device_is_written_into_the_code() -> None:
    [folder] = kinase_trainer.supernet.__path__
    for path in Path(folder).glob("*.py"):
        assert not re.search(r"\.cuda\(|[\"']cuda", path.read_text()), path.name


def test_the_penalty_of_resources_has_the_gradient_of_its_differences() -> None:
    run = a_run(Darts)
    extra = Cost(repairs.Cost(), run.relaxation, option_costs(run.network.supernet))
    run.relaxation.double()
    first, *_ = run.relaxation.parameters()
    loss = torch.tensor(2.0, dtype=torch.float64)
    [found] = torch.autograd.grad(extra.penalize(run, loss), first)
    assert bool((found != 0).all())
    for number in range(len(first)):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                first[number] += sign * 1e-4
                sides.append(float(extra.penalize(run, loss)))
                first[number] -= sign * 1e-4
        assert float(found[number]) == pytest.approx((sides[0] - sides[1]) / 2e-4, rel=1e-3)


def test_every_batch_counts_also_the_last_one() -> None:
    run = a_run(Gdas, interval=2)
    run.train = run.train.subset(torch.arange(128).repeat(2)[:150])
    sizes: list[int] = []
    step = run._step_weights

    def noted(loss: Tensor) -> None:
        assert run._batch is not None
        sizes.append(len(run._batch[1]))
        step(loss)

    run._step_weights = noted  # type: ignore[method-assign]
    found = held_batches(run, 1)
    assert sizes == [64, 64, 22]
    assert len(found) == 2, "before the first and the third step"


def uniform(supernet: Supernet, _: torch.Generator) -> Uniform:
    """Random paths."""
    return Uniform(supernet, SPACE)


def enas(supernet: Supernet, generator: torch.Generator) -> Enas:
    """A controller's paths."""
    return Enas(supernet, generator, api.ENAS())


@pytest.mark.parametrize("kind", [uniform, Gdas, Proxyless, enas])
def test_what_is_not_on_the_path_does_not_move(
    kind: Callable[[Supernet, torch.Generator], Relaxation],
) -> None:
    # neither by decay nor by momentum: its gradient is None, and not zero
    run = a_run(kind, order=0)
    assert all(group["weight_decay"] > 0 for group in run.optimizer.param_groups[:1])
    run.chooser = None
    run.train_epoch()  # so that all have been moved once, or almost all
    run.train = run.train.subset(torch.arange(64))
    before = {name: p.detach().clone() for name, p in run.network.named_parameters()}
    with_gradient: set[str] = set()
    move = run._move

    def noted() -> None:
        named = run.network.named_parameters()
        with_gradient.update(name for name, p in named if p.grad is not None)
        move()

    run._move = noted  # type: ignore[method-assign]
    run.train_epoch()
    after = dict(run.network.named_parameters())
    still = {name for name, p in before.items() if torch.equal(p, after[name].detach())}
    assert still
    assert before.keys() - with_gradient <= still


def test_alphas_that_are_not_numbers_end_the_training_with_their_name() -> None:
    run = a_run(Darts)
    with torch.no_grad():
        next(iter(run.relaxation.parameters())).fill_(float("nan"))
    with pytest.raises(ArithmeticError, match="the loss is nan in epoch 1"):
        run.train_epoch()
    run = a_run(Gdas)
    learn = run.relaxation.learn  # type: ignore[operator]

    def broken(found: list[Tensor], chooser: object) -> None:
        learn(found, chooser)
        if run.step:
            with torch.no_grad():
                run.relaxation.alphas["normal_2_1"].fill_(float("nan"))  # type: ignore[index, operator]

    run.relaxation.learn = broken  # type: ignore[assignment]
    run.relaxation.choose = lambda network, _: network.follow(  # type: ignore[method-assign]
        dict.fromkeys(network.supernet.groups, 1)
    )
    message = r"the choices \(alphas.normal_2_1\) are not numbers in epoch 1"
    with pytest.raises(ArithmeticError, match=message):
        run.train_epoch()
    assert torch.isnan(alphas(run)).any()
