"""Cells stacked in a macro skeleton."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from kinase.api.fidelity import Scale
from kinase.api.space import CellScale, CellSpace
from kinase.api.trial import Architecture
from kinase.space import cell_paths, cell_views, exact_morphisms, genes, skeletons
from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space
from kinase.space.canonical import Edge, canonical_form, outline
from kinase.space.cell_form import CellForm
from kinase.space.errors import Unshared
from kinase.space.genes import CellGenes, Pair
from kinase.space.graph import Graph
from kinase.space.presets import PRESETS
from kinase.space.skeletons import Ended
from kinase.space.supernet import Supernet
from kinase.words import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENUMERABLE = 100_000
"""Maximum size of a space that is enumerated."""


class Cell(Space):
    """Cell spaces (Zoph et al. 2018, section 3): a small graph is searched, and a network stacks
    many copies of it.

    An architecture is ``{"normal": [[["sep_conv_3x3", 0], ["skip_connect", 1]], ...], "reduction":
    [...]}``: for every intermediate node its pairs of an operation and a source node. Nodes are
    numbered starting with the cell's inputs. A node is the sum of its pairs. `darts` cells return
    the concatenation of their intermediate nodes, `nasnet` cells that of the nodes that no other
    node uses, or of those that the architecture lists: ``"concat": {"normal": [2, 4, 5],
    "reduction": [6]}``. `nasbench201` cells return the last node.
    """

    crosses = True

    def __init__(self, options: CellSpace) -> None:
        """The space described by `space.cell`."""
        self.options = options
        self.preset = PRESETS[options.preset]
        self.form = CellForm.of(options)

    def scale(self, final: bool) -> Scale:
        """Cells and filters of the networks of the search or of the finalists."""
        chosen: CellScale = (
            self.options.evaluation or self.preset.evaluation
            if final
            else self.options.search or self.preset.search
        )
        return Scale(cells=chosen.cells, filters=chosen.filters)

    # -- sampling and validation -------------------------------------------------------

    def _op(self, rng: Rng) -> str:
        return self.form.ops[int(rng.integers(len(self.form.ops)))]

    @property
    def named(self) -> Mapping[str, Architecture]:
        """The preset's published cells."""
        return self.preset.named

    def sample(self, rng: Rng) -> Architecture:
        """Draw sources, then operations, uniformly. Two pairs of a node have different sources,
        unless they can share one. If the concatenation is searched, draw any set of nodes."""
        found: Architecture = {
            part: [self._node(i, rng) for i in range(self.form.nodes)] for part in self.form.parts
        }
        if self.form.concat == "chosen":
            found["concat"] = {part: self._chosen(rng) for part in self.form.parts}
        return found

    def _node(self, index: int, rng: Rng) -> list[Pair]:
        before = self.form.inputs + index
        if self.form.dense:
            sources = list(range(before))
        else:
            size = self.form.pairs(before)
            sources = sorted(rng.choice(before, size=size, replace=self.form.same_source).tolist())
        return [[self._op(rng), int(source)] for source in sources]

    def _chosen(self, rng: Rng) -> list[int]:
        """A non-empty set of nodes, uniformly."""
        bits = int(rng.integers(1, 2**self.form.nodes))
        return [self.form.inputs + i for i in range(self.form.nodes) if bits >> i & 1]

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        self.form.check(architecture)

    # -- neighbours and mutation -------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Change an operation or a source (White et al. 2021, section 3), or add or remove a node
        of the concatenation, if that is searched."""
        if self.form.concat == "chosen":
            yield from self._other_ends(architecture)
        for part in self.form.parts:
            for index, node in enumerate(architecture[part]):
                for number, (op, source) in enumerate(node):
                    for other in self.form.ops:
                        if other != op:
                            yield self._with(architecture, part, index, number, [other, source])
                    for moved in self._free_sources(index, node, number):
                        yield self._with(architecture, part, index, number, [op, moved])

    def _free_sources(self, index: int, node: list[Pair], number: int) -> list[int]:
        """Other possible sources of a pair."""
        if self.form.dense:
            return []
        used = {node[number][1]} if self.form.same_source else {source for _, source in node}
        return [s for s in range(self.form.inputs + index) if s not in used]

    def _other_ends(self, architecture: Architecture) -> Iterator[Architecture]:
        for part in self.form.parts:
            now = set(self.form.ends(architecture, part))
            for node in range(self.form.inputs, self.form.inputs + self.form.nodes):
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
        """Change the operation or the source of a pair (Real et al. 2019, section 3.3), until the
        network differs."""
        for _ in range(50):
            # as often as the operations of one node
            if self.form.concat == "chosen" and rng.random() < 1 / (self.form.nodes + 1):
                others = list(self._other_ends(architecture))
                edit = others[int(rng.integers(len(others)))] if others else architecture
                if self.key(edit) != self.key(architecture):
                    return edit
                continue
            part = self.form.parts[int(rng.integers(len(self.form.parts)))]
            index = int(rng.integers(self.form.nodes))
            node = architecture[part][index]
            number = int(rng.integers(len(node)))
            op, source = node[number]
            free = self._free_sources(index, node, number)
            if free and rng.random() < 0.5:
                pair: Pair = [op, free[int(rng.integers(len(free)))]]
            else:
                pair = [self._op(rng), source]
            edit = self._with(architecture, part, index, number, pair)
            if not self._alike(architecture, edit, part):
                return edit
        return self.any_neighbour(architecture, rng)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The operation or the source of a pair, and what is concatenated."""
        if self.form.dense:
            return ("operation",)
        return ("operation", "source", *(("concat",) if self.form.concat == "chosen" else ()))

    def kind(self, one: Architecture, other: Architecture) -> str:
        """The kind of an edit."""
        if one.get("concat") != other.get("concat"):
            return "concat"
        ops = [
            [sorted(str(op) for op, _ in node) for node in each[part]]
            for each in (one, other)
            for part in self.form.parts
        ]
        half = len(self.form.parts)
        return "source" if ops[:half] == ops[half:] else "operation"

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """Uniform crossover: every node comes from one of the parents, and so does the
        concatenation, if it is listed."""
        child: Architecture = {
            part: [
                a if rng.random() < 0.5 else b for a, b in zip(one[part], other[part], strict=True)
            ]
            for part in self.form.parts
        }
        lists = [each["concat"] for each in (one, other) if "concat" in each]
        if lists:
            child["concat"] = {
                part: chosen[part]
                for part in self.form.parts
                if part in (chosen := lists[int(rng.integers(len(lists)))])
            }
        return child

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """The cells as labelled graphs in canonical order.

        Edges of `none`, and nodes not on a path from an input to the output, are removed; a node
        that only passes on a map is merged with its source. Nodes are not merged for computing the
        same, because each has separate weights.
        """
        return [self._canonical_cell(architecture, part) for part in self.form.parts]

    def _canonical_cell(self, architecture: Architecture, part: str) -> Any:
        return canonical_form(*self._graph_of(architecture, part))

    def _graph_of(self, architecture: Architecture, part: str) -> tuple[list[str], list[Edge]]:
        outputs = self.form.ends(architecture, part)
        # in a cell of one width, a sum of a single identity is the map itself
        return genes.as_graph(
            architecture[part], self.form.inputs, outputs, contracted=self.form.dense
        )

    def _alike(self, one: Architecture, other: Architecture, part: str) -> bool:
        """Whether two architectures that can only differ in one part have the same key. Most
        are distinguished without it."""
        if one[part] == other[part]:
            return True
        graphs = [self._graph_of(each, part) for each in (one, other)]
        if outline(*graphs[0]) != outline(*graphs[1]):
            return False
        return bool(canonical_form(*graphs[0]) == canonical_form(*graphs[1]))

    def size(self) -> Size:
        """Product over the cells, nodes and pairs, and the possible concatenations."""
        return Size(self.form.count(), exact=True)

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture of a small space, one for each key."""
        if self.size().count > ENUMERABLE:
            raise NotImplementedError(f"{self.size()} architectures are too many to enumerate")
        seen: set[str] = set()
        lists = list(self.form.lists())
        for cells in product(*[list(self.form.cells()) for _ in self.form.parts]):
            for chosen in product(lists, repeat=len(self.form.parts)):
                architecture: Architecture = dict(zip(self.form.parts, cells, strict=True))
                if self.form.concat == "chosen":
                    architecture["concat"] = dict(zip(self.form.parts, chosen, strict=True))
                key = self.key(architecture)
                if key not in seen:
                    seen.add(key)
                    yield architecture

    # -- encodings ---------------------------------------------------------------------

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """Adjacency encoding, see `cell_views.vector`."""
        return cell_views.vector(self.form, architecture)

    @property
    def encoding(self) -> tuple[Part, ...]:
        """The columns of `vector`, see `cell_views.encoding`."""
        return cell_views.encoding(self.form)

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Operation sequences from an input to the output, cell by cell."""
        return cell_views.paths(self.form, architecture)

    # -- networks ----------------------------------------------------------------------

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """Stack the cells in the preset's skeleton, at the frame's scale."""
        normal, reduction = (
            (architecture.get(p, []), self.form.ends(architecture, p) if p in architecture else [])
            for p in ("normal", "reduction")
        )
        return self._stacked(normal, reduction, replace(frame, partial=None)).graph

    def _stacked(self, normal: Ended, reduction: Ended, frame: Frame) -> Supernet:
        evaluation = self.scale(final=True)
        cells = frame.scale.cells or evaluation.cells or 1
        filters = max(
            1, round((frame.scale.filters or evaluation.filters or 1) * frame.scale.filter_fraction)
        )
        if self.form.dense:
            return skeletons.residual(normal[0], frame, cells, filters)
        return skeletons.imagenet_style(normal, reduction, frame, cells, filters)

    def supernet(self, frame: Frame) -> Supernet | None:
        """Every edge with every operation (Liu et al. 2019, section 2.2); None if cells can end in
        different nodes.

        Raises:
            Unshared: the network is too small to have each kind of cell.
        """
        if not cell_paths.shared(self.form):
            return None
        every = cell_paths.everything(self.form)
        ends = list(range(self.form.inputs, self.form.inputs + self.form.nodes))
        whole = self._stacked((every, ends), (every, ends), frame)
        there = {choice.group.partition("_")[0] for choice in whole.choices}
        if lacking := [part for part in self.form.parts if part not in there]:
            raise Unshared(
                f"a supernet of {counted(frame.scale.cells or 0, 'cell')} has no {lacking[0]} "
                "cell, so its choices are never learned: use space.cell.search.cells 3 or more"
            )
        return replace(whole, inputs=cell_paths.limits(self.form))

    def path(self, architecture: Architecture) -> dict[str, int]:
        """The operation of every edge, or none."""
        return cell_paths.path(self.form, architecture)

    def architecture(self, path: Mapping[str, int]) -> Architecture:
        """The cells that have these operations on their edges."""
        return cell_paths.architecture(self.form, path)

    def exact_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """Larger windows, and convolutions on new edges."""
        return exact_morphisms.cells(self.graph(parent, frame), self.graph(child, frame))

    def sketch(self, architecture: Architecture) -> Sketch:
        """The cells' graphs: nodes as boxes, operations on the edges."""
        return cell_views.sketch(self.form, architecture)
