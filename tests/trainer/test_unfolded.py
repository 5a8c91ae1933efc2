"""A cell that is unfolded begins as the function that its layer has learned."""

from __future__ import annotations

import pytest
import torch

from kinase.api.space import TreeSpace
from kinase.morphism.bridge import bridge
from kinase.space import Frame
from kinase.space.tree import Tree
from kinase_trainer.morphism import inherit
from tests.trainer.morphism_graphs import images, network_of, trained
from tests.unit.space.test_tree import EMPTY, LAYER, POINT, SEP, START, cell, then

SPACE = Tree(TreeSpace(widths=(8, 16), cells=1, ops=("conv_1x1", "sep_conv_3x3", "sep_conv_5x5")))
FRAME = Frame((3, 12, 12), 10)
MOTIFS = {
    "none": cell("none", then(LAYER, "none", then(SEP, "none", POINT))),
    "add": cell("add", LAYER, then(LAYER, "add", EMPTY, SEP), LAYER),
    "concat": cell("concat", then(LAYER, "none", SEP), then(LAYER, "concat", POINT, EMPTY)),
    "all": cell("add", then(LAYER, "add", then(SEP, "concat", SEP, EMPTY), POINT), LAYER),
}


@pytest.mark.parametrize("name", MOTIFS)
def test_logits_stay_as_they_are(name: str) -> None:
    parent, child = (SPACE.graph(each, FRAME) for each in (START, MOTIFS[name]))
    found = bridge(SPACE, START, MOTIFS[name], FRAME, seed=3)
    assert found is not None
    assert found.exact
    state = trained(parent)
    made = inherit(parent, state, found.morphisms)
    renamed = {}
    for tensor, value in made.state.items():
        owner, _, part = tensor.removeprefix("nodes.").rpartition(".")
        renamed[f"nodes.{found.names[owner]}.{part}" if owner else tensor] = value
    x = images(parent, torch.float32)
    with torch.no_grad():
        before = network_of(parent, state, torch.float32)(x)
        after = network_of(child, renamed, torch.float32)(x)
    assert torch.allclose(before, after, atol=1e-5)
    assert float(before.std()) > 1e-3


def test_a_gradient_reaches_every_weight_of_a_branch_that_began_as_nothing() -> None:
    """After one step, for a scale of zero lets none through to what is before it."""
    child = cell("none", then(LAYER, "add", EMPTY, SEP))
    found = bridge(SPACE, START, child, FRAME)
    assert found is not None
    parent = SPACE.graph(START, FRAME)
    made = inherit(parent, trained(parent), found.morphisms)
    network = network_of(made.graph, made.state, torch.float64).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x = images(parent, torch.float64, 8)
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), torch.arange(8) % 10).backward()
        optimizer.step()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.abs().max() > 0), name
