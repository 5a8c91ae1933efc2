"""Where morphisms lead from one architecture to another, and where they do not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from kinase.api.space import Space as SpaceModel
from kinase.morphism import MorphismError, apply_all, tensors
from kinase.morphism.bridge import bridge, follow
from kinase.morphism.same import renaming
from kinase.morphism.widen import Widen
from kinase.space import Frame, Graph, GraphBuilder, InfeasibleError, Space, make_space

FRAME = Frame((3, 16, 16), 10)
CONV: dict[str, Any] = {"op": "conv", "width": 8, "kernel": 3, "stride": 1}
POOL: dict[str, Any] = {"op": "maxpool", "kernel": 3, "stride": 2}
CHAIN = {"type": "Chain", "chain": {"widths": [4, 8, 16], "kernels": [1, 3, 5]}}
SKIPS = {"type": "Chain", "chain": {**CHAIN["chain"], "skips": True}}  # type: ignore[dict-item]
MULTI = {"type": "MultiBranch", "multiBranch": {"widths": [4, 8, 16]}}
NB201 = {"type": "Cell", "cell": {"preset": "nasbench201", "search": {"cells": 3, "filters": 4}}}
NASNET = {
    "type": "Cell",
    "cell": {"preset": "nasnet", "nodes": 3, "search": {"cells": 3, "filters": 4}},
}
CHOSEN = {
    "type": "Cell",
    "cell": {
        "preset": "nasnet",
        "nodes": 3,
        "concat": "chosen",
        "search": {"cells": 3, "filters": 4},
        "evaluation": {"cells": 5, "filters": 4},
    },
}
DARTS = {"type": "Cell", "cell": {"preset": "darts", "search": {"cells": 3, "filters": 4}}}


def space_of(document: dict[str, Any]) -> Space:
    return make_space(SpaceModel.model_validate(document))


def layers(*each: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"layers": [{**layer, **more} for layer in each]}


def ops(space: dict[str, Any], one: Any, other: Any, approximate: bool = False) -> list[str] | None:
    made = space_of(space)
    for architecture in (one, other):
        made.validate(architecture)
    found = bridge(made, one, other, FRAME, approximate=approximate)
    assert found is None or found.exact or approximate
    return None if found is None else [m.model_dump()["op"] for m in found.morphisms]


@pytest.mark.parametrize(
    ("child", "wanted"),
    [
        (layers(CONV, POOL, CONV), []),
        (layers({**CONV, "width": 16}, POOL, CONV), ["widen"]),
        (layers(CONV, POOL, {**CONV, "kernel": 5}), ["kernel"]),
        (layers(CONV, POOL, {**CONV, "kernel": 5, "width": 16}), ["kernel", "widen"]),
        (layers(CONV, CONV, POOL, CONV), ["deepen"]),
        (layers(CONV, POOL, CONV, {**CONV, "op": "sepconv"}), ["deepen"]),
        (layers(CONV, POOL, {**CONV, "width": 16}, CONV), ["deepen", "widen"]),
        (layers(CONV, POOL, CONV, CONV, CONV), ["deepen", "deepen"]),
        (layers(CONV, {**POOL, "kernel": 1, "stride": 1}, POOL, CONV), []),
        (layers(CONV, POOL), None),
        (layers(CONV, CONV), None),
        (layers({**CONV, "width": 4}, POOL, CONV), None),
        (layers({**CONV, "kernel": 1}, POOL, CONV), None),
        (layers({**CONV, "stride": 2}, POOL, CONV), None),
        (layers({**CONV, "op": "sepconv"}, POOL, CONV), None),
        (layers(CONV, POOL, CONV, POOL), None),
        (layers(CONV, POOL, CONV, {**CONV, "width": 4}), None),
        (layers({**CONV, "kernel": 5}, POOL, {**CONV, "width": 4}), None),
    ],
)
def test_chains(child: Any, wanted: list[str] | None) -> None:
    assert ops(CHAIN, layers(CONV, POOL, CONV), child) == wanted


@pytest.mark.parametrize("rule", ["zero", "replicate"])
def test_new_units_are_as_is_said(rule: Any) -> None:
    child = layers({**CONV, "width": 16}, POOL, CONV)
    found = bridge(space_of(CHAIN), layers(CONV, POOL, CONV), child, FRAME, rule=rule)
    assert found is not None
    [widen] = found.morphisms
    assert isinstance(widen, Widen)
    assert widen.rule == rule


def test_skips() -> None:
    plain = layers(CONV, POOL, CONV, skip=None)
    over = [CONV, POOL, {**CONV, "width": 16}]
    free = layers(*over, skip=None)
    projected = {"layers": [*free["layers"][:2], {**free["layers"][2], "skip": 0}]}
    assert ops(SKIPS, free, projected) == ["branch"]
    assert ops(SKIPS, projected, free) is None
    three = layers(CONV, CONV, CONV, skip=None)
    added = {"layers": [*three["layers"][:2], {**three["layers"][2], "skip": 0}]}
    assert ops(SKIPS, three, added) is None  # would be added as it is
    wider = {"layers": [*added["layers"][:2], {**added["layers"][2], "width": 16}]}
    assert ops(SKIPS, added, wider) == ["deepen", "widen"]
    assert ops(SKIPS, plain, plain) == []


SEPCONV = {**CONV, "op": "sepconv"}


@pytest.mark.parametrize(
    ("child", "wanted"),
    [
        (layers({**CONV, "width": 16}, POOL, CONV), ["widen"]),  # exact where that is possible
        (layers({**CONV, "width": 4}, POOL, CONV), ["prune"]),
        (layers({**CONV, "kernel": 1}, POOL, CONV), ["crop"]),
        (layers({**CONV, "kernel": 1, "width": 4}, POOL, CONV), ["crop", "prune"]),
        (layers({**CONV, "kernel": 5}, POOL, {**CONV, "width": 4}), ["kernel", "prune"]),
        (layers(SEPCONV, POOL, CONV), ["separate"]),
        (layers(CONV, POOL, {**SEPCONV, "kernel": 1, "width": 4}), ["separate", "crop", "prune"]),
        (layers(CONV, POOL), ["remove"]),
        (layers(POOL, CONV), ["prune", "remove"]),  # as wide as the image it can go
        (layers(POOL), ["prune", "prune", "remove", "remove"]),
        (layers(CONV, CONV), None),  # of a stride
        (layers({**CONV, "stride": 2}, POOL, CONV), None),
        (layers(CONV, {**POOL, "kernel": 5}, CONV), None),
        (layers({**CONV, "width": 4}, CONV, POOL, CONV), None),  # one less and one more
    ],
)
def test_smaller_chains(child: Any, wanted: list[str] | None) -> None:
    parent = layers(CONV, POOL, CONV)
    assert ops(CHAIN, parent, child, approximate=True) == wanted
    if wanted is not None and wanted != ["widen"]:
        assert ops(CHAIN, parent, child) is None


def test_a_layer_between_others_is_taken_out_at_any_width() -> None:
    wide = {**CONV, "width": 16}
    for layer, chain in (
        (wide, ["prune", "remove"]),
        (CONV, ["remove"]),
        ({**CONV, "width": 4}, ["widen", "remove"]),
        ({**SEPCONV, "width": 16}, ["prune", "remove", "remove"]),
        ({**POOL, "stride": 1}, ["remove"]),
    ):
        assert ops(CHAIN, layers(CONV, layer, CONV), layers(CONV, CONV), True) == chain


def test_skips_of_smaller_chains() -> None:
    def skips(*each: tuple[dict[str, Any], int | None]) -> dict[str, Any]:
        return {"layers": [{**layer, "skip": skip} for layer, skip in each]}

    thin, wide = {**CONV, "width": 4}, {**CONV, "width": 16}
    over = skips((CONV, None), (CONV, None), (CONV, 0))
    for child, wanted in (
        (skips((CONV, None), (CONV, None), (CONV, None)), ["cut"]),
        (skips((thin, None), (CONV, None), (CONV, 0)), ["deepen", "prune"]),
        (skips((thin, None), (CONV, None), (thin, 0)), ["prune"]),  # both have one width
        (skips((CONV, None), (thin, None), (CONV, 0)), ["prune"]),
        (skips((CONV, None), (CONV, None)), ["cut", "remove"]),
        (skips((CONV, None), (CONV, None), (CONV, -1)), None),
    ):
        assert ops(SKIPS, over, child, True) == wanted
    projected = skips((CONV, None), (CONV, None), (wide, 0))
    assert ops(SKIPS, projected, over, True) == ["prune", "remove"]
    assert ops(SKIPS, projected, skips((CONV, None), (CONV, None), (wide, None)), True) == ["cut"]
    image = skips((CONV, None), (CONV, None), (CONV, -1))
    assert ops(SKIPS, image, skips((CONV, None), (CONV, -1)), True) == ["remove"]


@pytest.mark.parametrize("document", [CHAIN, SKIPS])
def test_each_move_of_a_chain_is_the_morphism_that_it_says(document: dict[str, Any]) -> None:
    """But for a layer after a sum that may be negative, which is no identity behind a ReLU."""
    space, rng = space_of(document), np.random.default_rng(2)
    led, tried = Counter[str](), Counter[str]()
    for _ in range(12):
        parent = space.sample(rng)
        for move, children in space.moves(parent).items():
            child = children[int(rng.integers(len(children)))]
            space.validate(child)
            try:
                space.graph(parent, FRAME), space.graph(child, FRAME)
            except InfeasibleError:
                continue
            if space.key(parent) == space.key(child):  # a pool of one pixel
                continue
            tried[move] += 1
            found = bridge(space, parent, child, FRAME, approximate=True)
            if found is not None:
                names = {m.model_dump()["op"] for m in found.morphisms}
                assert ("branch" if move == "skip" else move) in names
                led[move] += 1
    assert len(tried) == (9 if document is SKIPS else 7)
    sure = tried.keys() - ({"deepen"} if document is SKIPS else set())
    assert all(led[move] > 0.85 * tried[move] for move in sure), (led, tried)
    assert led["deepen"]


def test_branches() -> None:
    def nodes(*each: dict[str, Any]) -> dict[str, Any]:
        return {"nodes": list(each)}

    first = {**CONV, "inputs": [-1], "merge": "add"}
    second = {**CONV, "inputs": [0], "merge": "add"}
    parent = nodes(first, second)
    assert ops(MULTI, parent, nodes(first, {**second, "width": 16})) == ["widen"]
    assert ops(MULTI, parent, nodes(first, second, {**second, "inputs": [1]})) == ["deepen"]
    # beside what is read already: an end of its own, of no weight in the last layer at first
    assert ops(MULTI, parent, nodes(first, second, second)) == ["skip", "deepen"]
    assert ops(MULTI, parent, nodes(first, {**second, "inputs": [-1, 0]})) == ["branch"]
    assert ops(MULTI, parent, nodes(first)) is None
    assert ops(MULTI, nodes(first, {**second, "width": 16}), parent, True) == ["prune"]
    assert ops(MULTI, parent, nodes(first, {**second, "op": "sepconv"}), True) == ["separate"]
    assert ops(MULTI, parent, nodes(first, {**second, "inputs": [-1]})) is None


def test_cells() -> None:
    def cell(*each: str) -> dict[str, Any]:
        a, b, c, d, e, f = each
        return {"normal": [[[a, 0]], [[b, 0], [c, 1]], [[d, 0], [e, 1], [f, 2]]]}

    conv, none, skip = "nor_conv_3x3", "none", "skip_connect"
    parent = cell(conv, none, skip, skip, none, "nor_conv_1x1")
    grown = cell(conv, none, skip, skip, none, conv)
    assert ops(NB201, parent, grown) == ["kernel"] * 15  # one in each of the cells
    assert ops(NB201, parent, cell(conv, conv, skip, skip, none, "nor_conv_1x1")) == ["branch"] * 15
    assert ops(NB201, parent, cell(conv, none, skip, skip, skip, "nor_conv_1x1")) is None
    assert ops(NB201, grown, parent) is None
    assert ops(NB201, grown, parent, True) == ["crop"] * 15
    assert ops(NB201, grown, cell(conv, none, skip, skip, none, none), True) == ["cut"] * 15


def test_cells_whose_nodes_take_one_source_twice() -> None:
    def cell(one: str, other: str) -> dict[str, Any]:
        first = [[one, 0], [other, 0]]
        rest = [[["max_pool_3x3", 1], ["skip_connect", 1]]] * 2
        return {"normal": [first, *rest], "reduction": [first, *rest]}

    parent = cell("sep_conv_3x3", "sep_conv_3x3")
    grown = cell("sep_conv_3x3", "sep_conv_5x5")
    assert ops(NASNET, parent, grown) == ["kernel"] * 40  # two layers in each of 20 cells
    assert ops(NASNET, grown, parent) is None
    assert ops(NASNET, grown, parent, True) == ["crop"] * 40
    same = cell("avg_pool_3x3", "avg_pool_3x3")
    assert ops(NASNET, same, same) == []


def concatenating(normal: list[int], reduction: list[int]) -> dict[str, Any]:
    """A cell whose nodes all lead to the last one, and that ends in these."""
    cell = [
        [["sep_conv_3x3", 0], ["skip_connect", 1]],
        [["max_pool_3x3", 1], ["sep_conv_5x5", 2]],
        [["skip_connect", 2], ["avg_pool_3x3", 3]],
    ]
    both = {"normal": normal, "reduction": reduction}
    return {"normal": cell, "reduction": cell, "concat": both}


def test_what_cells_concatenate() -> None:
    """Three normal cells, and two that reduce."""
    few, more = concatenating([4], [4]), concatenating([2, 4], [4])
    assert ops(CHOSEN, few, more) == ["join"] * 3
    assert ops(CHOSEN, few, concatenating([2, 4], [2, 3, 4])) == ["join"] * (3 + 2 * 2)
    assert ops(CHOSEN, more, few) is None
    assert ops(CHOSEN, more, few, True) == ["cut"] * 3
    other = ops(CHOSEN, more, concatenating([3, 4], [3, 4]), True)
    assert Counter(other) == {"cut": 3, "join": 3 + 2}
    # a node that led nowhere has no weights in the parent's network
    assert ops(CHOSEN, concatenating([2], [4]), concatenating([2, 3], [4])) is None


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("document", [CHAIN, SKIPS, MULTI, NB201, DARTS, NASNET, CHOSEN])
def test_at_the_end_of_a_bridge_every_tensor_is_there_in_its_shape(
    document: dict[str, Any], approximate: bool
) -> None:
    space, rng, bridges = space_of(document), np.random.default_rng(5), 0
    frame = Frame((3, 16, 16), 10, space.scale(final=False))
    for _ in range(60):
        if bridges == 10:
            break
        parent = space.sample(rng)
        child = space.mutate(parent, rng)
        try:
            before, after = space.graph(parent, frame), space.graph(child, frame)
        except InfeasibleError:
            continue
        found = bridge(space, parent, child, frame, seed=7, noise=0.01, approximate=approximate)
        if found is None or (found.exact and approximate):
            continue
        bridges += 1
        made = tensors(apply_all(before, found.morphisms))
        renamed = {}
        for tensor, shape in made.items():
            node, _, part = tensor.partition(".")
            renamed[f"{found.names[node]}.{part}"] = shape
        assert renamed == tensors(after.needed())
        assert follow(before, found.morphisms, after) == found.names
    assert bridges


def small(*, kernel: int = 3, swap: bool = False, shared: bool = False) -> Graph:
    g = GraphBuilder((4, 8, 8))
    a = g.conv("a", g.input, 4, kernel)
    b = g.relu("b", a if shared else g.conv("c", g.input, 4, 3))
    x = g.add("sum", [b, a] if swap else [a, b])
    return g.build(g.linear("end", g.global_avg_pool("pool", x), 2))


def test_graphs_that_are_the_same_are_found_to_be() -> None:
    names = {"a": "a", "c": "c", "end": "end"}
    assert renaming(small(), small()) == names
    assert renaming(small(), small(swap=True)) == names
    assert renaming(small(), small(kernel=5)) is None
    assert renaming(small(), small(shared=True)) is None
    assert renaming(small(shared=True), small()) is None


def test_the_wrong_end_is_refused() -> None:
    with pytest.raises(MorphismError, match="another network"):
        follow(small(), (), small(kernel=5))
