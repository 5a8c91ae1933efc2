"""ENAS: its controller writes architectures, and finds the best of a table."""

from __future__ import annotations

import itertools

import pytest
import torch

from kinase.api import supernet as api
from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.space import Frame
from kinase.space.builder import GraphBuilder
from kinase.space.cell import Cell
from kinase.space.supernet import NONE, Choice, Inputs, Supernet
from kinase_trainer.supernet.controller import Controller
from kinase_trainer.supernet.enas import Enas
from kinase_trainer.supernet.run import SupernetRun
from tests.trainer.supernets import a_run, assert_a_pause_changes_nothing

DARTS = Cell(CellSpace(preset="darts", ops=("skip_connect", "sep_conv_3x3", "max_pool_3x3")))
PLAN = api.ENAS(steps=2, paths=3, units=8, derived=4)


def generator(seed: int = 0) -> torch.Generator:
    """A seeded one."""
    return torch.Generator().manual_seed(seed)


def groups(**options: tuple[str, ...]) -> Supernet:
    """A supernet of which only the choices count."""
    g = GraphBuilder((1, 4, 4))
    graph = g.build(g.linear("classifier", g.flatten("flat", g.input), 2))
    return Supernet(graph, tuple(Choice(n, o, n) for n, o in options.items()))


def test_what_it_writes_is_an_architecture() -> None:
    supernet = DARTS.supernet(Frame((1, 8, 8), 10, Scale(cells=3, filters=4), searching=True))
    assert supernet is not None
    controller = Controller(supernet, generator(), 8, 1.1, 2.5)
    written = controller.write(12, generator(1))
    for number in range(12):
        DARTS.validate(DARTS.architecture(written.path(number)))
    assert written.chances.shape == (12,)
    preferred = controller.write(2, None)
    assert preferred.path(0) == preferred.path(1)


def test_nodes_with_a_free_number_of_edges_keep_their_limits() -> None:
    edge = (NONE, "conv")
    whole = groups(a=edge, b=edge, c=edge, d=("x", "y"))
    supernet = Supernet(whole.graph, whole.choices, (Inputs(("a", "b", "c"), 2, least=1),))
    written = Controller(supernet, generator(), 8, 1.1, 2.5).write(200, generator(1))
    counts = {sum(written.path(n)[g] for g in "abc") for n in range(200)}
    assert counts == {1, 2}


def test_probabilities_of_all_paths_sum_to_one() -> None:
    edge = (NONE, "skip_connect", "conv")
    whole = groups(a=edge, b=edge, c=("x", "y"))
    supernet = Supernet(whole.graph, whole.choices, (Inputs(("a", "b"), 1),))
    controller = Controller(supernet, generator(3), 8, 5.0, 1.0)
    written = controller.write(3000, generator(1))
    chances: dict[tuple[int, ...], float] = {}
    counts: dict[tuple[int, ...], int] = {}
    for number in range(3000):
        key = tuple(written.path(number).values())
        chances[key] = float(written.chances[number].detach().exp())
        counts[key] = counts.get(key, 0) + 1
    assert len(chances) == 2 * 2 * 2
    assert sum(chances.values()) == pytest.approx(1.0, abs=1e-5)
    for key, chance in chances.items():
        assert counts[key] / 3000 == pytest.approx(chance, abs=0.04)


def test_a_fixed_table_is_solved_to_its_best() -> None:
    supernet = groups(a=("x", "y", "z"), b=("x", "y"), c=("x", "y", "z"))
    rows = (torch.tensor([0.1, 0.0, 0.3]), torch.tensor([0.0, 0.3]), torch.tensor([0.3, 0.1, 0.0]))
    table = rows[0][:, None, None] + rows[1][:, None] + rows[2]
    plan = api.ENAS(units=16, paths=20, tanh=2.5, reduce=1.0, baseline=0.8)
    relaxation = Enas(supernet, generator(), plan)
    optimizer = torch.optim.Adam(relaxation.parameters(), lr=0.02, betas=(0.0, 0.999), eps=1e-3)
    source = generator(1)
    for _ in range(60):
        relaxation.reinforce(lambda path: float(table[tuple(path.values())]), optimizer, source)
    assert relaxation.derive() == {"a": 2, "b": 1, "c": 0}
    assert float(relaxation.baseline) > float(table.mean())


def test_one_step_is_the_gradient_of_the_enumerated_expectation() -> None:
    supernet = groups(a=("x", "y", "z"), b=("x", "y"))
    table = torch.tensor([[0.1, 0.9], [0.5, 0.3], [0.8, 0.2]])
    plan = api.ENAS(units=4, paths=1000, entropy=0.0, reduce=1.0, tanh=2.0)
    relaxation = Enas(supernet, generator(2), plan)
    written = relaxation.controller.write(1000, generator(7))
    unique = {tuple(written.path(n).values()): written.chances[n] for n in range(1000)}
    assert set(unique) == set(itertools.product(range(3), range(2)))
    expectation = sum(chance.exp() * table[key] for key, chance in unique.items())
    assert isinstance(expectation, torch.Tensor)
    parameters = dict(relaxation.named_parameters())
    exact = torch.autograd.grad(expectation, list(parameters.values()), allow_unused=True)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    with torch.no_grad():
        relaxation.baseline.fill_(0.5)
    optimizer = torch.optim.SGD(relaxation.parameters(), lr=1.0)
    relaxation.reinforce(lambda path: float(table[path["a"], path["b"]]), optimizer, generator(5))
    for (name, old), gradient in zip(before.items(), exact, strict=True):
        moved = parameters[name].detach() - old
        wanted = torch.zeros_like(moved) if gradient is None else gradient
        torch.testing.assert_close(moved, wanted, atol=0.05, rtol=0.0)


def test_skips_come_to_their_target() -> None:
    skip = (NONE, "skip_connect")
    supernet = groups(a=skip, b=("x", "y"), c=skip)
    plan = api.ENAS(units=8, paths=5, skip_target=0.8, skip_weight=5.0, reduce=1.0, tanh=2.5)
    relaxation = Enas(supernet, generator(), plan)
    optimizer = torch.optim.Adam(relaxation.parameters(), lr=0.02)
    for step in range(60):
        relaxation.reinforce(lambda _: 0.5, optimizer, generator(step))
    [first, second] = relaxation.controller.write(5, generator(1)).skips
    assert float(first.mean().detach()) == pytest.approx(0.8, abs=0.05)
    assert float(second.mean().detach()) == pytest.approx(0.8, abs=0.05)


def a_search(seed: int = 1) -> SupernetRun:
    """A run that ENAS directs."""
    run = a_run(lambda s, g: Enas(s, g, PLAN), seed=seed, order=0, rounds=2, epochs=2)
    run.validation = run.validation.subset(torch.arange(16))
    return run


def test_a_search_leaves_scored_paths_best_first() -> None:
    run = a_search()
    assert (run.passes, run.train_epoch()) == (512, 512), "128 and two steps of three paths"
    assert run.relaxation.remember() == []
    last = run.passes
    assert last == 128 + 2 * 3 * 64 + 4 * 128
    assert run.train_epoch() <= last, "equal paths are scored once"
    found = run.derived()
    assert 1 <= len(found) <= 4
    assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)
    assert run.relaxation.derive() == found[0][0]
    for path, score in found:
        run.network.supernet.check(path)
        assert 0.0 <= score <= 1.0


def test_only_the_weights_of_the_path_have_gradients_and_rewards_leave_none() -> None:
    run = a_search()
    seen: list[set[str]] = []
    move = run._move

    def looked() -> None:
        named = run.network.named_parameters()
        seen.append({name for name, p in named if p.grad is not None})
        move()

    run._move = looked  # type: ignore[method-assign]
    run.train_epoch()
    everything = {name for name, _ in run.network.named_parameters()}
    assert len(seen) == 2
    assert all(names < everything for names in seen)


def test_a_pause_changes_no_bit() -> None:
    assert_a_pause_changes_nothing(a_search)


def test_damaged_paths_are_refused() -> None:
    run, saved = a_search(), a_search().pack()
    saved.scalars["relaxation"] = [[{"normal_0_0": 99}, 0.5]]
    with pytest.raises(ValueError, match="a scored path is"):
        run.unpack(saved)
