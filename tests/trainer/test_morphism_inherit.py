"""What follows the weights (optimizers, averages, lineages), and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kinase.morphism import KINDS, Base, Limits, MorphismError, dump_chain, load_chain
from kinase.space import Graph, dump_graph, load_graph
from kinase_trainer.errors import CorruptModel
from kinase_trainer.morphism import (
    Distillation,
    inherit,
    inherit_matching,
    read_slots,
    write_slots,
)
from kinase_trainer.network import Network
from tests.trainer.morphism_graphs import draw, images, network_of, trained
from tests.trainer.morphism_graphs import random_graph as any_graph
from tests.trainer.test_morphism_exact import plain

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01),
}


def steps(network: Network, optimizer: torch.optim.Optimizer, count: int) -> None:
    first = network.nodes["c1"].weight
    x = torch.rand(8, 3, 9, 8, generator=torch.Generator().manual_seed(3), dtype=first.dtype)
    for _ in range(count):
        optimizer.zero_grad()
        F.cross_entropy(network(x), torch.arange(8) % 5).backward()
        optimizer.step()


def trained_with(kind: str) -> tuple[Graph, Network, torch.optim.Optimizer]:
    graph = plain()
    network = network_of(graph, trained(graph), torch.float64).train()
    optimizer = OPTIMIZERS[kind](network.parameters())
    steps(network, optimizer, 3)
    return graph, network, optimizer


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_step_after_inheriting_is_the_parents_on_what_was_copied(kind: str) -> None:
    """A child by zero outgoing weights computes as its parent does in training, so the parent's
    weights move as they would have."""
    graph, network, optimizer = trained_with(kind)
    child = inherit(
        graph,
        network.state_dict(),
        load_chain([{"op": "widen", "node": "c1", "to": 9, "rule": "zero"}]),
        slots=read_slots(network, optimizer),
    )
    heir = network_of(child.graph, child.state, torch.float64).train()
    follower = OPTIMIZERS[kind](heir.parameters())
    write_slots(heir, follower, child.slots)
    steps(network, optimizer, 1)
    steps(heir, follower, 1)
    mine, theirs = heir.state_dict(), network.state_dict()
    for name, tensor in theirs.items():
        if tensor.is_floating_point():
            part = mine[name][tuple(slice(size) for size in tensor.shape)]
            assert torch.allclose(part, tensor, atol=1e-9), name


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_slots_of_copies_are_those_of_a_child_that_had_always_been_one(kind: str) -> None:
    """The gradients of the parent, divided as its units were: what the child's own gradients at the
    same weights are."""
    graph = plain()
    state = trained(graph)
    chain = load_chain(
        [
            {"op": "widen", "node": "c1", "to": 10, "seed": 1},
            {"op": "path", "node": "hidden", "branches": 2},
            {"op": "kernel", "node": "c2", "to": 3},
        ]
    )
    network = network_of(graph, state, torch.float64).train()
    optimizer = OPTIMIZERS[kind]([{"params": network.parameters(), "lr": 0.0}])
    steps(network, optimizer, 2)  # the rate is 0: the slots fill, the weights stay
    child = inherit(graph, state, chain, slots=read_slots(network, optimizer))
    heir = network_of(child.graph, child.state, torch.float64).train()
    always = OPTIMIZERS[kind]([{"params": heir.parameters(), "lr": 0.0}])
    steps(heir, always, 2)
    wanted = read_slots(heir, always)
    for name, slots in child.slots.items():
        for slot, value in slots.items():
            found, there = value, wanted[name][slot]
            if name == "nodes.c2.weight" and value.ndim:  # the new taps had no gradient yet
                found, there = found[:, :, 1:2, 1:2], there[:, :, 1:2, 1:2]
            assert torch.allclose(found, there, atol=1e-9), (name, slot)
    assert set(child.slots) == set(wanted)


def test_parameters_that_are_new_begin_with_empty_slots() -> None:
    graph, network, optimizer = trained_with("adamw")
    child = inherit(
        graph,
        network.state_dict(),
        load_chain([{"op": "branch", "node": "r2", "source": "r1"}]),
        slots=read_slots(network, optimizer),
    )
    heir = network_of(child.graph, child.state, torch.float64).train()
    follower = OPTIMIZERS["adamw"](heir.parameters())
    write_slots(heir, follower, child.slots)
    slots = read_slots(heir, follower)
    assert float(slots["nodes.m1_bn.weight"]["step"]) == 0
    assert not slots["nodes.m1_conv.weight"]["exp_avg_sq"].any()
    assert float(slots["nodes.c1.weight"]["step"]) == 3
    steps(heir, follower, 2)
    assert all(bool(torch.isfinite(p).all()) for p in heir.parameters())
    with pytest.raises(ValueError, match=r"nodes.c1.weight: its exp_avg has shape \(1,\)"):
        write_slots(heir, follower, {"nodes.c1.weight": {"exp_avg": torch.zeros(1)}})


def test_both_layers_of_a_product_begin_with_empty_slots_and_averages_have_the_same_one() -> None:
    graph, network, optimizer = trained_with("adamw")
    child = inherit(
        graph,
        network.state_dict(),
        load_chain([{"op": "factor", "node": "c1", "first": 2}]),
        slots=read_slots(network, optimizer),
        average=trained(graph, 2),
    )
    new = {"nodes.c1.weight", "nodes.m1_conv.weight"}
    assert new.isdisjoint(child.slots)
    assert "nodes.c2.weight" in child.slots
    heir = network_of(child.graph, child.state, torch.float64).train()
    follower = OPTIMIZERS["adamw"](heir.parameters())
    write_slots(heir, follower, child.slots)
    slots = read_slots(heir, follower)
    assert {float(slots[name]["step"]) for name in new} == {0.0}
    assert float(slots["nodes.c2.weight"]["step"]) == 3
    assert child.average is not None
    equal = {name for name in new if torch.equal(child.average[name], child.state[name])}
    assert equal == {"nodes.m1_conv.weight"}  # what is drawn does not depend on the weights


def test_an_average_of_the_weights_follows_as_the_weights_do() -> None:
    graph = plain()
    state, average = trained(graph, 1), trained(graph, 2)
    rng = np.random.default_rng(0)
    child_graph, chain = graph, list[Base]()
    for _ in range(8):
        child_graph, morphism = draw(
            child_graph, rng, ["widen", "deepen", "factor", "skip", "path", "branch"]
        )
        chain.append(morphism)
    child = inherit(graph, state, chain, average=average)
    assert child.average is not None
    x = images(graph, torch.float64)
    wanted = network_of(graph, average, torch.float64)(x)
    assert torch.allclose(network_of(child.graph, child.average, torch.float64)(x), wanted)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["residual", "nasbench201", "transformer"])
def test_fifty_generations_are_rebuilt_bit_for_bit(kind: str) -> None:
    """Each with a training in between, here a change of all weights; shrinking and growing. The
    lineage is JSON: the parent's graph, and for each generation its morphisms."""
    rng = np.random.default_rng(7)
    graph = any_graph(kind, rng).needed()
    state = {n: t.float() if t.is_floating_point() else t for n, t in trained(graph).items()}
    first, lineage, made = dump_graph(graph), [], []
    start = dict(state)

    def trained_on(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {n: t * 0.999 if t.is_floating_point() else t for n, t in weights.items()}

    for _ in range(50):
        grow = graph.params() < 15_000 and len(graph.nodes) < 120
        ops = list(KINDS) if grow else ["prune", "crop", "cut", "remove", "separate", "kernel"]
        _, morphism = draw(graph, rng, ops)
        morphism = morphism.model_copy(update={"noise": float(rng.choice([0.0, 0.01]))})
        child = inherit(graph, state, [morphism])
        lineage.append(dump_chain([morphism]))
        made.append(dump_chain(child.morphisms))
        graph, state = child.graph, trained_on(child.state)
    again, weights = load_graph(json.loads(json.dumps(first))), start
    for chain in json.loads(json.dumps(lineage)):
        child = inherit(again, weights, load_chain(chain))
        again, weights = child.graph, trained_on(child.state)
    assert again == graph
    assert same(weights, state)
    again, weights = load_graph(first), start
    for chain in made:  # with the channels that were kept written out
        child = inherit(again, weights, load_chain(chain))
        again, weights = child.graph, trained_on(child.state)
    assert same(weights, state)


# -- approximate morphisms ---------------------------------------------------------------------


def test_pruning_keeps_the_channels_with_the_largest_weights() -> None:
    graph = plain()
    state = trained(graph)
    # c1's channels are shared with c2's by the sum
    sums = sum(state[f"nodes.{n}.weight"].abs().flatten(1).sum(1) for n in ("c1", "c2"))
    wanted = sorted(torch.as_tensor(sums).topk(4).indices.tolist())
    child = inherit(graph, state, load_chain([{"op": "prune", "node": "c1", "to": 4}]))
    assert dump_chain(child.morphisms) == [{"op": "prune", "node": "c1", "to": 4, "keep": wanted}]
    assert torch.equal(child.state["nodes.c1.weight"], state["nodes.c1.weight"][wanted])
    assert torch.equal(child.state["nodes.n2.running_var"], state["nodes.n2.running_var"][wanted])
    assert child.state["nodes.dw.weight"].shape == (4, 1, 3, 3)
    pixels = child.state["nodes.hidden.weight"].shape[1] // 4
    columns = [c * pixels + p for c in wanted for p in range(pixels)]
    assert torch.equal(child.state["nodes.hidden.weight"], state["nodes.hidden.weight"][:, columns])


def test_pruning_what_was_widened_gives_the_parent_back() -> None:
    """Channels with outgoing weights of zero can go."""
    graph = plain()
    state = trained(graph)
    chain = load_chain(
        [
            {"op": "widen", "node": "c1", "to": 9, "rule": "zero"},
            {"op": "prune", "node": "c1", "to": 6, "keep": list(range(6))},
        ]
    )
    child = inherit(graph, state, chain)
    assert child.graph == graph
    assert same(child.state, state)


def test_a_separable_convolution_is_found_if_there_is_one() -> None:
    graph = plain()
    state = trained(graph)
    generator = torch.Generator().manual_seed(0)
    depth = torch.randn(3, 1, 3, 3, generator=generator, dtype=torch.float64)
    point = torch.randn(6, 3, 1, 1, generator=generator, dtype=torch.float64)
    state["nodes.c1.weight"] = point * depth.transpose(0, 1)
    child = inherit(graph, state, load_chain([{"op": "separate", "node": "c1"}]))
    x = images(graph, torch.float64)
    one = network_of(graph, state, torch.float64)(x)
    assert torch.allclose(network_of(child.graph, child.state, torch.float64)(x), one)
    assert child.graph.params() < graph.params()


def test_a_separable_convolution_is_the_best_there_is() -> None:
    """The error for each input channel is that of the singular value decomposition."""
    graph = plain()
    state = trained(graph)
    child = inherit(graph, state, load_chain([{"op": "separate", "node": "c1"}]))
    made = child.state["nodes.c1.weight"] * child.state["nodes.m1_depthwise.weight"].transpose(0, 1)
    for channel in range(3):
        dense = state["nodes.c1.weight"][:, channel].flatten(1)
        u, s, v = torch.linalg.svd(dense, full_matrices=False)
        best = s[0] * torch.outer(u[:, 0], v[0])
        assert torch.allclose(made[:, channel].flatten(1), best, atol=1e-4)


@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_distillation_brings_a_shrunken_child_back(kind: Any) -> None:
    graph = plain()
    state = trained(graph)
    chain = load_chain([{"op": "prune", "node": "c1", "to": 4}, {"op": "remove", "node": "dw"}])
    child = inherit(graph, state, chain)
    teacher = network_of(graph, state, torch.float64)
    student = network_of(child.graph, child.state, torch.float64)
    goal = Distillation(teacher, kind, temperature=2.0)
    x = images(graph, torch.float64, 32)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.003)
    losses = []
    for _ in range(61):
        optimizer.zero_grad()
        loss = goal.loss(student(x), x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1e-3
    assert losses[-1] < losses[0] / 5
    assert float(goal.loss(teacher(x), x)) == pytest.approx(0, abs=1e-12)
    assert same(teacher.state_dict(), state)


def test_softened_probabilities_are_hintons() -> None:
    """T² KL(p || q) by hand, and in the limit of a high temperature half the squared difference of
    centred logits over the number of classes (Hinton et al. 2015, section 2.1)."""
    logits, wanted = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[0.3, 0.1, -0.4]])
    teacher = torch.nn.Identity()
    p, q = (F.softmax(each / 3, dim=1) for each in (wanted, logits))
    by_hand = 9 * float((p * (p / q).log()).sum())
    assert float(Distillation(teacher, "kl", 3.0).loss(logits, wanted)) == pytest.approx(by_hand)
    a, b = (each - each.mean() for each in (logits, wanted))
    limit = float(((a - b) ** 2).sum() / 6)
    hot = Distillation(teacher, "kl", 1000.0).loss(logits.double(), wanted.double())
    assert float(hot) == pytest.approx(limit, rel=1e-2)
    with pytest.raises(ValueError, match="temperature is 0"):
        Distillation(teacher, temperature=0)


# -- the fallback ------------------------------------------------------------------------------


def test_tensors_that_match_are_inherited_and_the_share_is_told() -> None:
    graph = plain()
    state = trained(graph)
    child = inherit(graph, state, load_chain([{"op": "widen", "node": "hidden", "to": 12}]))
    torch.manual_seed(1)
    network = Network(child.graph, (0.1,) * 3, (0.2,) * 3).double()
    fresh = {name: t.clone() for name, t in network.state_dict().items()}
    matched = inherit_matching(state, network)
    after = network.state_dict()
    changed = ("nodes.hidden.weight", "nodes.hidden.bias", "nodes.classifier.weight")
    assert set(after) - set(matched.names) == set(changed)
    for name in after:
        assert torch.equal(after[name], (fresh if name in changed else state)[name]), name
    total = sum(p.numel() for p in network.parameters())
    missing = sum(fresh[name].numel() for name in changed)
    assert matched.share == pytest.approx((total - missing) / total)
    state["nodes.c1.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(CorruptModel, match=r"nodes\.c1\.weight holds a value that is not finite"):
        inherit_matching(state, network)


# -- what is refused ---------------------------------------------------------------------------

WIDEN = [{"op": "widen", "node": "c1", "to": 9}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes.c1.weight": torch.zeros(6, 3, 5, 5)}, r"nodes\.c1\.weight has shape \(6, 3, 5, 5"),
        ({"nodes.c1.weight": None}, r"has no tensor nodes\.c1\.weight"),
        ({"nodes.other.weight": torch.zeros(1)}, r"a tensor nodes\.other\.weight, which its graph"),
        ({"nodes.n2.running_var": torch.full((6,), torch.nan)}, r"nodes\.n2\.running_var holds"),
        ({"nodes.hidden.bias": torch.full((8,), torch.inf)}, r"nodes\.hidden\.bias holds"),
    ],
)
def test_a_parent_that_is_not_what_its_graph_says(change: dict[str, Any], message: str) -> None:
    graph = plain()
    state = {n: t for n, t in {**trained(graph), **change}.items() if t is not None}
    with pytest.raises(CorruptModel, match=message):
        inherit(graph, state, load_chain(WIDEN))


def test_a_chain_that_exceeds_the_bounds_says_where() -> None:
    graph = plain()
    chain = load_chain([*WIDEN, {"op": "widen", "node": "hidden", "to": 400}])
    with pytest.raises(MorphismError, match=r"morphisms\[1\]: after widen there would be .* 5,000"):
        inherit(graph, trained(graph), chain, limits=Limits(params=5000))


def test_the_parent_is_not_changed() -> None:
    graph = plain()
    state = trained(graph)
    before = {name: tensor.clone() for name, tensor in state.items()}
    rng = np.random.default_rng(3)
    end, chain = graph, list[Base]()
    for _ in range(10):
        end, morphism = draw(end, rng, ["widen", "deepen", "path", "kernel", "prune", "skip"])
        chain.append(morphism.model_copy(update={"noise": 0.1}))
    child = inherit(graph, state, chain)
    assert same(state, before)
    shared = [t.data_ptr() for t in child.state.values() if t.numel()]
    assert len(set(shared)) == len(shared), "two tensors of the child share memory"
