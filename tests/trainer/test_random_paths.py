"""Relaxations that learn nothing of the choices: each option once a step, and path dropout."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.space import Frame
from kinase.space.cell import Cell
from kinase.space.supernet import NONE
from kinase_trainer.data import as_float
from kinase_trainer.supernet.fair import Fair
from kinase_trainer.supernet.path_dropout import PathDropout, incoming
from kinase_trainer.supernet.run import SupernetRun
from tests.trainer.supernets import a_run, assert_a_pause_changes_nothing


def fair(seed: int = 1) -> SupernetRun:
    """A run with strict fairness."""
    return a_run(lambda s, _: Fair(s), seed=seed)


def dropout(seed: int = 1, rate: float = 0.5) -> SupernetRun:
    """A run with path dropout."""
    return a_run(lambda s, _: PathDropout(s, rate), seed=seed, own_statistics=True)


def test_every_option_is_used_once_in_each_step() -> None:
    run = fair()
    used: list[dict[str, int]] = []
    follow = run.network.follow

    def noted(path: dict[str, int]) -> None:
        used.append(path)
        follow(path)

    run.network.follow = noted  # type: ignore[assignment, method-assign]
    assert run.passes == 5 * 128
    assert run.train_epoch() == 5 * 128
    assert len(used) == 2 * 5
    for step in (used[:5], used[5:]):
        for group in run.network.supernet.groups:
            assert sorted(path[group] for path in step) == [0, 1, 2, 3, 4]


def test_its_gradients_are_the_sum_over_the_paths() -> None:
    run = fair()
    run.train = run.train.subset(torch.arange(32))
    whole: dict[str, torch.Tensor] = {}
    paths: list[dict[str, int]] = []
    follow = run.network.follow

    def noted(path: dict[str, int]) -> None:
        paths.append(path)
        follow(path)

    def looked() -> None:
        named = run.network.named_parameters()
        whole.update({name: p.grad.clone() for name, p in named if p.grad is not None})

    run.network.follow = noted  # type: ignore[assignment, method-assign]
    run._move = looked  # type: ignore[method-assign]
    run.train_epoch()
    pixels, targets = next(iter(run.train.read(torch.arange(32), 32)))
    total = {name: torch.zeros_like(g) for name, g in whole.items()}
    for path in paths:
        run.network.zero_grad(set_to_none=True)
        follow(path)
        run.task_loss(as_float(pixels), targets).backward()
        for name, parameter in run.network.named_parameters():
            if parameter.grad is not None:
                total[name] += parameter.grad
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, total[name], rtol=1e-3, atol=1e-5)


def test_fairness_needs_a_free_choice_of_each_edge() -> None:
    darts = Cell(CellSpace(preset="darts"))
    supernet = darts.supernet(Frame((1, 8, 8), 10, Scale(cells=3, filters=4), searching=True))
    assert supernet is not None
    with pytest.raises(ValueError, match="take only some of their edges; use Uniform"):
        Fair(supernet)


def test_a_node_loses_all_its_inputs_with_the_probability_of_the_rate() -> None:
    run = dropout(rate=0.3)
    relaxation = run.relaxation
    assert isinstance(relaxation, PathDropout)
    relaxation.begin(2, 3)
    supernet = run.network.supernet
    assert incoming(supernet) == {
        f"normal_{index}_{source}": 4 * (index + 1)
        for index in range(3)
        for source in range(index + 1)
    }
    kept: list[dict[str, tuple[int, ...]]] = []
    run.network.run_some = lambda options, _: kept.append(options)  # type: ignore[method-assign, assignment]
    source, draws = torch.Generator().manual_seed(0), 600
    for _ in range(draws):
        relaxation.choose(run.network, source)
    none = next(iter(supernet.groups.values())).index(NONE)
    lost: Counter[int] = Counter()
    for options in kept:
        for index in range(3):
            edges = [options[f"normal_{index}_{source}"] for source in range(index + 1)]
            lost[index] += all(list(edge) == [none] for edge in edges)
    for index in range(3):
        assert lost[index] / draws == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / draws) ** 0.5)


def test_the_rate_grows_from_zero() -> None:
    run = dropout()
    relaxation = run.relaxation
    assert isinstance(relaxation, PathDropout)
    rates = []
    for epoch in range(3):
        relaxation.begin(epoch, 3)
        rates.append(relaxation.now)
    assert rates == [0.0, 0.25, 0.5]


def test_all_options_that_are_kept_are_summed_and_only_they_are_trained() -> None:
    run = dropout()
    network = run.network
    names = next(iter(network.supernet.groups.values()))
    conv, skip = names.index("nor_conv_3x3"), names.index("skip_connect")
    network.run_some(dict.fromkeys(network.supernet.groups, (skip, conv)))
    images = torch.rand(2, 1, 8, 8)
    network.eval()
    some = network(images)
    row = torch.zeros(len(names))
    row[[conv, skip]] = 1.0
    some.square().sum().backward()
    trained = {name for name, p in network.named_parameters() if p.grad is not None}
    assert any("nor_conv_3x3" in name for name in trained)
    assert not any("nor_conv_1x1" in name for name in trained), "None, not zero"
    network.mix(dict.fromkeys(network.supernet.groups, row))
    torch.testing.assert_close(network(images), some, rtol=1e-5, atol=1e-6)


def test_in_evaluation_batches_are_normalized_by_their_own_statistics() -> None:
    run = dropout()
    run.train_epoch()
    before = run.score()
    for module in run.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.fill_(5.0)
    assert run.score() == before
    run.own_statistics = False
    assert run.score() != before


@pytest.mark.parametrize("make", [fair, dropout])
def test_a_pause_changes_no_bit(make: object) -> None:
    assert_a_pause_changes_nothing(make)  # type: ignore[arg-type]
