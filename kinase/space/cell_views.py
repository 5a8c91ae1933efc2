"""What others read of an architecture of cells: vectors and paths for comparisons, a drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kinase.api.trial import Architecture
from kinase.space.base import Part, Sketch
from kinase.space.cell_form import CellForm

if TYPE_CHECKING:
    from numpy.typing import NDArray


def vector(form: CellForm, architecture: Architecture) -> NDArray[np.float64]:
    """Adjacency encoding: for every possible edge a one-hot operation, or zeros without an edge. If
    two pairs can share a source, each counts one half. Followed by the concatenated nodes, unless
    all are."""
    rows = []
    for part in form.parts:
        for index, node in enumerate(architecture[part]):
            block = np.zeros((form.inputs + index, len(form.ops)))
            for op, source in node:
                block[source, form.ops.index(op)] += 0.5 if form.same_source else 1.0
            rows.append(block.ravel())
        if form.concat != "all":
            ends = form.ends(architecture, part)
            rows.append(np.isin(np.arange(form.nodes) + form.inputs, ends).astype(float))
    return np.concatenate(rows)


def encoding(form: CellForm) -> tuple[Part, ...]:
    """The columns of `vector`: the operation of every possible edge, and which nodes are
    concatenated. If two pairs can share a source, the number of pairs that take it through each
    operation."""
    edge = (Part(),) * len(form.ops) if form.same_source else (Part(len(form.ops), choice=True),)
    ends = (Part(1, choice=True),) * (form.nodes if form.concat != "all" else 0)
    edges = sum(form.inputs + index for index in range(form.nodes))
    return (edge * edges + ends) * len(form.parts)


def paths(form: CellForm, architecture: Architecture) -> frozenset[str]:
    """Operation sequences from an input to the output, cell by cell."""
    found: set[str] = set()
    for part in form.parts:
        at: list[set[str]] = [{f"{part}:in{i}"} for i in range(form.inputs)]
        for node in architecture[part]:
            at.append(
                {
                    path if op == "skip_connect" else f"{path}>{op}"
                    for op, source in node
                    if op != "none"
                    for path in at[source]
                }
            )
        found.update(*(at[end] for end in form.ends(architecture, part)))
    return frozenset(found)


def sketch(form: CellForm, architecture: Architecture) -> Sketch:
    """The cells' graphs: nodes as boxes, operations on the edges."""
    nodes: list[tuple[str, str]] = []
    edges: list[tuple[str, str, str]] = []
    group: dict[str, str] = {}
    names = ("c(k-2)", "c(k-1)") if form.inputs == 2 else ("in",)
    for part in form.parts:
        total = form.inputs + form.nodes
        ids = [f"{part}{i}" for i in range(total)]
        labels = [*names, *(str(i) for i in range(form.nodes))]
        for each, label in zip(ids, labels, strict=True):
            nodes.append((each, label))
        for index, node in enumerate(architecture[part]):
            for op, source in node:
                if op != "none":
                    edges.append((ids[source], ids[form.inputs + index], op))
        end = f"{part}out"
        nodes.append((end, "out" if form.dense else "concat"))
        edges += [(ids[last], end, "") for last in form.ends(architecture, part)]
        group |= dict.fromkeys([*ids, end], part)
    return Sketch(tuple(nodes), tuple(edges), group)
