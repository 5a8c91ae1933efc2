"""Macro skeletons: how a network is built from copies of a cell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kinase.space import cell_ops
from kinase.space.base import Frame
from kinase.space.builder import GraphBuilder
from kinase.space.errors import InfeasibleError
from kinase.space.supernet import NONE, Choice, Edges, Supernet

Genes = list[list[list[Any]]]
"""For every node its pairs of an operation and a source. In a supernet a pair has, instead of an
operation, a tuple of those that it can have."""
Ended = tuple[Genes, list[int]]
"""A cell's nodes, and the numbers of those that it concatenates; its two inputs are 0 and 1."""


@dataclass
class _Edges:
    """Writes the edges of cells: operations of a network, or choices of a supernet."""

    g: GraphBuilder
    affine: bool
    """Whether batch normalizations in a cell have parameters."""
    pools: bool
    """Whether one follows a pooling."""
    partial: int | None = None
    """See `Frame.partial`."""
    choices: list[Choice] = field(default_factory=list)
    sums: list[Edges] = field(default_factory=list)

    def write(self, name: str, op: Any, x: str, out: int, stride: int, group: str) -> str:
        """An operation, or a choice of one."""
        if isinstance(op, str):
            return self._operation(name, op, x, out, stride)
        if self.partial is not None:
            return self._partial(name, op, x, out, stride, group, self.partial)
        return self._choice(name, op, x, out, stride, group)

    def _choice(
        self, name: str, ops: tuple[str, ...], x: str, out: int, stride: int, group: str
    ) -> str:
        options = [self._operation(f"{name}_{each}", each, x, out, stride) for each in ops]
        self.choices.append(Choice(name, ops, group))
        return self.g.choice(name, options)

    def _partial(
        self, name: str, ops: tuple[str, ...], x: str, out: int, stride: int, group: str, part: int
    ) -> str:
        """A choice for the first of `part` parts of the channels. The others pass by, pooled where
        the edge has a stride, and the channels are shuffled (Xu et al. 2020, section 3.2)."""
        g = self.g
        channels, height, width = g.shape(x)
        if channels % part or channels < part:
            raise InfeasibleError(
                f"{name}: {channels} channels; operations that see one in {part} of them need a "
                f"multiple of {part}"
            )
        seen = g.unary(f"{name}_seen", "slice", x, start=0, size=channels // part)
        y = self._choice(name, ops, seen, out // part, stride, group)
        if part == 1:
            return y
        size = channels - channels // part
        rest = g.unary(f"{name}_rest", "slice", x, start=channels // part, size=size)
        if stride > 1:  # as the operations do, which round up
            odd = {"ceil": 1} if height % 2 or width % 2 else {}
            rest = g.unary(
                f"{name}_pool", "max_pool", rest, kernel=2, stride=stride, padding=0, **odd
            )
        joined = g.concat(f"{name}_joined", [y, rest])
        return g.unary(f"{name}_shuffle", "shuffle", joined, groups=part)

    def add(self, name: str, terms: list[str], groups: list[str]) -> str:
        """The sum of a node's edges, weighted with partial channels (the edge normalization of Xu
        et al. 2020, section 3.3)."""
        if self.partial is None:
            return self.g.add(name, terms)
        self.sums.append(Edges(name, tuple(groups)))
        return self.g.choice(name, terms)

    def _operation(self, name: str, op: str, x: str, out: int, stride: int) -> str:
        y = cell_ops.apply(self.g, name, op, x, out, stride, affine=self.affine)
        if self.pools and op.endswith("pool_3x3"):
            y = self.g.batch_norm(f"{name}_bn", y, affine=self.affine)
        # an identity is never dropped, so that there is always an output
        return y if y == x or op == NONE else self.g.unary(f"{name}_drop", "drop_path", y)


def imagenet_style(
    normal: Ended, reduction: Ended, frame: Frame, cells: int, filters: int
) -> Supernet:
    """The DARTS network for CIFAR-10 (Liu et al. 2019, section 3.2): a 3x3 stem of three times
    the filters, cells that read the two previous ones, reduction cells at one and two thirds of
    the depth, which double the filters.

    The auxiliary head reads the second reduction cell (Szegedy et al. 2015; here as in DARTS:
    average pooling, a 1x1 convolution of 128 and one over the whole map of 768 filters).
    """
    g = GraphBuilder(frame.input)
    edges = _Edges(g, affine=not frame.searching, pools=frame.searching, partial=frame.partial)
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
        kind = "reduction" if reduces else "normal"
        stride = 2 if reduces else 1
        out = _cell(edges, name, kind, chosen, before, last, filters, stride, was_reduced)
        before, last, was_reduced = last, out, reduces
        if frame.auxiliary and reductions and index == 2 * cells // 3:
            auxiliary = _auxiliary(g, last, frame.outputs)
    x = g.global_avg_pool("pool", last)
    graph = g.build(g.linear("classifier", x, frame.outputs), auxiliary)
    return Supernet(graph, tuple(edges.choices), edges=tuple(edges.sums))


def _cell(
    edges: _Edges,
    name: str,
    kind: str,
    cell: Ended,
    before: str,
    last: str,
    filters: int,
    stride: int,
    was_reduced: bool,
) -> str:
    """One cell: both inputs brought to `filters` channels, the pairs, the concatenation."""
    g, affine = edges.g, edges.affine
    if was_reduced:
        first = cell_ops.factorized_reduce(g, f"{name}_pre0", before, filters, affine=affine)
    else:
        first = cell_ops.relu_conv_bn(g, f"{name}_pre0", before, filters, 1, 1, affine=affine)
    second = cell_ops.relu_conv_bn(g, f"{name}_pre1", last, filters, 1, 1, affine=affine)
    states = [first, second]
    genes, ends = cell
    for index, node in enumerate(genes):
        terms, groups = [], []
        for number, (op, source) in enumerate(node):
            edge = f"{name}_node{index}_edge{number}"
            step = stride if source < 2 else 1
            groups.append(f"{kind}_{index}_{number}")
            terms.append(edges.write(edge, op, states[source], filters, step, groups[-1]))
        states.append(edges.add(f"{name}_node{index}", terms, groups))
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


def residual(genes: Genes, frame: Frame, cells: int, filters: int) -> Supernet:
    """The NAS-Bench-201 network (Dong & Yang 2020, section 2.1): a 3x3 stem, three stages of
    equal cells, between them residual blocks of stride 2 that double the filters.

    `cells` counts the cells of all stages; if it is not divisible by three, the earlier stages get
    one more.
    """
    g = GraphBuilder(frame.input)
    edges = _Edges(g, affine=not frame.searching, pools=False, partial=frame.partial)
    x = g.batch_norm("stem_bn", g.conv("stem_conv", g.input, filters, 3))
    index = 0
    for stage in range(3):
        if stage:
            filters *= 2
            x = _residual_block(g, f"reduce{stage}", x, filters)
        for _ in range((cells + 2 - stage) // 3):
            x = _dense_cell(edges, f"cell{index}", genes, x, filters)
            index += 1
    x = g.relu("last_relu", g.batch_norm("last_bn", x))
    x = g.global_avg_pool("pool", x)
    graph = g.build(g.linear("classifier", x, frame.outputs))
    return Supernet(graph, tuple(edges.choices), edges=tuple(edges.sums))


def _residual_block(g: GraphBuilder, name: str, x: str, filters: int) -> str:
    """ReLU-conv-BN twice, in parallel with an average pooling and a 1x1 convolution (He et al.
    2016)."""
    y = cell_ops.relu_conv_bn(g, f"{name}_a", x, filters, 3, 2)
    y = cell_ops.relu_conv_bn(g, f"{name}_b", y, filters, 3, 1)
    x = cell_ops.halve(g, f"{name}_pool", x)
    return g.add(name, [g.conv(f"{name}_project", x, filters, 1), y])


def _dense_cell(edges: _Edges, name: str, genes: Genes, x: str, filters: int) -> str:
    g, states = edges.g, [x]
    for index, node in enumerate(genes):
        terms = [
            edges.write(
                f"{name}_edge{source}_{index + 1}",
                op,
                states[source],
                filters,
                1,
                f"normal_{index}_{source}",
            )
            for op, source in node
            if op != NONE
        ] or [g.unary(f"{name}_zero{index + 1}", "zero", x, stride=1)]
        groups = [f"normal_{index}_{source}" for _, source in node]
        states.append(edges.add(f"{name}_node{index + 1}", terms, groups))
    return states[-1]
