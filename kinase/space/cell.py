"""Cells stacked in a macro skeleton."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.space import CellScale, CellSpace
from kinase.api.trial import Architecture, Scale
from kinase.space import growth, skeletons
from kinase.space.base import ArchitectureError, Frame, Rng, Size, Sketch, Space
from kinase.space.canonical import canonical_form
from kinase.space.graph import Graph
from kinase.space.presets import PRESETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pair = list[Any]
"""[operation, number of the node that it comes from]."""
CellGenes = list[list[Pair]]
"""For every intermediate node its pairs."""

ENUMERABLE = 100_000
"""Largest space that is enumerated."""


class Cell(Space):
    """Cell spaces (Zoph et al. 2018, section 3): what is searched is a small graph, of which a
    network stacks many copies.

    An architecture is ``{"normal": [[["sep_conv_3x3", 0], ["skip_connect", 1]], ...],
    "reduction": [...]}``: for every intermediate node the pairs of an operation and the node
    that it comes from. Nodes are numbered from the cell's inputs on. A node is the sum of its
    pairs. `darts` cells end in the concatenation of their intermediate nodes, `nasbench201`
    cells in the last one.
    """

    crosses = True

    def __init__(self, options: CellSpace) -> None:
        """The cells that the manifest's `space.cell` describes."""
        self.options = options
        self.preset = preset = PRESETS[options.preset]
        self.nodes = options.nodes or preset.nodes
        self.ops: tuple[str, ...] = tuple(dict.fromkeys(options.ops or preset.ops))
        self.inputs = preset.inputs
        self.dense = preset.dense
        self.parts = ("normal", "reduction") if preset.reduction else ("normal",)

    def scale(self, final: bool) -> Scale:
        """Cells and filters of the search's, or the finalists' networks."""
        chosen: CellScale = (
            self.options.evaluation or self.preset.evaluation
            if final
            else self.options.search or self.preset.search
        )
        return Scale(cells=chosen.cells, filters=chosen.filters)

    # -- drawing and checking ----------------------------------------------------------

    def _op(self, rng: Rng) -> str:
        return self.ops[int(rng.integers(len(self.ops)))]

    def sample(self, rng: Rng) -> Architecture:
        """Sources, then operations, uniformly; two pairs of a node have different sources."""
        return {part: [self._node(i, rng) for i in range(self.nodes)] for part in self.parts}

    def _node(self, index: int, rng: Rng) -> list[Pair]:
        before = self.inputs + index
        sources = (
            range(before)
            if self.dense
            else sorted(rng.choice(before, size=min(2, before), replace=False).tolist())
        )
        return [[self._op(rng), int(source)] for source in sources]

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        if not isinstance(architecture, dict) or set(architecture) != set(self.parts):
            raise ArchitectureError(
                f"architecture is {architecture!r:.80}; it must have the fields "
                f"{', '.join(self.parts)}"
            )
        for part in self.parts:
            cell = architecture[part]
            if not isinstance(cell, list) or len(cell) != self.nodes:
                raise ArchitectureError(f"{part} must be a list of {self.nodes} nodes")
            for index, node in enumerate(cell):
                self._validate_node(node, index, f"{part}[{index}]")

    def _validate_node(self, node: Any, index: int, path: str) -> None:
        before = self.inputs + index
        wanted = before if self.dense else min(2, before)
        if not isinstance(node, list) or len(node) != wanted:
            raise ArchitectureError(f"{path} is {node!r:.80}; it must be a list of {wanted} pairs")
        sources = []
        for number, pair in enumerate(node):
            where = f"{path}[{number}]"
            if not isinstance(pair, list) or len(pair) != 2:
                raise ArchitectureError(f"{where} is {pair!r:.80}; use [operation, source]")
            op, source = pair
            if op not in self.ops:
                raise ArchitectureError(
                    f"{where}[0] is {op!r:.80}; use one of {', '.join(self.ops)}"
                )
            if type(source) is not int or not 0 <= source < before:
                raise ArchitectureError(
                    f"{where}[1] is {source!r:.80}; use a node before this one, 0 to {before - 1}"
                )
            sources.append(source)
        if len(set(sources)) < len(sources):
            raise ArchitectureError(f"{path} takes node {sources[0]} twice; sources must differ")

    # -- moving ------------------------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """One operation or one source changed (White et al. 2021, section 3)."""
        for part in self.parts:
            for index, node in enumerate(architecture[part]):
                for number, (op, source) in enumerate(node):
                    for other in self.ops:
                        if other != op:
                            yield self._with(architecture, part, index, number, [other, source])
                    for moved in self._free_sources(index, node):
                        yield self._with(architecture, part, index, number, [op, moved])

    def _free_sources(self, index: int, node: list[Pair]) -> list[int]:
        if self.dense:
            return []
        used = {source for _, source in node}
        return [s for s in range(self.inputs + index) if s not in used]

    @staticmethod
    def _with(
        architecture: Architecture, part: str, index: int, number: int, pair: Pair
    ) -> Architecture:
        cell: CellGenes = architecture[part]
        node = sorted(
            (pair if i == number else old for i, old in enumerate(cell[index])),
            key=lambda p: int(p[1]),
        )
        return {**architecture, part: [*cell[:index], node, *cell[index + 1 :]]}

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """Change the operation or the source of one pair (Real et al. 2019, section 3.3), until
        the network is another one."""
        key = self.key(architecture)
        for _ in range(50):
            part = self.parts[int(rng.integers(len(self.parts)))]
            index = int(rng.integers(self.nodes))
            node = architecture[part][index]
            number = int(rng.integers(len(node)))
            op, source = node[number]
            free = self._free_sources(index, node)
            if free and rng.random() < 0.5:
                pair: Pair = [op, free[int(rng.integers(len(free)))]]
            else:
                pair = [self._op(rng), source]
            edit = self._with(architecture, part, index, number, pair)
            if self.key(edit) != key:
                return edit
        return self.any_neighbour(architecture, rng)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The operation or the source of a pair."""
        return ("operation",) if self.dense else ("operation", "source")

    def kind(self, one: Architecture, other: Architecture) -> str:
        """Which of these."""
        ops = [
            [sorted(str(op) for op, _ in node) for node in each[part]]
            for each in (one, other)
            for part in self.parts
        ]
        half = len(self.parts)
        return "source" if ops[:half] == ops[half:] else "operation"

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """Uniform crossover: every node from one parent or the other."""
        return {
            part: [
                a if rng.random() < 0.5 else b for a, b in zip(one[part], other[part], strict=True)
            ]
            for part in self.parts
        }

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """The cells as labelled graphs in canonical order.

        Edges of `none`, and what no longer reaches the output or is no longer reached from an
        input, fall away; a node that only passes one map on is merged with its source. Nodes
        are never merged because they compute alike: each has weights of its own.
        """
        return [self._canonical_cell(architecture[part]) for part in self.parts]

    def _canonical_cell(self, cell: CellGenes) -> Any:
        labels, edges = self._as_graph(cell)
        return canonical_form(labels, edges)

    def _as_graph(self, cell: CellGenes) -> tuple[list[str], list[tuple[int, int]]]:
        """Operations and sums as labelled nodes, pruned and contracted."""
        total = self.inputs + self.nodes
        into: dict[int, list[Pair]] = {}
        stands_for = list(range(total))
        alive = [True] * self.inputs + [False] * self.nodes
        for index, node in enumerate(cell):
            number = self.inputs + index
            pairs = [
                [op, stands_for[source]] for op, source in node if op != "none" and alive[source]
            ]
            alive[number] = bool(pairs)
            into[number] = pairs
            # in a normal cell of one output width a sum of one identity is that map itself
            if self.dense and len(pairs) == 1 and pairs[0][0] == "skip_connect":
                stands_for[number] = pairs[0][1]
        outputs = [total - 1] if self.dense else list(range(self.inputs, total))
        needed: set[int] = set()
        stack = [stands_for[o] for o in outputs if alive[o]]
        ends = list(stack)
        while stack:
            number = stack.pop()
            if number not in needed:
                needed.add(number)
                stack += [source for _, source in into.get(number, ())]
        labels = [f"in{i}" for i in range(self.inputs)]
        edges: list[tuple[int, int]] = []
        place = {i: i for i in range(self.inputs)}
        for number in sorted(n for n in needed if n >= self.inputs):
            place[number] = len(labels)
            labels.append("sum")
        for number in sorted(n for n in needed if n >= self.inputs):
            for op, source in into[number]:
                if op == "skip_connect":
                    edges.append((place[source], place[number]))
                else:
                    edges += [(place[source], len(labels)), (len(labels), place[number])]
                    labels.append(op)
        out = len(labels)
        labels.append("out")
        edges += [(place[end], out) for end in ends]
        return labels, edges

    def size(self) -> Size:
        """Product over the cells, nodes and pairs."""
        cell = 1
        for index in range(self.nodes):
            before = self.inputs + index
            pairs = before if self.dense else min(2, before)
            cell *= len(self.ops) ** pairs * (1 if self.dense else comb(before, pairs))
        return Size(cell ** len(self.parts), exact=True)

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture of a small space, one for each key."""
        if self.size().count > ENUMERABLE:
            raise NotImplementedError(f"{self.size()} architectures are too many to enumerate")
        seen: set[str] = set()
        for cells in product(*[list(self._cells()) for _ in self.parts]):
            architecture = dict(zip(self.parts, cells, strict=True))
            key = self.key(architecture)
            if key not in seen:
                seen.add(key)
                yield architecture

    def _cells(self) -> Iterator[CellGenes]:
        per_node: list[list[list[Pair]]] = []
        for index in range(self.nodes):
            before = self.inputs + index
            pairs = before if self.dense else min(2, before)
            per_node.append(
                [
                    [[op, source] for op, source in zip(ops, sources, strict=True)]
                    for sources in combinations(range(before), pairs)
                    for ops in product(self.ops, repeat=pairs)
                ]
            )
        for nodes in product(*per_node):
            yield list(nodes)

    # -- encodings ---------------------------------------------------------------------

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """Adjacency encoding: for every possible edge a one-hot operation, zero where there is
        no edge."""
        rows = []
        for part in self.parts:
            for index, node in enumerate(architecture[part]):
                block = np.zeros((self.inputs + index, len(self.ops)))
                for op, source in node:
                    block[source, self.ops.index(op)] = 1.0
                rows.append(block.ravel())
        return np.concatenate(rows)

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Operation sequences from an input to the output, cell by cell."""
        found: set[str] = set()
        for part in self.parts:
            at: list[set[str]] = [{f"{part}:in{i}"} for i in range(self.inputs)]
            for node in architecture[part]:
                at.append(
                    {
                        path if op == "skip_connect" else f"{path}>{op}"
                        for op, source in node
                        if op != "none"
                        for path in at[source]
                    }
                )
            ends = at[-1:] if self.dense else at[self.inputs :]
            found.update(*ends)
        return frozenset(found)

    # -- networks ----------------------------------------------------------------------

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """Stack the cells in the preset's skeleton, at the frame's scale."""
        evaluation = self.scale(final=True)
        cells = frame.scale.cells or evaluation.cells or 1
        filters = max(
            1, round((frame.scale.filters or evaluation.filters or 1) * frame.scale.filter_fraction)
        )
        if self.dense:
            return skeletons.residual(architecture["normal"], frame, cells, filters)
        return skeletons.imagenet_style(
            architecture["normal"], architecture["reduction"], frame, cells, filters
        )

    def growth(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """Larger windows, and convolutions where there was no edge."""
        return growth.cells(self.graph(parent, frame), self.graph(child, frame))

    def sketch(self, architecture: Architecture) -> Sketch:
        """The cells' graphs: nodes as boxes, operations on the edges."""
        nodes: list[tuple[str, str]] = []
        edges: list[tuple[str, str, str]] = []
        group: dict[str, str] = {}
        names = ("c(k-2)", "c(k-1)") if self.inputs == 2 else ("in",)
        for part in self.parts:
            total = self.inputs + self.nodes
            ids = [f"{part}{i}" for i in range(total)]
            labels = [*names, *(str(i) for i in range(self.nodes))]
            for each, label in zip(ids, labels, strict=True):
                nodes.append((each, label))
            for index, node in enumerate(architecture[part]):
                for op, source in node:
                    if op != "none":
                        edges.append((ids[source], ids[self.inputs + index], op))
            end = f"{part}out"
            nodes.append((end, "out" if self.dense else "concat"))
            last = ids[-1:] if self.dense else ids[self.inputs :]
            edges += [(each, end, "") for each in last]
            group |= dict.fromkeys([*ids, end], part)
        return Sketch(tuple(nodes), tuple(edges), group)


def to_nasbench201(architecture: Architecture) -> str:
    """The benchmark's own string of a cell: ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+...``."""
    return "+".join(
        "|" + "|".join(f"{op}~{source}" for op, source in node) + "|"
        for node in architecture["normal"]
    )


def from_nasbench201(text: str) -> Architecture:
    """The architecture of one of the benchmark's strings.

    Raises:
        ArchitectureError: it is none.
    """
    nodes: CellGenes = []
    for part in text.split("+"):
        pairs: list[Pair] = []
        for item in part.strip("|").split("|"):
            op, separator, source = item.partition("~")
            if not separator or not source.isdigit():
                raise ArchitectureError(f"{text!r:.120} is no cell string of NAS-Bench-201")
            pairs.append([op, int(source)])
        nodes.append(pairs)
    return {"normal": nodes}
