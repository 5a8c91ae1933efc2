"""Isomorphic architectures are one, and others are not."""

from __future__ import annotations

import itertools
import statistics
import time
from typing import Any

import networkx as nx
import numpy as np
import pytest

from kinase.api.space import CellSpace, ChainSpace, MultiBranchSpace
from kinase.space.canonical import canonical_form
from kinase.space.cell import Cell
from kinase.space.chain import Chain
from kinase.space.multibranch import MultiBranch
from kinase.space.nasbench201 import from_nasbench201, to_nasbench201
from kinase.strategy import derive_rng


def random_graph(rng: np.random.Generator) -> tuple[list[str], list[tuple[int, int]]]:
    count = int(rng.integers(2, 8))
    labels = ["a", *(str(rng.choice(["x", "y"])) for _ in range(count - 2)), "z"]
    edges = [(i, j) for i, j in itertools.combinations(range(count), 2) if rng.random() < 0.45]
    return labels, edges


def permuted(
    labels: list[str], edges: list[tuple[int, int]], rng: np.random.Generator
) -> tuple[list[str], list[tuple[int, int]]]:
    order = [int(i) for i in rng.permutation(len(labels))]
    place = {old: new for new, old in enumerate(order)}
    moved = [(place[a], place[b]) for a, b in edges]
    rng.shuffle(moved)
    return [labels[old] for old in order], moved


def as_networkx(labels: list[str], edges: list[tuple[int, int]]) -> Any:
    graph = nx.MultiDiGraph()
    graph.add_nodes_from((i, {"label": label}) for i, label in enumerate(labels))
    graph.add_edges_from(edges)
    return graph


def test_the_order_of_the_nodes_means_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        labels, edges = random_graph(rng)
        assert canonical_form(labels, edges) == canonical_form(*permuted(labels, edges, rng))


def test_equal_forms_are_isomorphic_and_no_others() -> None:
    rng = np.random.default_rng(1)
    graphs = [random_graph(rng) for _ in range(160)]
    same = 0
    for a, b in itertools.combinations(graphs, 2):
        if sorted(a[0]) != sorted(b[0]) or len(a[1]) != len(b[1]):
            continue
        isomorphic = nx.is_isomorphic(
            as_networkx(*a), as_networkx(*b), node_match=lambda x, y: x["label"] == y["label"]
        )
        assert (canonical_form(*a) == canonical_form(*b)) is isomorphic
        same += isomorphic
    assert same > 20


def test_what_refinement_cannot_tell_apart_is_told_apart() -> None:
    # two triangles against one hexagon, as undirected cycles: Weisfeiler-Lehman's classic blind
    # spot, made directed by a node in the middle of each edge
    def cycles(*lengths: int) -> tuple[list[str], list[tuple[int, int]]]:
        labels, edges, start = ["n"] * sum(lengths), [], 0
        for length in lengths:
            for i in range(length):
                middle = len(labels)
                labels.append("e")
                edges += [(start + i, middle), (start + (i + 1) % length, middle)]
            start += length
        return labels, edges

    assert canonical_form(*cycles(3, 3)) != canonical_form(*cycles(6))
    rng = np.random.default_rng(2)
    for _ in range(5):
        assert canonical_form(*permuted(*cycles(3, 3), rng)) == canonical_form(*cycles(3, 3))


@pytest.mark.parametrize("preset", ["darts", "nasnet"])
def test_a_cell_of_twelve_equal_nodes_is_no_riddle(preset: Any) -> None:
    """They may be exchanged in 12! ways, and the operations of each in two."""
    space = Cell(CellSpace(preset=preset, nodes=12))
    sources = (0, 0) if preset == "nasnet" else (0, 1)
    equal = [["sep_conv_3x3", source] for source in sources]
    other = [["sep_conv_3x3", sources[0]], ["max_pool_3x3", sources[1]]]
    keys = {
        space.key({"normal": cell, "reduction": cell})
        for place in (0, 5, 11)
        for cell in ([other if index == place else equal for index in range(12)],)
    }
    assert len(keys) == 1
    assert keys != {space.key({"normal": [equal] * 12, "reduction": [equal] * 12})}


def test_nodes_of_a_branching_network_may_be_told_in_any_order() -> None:
    space = MultiBranch(MultiBranchSpace(min_nodes=3))
    rng = np.random.default_rng(3)
    moved_some = 0
    for seed in range(60):
        nodes = space.sample(derive_rng(seed))["nodes"]
        order = list(_topological(nodes, rng))
        place = {old: new for new, old in enumerate(order)} | {-1: -1}
        moved = [
            {**nodes[old], "inputs": sorted(place[i] for i in nodes[old]["inputs"])}
            for old in order
        ]
        moved_some += order != sorted(order)
        space.validate({"nodes": moved})
        assert space.key({"nodes": moved}) == space.key({"nodes": nodes})
        assert space.paths({"nodes": moved}) == space.paths({"nodes": nodes})
    assert moved_some > 10


def _topological(nodes: list[dict[str, Any]], rng: np.random.Generator) -> Any:
    done: set[int] = {-1}
    while len(done) <= len(nodes):
        ready = [i for i, n in enumerate(nodes) if i not in done and set(n["inputs"]) <= done]
        chosen = int(rng.choice(ready))
        done.add(chosen)
        yield chosen


def merged_string(text: str, drop_zeros: bool) -> str:
    """A cell as the benchmark simplifies it (Dong & Yang 2020, section 2.1): a node is the
    sorted list of what it adds, and identities are seen through. Nodes that compute alike are
    merged, although each has weights of its own. As published, a zero stays in a sum; with
    `drop_zeros` it does not."""
    nodes = ["0"]
    for node in from_nasbench201(text)["normal"]:
        terms = []
        for op, source in node:
            if op == "none" or nodes[source] == "#":
                terms.append("#")
            elif op == "skip_connect":
                terms.append(nodes[source])
            else:
                terms.append(f"({nodes[source]})@{op}")
        if drop_zeros:
            terms = [t for t in terms if t != "#"] or ["#"]
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


class Remembering(Cell):
    """Forms each of the benchmark's cells once."""

    known: dict[str, str]

    def key(self, architecture: Any) -> str:
        text = to_nasbench201(architecture)
        if text not in self.known:
            self.known[text] = super().key(architecture)
        return self.known[text]


def test_classes_of_nasbench201() -> None:
    space = Remembering(CellSpace(preset="nasbench201"))
    space.known = {}
    published: set[str] = set()
    merged: dict[str, set[str]] = {}
    for a, b, c, d, e, f in itertools.product(space.form.ops, repeat=6):
        text = f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"
        architecture = from_nasbench201(text)
        assert to_nasbench201(architecture) == text
        published.add(merged_string(text, drop_zeros=False))
        merged.setdefault(space.key(architecture), set()).add(merged_string(text, True))
    assert len(published) == 6_466  # the published number of different cells
    # Ours are more than the 5,390 that remain when zeros are dropped, because two nodes that
    # compute alike are two; and no two cells that the string tells apart are one of ours.
    assert len(set().union(*merged.values())) == 5_390
    assert len(merged) == len(list(space.enumerate())) == 6_985
    assert all(len(strings) == 1 for strings in merged.values())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # the identity through node 1 is the input itself
        (
            "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
            "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|",
            True,
        ),
        # what does not reach the output means nothing
        (
            "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
            "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
            True,
        ),
        # two convolutions with weights of their own are not one used twice
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|",
            "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|",
            False,
        ),
        (
            "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|",
            "|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
            False,
        ),
    ],
)
def test_cells_by_hand(one: str, other: str, same: bool) -> None:
    space = Cell(CellSpace(preset="nasbench201"))
    keys = [space.key(from_nasbench201(text)) for text in (one, other)]
    assert (keys[0] == keys[1]) is same


@pytest.mark.parametrize("preset", ["nasbench201", "darts", "nasnet"])
def test_edits_are_alike_that_have_the_same_key(preset: Any) -> None:
    space = Cell(CellSpace(preset=preset))
    told = []
    for seed in range(4):
        architecture = space.sample(derive_rng(seed))
        for edit in itertools.islice(space.edits(architecture), 60):
            part = next((p for p in space.form.parts if edit[p] != architecture[p]), "normal")
            if edit.get("concat") == architecture.get("concat"):
                told.append(space._alike(architecture, edit, part))
                assert told[-1] == (space.key(architecture) == space.key(edit))
    assert not all(told)
    assert any(told) or preset != "nasbench201"


def test_a_pooling_of_nothing_is_an_identity() -> None:
    space = Chain(ChainSpace(kernels=(1, 3), strides=(1, 2)))
    conv = {"op": "conv", "width": 8, "kernel": 3, "stride": 1}
    nothing = {"op": "maxpool", "kernel": 1, "stride": 1}
    assert space.key({"layers": [conv, nothing]}) == space.key({"layers": [conv]})
    assert space.key({"layers": [conv, conv]}) != space.key({"layers": [conv]})


@pytest.mark.parametrize(
    ("preset", "limit"), [("nasbench201", 0.3), ("darts", 1.0), ("nasnet", 2.0)]
)
def test_a_key_is_quick(preset: str, limit: float) -> None:
    space = Cell(CellSpace(preset=preset))  # type: ignore[arg-type]
    taken = []
    for seed in range(200):
        architecture = space.sample(derive_rng(seed))
        began = time.thread_time()
        space.key(architecture)
        taken.append((time.thread_time() - began) * 1e3)
    assert statistics.median(taken) <= 3 * limit  # three times, for a slower machine
