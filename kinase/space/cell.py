"""Cells stacked in a macro skeleton."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, combinations_with_replacement, product
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.fidelity import Scale
from kinase.api.space import CellScale, CellSpace
from kinase.api.trial import Architecture
from kinase.space import exact_morphisms, genes, skeletons
from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space
from kinase.space.canonical import canonical_form
from kinase.space.errors import ArchitectureError
from kinase.space.genes import CellGenes, Pair
from kinase.space.graph import Graph
from kinase.space.presets import PRESETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENUMERABLE = 100_000
"""Largest space that is enumerated."""


class Cell(Space):
    """Cell spaces (Zoph et al. 2018, section 3): what is searched is a small graph, of which a
    network stacks many copies.

    An architecture is ``{"normal": [[["sep_conv_3x3", 0], ["skip_connect", 1]], ...],
    "reduction": [...]}``: for every intermediate node the pairs of an operation and the node
    that it comes from. Nodes are numbered from the cell's inputs on. A node is the sum of its
    pairs. `darts` cells end in the concatenation of their intermediate nodes, `nasnet` cells in
    that of the nodes that no other node takes, or of those that the architecture lists:
    ``"concat": {"normal": [2, 4, 5], "reduction": [6]}``. `nasbench201` cells end in the last
    node.
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
        self.same_source = (
            preset.same_source if options.same_source is None else options.same_source
        )
        self.concat = options.concat or preset.concat
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

    @property
    def named(self) -> Mapping[str, Architecture]:
        """The preset's published cells."""
        return self.preset.named

    def sample(self, rng: Rng) -> Architecture:
        """Sources, then operations, uniformly; two pairs of a node have different sources, unless
        they may share one. Where it is searched, any set of nodes to concatenate."""
        found: Architecture = {
            part: [self._node(i, rng) for i in range(self.nodes)] for part in self.parts
        }
        if self.concat == "chosen":
            found["concat"] = {part: self._chosen(rng) for part in self.parts}
        return found

    def _node(self, index: int, rng: Rng) -> list[Pair]:
        before = self.inputs + index
        if self.dense:
            sources = list(range(before))
        else:
            size = self._pairs(before)
            sources = sorted(rng.choice(before, size=size, replace=self.same_source).tolist())
        return [[self._op(rng), int(source)] for source in sources]

    def _chosen(self, rng: Rng) -> list[int]:
        """A set of nodes that is not empty, uniformly."""
        bits = int(rng.integers(1, 2**self.nodes))
        return [self.inputs + i for i in range(self.nodes) if bits >> i & 1]

    def _pairs(self, before: int) -> int:
        """Of a node with so many nodes before it."""
        return before if self.dense else 2 if self.same_source else min(2, before)

    def _ends(self, architecture: Architecture, part: str) -> list[int]:
        """The nodes that a cell ends in."""
        cell = architecture[part]
        if self.dense:
            return [self.inputs + len(cell) - 1]
        if self.concat == "all":
            return list(range(self.inputs, self.inputs + len(cell)))
        return genes.ends(cell, self.inputs, architecture.get("concat", {}).get(part))

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        fields = set(architecture) if isinstance(architecture, dict) else set()
        lists = not self.dense and self.concat != "all"
        if (fields - {"concat"} if lists else fields) != set(self.parts):
            raise ArchitectureError(
                f"architecture is {architecture!r:.80}; it must have the fields "
                f"{', '.join(self.parts)}{', and may have concat' if lists else ''}"
            )
        for part in self.parts:
            cell = architecture[part]
            if not isinstance(cell, list) or len(cell) != self.nodes:
                raise ArchitectureError(f"{part} must be a list of {self.nodes} nodes")
            for index, node in enumerate(cell):
                self._validate_node(node, index, f"{part}[{index}]")
        if "concat" in architecture:
            chosen = architecture["concat"]
            if not isinstance(chosen, dict) or not set(chosen) <= set(self.parts):
                raise ArchitectureError(
                    f"concat is {chosen!r:.80}; it may have the fields {', '.join(self.parts)}"
                )
            for part, listed in chosen.items():
                genes.check_chosen(listed, self.inputs, self.nodes, f"concat.{part}")

    def _validate_node(self, node: Any, index: int, path: str) -> None:
        before = self.inputs + index
        wanted = self._pairs(before)
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
        if len(set(sources)) < len(sources) and (self.dense or not self.same_source):
            raise ArchitectureError(f"{path} takes node {sources[0]} twice; sources must differ")

    # -- moving ------------------------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """One operation or one source changed (White et al. 2021, section 3), or one node put to
        or taken from what is concatenated, where that is searched."""
        if self.concat == "chosen":
            yield from self._other_ends(architecture)
        for part in self.parts:
            for index, node in enumerate(architecture[part]):
                for number, (op, source) in enumerate(node):
                    for other in self.ops:
                        if other != op:
                            yield self._with(architecture, part, index, number, [other, source])
                    for moved in self._free_sources(index, node, number):
                        yield self._with(architecture, part, index, number, [op, moved])

    def _free_sources(self, index: int, node: list[Pair], number: int) -> list[int]:
        """Where a pair may come from instead."""
        if self.dense:
            return []
        used = {node[number][1]} if self.same_source else {source for _, source in node}
        return [s for s in range(self.inputs + index) if s not in used]

    def _other_ends(self, architecture: Architecture) -> Iterator[Architecture]:
        for part in self.parts:
            now = set(self._ends(architecture, part))
            for node in range(self.inputs, self.inputs + self.nodes):
                if other := sorted(now ^ {node}):
                    chosen = {**architecture.get("concat", {}), part: other}
                    yield {**architecture, "concat": chosen}

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
            # as often as the operations of one node
            if self.concat == "chosen" and rng.random() < 1 / (self.nodes + 1):
                others = list(self._other_ends(architecture))
                edit = others[int(rng.integers(len(others)))] if others else architecture
                if self.key(edit) != key:
                    return edit
                continue
            part = self.parts[int(rng.integers(len(self.parts)))]
            index = int(rng.integers(self.nodes))
            node = architecture[part][index]
            number = int(rng.integers(len(node)))
            op, source = node[number]
            free = self._free_sources(index, node, number)
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
        """The operation or the source of a pair, and what is concatenated."""
        if self.dense:
            return ("operation",)
        return ("operation", "source", *(("concat",) if self.concat == "chosen" else ()))

    def kind(self, one: Architecture, other: Architecture) -> str:
        """Which of these."""
        if one.get("concat") != other.get("concat"):
            return "concat"
        ops = [
            [sorted(str(op) for op, _ in node) for node in each[part]]
            for each in (one, other)
            for part in self.parts
        ]
        half = len(self.parts)
        return "source" if ops[:half] == ops[half:] else "operation"

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """Uniform crossover: every node from one parent or the other, and what a cell
        concatenates, where they list it."""
        child: Architecture = {
            part: [
                a if rng.random() < 0.5 else b for a, b in zip(one[part], other[part], strict=True)
            ]
            for part in self.parts
        }
        lists = [each["concat"] for each in (one, other) if "concat" in each]
        if lists:
            child["concat"] = {
                part: chosen[part]
                for part in self.parts
                if part in (chosen := lists[int(rng.integers(len(lists)))])
            }
        return child

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """The cells as labelled graphs in canonical order.

        Edges of `none`, and what no longer reaches the output or is no longer reached from an
        input, fall away; a node that only passes one map on is merged with its source. Nodes
        are never merged because they compute alike: each has weights of its own.
        """
        return [self._canonical_cell(architecture, part) for part in self.parts]

    def _canonical_cell(self, architecture: Architecture, part: str) -> Any:
        outputs = self._ends(architecture, part)
        # in a cell of one width a sum of one identity is that map itself
        labels, edges = genes.as_graph(
            architecture[part], self.inputs, outputs, contracted=self.dense
        )
        return canonical_form(labels, edges)

    def size(self) -> Size:
        """Product over the cells, nodes and pairs, and over what may be concatenated."""
        cell = 2**self.nodes - 1 if self.concat == "chosen" else 1
        for index in range(self.nodes):
            before = self.inputs + index
            if self.same_source and not self.dense:
                cell *= comb(before * len(self.ops) + 1, 2)  # two pairs, perhaps equal, unordered
                continue
            pairs = self._pairs(before)
            cell *= len(self.ops) ** pairs * (1 if self.dense else comb(before, pairs))
        return Size(cell ** len(self.parts), exact=True)

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture of a small space, one for each key."""
        if self.size().count > ENUMERABLE:
            raise NotImplementedError(f"{self.size()} architectures are too many to enumerate")
        seen: set[str] = set()
        lists = list(self._lists())
        for cells in product(*[list(self._cells()) for _ in self.parts]):
            for chosen in product(lists, repeat=len(self.parts)):
                architecture: Architecture = dict(zip(self.parts, cells, strict=True))
                if self.concat == "chosen":
                    architecture["concat"] = dict(zip(self.parts, chosen, strict=True))
                key = self.key(architecture)
                if key not in seen:
                    seen.add(key)
                    yield architecture

    def _lists(self) -> Iterator[list[int]]:
        """Everything that a cell may concatenate, where that is searched; else one empty list."""
        if self.concat != "chosen":
            yield []
            return
        numbers = range(self.inputs, self.inputs + self.nodes)
        for size in range(1, self.nodes + 1):
            yield from map(list, combinations(numbers, size))

    def _cells(self) -> Iterator[CellGenes]:
        per_node: list[list[list[Pair]]] = []
        for index in range(self.nodes):
            before = self.inputs + index
            if self.same_source and not self.dense:
                every = [[op, source] for source in range(before) for op in self.ops]
                per_node.append([list(two) for two in combinations_with_replacement(every, 2)])
                continue
            pairs = self._pairs(before)
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
        no edge. Where two pairs may share a source each counts one half. Unless all nodes are
        concatenated, which of them are."""
        rows = []
        for part in self.parts:
            for index, node in enumerate(architecture[part]):
                block = np.zeros((self.inputs + index, len(self.ops)))
                for op, source in node:
                    block[source, self.ops.index(op)] += 0.5 if self.same_source else 1.0
                rows.append(block.ravel())
            if self.concat != "all":
                ends = self._ends(architecture, part)
                rows.append(np.isin(np.arange(self.nodes) + self.inputs, ends).astype(float))
        return np.concatenate(rows)

    @property
    def encoding(self) -> tuple[Part, ...]:
        """The operation of every possible edge, and which nodes are concatenated. Where two pairs
        may share a source, how many take it through an operation."""
        ops = len(self.ops)
        edge = (Part(),) * ops if self.same_source else (Part(ops, choice=True),)
        ends = (Part(1, choice=True),) * (self.nodes if self.concat != "all" else 0)
        edges = sum(self.inputs + index for index in range(self.nodes))
        return (edge * edges + ends) * len(self.parts)

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
            found.update(*(at[end] for end in self._ends(architecture, part)))
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
        normal, reduction = ((architecture[p], self._ends(architecture, p)) for p in self.parts)
        return skeletons.imagenet_style(normal, reduction, frame, cells, filters)

    def exact_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """Larger windows, and convolutions where there was no edge."""
        return exact_morphisms.cells(self.graph(parent, frame), self.graph(child, frame))

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
            edges += [(ids[last], end, "") for last in self._ends(architecture, part)]
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
                raise ArchitectureError(f"{text!r:.120} is not a cell string of NAS-Bench-201")
            pairs.append([op, int(source)])
        nodes.append(pairs)
    return {"normal": nodes}
