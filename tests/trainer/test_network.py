from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kinase.api.space import Space as SpaceModel
from kinase.space import Frame, Graph, GraphBuilder, Node, make_space
from kinase.space.nodes import ACTIVATIONS, OPS
from kinase_trainer.network import Add, DropPath, Network, Shift, Unpool, Zero
from tests.trainer.helpers import CHAIN, DARTS, SMALL, cell, graph

SPACES: dict[str, dict[str, Any]] = {
    "chain": CHAIN,
    "chain with skips": {"type": "Chain", "chain": {"maxDepth": 5, "skips": True}},
    "multi-branch": {"type": "MultiBranch", "multiBranch": {"maxNodes": 5, "widths": [4, 8]}},
    "darts": DARTS,
    "nasbench201": {
        "type": "Cell",
        "cell": {"preset": "nasbench201", "search": {"cells": 6, "filters": 4}},
    },
    "nasnet": {
        "type": "Cell",
        "cell": {"preset": "nasnet", "concat": "chosen", "search": {"cells": 3, "filters": 4}},
    },
    "macro": {"type": "Macro", "macro": {"layers": 3, "filters": 4}},
    "choice blocks": {
        "type": "ChoiceBlocks",
        "choiceBlocks": {"blocks": 2, "maxOps": 2, "search": {"cells": 2, "filters": 4}},
    },
    "fabric": {"type": "Fabric", "fabric": {"layers": 3, "scales": 3, "channels": 4}},
}


def _sequence(g: GraphBuilder) -> str:
    """Operations on tokens, down to one of them."""
    x = g.unary("tokens", "tokens", g.conv("patches", g.input, 6, 2, 2, padding=0, bias=True))
    x = g.position("position", g.class_token("class_token", x))
    x = g.mix("mix", x, g.attention("attention", g.layer_norm("ln", x), 2, 4))
    half = g.unary("slice", "slice", x, start=2, size=3)
    x = g.linear("mlp", g.concat("both", [x, half]), 5)
    return g.concat(
        "ends", [g.unary("select", "select", x, index=0), g.global_avg_pool("tokens_mean", x)]
    )


NUMBERS = {"leaky_relu": {"slope": 0.1}, "elu": {"alpha": 0.5}}


def every_op() -> Graph:
    """A graph that holds each primitive operation."""
    g = GraphBuilder((3, 9, 7))
    x = g.conv("conv", g.input, 8, 3, bias=True)
    x = g.relu("relu", g.batch_norm("bn", x))
    wide = g.conv("wide", x, 8, (1, 7), groups=4)
    step = g.conv("step", x, 8, (5, 3), (1, 2))
    dilated = g.conv("dilated", x, 8, 3, dilation=2)
    same = g.unary("identity", "identity", x)
    dropped = g.unary("drop_path", "drop_path", g.pool("max", x, "max", 3, 1))
    x = g.add("add", [wide, dilated, same, dropped, g.pool("avg", x, "avg", 3, 1)])
    gate = g.unary("squeeze", "adaptive_avg_pool", x, height=1, width=1)
    doubled = g.unpool("unpool", g.pool("halved", x, "max", 3, 2), 9, 7)
    x = g.add("again", [x, doubled])
    x = g.gate("gated", x, g.unary("gate", "hard_sigmoid", g.conv("excite", gate, 8, 1)))
    x = g.unary("shuffle", "shuffle", x, groups=4)
    x = g.unary("group_norm", "group_norm", x, channels=8, groups=2, affine=1)
    x = g.unary("layer_scale", "layer_scale", g.layer_norm("map_norm", x), channels=8)
    other = g.conv("second", g.unary("shift", "shift", x), 8, 1, 2, padding=0)
    x = g.concat(
        "concat",
        [
            g.conv("first", x, 8, 1, 2),
            other,
            g.conv("down", step, 8, 1, (2, 1)),
            g.unary("zero", "zero", x, stride=2),
        ],
    )
    auxiliary = g.linear("aux_linear", g.flatten("aux_flat", g.pool("aux", x, "avg", 3, 2)), 10)
    x = g.global_avg_pool("pool", g.batch_norm("plain", x, affine=False))
    x = g.unary("dropout", "dropout", x, rate=0.5)
    for op in sorted(ACTIVATIONS - {"relu"}):
        x = g.unary(op, op, x, **NUMBERS.get(op, {}))
    x = g.concat("joined", [x, _sequence(g)])
    return g.build(g.linear("classifier", x, 10), auxiliary)


def test_every_operation_gives_the_shape_that_the_graph_says() -> None:
    whole = every_op()
    assert {node.op for node in whole} == OPS - {"choice"}  # only in a supernet
    network = Network(whole)
    seen: dict[str, tuple[int, ...]] = {}
    for name, module in network.nodes.items():
        module.register_forward_hook(
            lambda _, __, out, name=name: seen.__setitem__(name, tuple(out.shape[1:]))
        )
    network(torch.rand(2, 3, 9, 7))
    shapes = whole.shapes()
    assert seen == {node.name: shapes[node.name] for node in whole if node.op != "input"}


@pytest.mark.parametrize("space", SPACES)
def test_parameters_and_multiply_adds_are_those_that_the_graph_counts(space: str) -> None:
    made = make_space(SpaceModel.model_validate(SPACES[space]))
    rng = np.random.default_rng(3)
    checked = 0
    for _ in range(8):
        try:
            built = made.graph(made.sample(rng), Frame((3, 16, 16), 10, made.scale(final=False)))
        except ValueError:  # infeasible at this size
            continue
        network = Network(built).eval()
        assert sum(p.numel() for p in network.parameters()) == built.params()
        assert _measured_macs(network, torch.rand(1, 3, 16, 16)) == built.macs()
        checked += 1
    assert checked >= 3


def _measured_macs(network: Network, images: torch.Tensor) -> int:
    """Counted by torch itself, which counts a multiply-add as two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return int(counter.get_total_flops()) // 2


def test_auxiliary_head_speaks_in_training_only_and_is_not_counted() -> None:
    whole = every_op()
    network = Network(whole)
    images = torch.rand(4, 3, 9, 7)
    logits, auxiliary = network(images)
    assert logits.shape == auxiliary.shape == (4, 10)
    assert isinstance(network.eval()(images), torch.Tensor)
    head = {n for n, _ in network.named_parameters() if n.startswith("nodes.aux")}
    rest = sum(p.numel() for n, p in network.named_parameters() if n not in head)
    assert head
    assert rest == whole.params()


def test_a_chain_equals_the_same_layers_by_hand() -> None:
    built = graph(CHAIN, SMALL, Frame((1, 8, 8), 10))
    network = Network(built, (0.3,), (0.4,)).eval()
    images = torch.rand(5, 1, 8, 8)
    state = network.state_dict()

    def weight(name: str) -> torch.Tensor:
        return state[f"nodes.{name}.weight"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        numbers = (state[f"nodes.{name}.{k}"] for k in ("running_mean", "running_var"))
        return F.batch_norm(x, *numbers, weight(name), state[f"nodes.{name}.bias"])

    x = (images - 0.3) / 0.4
    x = F.relu(norm(F.conv2d(x, weight("layer0_conv"), padding=1), "layer0_bn"))
    x = F.max_pool2d(x, 3, 2, 1)
    x = F.conv2d(x, weight("layer2_depthwise"), padding=1, groups=4)
    x = F.relu(norm(F.conv2d(x, weight("layer2_pointwise")), "layer2_bn"))
    wanted = F.linear(x.mean((2, 3)), weight("classifier"), state["nodes.classifier.bias"])
    torch.testing.assert_close(network(images), wanted)


def test_weights_are_the_seed_s() -> None:
    built = graph(CHAIN, SMALL, Frame((1, 8, 8), 10))

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(Network(built).parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_nodes_that_lead_nowhere_are_not_built() -> None:
    g = GraphBuilder((1, 8, 8))
    x = g.conv("used", g.input, 4, 3)
    g.conv("unused", x, 4, 3)
    built = g.build(g.linear("classifier", g.global_avg_pool("pool", x), 2))
    assert set(Network(built).nodes) == {"used", "pool", "classifier"}


def test_maps_are_freed_once_nobody_needs_them() -> None:
    built = graph(DARTS, cell(np.random.default_rng(0)), Frame((1, 16, 16), 10, _scale()))
    plan = Network(built)._train_plan
    alive, most = {built.nodes[0].name}, 0
    for name, inputs, done in plan:
        assert alive >= set(inputs), "an input was freed too early"
        alive.add(name)
        most = max(most, len(alive))
        alive -= set(done)
    assert alive == {built.output}
    assert most < len(plan) / 4


def _scale() -> Any:
    return make_space(SpaceModel.model_validate(DARTS)).scale(final=False)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop = DropPath()
    x = torch.ones(20_000, 2, 1, 1)
    assert drop(x) is x
    drop.rate = 0.3
    y = drop(x).flatten(1)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert torch.equal(y[:, 0], y[:, 1])
    # the mean of 20,000 Bernoulli draws scaled by 1/0.7: deviation 0.0046
    assert float(y.mean()) == pytest.approx(1.0, abs=0.02)
    assert drop.eval()(x) is x


def test_shift_moves_by_one_pixel_and_zero_keeps_no_value() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert Shift()(x).tolist() == [[[[4, 5, 0], [7, 8, 0], [0, 0, 0]]]]
    assert Zero(2)(x).tolist() == [[[[0, 0], [0, 0]]]]


def test_unpooling_writes_zeros_between_the_pixels() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    whole = [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    assert Unpool(4, 4)(x)[0, 0].tolist() == whole
    assert Unpool(3, 4)(x)[0, 0].tolist() == whole[:3]
    assert torch.equal(Unpool(3, 3)(x)[:, :, ::2, ::2], x)


def test_average_pooling_does_not_count_the_padding() -> None:
    g = GraphBuilder((1, 4, 4))
    pooled = g.pool("avg", g.input, "avg", 3, 1)
    network = Network(g.build(g.flatten("flat", pooled)))
    assert torch.equal(network(torch.ones(1, 1, 4, 4)), torch.ones(1, 16))


POOLS = [
    (size, kernel, stride, padding, ceil, counted)
    for size in (5, 8, 13)
    for kernel, stride, padding in (
        (3, 2, 0),
        (3, 2, 1),
        (2, 2, 0),
        (3, 3, 1),
        (2, 3, 1),
        (3, 1, 1),
    )
    for ceil in (0, 1)
    for counted in (0, 1)
]


def test_pools_have_the_sizes_and_values_of_torch_s() -> None:
    """Rounded down and up: a last window may hang over the edge, but must begin before it. An
    average may count the zeros of its padding."""
    images = torch.randn(2, 3, 13, 13, dtype=torch.float64)
    for size, kernel, stride, padding, ceil, counted in POOLS:
        x = images[:, :, :size, : size - 1]
        sizes = {"kernel": kernel, "stride": stride, "padding": padding, "ceil": ceil}
        for op, more in (("max_pool", {}), ("avg_pool", {"count_pad": counted})):
            g = GraphBuilder((3, size, size - 1))
            graph = g.build(g.unary("pool", op, g.input, **sizes, **more))
            wanted = (
                F.max_pool2d(x, kernel, stride, padding, ceil_mode=bool(ceil))
                if op == "max_pool"
                else F.avg_pool2d(x, kernel, stride, padding, bool(ceil), bool(counted))
            )
            assert graph.shapes()["pool"] == wanted.shape[1:], (op, sizes, more)
            assert torch.equal(Network(graph).double()(x), wanted)


def test_a_layer_normalization_of_a_map_is_that_of_each_pixel() -> None:
    g = GraphBuilder((6, 4, 5))
    network = Network(g.build(g.layer_norm("norm", g.input))).double()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    centred = x - x.mean(1, keepdim=True)
    wanted = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(network(x), wanted)


def test_a_shuffle_takes_a_channel_of_each_group_in_turn() -> None:
    g = GraphBuilder((6, 1, 1))
    network = Network(g.build(g.unary("shuffle", "shuffle", g.input, groups=2)))
    assert network(torch.arange(6.0).view(1, 6, 1, 1)).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_drop_path_has_its_own_rate_or_that_of_the_training() -> None:
    g = GraphBuilder((2, 1, 1))
    x = g.unary("own", "drop_path", g.unary("given", "drop_path", g.input), rate=1.0)
    network = Network(g.build(x)).train()
    network.set_drop_path(0.5)
    assert [module.rate for module in network.nodes.values()] == [0.5, 1.0]
    assert not network(torch.ones(3, 2, 1, 1)).any()


def test_a_copy_is_a_network_of_its_own() -> None:
    network = Network(every_op()).eval()
    images = torch.rand(2, 3, 9, 7)
    before = network(images)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    assert torch.equal(network(images), before)
    assert not torch.allclose(other(images), before)


def test_adding_leaves_its_inputs_as_they_are() -> None:
    one, two = torch.ones(2), torch.ones(2)
    assert Add()(one, two).tolist() == [2, 2]
    assert one.tolist() == two.tolist() == [1, 1]


def test_an_unknown_operation_is_refused() -> None:
    nodes = (
        Node("input", "input", (), {"channels": 1, "height": 4, "width": 4}),
        Node("odd", "fourier", ("input",), {}),
    )
    with pytest.raises(ValueError, match="odd: no module for operation 'fourier'"):
        Network(Graph(nodes, "odd"))


@pytest.mark.parametrize("channels", [1, 3, 7, 12])
def test_a_strided_projection_of_few_channels_has_the_gradients_of_a_convolution(
    channels: int,
) -> None:
    """In doubles, where torch computes it another way: of few channels a library's own gradient
    is wrong, and writes where it should not."""
    b = GraphBuilder((channels, 16, 16))
    model = Network(b.build(b.conv("conv", "input", 64, 1, stride=2))).to(
        memory_format=torch.channels_last
    )
    [conv] = (m for m in model.modules() if isinstance(m, nn.Conv2d))
    plain = nn.Conv2d(channels, 64, 1, 2, bias=False).double()
    plain.weight.data.copy_(conv.weight.data)
    x = torch.randn(32, channels, 16, 16).to(memory_format=torch.channels_last)
    for _ in range(20):
        conv.weight.grad = plain.weight.grad = None
        ours, theirs = model(x), plain(x.double())
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-5)
        weights = torch.randn_like(ours)
        ours.backward(weights)
        theirs.backward(weights.double())
        assert conv.weight.grad is not None
        torch.testing.assert_close(conv.weight.grad.double(), plain.weight.grad, rtol=0, atol=2e-3)
