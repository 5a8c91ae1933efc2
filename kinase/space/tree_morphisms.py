"""Network morphisms that could unfold the cells of one network into those of another (Cai et al.
2018b, section 3.1): a layer is replaced by copies that add up to it, a map is divided and
concatenated, a branch starts as an identity, or as zero if parallel to another."""

from __future__ import annotations

import re

from kinase.space.exact_morphisms import Edit, Edits
from kinase.space.graph import Graph
from kinase.space.trees import CONVS, IDENTITY, LAYER, Branch, Node


class _Never(Exception):
    """No morphism exists."""


def trees(parent: Node, child: Node, before: Graph) -> list[Edit] | None:
    """Morphisms from one tree to another, in every cell of a network."""
    cells = [node.name for node in before if re.fullmatch(r"cell\d+_relu", node.name)]
    edits = Edits()
    try:
        for cell in cells:
            _Growth(edits, cell.removesuffix("_relu")).first(parent, child)
    except _Never:
        return None
    return edits


class _Growth:
    """Morphisms of one cell. Nodes have the names of the parent's network, or of the edits that
    added them."""

    def __init__(self, edits: Edits, cell: str) -> None:
        self._edits, self._cell = edits, cell

    def first(self, old: Node, new: Node) -> None:
        """The first node, whose branches are the cell's layer."""
        name = self._cell
        merges = [(node["merge"], len(node["branches"])) for node in (old, new)]
        if old["merge"] == "concat":
            self._node(_within(old), _within(new), name, f"{name}_0_relu")
        elif merges[0] == merges[1]:
            self._node(old, new, name, f"{name}_relu")
        elif merges[0][0] != "none" or "node" in old["branches"][0]:
            raise _Never
        else:
            self._unfold(new, f"{name}_0")

    def _unfold(self, new: Node, name: str) -> None:
        """Split a layer without a following node into several."""
        ends = [(f"{name}_relu", f"{name}_end")]
        if new["merge"] == "concat":
            self._insert(_within(new), *ends[0])
            return
        count = len(new["branches"])
        fields = {"scheme": "replicate_add", "branches": count, "segment": True}
        made = self._edits.make("path", node=f"{name}_conv", **fields)
        ends += [(f"{made}_relu{i}", f"{made}_identity{i}") for i in range(1, count)]
        for branch, (source, end) in zip(new["branches"], ends, strict=True):
            if "node" in branch:
                self._insert(branch["node"], source, end)

    # -- existing nodes ----------------------------------------------------------------

    def _node(self, old: Node, new: Node, name: str, x: str) -> None:
        """An existing node, with one of its inputs."""
        more = new["branches"][len(old["branches"]) :]
        if old["merge"] != new["merge"] or len(new["branches"]) < len(old["branches"]):
            raise _Never
        for index, (before, after) in enumerate(
            zip(old["branches"], new["branches"], strict=False)
        ):
            here = f"{name}_{index}"
            self._branch(before, after, here, f"{here}_slice" if old["merge"] == "concat" else x)
        end = f"{name}_add"
        for branch in more:
            end = self._beside(branch, end, x)

    def _branch(self, old: Branch, new: Branch, name: str, x: str) -> None:
        if old["op"] != new["op"]:
            if old != {"op": IDENTITY}:
                raise _Never
            self._carry(new, x, f"{name}_end")
        elif "node" in old and "node" in new:
            self._node(old["node"], new["node"], name, _end(old["op"], name, x))
        elif "node" in new:
            if old["op"] in CONVS:  # before a ReLU
                raise _Never
            self._insert(new["node"], _end(old["op"], name, x), f"{name}_end")
        elif "node" in old:
            raise _Never

    # -- new nodes ---------------------------------------------------------------------

    def _insert(self, node: Node, source: str, end: str) -> str:
        """Insert a node, as an identity, between a map and the identity that reads it; return its
        output node."""
        branches = node["branches"]
        match node["merge"]:
            case "none":
                return self._carry(branches[0], source, end)
            case "concat":
                made = self._edits.make("path", node=end, scheme="split_concat", branches=2)
                self._carry(branches[0], f"{made}_slice", end)
                self._carry(branches[1], f"{made}_slice2", f"{made}_identity1")
                return f"{made}_concat"
            case _:
                first = min(range(len(branches)), key=lambda i: _rank(branches[i]))
                out = self._carry(branches[first], source, end)
                for index, branch in enumerate(branches):
                    if index != first:
                        out = self._beside(branch, out, source)
                return out

    def _carry(self, branch: Branch, source: str, end: str) -> str:
        """Insert a branch that starts as an identity before the identity that reads a map."""
        if branch["op"] in CONVS:
            activation = "relu" if "node" in branch else "none"
            fields = {**_layer(branch), "activation": activation}
            made = self._edits.make("deepen", node=source, into=end, **fields)
            source = f"{made}_relu" if "node" in branch else f"{made}_bn"
        elif branch["op"] != IDENTITY:
            raise _Never  # a pool changes its map
        return self._insert(branch["node"], source, end) if "node" in branch else end

    def _beside(self, branch: Branch, end: str, source: str) -> str:
        """Add a branch that starts as zero."""
        if branch["op"] not in CONVS or "node" in branch:
            raise _Never
        made = self._edits.make("branch", node=end, source=source, **_layer(branch))
        return f"{made}_add"


def _within(node: Node) -> Node:
    """The first node after the layer of a concatenation."""
    return {**node, "branches": [{**each, "op": IDENTITY} for each in node["branches"]]}


def _rank(branch: Branch) -> int:
    """The branch that is the identity: one that cannot start as zero, if any."""
    return 0 if "node" in branch else 1 if branch["op"] not in CONVS else 2


def _layer(branch: Branch) -> Edit:
    kernel = CONVS[branch["op"]]
    return {"layer": "conv" if kernel == 1 else "sepconv", "kernel": kernel}


def _end(op: str, name: str, x: str) -> str:
    """The last node of an operation with a node behind it."""
    if op == IDENTITY:
        return x
    return f"{name}_relu" if op in CONVS or op == LAYER else name
