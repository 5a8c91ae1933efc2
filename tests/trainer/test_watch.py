"""The watch of collapse: the eigenvalue against a dense solver, and when a search ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinase.api.fidelity import Scale
from kinase.api.space import MacroSpace
from kinase.api.supernet_options import EarlyStop, Watch
from kinase.space import Frame
from kinase.space.macro import Macro
from kinase_trainer.supernet import watch
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.eigenvalue import dominant_eigenvalue
from kinase_trainer.supernet.uniform import Uniform
from kinase_trainer.supernet.watch import returns_to, share_of_skips
from tests.trainer.supernets import SPACE, a_run, alphas, assert_a_pause_changes_nothing


def generator() -> torch.Generator:
    """A seeded one."""
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shift", [0.0, -20.0])
def test_the_eigenvalue_of_a_quadratic_is_exact(shift: float) -> None:
    half = torch.randn(9, 9, generator=generator(), dtype=torch.float64)
    matrix = half + half.T + shift * torch.eye(9)  # with the shift all are negative
    x = torch.randn(5, generator=generator(), dtype=torch.float64, requires_grad=True)
    y = torch.randn(4, generator=generator(), dtype=torch.float64, requires_grad=True)
    both = torch.cat([x, y])
    value, taken = dominant_eigenvalue(both @ matrix @ both / 2, [x, y], generator())
    assert value == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-4)
    assert taken <= 9


def test_the_eigenvalue_of_a_network_is_that_of_a_dense_solver() -> None:
    data = torch.randn(8, 3, generator=generator(), dtype=torch.float64)
    alpha = torch.randn(12, generator=generator(), dtype=torch.float64, requires_grad=True)

    def loss(a: Tensor) -> Tensor:
        return (torch.tanh(data @ torch.softmax(a.view(3, 4), 1)).square()).sum(1).exp().mean()

    dense = torch.autograd.functional.hessian(loss, alpha)  # type: ignore[no-untyped-call]
    value, _ = dominant_eigenvalue(loss(alpha), [alpha], generator())
    assert value == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-3)


def test_a_loss_without_curvature_has_none() -> None:
    x = torch.ones(3, requires_grad=True)
    unused = torch.ones(2, requires_grad=True)
    assert dominant_eigenvalue(x.sum(), [x, unused], generator()) == (0.0, 0)


def test_skips_are_counted_among_what_is_taken() -> None:
    supernet = a_run().network.supernet
    names = next(iter(supernet.groups.values()))
    path = dict.fromkeys(supernet.groups, names.index("skip_connect"))
    assert share_of_skips(supernet, path) == 1.0
    first, second, *_ = path
    path |= {first: names.index("none"), second: names.index("nor_conv_3x3")}
    assert share_of_skips(supernet, path) == pytest.approx(4 / 5)
    assert share_of_skips(supernet, dict.fromkeys(path, names.index("none"))) == 0.0


def test_a_skip_between_layers_is_no_collapse() -> None:
    space = Macro(MacroSpace(layers=3))
    supernet = space.supernet(Frame((3, 8, 8), 10, Scale(filters=2), searching=True))
    assert supernet is not None
    assert share_of_skips(supernet, dict.fromkeys(supernet.groups, 1)) == 0.0


@pytest.mark.parametrize(
    ("values", "found"),
    [
        # the means around 4 and 0 are compared once there are seven evaluations
        ([1.0] * 6, None),
        ([1.0] * 20, None),
        ([1.0] * 6 + [2.6], 0),  # (4 + 2.6) / 5 = 1.32 against the mean of the first three
        ([1.0] * 6 + [2.4], None),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.6, 1.6, 1.6], 4),
        ([-1.0] * 6 + [5.0] * 3, None),  # a ratio to a negative mean says nothing
    ],
)
def test_a_search_ends_when_the_mean_has_grown(values: list[float], found: int | None) -> None:
    assert returns_to(values, EarlyStop()) == found


def test_a_search_that_ends_early_has_the_choices_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = Watch(stop=EarlyStop(first=1, window=1, earlier=1), every=1)
    run = a_run(extras=(watch.Watch(plan),), epochs=9)
    series = iter([1.0, 1.2, 2.0])
    monkeypatch.setattr(watch.Watch, "_evaluate", lambda *_: next(series))
    states = []
    while not run.ended:
        run.train_epoch()
        states.append(alphas(run))
        assert run.score()["supernet_eigenvalue"] > 0
    assert run.epoch == 3
    assert not torch.equal(states[0], states[1])
    assert torch.equal(alphas(run), states[1]), "those of the evaluation before"
    assert "those after epoch 2" in run.ended
    kept = run.pack()
    assert sum(name.startswith("extras.watch.") for name in kept.tensors) == 2 * 6, "no more"


def test_metrics_of_the_choices_are_those_of_an_epoch_and_a_pause_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch.Watch, "steps", 2)
    plan = Watch(every=1, stop=EarlyStop(first=1))
    assert_a_pause_changes_nothing(
        lambda seed: a_run(Darts, seed=seed, extras=(watch.Watch(plan),))
    )
    run = a_run(extras=(watch.Watch(plan),))
    assert run.passes == 256 + 2 * 64
    more = run.train_epoch()
    assert more > 256 + 64
    found = run.score()
    assert 0.0 <= found["supernet_skips"] <= 1.0
    assert found["supernet_entropy"] == pytest.approx(1.609, abs=0.01)
    assert "supernet_eigenvalue" in found


def test_the_watch_changes_neither_weights_nor_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch.Watch, "steps", 2)
    plain, watched = a_run(), a_run(extras=(watch.Watch(Watch(every=1)),))
    plain.train_epoch()
    watched.train_epoch()
    for name, tensor in plain.pack().tensors.items():
        assert torch.equal(tensor, watched.pack().tensors[name]), name
    assert watched.network.training == plain.network.training


def test_choices_that_do_not_learn_are_not_watched() -> None:
    run = a_run(lambda s, _: Uniform(s, SPACE), extras=(watch.Watch(Watch(every=1)),))
    run.train_epoch()
    assert set(run.score()) == {f"val_{name}" for name in run.task.metrics}


@pytest.mark.parametrize("rest", ["no list", ["a"], [True]])
def test_a_damaged_watch_is_refused(rest: object) -> None:
    run, other = a_run(extras=(watch.Watch(Watch()),)), a_run(extras=(watch.Watch(Watch()),))
    saved = other.pack()
    saved.scalars["extras"]["watch"] = rest
    before = alphas(run)
    with pytest.raises(ValueError, match="its eigenvalues are"):
        run.unpack(saved)
    assert torch.equal(alphas(run), before)
