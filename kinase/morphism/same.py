"""Whether two graphs are the same network, and the correspondence of their nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from kinase.morphism.facts import CLEAR
from kinase.space.graph import Graph
from kinase.space.nodes import Node
from kinase.space.tensors import WEIGHTED


def renaming(one: Graph, other: Graph) -> dict[str, str] | None:
    """Map each node with tensors of a graph to the equivalent node of another, if both graphs
    compute the same from the same tensors, up to the order of sums; otherwise None.

    Nodes without effect in evaluation (an identity, drop-path, a zero in a sum) are ignored.
    Indistinguishable terms of a sum are paired in order, those with equal names first. If that
    contradicts other pairs, the result is also None.
    """
    known: dict[Hashable, int] = {}
    a, b = _Normal(one, known), _Normal(other, known)
    if a.kinds[a.output] != b.kinds[b.output]:
        return None
    there: dict[str, str] = {}
    back: dict[str, str] = {}
    stack = [(a.output, b.output)]
    while stack:
        left, right = stack.pop()
        if left in there or right in back:
            if there.get(left) != right or back.get(right) != left:
                return None
            continue
        there[left], back[right] = right, left
        inputs = b.inputs[right]
        if a.ops[left] == "add":
            paired = _pair(a, b, a.inputs[left], inputs, there)
            if paired is None:
                return None
            inputs = paired
        stack += zip(a.inputs[left], inputs, strict=True)
    weighted = {node.name for node in other.needed() if node.op in WEIGHTED}
    if not weighted <= set(back):
        return None
    return {left: right for left, right in there.items() if right in weighted}


def normal(
    graph: Graph,
) -> tuple[dict[str, str], dict[str, list[str]], dict[str, dict[str, Any]], str]:
    """The computation without nodes that have no effect in evaluation: each node's operation,
    inputs and numbers in topological order, and the node of the logits."""
    found = _Normal(graph, {})
    needed, stack = set[str](), [found.output]
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack += found.inputs[name]
    kept = [name for name in found.ops if name in needed]
    return (
        {name: found.ops[name] for name in kept},
        {name: found.inputs[name] for name in kept},
        {name: found.attrs[name] for name in kept},
        found.output,
    )


def _pair(
    a: _Normal, b: _Normal, terms: list[str], others: list[str], there: dict[str, str]
) -> list[str] | None:
    """Order the terms of a sum like those of another sum."""
    free, found = list(others), dict[int, str]()
    wishes = (lambda term: there.get(term), lambda term: term, None)
    for wish in wishes:
        for index, term in enumerate(terms):
            if index in found:
                continue
            alike = [each for each in free if b.kinds[each] == a.kinds[term]]
            wanted = alike[0] if wish is None and alike else wish(term) if wish else None
            if wanted in alike:
                found[index] = wanted
                free.remove(wanted)
    if len(found) < len(terms):
        return None
    return [found[index] for index in range(len(terms))]


@dataclass
class _Normal:
    """A simplified graph: nested sums and nested concatenations are flattened, and the mean of a
    concatenation is the concatenation of means."""

    graph: Graph
    known: dict[Hashable, int]
    """Numbers for computed values, shared by both graphs."""
    ops: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, list[str]] = field(default_factory=dict)
    attrs: dict[str, dict[str, Any]] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    output: str = ""

    def __post_init__(self) -> None:
        graph = self.graph.needed()
        alias: dict[str, str] = {}
        zeros = {node.name for node in graph if node.op == "zero"}
        plain: list[Node] = []
        for node in graph:
            inputs = [alias.get(each, each) for each in node.inputs]
            if node.op == "add":
                inputs = [each for each in inputs if each not in zeros] or inputs[:1]
            if changes_nothing(node) or (node.op == "add" and len(inputs) == 1):
                alias[node.name] = inputs[0]
                continue
            plain.append(Node(node.name, node.op, tuple(inputs), node.attrs))
        self.output = alias.get(graph.output, graph.output)
        readers = Counter(each for node in plain for each in node.inputs)
        for node in plain:
            inputs = list(node.inputs)
            if node.op in ("add", "concat"):
                inputs = [part for each in inputs for part in self._parts(each, node.op, readers)]
            elif node.op == "global_avg_pool" and self._merges(inputs[0], "concat", readers):
                parts = self.inputs[inputs[0]]
                for index, part in enumerate(parts):
                    self._put(f"{node.name}/{index}", node.op, [part], node)
                self._put(
                    node.name, "concat", [f"{node.name}/{i}" for i in range(len(parts))], None
                )
                continue
            self._put(node.name, node.op, inputs, node)

    def _parts(self, name: str, op: str, readers: Counter[str]) -> list[str]:
        return self.inputs[name] if self._merges(name, op, readers) else [name]

    def _merges(self, name: str, op: str, readers: Counter[str]) -> bool:
        return self.ops[name] == op and readers[name] == 1

    def _put(self, name: str, op: str, inputs: list[str], node: Node | None) -> None:
        kinds = [self.kinds[each] for each in inputs]
        attrs = dict(node.attrs) if node is not None else {}
        if op == "linear":
            attrs.setdefault("bias", 1)
        what = (op, tuple(sorted(attrs.items())), tuple(sorted(kinds) if op == "add" else kinds))
        self.ops[name], self.inputs[name], self.attrs[name] = op, inputs, attrs
        self.kinds[name] = self.known.setdefault(what, len(self.known))


def changes_nothing(node: Node) -> bool:
    """Whether a node's output is its input in evaluation."""
    a = node.attrs
    pool = node.op in ("max_pool", "avg_pool")
    return node.op in CLEAR or (pool and (a["kernel"], a["stride"], a["padding"]) == (1, 1, 0))
