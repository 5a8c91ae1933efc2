"""Morphisms that could turn an architecture into a smaller one, some of them approximate, as plain
data (`kinase.morphism`). As in `kinase.space.exact_morphisms` these are proposals, which
`kinase.morphism.bridge` verifies."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from kinase.space.align import align
from kinase.space.exact_morphisms import PROJECTION, Edit, Edits, joined, nodes_of
from kinase.space.graph import Graph
from kinase.space.layers import WEIGHTED, Layer
from kinase.space.nodes import Node


def smaller(before: Graph, after: Graph) -> list[Edit]:
    """The layers of a network that have another size or are separable in another network, removed
    terms of its sums, and removed or added inputs of its concatenations. Nodes correspond by
    name."""
    edits, sizes, others = Edits(), list[Edit](), nodes_of(after)
    for node in before.needed():
        name, other = node.name, others.get(node.name)
        if node.op in ("add", "concat") and other is not None:
            gone = [each for each in node.inputs if each not in other.inputs]
            edits += [{"op": "cut", "node": name, "input": each} for each in gone]
        if node.op not in ("conv", "linear"):
            continue
        window, stem = other, name.removesuffix("_conv")
        if other is None and f"{stem}_depthwise" in others:
            window, other = others[f"{stem}_depthwise"], others.get(f"{stem}_pointwise")
            name = f"{edits.make('separate', node=name)}_depthwise"
        if window is not None and other is not None:
            sizes += [*_window(name, node, window), *_width(node, int(other.attrs["out"]))]
    return [*edits, *sizes, *joined(before, after)]


def chain(
    parent: Sequence[Layer], child: Sequence[Layer], before: Graph, after: Graph
) -> list[Edit] | None:
    """From one chain to another: layers that are removed, separable, or of another width or window,
    and removed skips."""
    kept = align(parent, child, _changes, removable=lambda layer: bool(layer["stride"] == 1))
    if kept is None:
        return None
    inside, others = nodes_of(before), nodes_of(after)
    edits, sizes, gone = Edits(), list[Edit](), list[Edit]()
    width = before.shapes()["input"][0]
    for index, layer in enumerate(parent):
        name, place = f"layer{index}", kept.get(index)
        to = f"layer{place}"
        skip = child[place].get("skip") if place is not None else None
        if layer.get("skip") is not None:
            source = inside[f"{name}_add"].inputs[1]
            projected = f"{name}_skip_conv" in inside, f"{to}_skip_conv" in others
            if skip is None:  # before widths change, because a sum shares them
                edits.append({"op": "cut", "node": f"{name}_add", "input": source})
            elif projected == (False, True):
                edits.make("deepen", node=source, into=f"{name}_add", **PROJECTION)
            elif projected == (True, False):
                gone.append({"op": "remove", "node": f"{name}_skip_conv"})
        if layer["op"] not in WEIGHTED:
            if place is None:
                gone.append({"op": "remove", "node": name})
            continue
        parts = [f"{name}_{part}" for part in _PARTS[layer["op"]]]
        if place is None:  # with the width of its input, it can be removed
            sizes += _width(inside[parts[-1]], width)
            gone += [{"op": "remove", "node": part} for part in parts]
            continue
        new = [others[f"{to}_{part}"] for part in _PARTS[child[place]["op"]]]
        window = parts[0]
        if len(new) > len(parts):
            window = f"{edits.make('separate', node=window)}_depthwise"
        width = int(new[-1].attrs["out"])
        sizes += [*_window(window, inside[parts[0]], new[0]), *_width(inside[parts[-1]], width)]
    return [*edits, *sizes, *gone]


_PARTS = {"conv": ("conv",), "sepconv": ("depthwise", "pointwise")}


def _window(name: str, old: Node, new: Node) -> list[Edit]:
    """The edit that changes the window of a convolution."""
    size, to = int(old.attrs.get("kernel", 0)), int(new.attrs.get("kernel", 0))
    return [] if to == size else [{"op": "crop" if to < size else "kernel", "node": name, "to": to}]


def _width(node: Node, to: int) -> list[Edit]:
    """The edit that changes the width of a layer."""
    width = int(node.attrs["out"])
    if to == width or node.attrs.get("groups", 1) != 1:
        return []
    return [{"op": "prune" if to < width else "widen", "node": node.name, "to": to}]


def _changes(old: Layer, new: Layer) -> float:
    """Number of choices that differ between two layers; infinite if no morphism connects them."""
    if old["stride"] != new["stride"] or (old.get("skip") is None and new.get("skip") is not None):
        return inf
    if old["op"] not in WEIGHTED and (old["op"], old["kernel"]) != (new["op"], new["kernel"]):
        return inf
    if old["op"] != new["op"] and (old["op"], new["op"]) != ("conv", "sepconv"):
        return inf
    cut = (old.get("skip") is None) != (new.get("skip") is None)
    return float(cut + sum(old.get(each) != new.get(each) for each in ("op", "width", "kernel")))
