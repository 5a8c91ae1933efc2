"""Network morphisms that could turn one architecture of a space into another, as plain data
(`kinase.morphism`). These are proposals: `kinase.morphism.bridge` applies them and compares the
result with the space's own network. If a proposal is wrong, the child inherits nothing through
it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from kinase.space.align import align
from kinase.space.graph import Graph
from kinase.space.layers import WEIGHTED, Layer
from kinase.space.nodes import Node

Edit = dict[str, Any]
"""A morphism."""
PROJECTION: Edit = {"layer": "conv", "kernel": 1, "activation": "none"}
"""Convolution that projects a skip to other channels."""
_EDGE = re.compile(r"(cell\d+)_edge\d+_(\d+)_conv")


class Edits(list[Edit]):
    """Edits in order. The nodes added by the n-th edit are named ``m<n>_<what>``."""

    _made = 0

    def make(self, op: str, **fields: Any) -> str:
        """Append an edit that adds nodes; return the prefix of their names."""
        self.append({"op": op, **fields})
        self._made += 1
        return f"m{self._made}"


def larger(before: Graph, after: Graph, names: Mapping[str, str] | None = None) -> list[Edit]:
    """The layers of a network that are larger in another network.

    Args:
        before: the network.
        after: the other.
        names: names of the nodes in the other network. Default: the same names.
    """
    others, edits = nodes_of(after), list[Edit]()
    for node in before:
        other = others.get(node.name if names is None else names.get(node.name, ""))
        if other is None or node.op not in ("conv", "linear") or other.op != node.op:
            continue
        if other.attrs.get("kernel", 0) > node.attrs.get("kernel", 0):
            edits.append({"op": "kernel", "node": node.name, "to": int(other.attrs["kernel"])})
        if other.attrs["out"] > node.attrs["out"] and node.attrs.get("groups", 1) == 1:
            edits.append({"op": "widen", "node": node.name, "to": int(other.attrs["out"])})
    return edits


# -- chains ----------------------------------------------------------------------------------


def chain(
    parent: Sequence[Layer], child: Sequence[Layer], before: Graph, after: Graph
) -> list[Edit] | None:
    """From one chain to another: larger layers, inserted layers, projected skips."""
    aligned = align(parent, child, _changes, insertable=_may_come)
    if aligned is None:
        return None
    places = list(aligned.values())
    edits, names, others = Edits(), dict[str, str](), nodes_of(after)
    inside = nodes_of(before)
    ends = {-1: "input"}
    """The last node of each layer of the child, by its name in the edited graph."""
    wider: list[Edit] = []
    old = {place: index for index, place in enumerate(places)}
    at = -1  # the parent's layer that comes before
    for place, layer in enumerate(child):
        name = f"layer{place}"
        if place in old:
            at = old[place]
            names |= {f"layer{at}_{part}": f"{name}_{part}" for part in _PARTS}
            end = _end(parent, at)
            skip, was = layer.get("skip"), parent[at].get("skip")
            projected = f"{name}_skip_conv" in others
            if was is not None:
                if skip is None or skip != (-1 if was < 0 else places[was]):
                    return None
                if projected and f"layer{at}_skip_conv" not in inside:
                    source = ends[skip]
                    edits.make("deepen", node=source, into=end, **PROJECTION)
            elif skip is not None:
                if not projected:
                    return None  # a skip without a projection changes the function
                made = edits.make("branch", node=end, source=ends[skip], layer="conv", kernel=1)
                end = f"{made}_add"
        elif layer["op"] not in WEIGHTED:
            end = ends[place - 1]  # a pool of one pixel
        else:
            into = _start(parent, at + 1) if at + 1 < len(parent) else "pool"
            made = edits.make("deepen", node=ends[place - 1], into=into, **_inserted(layer))
            end = f"{made}_relu"
            wider.append(_as_wide(made, layer, others, name))
        ends[place] = end
    return [*edits, *wider, *larger(before, after, names)]


_PARTS = ("conv", "depthwise", "pointwise", "skip_conv")


def _changes(old: Layer, new: Layer) -> float:
    """Number of changes from one layer to another; infinite if it cannot grow into it."""
    if not _grows(old, new):
        return inf
    return float(any(old.get(each) != new.get(each) for each in ("width", "kernel")))


def _grows(old: Layer, new: Layer) -> bool:
    """Whether a layer can grow into another."""
    if (old["op"], old["stride"]) != (new["op"], new["stride"]):
        return False
    if old["op"] not in WEIGHTED:
        return bool(old["kernel"] == new["kernel"])
    more = new["kernel"] - old["kernel"]
    return bool(new["width"] >= old["width"] and more >= 0 and more % 2 == 0)


def _may_come(layer: Layer, place: int) -> bool:
    """Whether a layer can be inserted at a place as an identity."""
    if layer["stride"] != 1:
        return False
    if layer["op"] not in WEIGHTED:
        return bool(layer["kernel"] == 1)
    return bool(place > 0 and layer["kernel"] % 2 == 1)


def _inserted(layer: Layer) -> Edit:
    return {"layer": layer["op"], "kernel": layer["kernel"], "activation": "relu"}


def _as_wide(made: str, layer: Layer, others: Mapping[str, Node], name: str) -> Edit:
    """Widen an inserted identity, which has the width of its input, to the width of the layer."""
    part = "conv" if layer["op"] == "conv" else "pointwise"
    return {
        "op": "widen",
        "node": f"{made}_{part}",
        "to": int(others[f"{name}_{part}"].attrs["out"]),
    }


def _end(layers: Sequence[Layer], index: int) -> str:
    layer = layers[index]
    if layer.get("skip") is not None:
        return f"layer{index}_add"
    return f"layer{index}_relu" if layer["op"] in WEIGHTED else f"layer{index}"


def _start(layers: Sequence[Layer], index: int, kind: str = "layer") -> str:
    parts = {"conv": "_conv", "sepconv": "_depthwise"}
    return f"{kind}{index}{parts.get(layers[index]['op'], '')}"


# -- multi-branch networks -------------------------------------------------------------------


def multibranch(
    parent: Sequence[Layer], child: Sequence[Layer], before: Graph, after: Graph
) -> list[Edit] | None:
    """From one multi-branch network to another: larger nodes, added inputs, nodes appended at the
    end."""
    if len(child) < len(parent):
        return None
    edits, wider = Edits(), list[Edit]()
    inside, others = nodes_of(before), nodes_of(after)
    ends = {-1: "input"}
    ends |= {
        i: f"node{i}_relu" if each["op"] in WEIGHTED else f"node{i}"
        for i, each in enumerate(parent)
    }
    for index, (old, new) in enumerate(zip(parent, child, strict=False)):
        name = f"node{index}"
        more = [i for i in new["inputs"] if i not in old["inputs"]]
        merged = len(old["inputs"]) > 1
        if not _grows(old, new) or not set(old["inputs"]) <= set(new["inputs"]):
            return None
        if merged and old["merge"] != new["merge"]:
            return None
        if not more and merged and new["merge"] == "add":
            for number, source in enumerate(inside[f"{name}_add"].inputs):
                projection = f"{name}_in{number}_conv"
                if projection in others and projection not in inside:
                    edits.make("deepen", node=source, into=f"{name}_add", **PROJECTION)
        target = f"{name}_{old['merge']}" if merged else ends[old["inputs"][0]]
        for source in more:
            if new["merge"] == "add":
                made = edits.make(
                    "branch", node=target, source=ends[source], layer="conv", kernel=1
                )
                target = f"{made}_add"
            else:
                start = _start(parent, index, "node")
                edits.make("skip", source=ends[source], node=start, merge="concat")
    used = {i for node in child[: len(parent)] for i in node["inputs"]}
    for index, new in enumerate(child[len(parent) :], len(parent)):
        if len(new["inputs"]) > 1 or new["op"] not in WEIGHTED or not _may_come(new, 1):
            return None
        source, into = new["inputs"][0], {}
        if source in used:  # it starts as a separate output, with weights of 0 in the last layer
            made = edits.make("skip", source=ends[source], node="classifier", merge="concat")
            into = {"into": f"{made}_mean"}
        made = edits.make("deepen", node=ends[source], **into, **_inserted(new))
        ends[index] = f"{made}_relu"
        used.add(source)
        wider.append(_as_wide(made, new, others, f"node{index}"))
    return [*edits, *wider, *larger(before, after)]


# -- cells -----------------------------------------------------------------------------------


def cells(before: Graph, after: Graph) -> list[Edit]:
    """From one network of cells to another: in each cell larger windows, and convolutions on new
    edges."""
    edits, inside, others = Edits(), nodes_of(before), nodes_of(after)
    at: dict[str, str] = {}
    for node in others.values():
        found = _EDGE.fullmatch(node.name)
        if found is None or node.name in inside:
            continue
        target = f"{found[1]}_node{found[2]}"
        [source] = others[node.inputs[0]].inputs
        made = edits.make(
            "branch",
            node=at.get(target, target),
            source=at.get(source, source),
            layer="conv",
            kernel=int(node.attrs["kernel"]),
            relu=True,
        )
        at[target] = f"{made}_add"
    return [*edits, *larger(before, after), *joined(before, after)]


def joined(before: Graph, after: Graph) -> list[Edit]:
    """The inputs of concatenations that are missing in a network but present in another, in
    order."""
    others, edits = nodes_of(after), list[Edit]()
    for node in before.needed():
        other = others.get(node.name)
        if node.op == "concat" and other is not None:
            edits += [
                {"op": "join", "node": node.name, "source": each, "at": place}
                for place, each in enumerate(other.inputs)
                if each not in node.inputs
            ]
    return edits


def nodes_of(graph: Graph) -> dict[str, Node]:
    """The needed nodes of a network by their names."""
    return {node.name: node for node in graph.needed()}
