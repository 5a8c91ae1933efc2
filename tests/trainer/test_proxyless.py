"""ProxylessNAS: the gradient of a gate, the pair's sum, costs, and rewards against enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from kinase.api import supernet_options as repairs
from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace, Space
from kinase.space import Frame, make_space
from kinase.space.builder import GraphBuilder
from kinase.space.cell import Cell
from kinase.space.supernet import Choice, Supernet
from kinase.space.supernet_costs import option_costs, option_nodes
from kinase_trainer.supernet.cost import Cost
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.proxyless import Proxyless, ProxylessReinforce, gate
from kinase_trainer.supernet.uniform import Uniform
from tests.trainer.supernets import SPACE, a_run, assert_a_pause_changes_nothing

IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    """A seeded one."""
    return torch.Generator().manual_seed(seed)


def tiny() -> Supernet:
    """Two choices, of 3 and 2 convolutions."""
    g = GraphBuilder((1, 8, 8))
    x, choices = g.input, []
    for name, kernels in (("a", (1, 3, 5)), ("b", (1, 3))):
        options = [g.conv(f"{name}{k}", x, 2, k) for k in kernels]
        x = g.choice(name, options)
        choices.append(Choice(name, tuple(f"k{k}" for k in kernels), name))
    return Supernet(
        g.build(g.linear("classifier", g.global_avg_pool("pool", x), 10)), tuple(choices)
    )


def test_the_gradient_of_a_gate_is_the_papers() -> None:
    alpha = torch.tensor([0.3, -0.5, 1.2], requires_grad=True)
    outward = torch.tensor([0.7, 0.1, -0.4])
    (gate(alpha, generator()) @ outward).backward()
    p = torch.softmax(alpha.detach(), 0)
    jacobian = torch.diag(p) - torch.outer(p, p)
    expected = jacobian @ outward  # sum over j of the gate's times p_j (d_ij - p_i)
    assert alpha.grad is not None
    torch.testing.assert_close(alpha.grad, expected)
    assert float(alpha.grad.sum()) == pytest.approx(0.0, abs=1e-7)
    values = gate(alpha, generator()).tolist()
    assert sorted(values) == [0.0, 0.0, 1.0], "exactly"


def test_two_options_are_run_and_their_gates_have_the_gradient_of_all_evaluated() -> None:
    network = Supernetwork(tiny())
    relaxation = Proxyless(network.supernet, generator(1))
    run: list[str] = []
    for name, module in network.nodes.items():
        module.register_forward_hook(lambda *_, name=name: run.append(name))
    relaxation.explore(network, generator(2))
    loss = network(IMAGES).square().sum()
    loss.backward()
    assert sum(name.startswith("a") for name in run) == 3, "two options, and their choice"
    found = {group: alpha.grad for group, alpha in relaxation.alphas.items()}
    # the same by all options, each times a gate, and the formula
    gates = {}
    for group, pair in relaxation._pairs.items():
        module = dict(network._choices)[group]
        assert module.weights is not None
        gates[group] = torch.zeros(len(relaxation.alphas[group]))
        gates[group][pair] = module.weights.detach()
        gates[group].requires_grad_()
    network.mix(gates)
    network(IMAGES).square().sum().backward()
    for group, pair in relaxation._pairs.items():
        outward, gradient = gates[group].grad, found[group]
        assert outward is not None
        assert gradient is not None
        p = torch.softmax(relaxation.alphas[group].detach()[pair], 0)
        expected = torch.zeros_like(gradient)
        expected[pair] = p * (outward[pair] - (p * outward[pair]).sum())
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_the_sum_of_the_exponentials_of_a_pair_stays() -> None:
    network = Supernetwork(tiny())
    relaxation = Proxyless(network.supernet, generator(1))
    optimizer = torch.optim.Adam(relaxation.parameters(), lr=0.1, betas=(0.0, 0.999))
    before = {group: a.detach().exp() for group, a in relaxation.alphas.items()}
    relaxation.explore(network, generator(2))
    loss = network(IMAGES).square().sum()
    relaxation.learn(torch.autograd.grad(loss, list(relaxation.parameters())), optimizer)
    for group, pair in relaxation._pairs.items():
        now = relaxation.alphas[group].detach().exp()
        assert float(now[pair].sum()) == pytest.approx(float(before[group][pair].sum()), rel=1e-5)
        assert not torch.equal(now[pair], before[group][pair])
        others = [n for n in range(len(now)) if n not in pair]
        assert torch.equal(now[others], before[group][others]), "no momentum moves them"


def test_one_path_is_run_and_only_its_weights_have_gradients() -> None:
    run = a_run(Proxyless)
    run.relaxation.choose(run.network, generator(3))
    run.task_loss(IMAGES, torch.zeros(3, dtype=torch.long)).backward()
    options = {c.node: c.options for c in run.network.supernet.choices}
    for edge, names in options.items():
        touched = {
            name
            for name in names
            for key, p in run.network.named_parameters()
            if key.startswith(f"nodes.{edge}_{name}_") and p.grad is not None
        }
        assert len(touched) <= 1


# -- costs --------------------------------------------------------------------------------


def test_the_costs_of_a_paths_options_are_its_multiply_adds() -> None:
    supernet = tiny()
    costs = option_costs(supernet)
    assert costs.options["a"] == (2 * 64, 2 * 9 * 64, 2 * 25 * 64)
    for a, b in itertools.product(range(3), range(2)):
        path = {"a": a, "b": b}
        assert costs.of(path) == supernet.slice(path).macs()
    assert option_costs(supernet, "params").fixed == 2 * 10 + 10


def test_the_costs_of_cells_are_those_of_all_copies() -> None:
    space = Cell(CellSpace(preset="nasbench201"))
    supernet = space.supernet(Frame((3, 8, 8), 10, Scale(cells=3, filters=4), searching=True))
    assert supernet is not None
    names = next(iter(supernet.groups.values()))
    costs = option_costs(supernet)
    for option in ("skip_connect", "nor_conv_3x3", "avg_pool_3x3"):
        path = dict.fromkeys(supernet.groups, names.index(option))
        assert costs.of(path) == supernet.slice(path).macs()


def test_zeros_that_read_another_option_do_not_make_it_free() -> None:
    space = make_space(Space.model_validate({"type": "ChoiceBlocks"}))
    supernet = space.supernet(Frame((3, 16, 16), 10, Scale(filters=4), searching=True))
    assert supernet is not None
    costs = option_costs(supernet)
    for name, options in supernet.groups.items():
        dear = {o: c for o, c in zip(options, costs.options[name], strict=True) if "conv" in o}
        assert all(cost > 0 for cost in dear.values()), name
        if "none" in options:
            assert costs.options[name][options.index("none")] == 0
    whole = {name: len(options) - 1 for name, options in supernet.groups.items()}
    assert costs.of(whole) == supernet.slice(whole).macs()
    # what is left out has no gradient, rather than zeros
    group = "op_0_sep_conv_3x3"
    network, path = Supernetwork(supernet), {**whole, group: 0}
    network.follow(path, {g: torch.eye(len(o))[path[g]] for g, o in supernet.groups.items()})
    network(torch.rand(2, 3, 16, 16)).square().sum().backward()
    edges = {choice.node for choice in supernet.choices if choice.group == group}
    own = [
        f"nodes.{name}."
        for (edge, number), names in option_nodes(supernet).items()
        for name in names
        if edge in edges and number == 1
    ]
    left = [p for key, p in network.named_parameters() if key.startswith(tuple(own))]
    assert left
    assert all(p.grad is None for p in left)


@pytest.mark.parametrize("form", ["Logarithm", "Linear"])
def test_the_cost_term_is_the_closed_form_and_differentiable(form: str) -> None:
    run = a_run(Darts)
    plan = repairs.Cost.model_validate({"form": form, "weight": 0.2})
    costs = option_costs(run.network.supernet)
    extra = Cost(plan, run.relaxation, costs)
    loss = torch.tensor(2.0)
    total = extra.penalize(run, loss)
    rows = run.relaxation.probabilities()
    expected = costs.fixed + sum(
        float(p) * f for g, row in rows.items() for p, f in zip(row, costs.options[g], strict=True)
    )
    reference = costs.fixed + sum(sum(row) / len(row) for row in costs.options.values())
    assert extra.reference == pytest.approx(reference)
    want = (
        2.0 + 0.2 * (expected - reference) / reference
        if form == "Linear"
        else 2.0 * 0.2 * (math.log(expected) / math.log(reference)) ** 0.3
    )
    assert float(total.detach()) == pytest.approx(want, rel=1e-5)
    gradients = torch.autograd.grad(total, list(run.relaxation.parameters()))
    for (_, row), gradient in zip(costs.options.items(), gradients, strict=True):
        assert int(gradient.argmax()) == max(range(len(row)), key=row.__getitem__)


def test_a_strong_cost_leads_to_what_costs_nothing() -> None:
    run = a_run(Darts)
    plan = repairs.Cost(form="Linear", weight=1000.0)
    run.extras = (Cost(plan, run.relaxation, option_costs(run.network.supernet)),)
    for group in run.chooser.param_groups if run.chooser else ():
        group["lr"] = 0.1
    before = run.score()["supernet_cost"]
    run.train_epoch()
    assert run.score()["supernet_cost"] != before
    names = next(iter(run.network.supernet.groups.values()))
    free = {names.index(option) for option in ("none", "skip_connect", "avg_pool_3x3")}
    assert set(run.relaxation.derive().values()) <= free


def test_rewards_are_less_for_what_costs_more() -> None:
    made = ProxylessReinforce(tiny(), generator())
    extra = Cost(repairs.Cost(reference=1000), made, option_costs(tiny()))
    cheap, dear = {"a": 0, "b": 0}, {"a": 2, "b": 1}
    assert extra.rewarded(0.5, dear) < extra.rewarded(0.5, cheap)
    macs = tiny().slice(dear).macs()
    assert extra.rewarded(0.5, dear) == pytest.approx(0.5 * (1000 / macs) ** 0.1)


def test_a_cost_that_nothing_has_and_choices_that_do_not_learn_are_refused() -> None:
    run = a_run(Darts)
    costs = option_costs(run.network.supernet)
    with pytest.raises(ValueError, match=r"the reference is 0\.5; use one above 1"):
        Cost(repairs.Cost(reference=0.5), run.relaxation, costs)
    with pytest.raises(ValueError, match="cost is for relaxations that learn"):
        Cost(repairs.Cost(), Uniform(run.network.supernet, SPACE), costs)


# -- rewards ------------------------------------------------------------------------------


def test_reinforce_is_the_gradient_of_the_enumerated_expectation() -> None:
    relaxation = ProxylessReinforce(tiny(), generator(1), paths=2000)
    with torch.no_grad():
        relaxation.alphas["a"].copy_(torch.tensor([0.4, -0.3, 0.1]))
    table = torch.tensor([[0.1, 0.9], [0.5, 0.3], [0.8, 0.2]])
    optimizer = torch.optim.SGD(relaxation.parameters(), lr=1.0)
    rows = relaxation.weights()
    expectation = rows["a"] @ table @ rows["b"]
    exact = torch.autograd.grad(expectation, list(relaxation.parameters()))
    before = [p.detach().clone() for p in relaxation.parameters()]
    relaxation.reinforce(lambda path: float(table[path["a"], path["b"]]), optimizer, generator(5))
    for old, new, gradient in zip(before, relaxation.parameters(), exact, strict=True):
        torch.testing.assert_close(new.detach() - old, gradient, atol=0.03, rtol=0.0)
    assert float(relaxation.baseline) == pytest.approx(float(expectation.detach()), abs=0.02)


@pytest.mark.parametrize("kind", [Proxyless, ProxylessReinforce])
def test_a_pause_changes_no_bit(kind: type[Proxyless]) -> None:
    def make(seed: int) -> object:
        run = a_run(kind, seed=seed, interval=2)
        if isinstance(run.relaxation, ProxylessReinforce):
            run.relaxation.paths = 2
        return run

    assert_a_pause_changes_nothing(make)  # type: ignore[arg-type]


def test_the_passes_are_those_of_the_steps() -> None:
    run = a_run(Proxyless, interval=2)
    assert (run.passes, run.train_epoch()) == (128 + 64, 128 + 64)
    run = a_run(ProxylessReinforce, interval=2)
    assert (run.passes, run.train_epoch()) == (128 + 640, 128 + 640)
