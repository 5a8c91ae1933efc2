"""What fits every relaxation: noise in the weights' steps, a penalty, selection by perturbation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kinase.api import supernet as api
from kinase.api import supernet_options as repairs
from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.space import Frame
from kinase.space.cell import Cell
from kinase.space.supernet import NONE, Supernet
from kinase_trainer.group import Group
from kinase_trainer.supernet.beta import Beta
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.drnas import DrNas
from kinase_trainer.supernet.enas import Enas
from kinase_trainer.supernet.gaea import Gaea
from kinase_trainer.supernet.gdas import Gdas
from kinase_trainer.supernet.make import make_choices, make_extras
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.perturbation import Perturbation, decisions, due
from kinase_trainer.supernet.progressive import Progressive
from kinase_trainer.supernet.relaxation import Relaxation
from kinase_trainer.supernet.run import SupernetRun
from kinase_trainer.supernet.smooth import Smooth
from kinase_trainer.supernet.uniform import Uniform
from kinase_trainer.supernet.watch import Watch
from tests.trainer.groups import together
from tests.trainer.supernets import SPACE, a_run, alphas, assert_a_pause_changes_nothing

RANDOM, ADVERSARIAL = repairs.Smooth(), repairs.Smooth(type="Adversarial", steps=2)
DARTS = Cell(CellSpace(preset="darts", ops=("skip_connect", "sep_conv_3x3"), nodes=3))


def uniform(supernet: Supernet, _: torch.Generator) -> Uniform:
    """Random paths."""
    return Uniform(supernet, SPACE)


def smooth(plan: repairs.Smooth, **more: Any) -> SupernetRun:
    """A run under noise."""
    run = a_run(Darts, **more)
    run.extras = (Smooth(plan, run.relaxation),)
    return run


def weights_of(network: Supernetwork) -> dict[str, Tensor]:
    """What the options of each group are multiplied by now."""
    found = {group: module.weights for group, module in network._choices}
    return {group: weights for group, weights in found.items() if weights is not None}


# -- noise --------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [RANDOM, ADVERSARIAL], ids=["random", "adversarial"])
def test_noise_is_within_its_radius_and_never_outlives_the_step(plan: repairs.Smooth) -> None:
    run = smooth(plan)
    seen: list[float] = []
    step = run._step

    def looked(loss: Tensor) -> None:
        now = weights_of(run.network)
        center = torch.softmax(next(iter(run.relaxation.parameters())).detach(), 0)
        seen.append(float((now["normal_0_0"] - center).abs().max()))
        step(loss)

    run._step = looked  # type: ignore[method-assign]
    run.train_epoch()
    assert len(seen) == 2
    assert min(seen) > 0
    assert max(seen) <= 0.03 + 1e-6
    run.score()
    for group, row in weights_of(run.network).items():
        assert torch.equal(row, run.relaxation.probabilities()[group])


def test_the_choices_of_the_first_step_do_not_see_the_noise() -> None:
    plain, noisy = a_run(Darts), smooth(RANDOM)
    for run in (plain, noisy):
        run.train = run.train.subset(torch.arange(64))
        run.train_epoch()
    assert torch.equal(alphas(plain), alphas(noisy))
    weight = "nodes.classifier.weight"
    assert not torch.equal(plain.model.state_dict()[weight], noisy.model.state_dict()[weight])


def test_the_ascent_finds_a_larger_loss_than_the_choices_have() -> None:
    run = smooth(repairs.Smooth(type="Adversarial", smallest=0.2, largest=0.2, steps=3))
    [extra] = run.extras
    assert isinstance(extra, Smooth)
    run.draws.manual_seed(0)
    images, targets = next(iter(run.train.read(torch.arange(64), 64)))
    images = images.float()
    run.network.train()
    extra.perturb(run, images, targets)
    run.network.eval()
    with torch.no_grad():
        worst = float(run.task_loss(images, targets))
        run.relaxation.choose(run.network, run.draws)
        assert float(run.task_loss(images, targets)) < worst


def test_the_radius_grows_linearly() -> None:
    run = smooth(RANDOM, epochs=10, epoch=5)
    [extra] = run.extras
    assert isinstance(extra, Smooth)
    extra.begin(run)
    assert extra.radius == pytest.approx(0.03 + 0.27 / 2)


# -- the penalty --------------------------------------------------------------------------


def test_the_gradient_of_the_penalty_is_the_softmax_over_the_edges() -> None:
    run = a_run(Darts, epochs=100, epoch=50)
    extra = Beta(repairs.Beta(), run.relaxation)
    extra.begin(run)
    loss = extra.penalize(run, torch.zeros(()))
    found = torch.autograd.grad(loss, list(run.relaxation.parameters()))
    rows = run.relaxation.probabilities().values()
    for gradient, row in zip(found, rows, strict=True):
        torch.testing.assert_close(gradient, 25.0 * row / 6)


@pytest.mark.parametrize("order", [1, 2])
def test_the_penalty_is_in_the_loss_of_the_choices_alone(order: int) -> None:
    plain, kept = (a_run(Darts, order=order, epoch=1) for _ in range(2))
    kept.extras = (Beta(repairs.Beta(largest=5000.0), kept.relaxation),)
    for run in (plain, kept):
        run.train = run.train.subset(torch.arange(64))
        run.train_epoch()
    assert not torch.equal(alphas(plain), alphas(kept))
    assert alphas(kept).mean() < alphas(plain).mean()


# -- selection ----------------------------------------------------------------------------


def test_decisions_are_spread_evenly_and_all_are_made() -> None:
    made = [due(6, 8, epoch, 12) for epoch in range(12)]
    assert made == [0] * 8 + [2, 3, 5, 6]
    assert [due(6, 2, epoch, 4) for epoch in range(4)] == [0, 0, 3, 6]
    assert [due(2, 2, epoch, 8) for epoch in range(2, 8)] == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("kind", [Darts, Gdas, uniform])
def test_what_is_missed_most_is_kept(
    kind: Callable[[Supernet, torch.Generator], Relaxation], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(kind, epochs=2)
    run.extras = (extra := Perturbation(repairs.Perturbation(search=0.5)),)
    table = torch.rand(6, 5, generator=torch.Generator().manual_seed(3))
    groups = list(run.network.supernet.groups)

    def worth(_: object, __: object, group: str, option: int) -> tuple[float, float]:
        return float(table[groups.index(group), option]), 0.0

    monkeypatch.setattr(Perturbation, "_without", worth)
    run.train_epoch()
    assert not extra.decided
    run.train_epoch()
    [(path, sure)] = run.derived()
    assert sure == 1.0, "all is decided before the last epoch"
    for group in groups:
        assert path[group] == int(table[groups.index(group)].argmin())


def test_nodes_keep_the_edges_that_are_missed_most(monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(Darts, space=DARTS)
    extra = Perturbation(repairs.Perturbation())
    supernet = run.network.supernet
    options = next(iter(supernet.groups.values()))
    values = {group: n / 100 for n, group in enumerate(sorted(supernet.groups))}

    def worth(_: object, __: object, group: str, option: int | None) -> tuple[float, float]:
        return (values[group], 0.0) if option is None else (float(option != 1), 0.0)

    monkeypatch.setattr(Perturbation, "_without", worth)
    for groups in extra._order(run):
        if len(groups) == 1:
            extra.decided[groups[0]] = extra._option(run, groups[0])
        else:
            extra._edges(run, groups)
    [(path, sure)] = extra.derived(run) or []
    assert sure == 1.0
    for node in supernet.inputs:
        kept = [group for group in node.groups if options[path[group]] != NONE]
        assert kept == sorted(node.groups)[: node.count], "without the others it is better"
        assert {path[group] for group in kept} == {1}
    DARTS.validate(DARTS.architecture(path))
    assert len(decisions(supernet)) == 2 * (2 + 3 + 4 + 2)


def test_an_option_is_left_out_and_the_decided_ones_stay() -> None:
    run = a_run(Darts)
    extra = Perturbation(repairs.Perturbation())
    extra.decided = {"normal_0_0": 3}
    accuracy, loss = extra._without(run, "normal_1_0", 2)
    assert 0.0 <= accuracy <= 1.0
    assert loss < 0.0
    now, whole = weights_of(run.network), run.relaxation.probabilities()
    assert now["normal_0_0"].tolist() == [0.0, 0.0, 0.0, 1.0, 0.0]
    assert float(now["normal_1_0"][2]) == 0.0
    assert torch.equal(now["normal_1_0"][:2], whole["normal_1_0"][:2]), "not scaled again"
    assert torch.equal(now["normal_2_2"], whole["normal_2_2"])


def test_only_the_decided_option_is_trained_afterwards() -> None:
    run = a_run(uniform)
    run.network.fix({"normal_0_0": 3})
    name = "cell0_edge0_1"
    for seed in range(3):
        run.relaxation.choose(run.network, torch.Generator().manual_seed(seed))
        run.task_loss(torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)).backward()
    trained = {
        key for key, p in run.network.named_parameters() if p.grad is not None and name in key
    }
    assert trained
    assert all(f"{name}_nor_conv_3x3" in key for key in trained)


def test_the_learning_rate_begins_again_at_a_tenth() -> None:
    run = a_run(Darts, epochs=10)
    extra = Perturbation(repairs.Perturbation())
    peak = run.training.optimizer.member.learning_rate
    rates = []
    for epoch in range(10):
        run.epoch = epoch
        rates.append(extra.rate(run, 0.5))
    assert rates[0] == peak
    assert rates[7] < 0.1 * peak
    assert rates[8] == pytest.approx(0.1 * peak)
    assert rates[9] < rates[8]


# -- fewer options ------------------------------------------------------------------------


def test_the_best_options_are_kept_and_only_they_are_run() -> None:
    run = a_run(DrNas, epochs=4, frozen=1)
    run.extras = (extra := Progressive(repairs.Progressive(keep=2), run.relaxation),)
    with torch.no_grad():
        for alpha in run.relaxation.parameters():
            alpha.copy_(torch.tensor([0.0, 0.1, 2.0, -0.5, 1.0]))
    for _ in range(2):
        run.train_epoch()
        assert not extra.kept
        assert run.learns == (run.epoch == 1)
    before = alphas(run)
    ran: set[str] = set()
    for name, module in run.network.nodes.items():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    run.train_epoch()
    assert set(map(tuple, extra.kept.values())) == {(2, 4)}
    names = next(iter(run.network.supernet.groups.values()))
    assert (names[2], names[4]) == ("nor_conv_1x1", "avg_pool_3x3")
    assert not any("nor_conv_3x3" in name for name in ran)
    assert any("nor_conv_1x1" in name for name in ran)
    assert torch.equal(alphas(run), before), "the choices wait again"
    for row in weights_of(run.network).values():
        assert float(row.detach().sum()) == pytest.approx(1.0)
        assert len(row) == 2
    run.train_epoch()
    assert not torch.equal(alphas(run), before)
    [(path, _)] = run.derived()
    assert set(path.values()) <= {2, 4}
    rates = []
    for epoch in range(4):
        run.epoch, run.step = epoch, 0
        rates.append(extra.rate(run, 0.0))
    assert rates[0] == rates[2] > rates[1] == rates[3]


def test_what_decides_twice_is_refused() -> None:
    plan = api.SupernetPlan(progressive=repairs.Progressive(), selection=repairs.Perturbation())
    with pytest.raises(ValueError, match="progressive must not be set with selection"):
        make_extras(plan, a_run().relaxation)


# -- all ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "plan"),
    [
        (Darts, {"smooth": {}, "beta": {}}),
        (uniform, {"selection": {"search": 0.3}}),
        (DrNas, {"progressive": {"after": 0.3}}),
    ],
    ids=["repairs", "selection", "progressive"],
)
def test_a_pause_changes_no_bit(
    kind: Callable[[Supernet, torch.Generator], Relaxation], plan: dict[str, Any]
) -> None:
    def make(seed: int) -> SupernetRun:
        run = a_run(kind, seed=seed)
        run.extras = make_extras(api.SupernetPlan.model_validate(plan), run.relaxation)
        return run

    assert_a_pause_changes_nothing(make)


@pytest.mark.parametrize(
    ("kind", "plan", "message"),
    [
        (Gdas, {"smooth": {}}, "smooth is for the relaxations DARTS, PCDARTS and GAEA"),
        (Gaea, {"beta": {}}, "beta is for relaxations with a softmax"),
        (DrNas, {"beta": {}}, "beta is for relaxations with a softmax"),
        (Gdas, {"progressive": {}}, "progressive is for the relaxations DARTS"),
        (uniform, {"beta": {}}, "beta is for relaxations with a softmax"),
    ],
)
def test_what_does_not_fit_is_refused(
    kind: Callable[[Supernet, torch.Generator], Relaxation], plan: dict[str, Any], message: str
) -> None:
    made = kind(a_run().network.supernet, torch.Generator())
    with pytest.raises(ValueError, match=message):
        make_extras(api.SupernetPlan.model_validate(plan), made)


# -- several workers ------------------------------------------------------------------------


def repaired() -> SupernetRun:
    """With the worst noise, a penalty and the watch."""
    run = a_run(Darts)
    plan = {"smooth": {"type": "Adversarial", "steps": 2}, "beta": {}, "watch": {"every": 1}}
    run.extras = make_extras(api.SupernetPlan.model_validate(plan), run.relaxation)
    return run


def selected() -> SupernetRun:
    """ENAS, with a selection by perturbation in its last epoch."""
    plan = api.ENAS(steps=1, paths=2, derived=2, units=8)
    run = a_run(lambda s, g: Enas(s, g, plan), order=0, rounds=1, epochs=2, epoch=1)
    run.extras = (Perturbation(repairs.Perturbation(search=0.5)),)
    return run


@pytest.mark.parametrize("make", [repaired, selected])
def test_all_workers_decide_alike(
    make: Callable[[], SupernetRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "steps", 3)
    runs = [make() for _ in range(2)]

    def run(group: Group) -> tuple[dict[str, Tensor], Any, dict[str, float], Any]:
        made = runs[group.rank]
        made.group = group
        made.train_epoch()
        packed = made.pack()
        return packed.tensors, packed.scalars["extras"], made.score(), made.derived()

    (tensors, *one), (others, *two) = together(run)
    assert one == two
    for name, tensor in tensors.items():
        assert torch.equal(others[name], tensor), name


LISTED = [name for name in (*api.LEARNED, "Uniform", "FairNAS", "PathDropout") if name != "Pruning"]


@pytest.mark.parametrize("option", ["smooth", "beta", "cost", "progressive"])
def test_a_manifest_is_refused_where_the_trainer_would_refuse_it(option: str) -> None:
    frame = Frame((1, 8, 8), 10, Scale(cells=1, filters=4), searching=True, partial=4)
    supernet = SPACE.supernet(frame)
    assert supernet is not None
    for name in LISTED:
        relaxation = api.Relaxation.model_validate({"type": name})
        plan = api.SupernetPlan.model_validate({"relaxation": relaxation, option: {}})
        made = make_choices(relaxation, supernet, SPACE, 0).relaxation
        said = ""
        try:
            make_extras(plan, made)
        except ValueError as error:
            said = str(error)
        assert bool(said) == bool(plan.unfit(10)), (name, said)
