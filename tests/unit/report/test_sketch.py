from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from kinase.report.layered import Layout, Size, _increasing, layout, ranks
from kinase.report.sketch import draw
from kinase.space import Sketch
from tests.unit.report import samples

GAP = (26.0, 14.0)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Size], list[tuple[str, str]], list[Size | None]]:
    count = draw(st.integers(1, 9))
    side = st.floats(20, 120)
    sizes = {f"n{i}": (draw(side), draw(side)) for i in range(count)}
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=16)) if pairs else []
    edges = [(f"n{a}", f"n{b}") for a, b in chosen]
    labels = [draw(st.none() | st.tuples(side, side)) for _ in edges]
    return sizes, edges, labels


def _overlap(laid: Layout) -> bool:
    boxes = [*laid.nodes.values(), *(p for p in laid.labels if p is not None)]
    return any(
        abs(a.along - b.along) < (a.size[0] + b.size[0]) / 2 - 1e-6
        and abs(a.across - b.across) < (a.size[1] + b.size[1]) / 2 - 1e-6
        for i, a in enumerate(boxes)
        for b in boxes[i + 1 :]
    )


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_boxes_never_overlap_and_edges_go_forward(
    graph: tuple[dict[str, Size], list[tuple[str, str]], list[Size | None]],
) -> None:
    sizes, edges, labels = graph
    laid = layout(sizes, edges, labels, GAP)
    assert not _overlap(laid)
    for box in [*laid.nodes.values(), *(p for p in laid.labels if p is not None)]:
        assert box.along - box.size[0] / 2 >= -1e-6
        assert box.across - box.size[1] / 2 >= -1e-6
        assert box.along + box.size[0] / 2 <= laid.size[0] + 1e-6
        assert box.across + box.size[1] / 2 <= laid.size[1] + 1e-6
    for (source, target), route, label, size in zip(
        edges, laid.routes, laid.labels, labels, strict=True
    ):
        assert all(a[0] < b[0] + 1e-6 for a, b in pairwise(route))
        assert route[0][1] == laid.nodes[source].across
        assert route[-1][1] == laid.nodes[target].across
        assert (label is None) == (size is None)


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_ranks_are_the_topological_generations(
    graph: tuple[dict[str, Size], list[tuple[str, str]], list[Size | None]],
) -> None:
    sizes, edges, _ = graph
    other = nx.DiGraph(edges)
    other.add_nodes_from(sizes)
    expected = {n: i for i, each in enumerate(nx.topological_generations(other)) for n in each}
    assert ranks(list(sizes), edges) == expected


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0.1, 9)), min_size=1, max_size=12))
def test_monotone_fit_is_the_isotonic_regression(points: list[tuple[float, float]]) -> None:
    values, weights = zip(*points, strict=True)
    expected = isotonic_regression(np.array(values), sample_weight=np.array(weights))
    assert _increasing(values, weights) == pytest.approx(list(expected), abs=1e-9)


def test_crossed_pairs_are_untangled() -> None:
    sizes = dict.fromkeys(("a", "b", "c", "d"), (30.0, 40.0))
    laid = layout(sizes, [("a", "d"), ("b", "c")], [None, None], GAP)
    places = laid.nodes
    assert (places["a"].across < places["b"].across) == (places["d"].across < places["c"].across)


def test_a_chain_is_a_straight_line() -> None:
    ids = [f"n{i}" for i in range(6)]
    sizes = {n: (30.0, 40.0 + 10 * i) for i, n in enumerate(ids)}
    laid = layout(sizes, list(pairwise(ids)), [None] * 5, GAP)
    assert np.ptp([p.across for p in laid.nodes.values()]) == pytest.approx(0, abs=1e-6)


def test_an_empty_graph_takes_no_room() -> None:
    assert layout({}, [], [], GAP).size == (0.0, 0.0)


def _parts(text: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(f"<all>{text}</all>").findall("figure")


def test_chain_is_drawn_with_every_layer() -> None:
    data = samples.digits()
    assert data.winner is not None
    (figure,) = _parts(draw(data.winner.sketch, "winner"))
    texts = [t.text for t in figure.iter("text")]
    labels = [label for _, label in data.winner.sketch.nodes]
    assert sorted(texts) == sorted(labels + [t for *_, t in data.winner.sketch.edges if t])
    assert len(list(figure.iter("path"))) == len(data.winner.sketch.edges)


def test_each_cell_is_a_figure_with_its_operations() -> None:
    data = samples.cells()
    assert data.winner is not None
    normal, reduction = _parts(draw(data.winner.sketch, "winner"))
    captions = [figure.findtext("figcaption") for figure in (normal, reduction)]
    assert captions == ["normal cell", "reduction cell"]
    for figure, part in ((normal, "normal"), (reduction, "reduction")):
        drawn = [g.findtext("text") for g in figure.iter("g") if g.get("class") == "op"]
        genes = data.winner.architecture[part]
        assert sorted(drawn) == sorted(op for node in genes for op, _ in node if op != "none")


def test_labels_are_escaped_and_cut() -> None:
    sketch = Sketch((("a", "<script>x"), ("b", "b" * 500)), (("a", "b", '"><img src=x>'),))
    text = draw(sketch, "<b>")
    assert "<script" not in text
    assert "<img" not in text
    (figure,) = _parts(text)
    assert max(len(t.text or "") for t in figure.iter("text")) < 40
