"""A bidirectional LSTM over trees, as functions of its parameters that autograd can differentiate.

A tree consists of nested tuples, so that results can be cached: a node is (merge, branches), a
branch (operation, the node behind it or None). The state of a branch is (rows, 2 * units): h, c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import autograd.numpy as np
import numpy
from autograd.extend import defvjp_argnums, primitive

from kinase.strategy.policy import layers as nn
from kinase.strategy.policy import parameters as begin
from kinase.strategy.policy.layers import Traced
from kinase.strategy.policy.parameters import Array, Parameters

Node = tuple[str, tuple["Branch", ...]]
Branch = tuple[str, Node | None]
Path = tuple[int, ...]
"""From the first node on, the branch at each."""
Focus = tuple[Node, Path]
"""A tree, and one of its branches."""

LIMIT = 0.1
"""Parameters are drawn uniformly between -0.1 and 0.1."""
GROUPS = {
    ("up", "add"): ("child",),
    ("up", "concat"): ("child0", "child1"),
    ("down", "add"): ("parent", "sibling"),
    ("down", "concat"): ("parent", "sibling0", "sibling1"),
}
"""Inputs of a unit: with an add, inputs of the same kind share weights (child-sum); with a concat,
each place has its own weights (N-ary)."""


def parameters(
    rng: numpy.random.Generator, ops: Sequence[str], embedding: int, units: int
) -> Parameters:
    """Initial parameters, for trees with these operations."""
    p = {"ops": begin.uniform(rng, (len(ops), embedding), LIMIT)}
    for direction in ("up", "down"):
        for name, inputs in (("x", embedding), ("h", units)):
            p[f"{direction}.edge.{name}"] = begin.uniform(rng, (inputs, 4 * units), LIMIT)
        p[f"{direction}.edge.b"] = numpy.zeros(4 * units)
    for (direction, merge), groups in GROUPS.items():
        unit = f"{direction}.{merge}"
        p[f"{unit}.b"] = begin.uniform(rng, (4 * units,), LIMIT)  # a merge's embedding, and bias
        for group in groups:
            p[f"{unit}.{group}"] = begin.uniform(rng, (units, 4 * units), LIMIT)
    return p


def unit(p: Parameters, name: str, groups: Sequence[tuple[str, Sequence[Traced]]]) -> Traced:
    """The state of a node from those of its inputs (Tai, Socher & Manning 2015, sections 3.1 and
    3.2). Each input has a separate forget gate, from its h.

    Args:
        p: parameters.
        name: prefix of the unit's parameters.
        groups: states, grouped by shared weights; rows of zeros for missing inputs.
    """
    units = p[f"{name}.b"].shape[0] // 4
    sums, forget = np.split(p[f"{name}.b"], [3 * units])
    forgets, memories = list[Traced](), list[Traced]()
    for group, states in groups:
        weights = p[f"{name}.{group}"]
        for state in states:
            h, c = np.split(state, 2, axis=1)
            more, own = np.split(np.dot(h, weights), [3 * units], axis=1)
            sums = sums + more
            forgets.append(forget + own)
            memories.append(c)
    return cell(sums, np.concatenate(forgets, axis=1), np.concatenate(memories, axis=1))


def _cell(sums: Array, forgets: Array, memories: Array) -> Array:
    """The state of a node, from the sums before its input, cell and output gates, those before its
    forget gates, one behind the other, and what these let through."""
    i, g, o, f = _gates(sums, forgets)
    c = i * g + _added(f * memories, i.shape[1])
    return numpy.concatenate([o * numpy.tanh(c), c], axis=1)


def _gates(sums: Array, forgets: Array) -> tuple[Array, Array, Array, Array]:
    i, g, o = numpy.split(sums, 3, axis=1)
    return _sigmoid(i), numpy.tanh(g), _sigmoid(o), _sigmoid(forgets)


def _sigmoid(x: Array) -> Array:
    found: Array = 0.5 * (numpy.tanh(0.5 * x) + 1)
    return found


def _added(each: Array, units: int) -> Array:
    found: Array = each.reshape(len(each), -1, units).sum(axis=1)
    return found


def _cell_vjp(
    argnums: Any, after: Array, args: tuple[Array, ...], kwargs: Any
) -> Callable[[Array], tuple[Array, ...]]:
    """The derivative of `_cell`, written by hand for speed, like that of `layers.cell`."""
    sums, forgets, memories = args

    def vjp(wanted: Array) -> tuple[Array, ...]:
        i, g, o, f = _gates(sums, forgets)
        dh, dc = numpy.split(wanted, 2, axis=1)
        height = numpy.tanh(numpy.split(after, 2, axis=1)[1])
        dc = dc + dh * o * (1 - height**2)
        gates = [dc * g * i * (1 - i), dc * i * (1 - g**2), dh * height * o * (1 - o)]
        all_dc = numpy.tile(dc, (1, f.shape[1] // dc.shape[1]))
        all_three = (
            numpy.concatenate(gates, axis=1),
            all_dc * memories * f * (1 - f),
            all_dc * f,
        )
        return tuple(all_three[number] for number in argnums)

    return vjp


cell: Callable[..., Traced] = primitive(_cell)
defvjp_argnums(cell, _cell_vjp)


@dataclass(slots=True)
class _Level:
    """The branches of some trees at one depth, sorted by the node behind them."""

    branches: list[Branch] = field(default_factory=list)
    behind: list[list[int]] = field(default_factory=list)
    """For each branch, the rows of its node's branches in the next level."""


class Forest:
    """Trees level by level, so that a level is computed at once."""

    def __init__(self, trees: Sequence[Node], ops: Sequence[str]) -> None:
        """Of these operations."""
        self.row: dict[tuple[int, Path], int] = {}
        """The row of each branch, in the level of its depth."""
        self._tokens = {op: index for index, op in enumerate(ops)}
        found: list[list[tuple[int, Path, Branch]]] = [
            [(index, (), ("", tree)) for index, tree in enumerate(trees)]
        ]
        while found[-1]:
            found.append(
                [
                    (index, (*path, number), each)
                    for index, path, (_, node) in found[-1]
                    if node is not None
                    for number, each in enumerate(node[1])
                ]
            )
        found.pop()
        self.levels = [_Level() for _ in found]
        for level, rows in zip(self.levels, found, strict=True):
            rows.sort(key=lambda row: _kind(row[2]))
            for place, (index, path, branch) in enumerate(rows):
                self.row[index, path] = place
                level.branches.append(branch)
        for level, rows in zip(self.levels, found, strict=True):
            for index, path, (_, node) in rows:
                count = 0 if node is None else len(node[1])
                level.behind.append([self.row[index, (*path, i)] for i in range(count)])

    def embedded(self, p: Parameters, branches: Sequence[Branch]) -> Traced:
        """The operations of some branches."""
        return p["ops"][[self._tokens[op] for op, _ in branches]]

    def up(self, p: Parameters) -> list[Traced]:
        """Bottom-up: the states of each level, followed by a row of zeros for missing inputs."""
        units = p["up.edge.h"].shape[0]
        nothing = numpy.zeros((1, 2 * units))
        states: list[Traced] = []
        below: Traced = nothing
        for depth in range(len(self.levels) - 1, -1, -1):
            level, parts = self.levels[depth], list[Traced]()
            for kind in KINDS:
                rows = [
                    behind
                    for branch, behind in zip(level.branches, level.behind, strict=True)
                    if _kind(branch) == KINDS.index(kind)
                ]
                if rows:
                    parts.append(self._behind(p, kind, rows, below, nothing))
            state = np.concatenate(parts)
            if depth:
                state = nn.lstm_step(p, "up.edge", self.embedded(p, level.branches), state)
            below = np.concatenate([state, nothing])
            states.append(below)
        return states[::-1]

    @staticmethod
    def _behind(
        p: Parameters, kind: str, rows: list[list[int]], below: Traced, nothing: Array
    ) -> Traced:
        """The states of the nodes behind some branches with the same merge."""
        if kind == "leaf":
            return numpy.repeat(nothing, len(rows), axis=0)
        if kind == "none":
            return below[[row[0] for row in rows]]
        columns = [below[column] for column in _columns(rows)]
        groups = GROUPS["up", kind]
        if kind == "add":
            return unit(p, "up.add", [(groups[0], columns)])
        return unit(p, "up.concat", [(g, [each]) for g, each in zip(groups, columns, strict=True)])

    def down(
        self, p: Parameters, ups: Sequence[Traced], asked: Sequence[tuple[int, Path]]
    ) -> Traced:
        """Top-down: the states of some branches, from the first node and the siblings on the
        path."""
        units = p["up.edge.h"].shape[0]
        going = list(range(len(asked)))
        state: Traced = numpy.zeros((len(asked), 2 * units))
        ends, order = list[Traced](), list[int]()
        for depth in range(1, 1 + max(len(path) for _, path in asked)):
            merges = {each: self._merge(asked[each], depth) for each in going}
            places = {each: place for place, each in enumerate(going)}
            going = sorted(going, key=lambda each: KINDS.index(merges[each]))
            parts = []
            for kind in KINDS[1:]:
                those = [each for each in going if merges[each] == kind]
                if those:
                    above = state[[places[each] for each in those]]
                    rows = [self._beside(asked[each], depth) for each in those]
                    parts.append(self._before(p, kind, rows, above, ups[depth]))
            own = [self._at(asked[each], depth) for each in going]
            state = nn.lstm_step(p, "down.edge", self.embedded(p, own), np.concatenate(parts))
            ended = [i for i, each in enumerate(going) if len(asked[each][1]) == depth]
            ends.append(state[ended])
            order += [going[i] for i in ended]
            left = [i for i, each in enumerate(going) if len(asked[each][1]) > depth]
            state, going = state[left], [going[i] for i in left]
        return np.concatenate(ends)[numpy.argsort(order)]

    @staticmethod
    def _before(
        p: Parameters, kind: str, rows: list[list[int]], above: Traced, level: Traced
    ) -> Traced:
        """The states before some branches of nodes with the same merge."""
        if kind == "none":
            return above
        columns = [level[column] for column in _columns(rows)]
        parent, *groups = GROUPS["down", kind]
        taken: list[tuple[str, Sequence[Traced]]] = [(parent, [above])]
        if kind == "add":
            taken.append((groups[0], columns))
        else:
            taken += [(g, [each]) for g, each in zip(groups, columns, strict=True)]
        return unit(p, f"down.{kind}", taken)

    def _at(self, asked: tuple[int, Path], depth: int) -> Branch:
        index, path = asked
        return self.levels[depth].branches[self.row[index, path[:depth]]]

    def _merge(self, asked: tuple[int, Path], depth: int) -> str:
        _, node = self._at(asked, depth - 1)
        assert node is not None
        return node[0]

    def _beside(self, asked: tuple[int, Path], depth: int) -> list[int]:
        """Rows of a branch's siblings; with a concat, the branch itself is replaced by zeros."""
        index, path = asked
        above, own = path[: depth - 1], path[depth - 1]
        rows = self.levels[depth - 1].behind[self.row[index, above]]
        if self._merge(asked, depth) == "concat":
            return [-1 if i == own else row for i, row in enumerate(rows)]
        return [row for i, row in enumerate(rows) if i != own]


KINDS = ("leaf", "none", "add", "concat")


def _kind(branch: Branch) -> int:
    return 0 if branch[1] is None else KINDS.index(branch[1][0])


def _columns(rows: list[list[int]]) -> list[list[int]]:
    """Rows padded to the same length; -1 is the last row, which is zeros."""
    longest = max(map(len, rows))
    return [[row[i] if i < len(row) else -1 for row in rows] for i in range(longest)]


def encode(p: Parameters, ops: Sequence[str], asked: Sequence[Focus]) -> Traced:
    """The output of both directions for some branches of some trees, (branches, 2 * units)."""
    trees = list(dict.fromkeys(tree for tree, _ in asked))
    at = {tree: index for index, tree in enumerate(trees)}
    forest = Forest(trees, ops)
    wanted = [(at[tree], path) for tree, path in asked]
    ups = forest.up(p)
    parts, order = list[Traced](), list[int]()
    for depth in sorted({len(path) for _, path in wanted}):
        those = [i for i, (_, path) in enumerate(wanted) if len(path) == depth]
        parts.append(ups[depth][[forest.row[wanted[i]] for i in those]])
        order += those
    up = np.concatenate(parts)[numpy.argsort(order)]
    down = forest.down(p, ups, wanted)
    return np.concatenate([np.split(each, 2, axis=1)[0] for each in (up, down)], axis=1)
