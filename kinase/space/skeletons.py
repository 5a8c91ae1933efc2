"""Macro skeletons: how a network is built from copies of a cell."""

from __future__ import annotations

from typing import Any

from kinase.space import cell_ops
from kinase.space.base import Frame
from kinase.space.builder import GraphBuilder
from kinase.space.graph import Graph

Genes = list[list[list[Any]]]
Ended = tuple[Genes, list[int]]
"""A cell's nodes, and the numbers of those that it concatenates; its two inputs are 0 and 1."""


def imagenet_style(
    normal: Ended, reduction: Ended, frame: Frame, cells: int, filters: int
) -> Graph:
    """The DARTS network for CIFAR-10 (Liu et al. 2019, section 3.2): a 3x3 stem of three times
    the filters, cells that read the two previous ones, reduction cells at one and two thirds of
    the depth, which double the filters.

    The auxiliary head reads the second reduction cell (Szegedy et al. 2015; here as in DARTS:
    average pooling, a 1x1 convolution of 128 and one over the whole map of 768 filters).
    """
    g = GraphBuilder(frame.input)
    x = g.conv("stem_conv", g.input, 3 * filters, 3)
    x = g.batch_norm("stem_bn", x)
    before, last = x, x
    reductions = {cells // 3, 2 * cells // 3} if cells >= 3 else set()
    auxiliary = None
    was_reduced = False
    for index in range(cells):
        reduces = index in reductions
        filters *= 2 if reduces else 1
        chosen = reduction if reduces else normal
        name = f"cell{index}"
        out = _cell(g, name, chosen, before, last, filters, 2 if reduces else 1, was_reduced)
        before, last, was_reduced = last, out, reduces
        if frame.auxiliary and reductions and index == 2 * cells // 3:
            auxiliary = _auxiliary(g, last, frame.outputs)
    x = g.global_avg_pool("pool", last)
    return g.build(g.linear("classifier", x, frame.outputs), auxiliary)


def _cell(
    g: GraphBuilder,
    name: str,
    cell: Ended,
    before: str,
    last: str,
    filters: int,
    stride: int,
    was_reduced: bool,
) -> str:
    """One cell: both inputs brought to `filters` channels, the pairs, the concatenation."""
    if was_reduced:
        first = cell_ops.factorized_reduce(g, f"{name}_pre0", before, filters)
    else:
        first = cell_ops.relu_conv_bn(g, f"{name}_pre0", before, filters, 1, 1)
    states = [first, cell_ops.relu_conv_bn(g, f"{name}_pre1", last, filters, 1, 1)]
    genes, ends = cell
    for index, node in enumerate(genes):
        terms = []
        for number, (op, source) in enumerate(node):
            edge = f"{name}_node{index}_edge{number}"
            step = stride if source < 2 else 1
            out = cell_ops.apply(g, edge, op, states[source], filters, step)
            # an identity is never dropped, so that there is always an output
            if not (op == "skip_connect" and step == 1) and op != "none":
                out = g.unary(f"{edge}_drop", "drop_path", out)
            terms.append(out)
        states.append(g.add(f"{name}_node{index}", terms))
    return g.concat(f"{name}_out", [states[end] for end in ends])


def _auxiliary(g: GraphBuilder, x: str, outputs: int) -> str:
    x = g.relu("auxiliary_relu0", x)
    side = min(g.shape(x)[1:])
    if side >= 5:
        x = g.pool("auxiliary_pool", x, "avg", 5, 3, padding=0)
    x = g.conv("auxiliary_conv1", x, 128, 1)
    x = g.relu("auxiliary_relu1", g.batch_norm("auxiliary_bn1", x))
    _, height, width = g.shape(x)
    x = g.conv("auxiliary_conv2", x, 768, (height, width) if height != width else height, padding=0)
    x = g.relu("auxiliary_relu2", g.batch_norm("auxiliary_bn2", x))
    x = g.global_avg_pool("auxiliary_flat", x)
    return g.linear("auxiliary_classifier", x, outputs)


def residual(genes: Genes, frame: Frame, cells: int, filters: int) -> Graph:
    """The NAS-Bench-201 network (Dong & Yang 2020, section 2.1): a 3x3 stem, three stages of
    equal cells, between them residual blocks of stride 2 that double the filters.

    `cells` counts the cells of all stages; if it is not divisible by three, the earlier stages get
    one more.
    """
    g = GraphBuilder(frame.input)
    x = g.batch_norm("stem_bn", g.conv("stem_conv", g.input, filters, 3))
    index = 0
    for stage in range(3):
        if stage:
            filters *= 2
            x = _residual_block(g, f"reduce{stage}", x, filters)
        for _ in range((cells + 2 - stage) // 3):
            x = _dense_cell(g, f"cell{index}", genes, x, filters)
            index += 1
    x = g.relu("last_relu", g.batch_norm("last_bn", x))
    x = g.global_avg_pool("pool", x)
    return g.build(g.linear("classifier", x, frame.outputs))


def _residual_block(g: GraphBuilder, name: str, x: str, filters: int) -> str:
    """ReLU-conv-BN twice, in parallel with an average pooling and a 1x1 convolution (He et al.
    2016)."""
    y = cell_ops.relu_conv_bn(g, f"{name}_a", x, filters, 3, 2)
    y = cell_ops.relu_conv_bn(g, f"{name}_b", y, filters, 3, 1)
    x = cell_ops.halve(g, f"{name}_pool", x)
    return g.add(name, [g.conv(f"{name}_project", x, filters, 1), y])


def _dense_cell(g: GraphBuilder, name: str, genes: Genes, x: str, filters: int) -> str:
    states = [x]
    for index, node in enumerate(genes):
        terms = []
        for op, source in node:
            edge = f"{name}_edge{source}_{index + 1}"
            out = cell_ops.apply(g, edge, op, states[source], filters, 1)
            if op not in ("skip_connect", "none"):
                out = g.unary(f"{edge}_drop", "drop_path", out)
            if op != "none":
                terms.append(out)
        if not terms:
            terms = [g.unary(f"{name}_zero{index + 1}", "zero", x, stride=1)]
        states.append(g.add(f"{name}_node{index + 1}", terms))
    return states[-1]
