"""The networks that shrinking morphisms make are slices of the first one."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from kinase.api.model_space import ModelSpace
from kinase.morphism.model import Model
from kinase.space import Frame, Graph, GraphBuilder, derive_rng, dump_graph
from kinase.space.tensors import tensors

FRAME = Frame((3, 8, 8), 10)
SHRINKING = ("prune", "crop", "remove", "cut")


def residual() -> Graph:
    """A residual network with a gate, a depthwise and a grouped convolution, joined maps, and a
    flattened map before the last layer."""
    g = GraphBuilder((3, 8, 8))
    x = g.relu("stem_relu", g.batch_norm("stem_bn", g.conv("stem", g.input, 8, 5)))
    y = g.relu("relu1", g.batch_norm("bn1", g.conv("conv1", x, 8, 3)))
    gate = g.unary("squeeze", "adaptive_avg_pool", y, height=1, width=1)
    gate = g.relu("gate_relu", g.conv("gate1", gate, 4, 1, bias=True))
    gate = g.unary("excite", "hard_sigmoid", g.conv("gate2", gate, 8, 1, bias=True))
    x = g.add("add", [x, g.batch_norm("bn2", g.conv("conv2", g.gate("gated", y, gate), 8, 3))])
    z = g.relu("relu3", g.batch_norm("bn3", g.conv("grouped", x, 12, 3, groups=4)))
    w = g.conv("depthwise", g.conv("wide", x, 6, 1), 6, 5, groups=6)
    x = g.batch_norm("bn4", g.concat("join", [z, w]))
    x = g.conv("last", x, 5, 3, 2)
    return g.build(g.linear("classifier", g.flatten("flat", x), 10))


def space(operations: tuple[str, ...] = SHRINKING, steps: int = 6) -> Model:
    """Its sub-networks."""
    options = {"from": "graph", "graph": dump_graph(residual()), "operations": operations}
    return Model(ModelSpace.model_validate({**options, "steps": steps}))


def test_every_sub_network_is_a_slice() -> None:
    model, seen = space(), set[str]()
    elastic = model.elastic(FRAME)
    assert elastic is not None
    assert elastic.tensors == tensors(residual())
    for draw in range(40):
        architecture = model.sample(derive_rng(0, draw))
        sliced = elastic.slice(architecture)
        own = model.graph(architecture, FRAME)
        assert sliced.graph == own
        assert {name: cut.shape for name, cut in sliced.cuts.items()} == tensors(own)
        trained = (c for n, c in sliced.cuts.items() if not n.endswith(("mean", "var", "tracked")))
        assert sum(prod(cut.shape) for cut in trained) == own.params()
        seen |= {each["op"] for each in architecture["morphisms"]}
    assert seen == set(SHRINKING)


def test_flattened_and_joined_channels_keep_their_places() -> None:
    elastic = space().elastic(FRAME)
    assert elastic is not None
    cuts = elastic.slice(
        {
            "morphisms": [
                {"op": "prune", "node": "last", "to": 2},
                {"op": "prune", "node": "grouped", "to": 8},
                {"op": "crop", "node": "stem", "to": 3},
            ]
        }
    ).cuts
    assert cuts["classifier.weight"].axes == (range(10), range(2 * 16))
    # two of the three channels of each group, then what the other branch gives
    kept = [0, 1, 3, 4, 6, 7, 9, 10]
    assert np.array_equal(cuts["grouped.weight"].axes[0], kept)
    assert np.array_equal(cuts["bn4.running_mean"].axes[0], [*kept, *range(12, 18)])
    assert np.array_equal(cuts["last.weight"].axes[1], [*kept, *range(12, 18)])
    assert cuts["stem.weight"].axes == (range(8), range(3), range(1, 4), range(1, 4))


def test_groups_read_the_columns_of_their_own_channels() -> None:
    elastic = space().elastic(FRAME)
    assert elastic is not None
    cut = elastic.slice({"morphisms": [{"op": "prune", "node": "stem", "to": 4}]}).cuts
    assert np.array_equal(cut["stem.weight"].axes[0], [0, 2, 4, 6]), "one channel of each group"
    grouped = cut["grouped.weight"]
    assert grouped.shape == (12, 1, 3, 3)
    assert grouped.columns is not None
    assert np.array_equal(grouped.columns, np.zeros((12, 1)))


@pytest.mark.parametrize("operations", [("prune", "widen"), ("separate",)])
def test_a_network_that_grows_shares_nothing_and_says_why(operations: tuple[str, ...]) -> None:
    model = space(operations)
    assert model.elastic(FRAME) is None
    assert operations[-1] in model.unshared
    assert not space().unshared
