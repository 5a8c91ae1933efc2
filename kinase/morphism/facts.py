"""Properties of a graph's maps that hold for any weights."""

from __future__ import annotations

from kinase.morphism.plan import Moments
from kinase.space.graph import Graph
from kinase.space.nodes import ACTIVATIONS, Node

_KEEPS_SIGN = frozenset(
    {
        "max_pool",
        "avg_pool",
        "global_avg_pool",
        "adaptive_avg_pool",
        "flatten",
        "add",
        "scale",
        "concat",
        "slice",
        "shuffle",
        "tokens",
        "select",
        "identity",
        "shift",
        "unpool",
        "drop_path",
        "dropout",
    }
)
CLEAR = frozenset({"identity", "dropout", "drop_path"})
"""Operations that are an identity, at least in evaluation."""


def nonnegative(graph: Graph) -> set[str]:
    """Nodes with a non-negative output, after which a ReLU changes nothing."""
    found: set[str] = set()
    for node in graph:
        kept = node.op in _KEEPS_SIGN and all(each in found for each in node.inputs)
        if kept or node.op in ("relu", "relu6", "sigmoid", "hard_sigmoid", "zero"):
            found.add(node.name)
    return found


def moments(graph: Graph, name: str, channels: int) -> Moments | None:
    """The moments of a node's output, if it is a batch normalization, or one followed by a ReLU."""
    by_name = {node.name: node for node in graph}
    node, rectified = by_name[name], False
    while node.op in CLEAR or (node.op == "relu" and not rectified):
        rectified = rectified or node.op == "relu"
        node = by_name[node.inputs[0]]
    if node.op != "batch_norm":
        return None
    scale, shift = (
        (f"{node.name}.{each}" if node.attrs["affine"] else None) for each in ("weight", "bias")
    )
    return Moments("mean", channels, scale, shift, rectified, 0.0)


def unit_ends(graph: Graph) -> list[Node]:
    """Nodes at the end of a layer (a convolution with its normalization and activation), after
    which another layer, a skip or a branch can be added; without the graph's outputs."""
    readers: dict[str, list[Node]] = {node.name: [] for node in graph}
    for node in graph:
        for each in node.inputs:
            readers[each].append(node)
    within = ACTIVATIONS | {"batch_norm", "group_norm"}
    ends = (graph.output, graph.auxiliary)
    return [
        node
        for node in graph
        if node.op not in ("input", "zero")
        and node.name not in ends
        and any(reader.op not in within for reader in readers[node.name])
    ]
