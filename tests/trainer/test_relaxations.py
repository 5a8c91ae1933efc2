"""Relaxations against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.space import Frame
from kinase.space.cell import Cell
from kinase.space.supernet import Supernet
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.drnas import DrNas
from kinase_trainer.supernet.gaea import Gaea
from kinase_trainer.supernet.gdas import Gdas
from kinase_trainer.supernet.gumbel import hard_sample
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.relaxation import Learned
from kinase_trainer.supernet.snas import Snas

FRAME = Frame((3, 8, 8), 10, Scale(cells=3, filters=4), searching=True)
ALPHA = torch.tensor([0.3, -0.5, 1.2, 0.0])
P = torch.softmax(ALPHA, dim=0)
DRAWS = 1000
KINDS: list[type[Learned]] = [Darts, Gdas, Snas, DrNas, Gaea]


def generator(seed: int = 0) -> torch.Generator:
    """A seeded one."""
    return torch.Generator().manual_seed(seed)


def supernet() -> Supernet:
    """Of a small space of dense cells."""
    found = Cell(CellSpace(preset="nasbench201")).supernet(FRAME)
    assert found is not None
    return found


def within(shares: Tensor, expected: Tensor) -> bool:
    """Whether frequencies are those expected, within four standard errors."""
    errors = (expected * (1 - expected) / DRAWS).sqrt()
    return bool(((shares - expected).abs() < 4 * errors).all())


@pytest.mark.parametrize("temperature", [10.0, 0.1])
def test_gumbel_draws_have_the_frequencies_of_the_softmax(temperature: float) -> None:
    source = generator()
    draws = torch.stack([hard_sample(ALPHA, temperature, source) for _ in range(DRAWS)])
    assert set(draws.round(decimals=5).flatten().tolist()) == {0.0, 1.0}
    assert within(draws.mean(dim=0), P)


def test_the_gradient_of_a_draw_is_that_of_its_softmax() -> None:
    # (diag p - p p') u / temperature, for the derivative u of the loss in the weights
    alpha = ALPHA.clone().requires_grad_()
    outward = torch.tensor([0.7, 0.1, -0.4, 0.2])
    (hard_sample(alpha, 2.0, generator(1)) @ outward).backward()
    noise = -torch.log(-torch.log(torch.rand(4, generator=generator(1))))
    soft = torch.softmax((torch.log_softmax(ALPHA, 0) + noise) / 2.0, dim=0)
    expected = (torch.diag(soft) - torch.outer(soft, soft)) @ outward / 2.0
    assert alpha.grad is not None
    torch.testing.assert_close(alpha.grad, expected)


def test_gdas_runs_one_option_of_each_edge_and_all_alphas_have_a_gradient() -> None:
    whole = supernet()
    network, relaxation = Supernetwork(whole), Gdas(whole, generator())
    run: list[str] = []
    for name, module in network.nodes.items():
        module.register_forward_hook(lambda *_, name=name: run.append(name))
    relaxation.choose(network, generator(2))
    network(torch.rand(2, 3, 8, 8)).square().sum().backward()
    inputs = {choice.node: choice.options for choice in whole.choices}
    for edge, options in inputs.items():
        written = [o for o in options if any(n.startswith(f"{edge}_{o}") for n in run)]
        assert len(written) <= 1, "an identity has no node"
    # the edges into the last node always count; one before it does if a later one is not none
    for group in ("normal_2_0", "normal_2_1", "normal_2_2"):
        gradient = relaxation.alphas[group].grad
        assert gradient is not None
        assert bool((gradient != 0).all()), "also of the options that were not run"


def test_a_cold_concrete_sample_is_a_choice() -> None:
    whole = supernet()
    network, relaxation = Supernetwork(whole), Snas(whole, generator())
    relaxation.begin(149, 150)
    assert relaxation.temperature == pytest.approx(0.03)
    group = next(iter(whole.groups))
    with torch.no_grad():
        relaxation.alphas[group][:4] = ALPHA
        relaxation.alphas[group][4] = -20.0
    node = next(c.node for c in whole.choices if c.group == group)
    source, counts = generator(3), torch.zeros(5)
    for _ in range(DRAWS):
        relaxation.choose(network, source)
        weights = network.nodes[node].weights
        assert isinstance(weights, Tensor)
        counts[weights.detach().argmax()] += 1
    assert within(counts[:4] / DRAWS, P)


def test_dirichlet_samples_have_the_mean_and_its_gradient() -> None:
    whole = supernet()
    network, relaxation = Supernetwork(whole), DrNas(whole, generator())
    group = next(iter(whole.groups))
    alpha = relaxation.alphas[group]
    with torch.no_grad():
        alpha.copy_(torch.tensor([0.5, 1.5, 0.0, -0.5, 1.0]))
    node = next(c.node for c in whole.choices if c.group == group)
    outward = torch.tensor([1.0, -0.5, 0.3, 0.0, 2.0])
    source, total = generator(4), torch.zeros(())
    for _ in range(DRAWS):
        relaxation.choose(network, source)
        weights = network.nodes[node].weights
        assert isinstance(weights, Tensor)
        total = total + weights @ outward / DRAWS
    [found] = torch.autograd.grad(total, alpha)
    c = torch.nn.functional.elu(alpha) + 1.0
    mean = (c / c.sum()) @ outward
    [expected] = torch.autograd.grad(mean, alpha)
    assert float(total.detach()) == pytest.approx(float(mean.detach()), abs=0.06)
    torch.testing.assert_close(found, expected, atol=0.06, rtol=0.0)
    torch.testing.assert_close(relaxation.scores()[group], (c / c.sum()).detach())


def moved(relaxation: Gaea, gradient: Tensor, rate: float, steps: int) -> Tensor:
    """The first group's weights after steps with one gradient of it, in the weights."""
    optimizer = torch.optim.SGD(relaxation.parameters(), lr=rate)
    first, *others = relaxation.alphas.values()
    for _ in range(steps):
        gradients = [gradient * first.detach().exp(), *map(torch.zeros_like, others)]
        relaxation.learn(gradients, optimizer)
        assert float(next(iter(relaxation.scores().values())).sum()) == pytest.approx(1.0, abs=1e-6)
    return next(iter(relaxation.scores().values()))


def test_a_constant_gradient_leads_to_its_softmax() -> None:
    # Li et al. 2021: after t steps p is the softmax of -rate t g
    gradient = torch.tensor([0.2, -0.1, 0.4, 0.0, 0.1])
    found = moved(Gaea(supernet(), generator()), gradient, 0.1, 20)
    expected = torch.softmax(-0.1 * 20 * gradient, dim=0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0.0)


def test_no_option_falls_below_the_least_weight() -> None:
    gradient = torch.tensor([0.0, 0.0, 0.0, 0.0, 1e6])
    least = float(moved(Gaea(supernet(), generator()), gradient, 1.0, 5).min())
    assert 0.9e-5 < least < 1.1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_generator_makes_the_same_choices(kind: type[Learned]) -> None:
    whole, images = supernet(), torch.rand(2, 3, 8, 8)
    torch.manual_seed(0)
    network, outputs = Supernetwork(whole).eval(), []
    for _ in range(2):
        relaxation = kind(whole, generator(1))
        relaxation.begin(1, 3)
        relaxation.choose(network, generator(5))
        outputs.append(network(images).detach())
    assert torch.equal(*outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_derived_is_what_scores_best(kind: type[Learned]) -> None:
    relaxation = kind(supernet(), generator())
    with torch.no_grad():
        for number, a in enumerate(relaxation.alphas.values()):
            a[number % 5] += 3.0
    assert list(relaxation.derive().values()) == [number % 5 for number in range(6)]
    assert relaxation.entropy() < math.log(5)


def test_choices_that_are_not_numbers_are_refused() -> None:
    relaxation = Darts(supernet(), generator())
    with torch.no_grad():
        relaxation.alphas["normal_1_0"].fill_(float("nan"))
    with pytest.raises(ValueError, match="normal_1_0"):
        relaxation.derive()
