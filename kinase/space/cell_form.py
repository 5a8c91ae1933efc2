"""What a cell of a space can be: how many nodes, what they take, and what the cell ends in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement, product
from math import comb
from typing import Any, Self

from kinase.api.space import CellSpace
from kinase.api.trial import Architecture
from kinase.space import genes
from kinase.space.errors import ArchitectureError
from kinase.space.genes import CellGenes, Pair
from kinase.space.presets import PRESETS


@dataclass(frozen=True)
class CellForm:
    """A preset's cells, as a manifest changes them."""

    parts: tuple[str, ...]
    """The cells of an architecture: normal, and reduction if the preset has it."""
    nodes: int
    """Intermediate nodes of a cell."""
    inputs: int
    """Inputs of a cell. Nodes are numbered from the inputs on."""
    ops: tuple[str, ...]
    """Operations of a pair."""
    dense: bool
    """Whether a node takes every node before it, else two of them."""
    same_source: bool
    """Whether the pairs of a node can have the same source."""
    concat: str
    """What a cell concatenates: all nodes, those that no other node takes (unused), or any that the
    architecture lists (chosen)."""

    @classmethod
    def of(cls, options: CellSpace) -> Self:
        """The space described by `space.cell`."""
        preset = PRESETS[options.preset]
        same = options.same_source
        return cls(
            parts=("normal", "reduction") if preset.reduction else ("normal",),
            nodes=options.nodes or preset.nodes,
            inputs=preset.inputs,
            ops=tuple(dict.fromkeys(options.ops or preset.ops)),
            dense=preset.dense,
            same_source=preset.same_source if same is None else same,
            concat=options.concat or preset.concat,
        )

    def pairs(self, before: int) -> int:
        """Pairs of a node with so many nodes before it."""
        return before if self.dense else 2 if self.same_source else min(2, before)

    def ends(self, architecture: Architecture, part: str) -> list[int]:
        """The output nodes of a cell."""
        cell = architecture[part]
        if self.dense:
            return [self.inputs + len(cell) - 1]
        if self.concat == "all":
            return list(range(self.inputs, self.inputs + len(cell)))
        return genes.ends(cell, self.inputs, architecture.get("concat", {}).get(part))

    def check(self, architecture: Architecture) -> None:
        """Check untrusted data.

        Raises:
            ArchitectureError: it is not an architecture of these cells.
        """
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
                self._check_node(node, index, f"{part}[{index}]")
        if "concat" in architecture:
            chosen = architecture["concat"]
            if not isinstance(chosen, dict) or not set(chosen) <= set(self.parts):
                raise ArchitectureError(
                    f"concat is {chosen!r:.80}; it may have the fields {', '.join(self.parts)}"
                )
            for part, listed in chosen.items():
                genes.check_chosen(listed, self.inputs, self.nodes, f"concat.{part}")

    def _check_node(self, node: Any, index: int, path: str) -> None:
        before = self.inputs + index
        wanted = self.pairs(before)
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

    def count(self) -> int:
        """Number of architectures: the product over the cells, nodes and pairs, and over what can
        be concatenated."""
        cell = 2**self.nodes - 1 if self.concat == "chosen" else 1
        for index in range(self.nodes):
            before = self.inputs + index
            if self.same_source and not self.dense:
                cell *= comb(before * len(self.ops) + 1, 2)  # unordered pairs, which can be equal
                continue
            pairs = self.pairs(before)
            cell *= len(self.ops) ** pairs * (1 if self.dense else comb(before, pairs))
        number: int = cell ** len(self.parts)
        return number

    def lists(self) -> Iterator[list[int]]:
        """All possible concatenations of a cell, if they are searched; otherwise one empty list."""
        if self.concat != "chosen":
            yield []
            return
        numbers = range(self.inputs, self.inputs + self.nodes)
        for size in range(1, self.nodes + 1):
            yield from map(list, combinations(numbers, size))

    def cells(self) -> Iterator[CellGenes]:
        """Every cell."""
        per_node: list[list[list[Pair]]] = []
        for index in range(self.nodes):
            before = self.inputs + index
            if self.same_source and not self.dense:
                every = [[op, source] for source in range(before) for op in self.ops]
                per_node.append([list(two) for two in combinations_with_replacement(every, 2)])
                continue
            pairs = self.pairs(before)
            per_node.append(
                [
                    [[op, source] for op, source in zip(ops, sources, strict=True)]
                    for sources in combinations(range(before), pairs)
                    for ops in product(self.ops, repeat=pairs)
                ]
            )
        for nodes in product(*per_node):
            yield list(nodes)
