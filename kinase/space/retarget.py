"""Adapt an existing network to another task: other images, another number of classes."""

from __future__ import annotations

from dataclasses import replace

from kinase.space.errors import InfeasibleError
from kinase.space.graph import Graph
from kinase.space.nodes import ACTIVATIONS, Node, Shape
from kinase.words import counted

_PASSES = ACTIVATIONS | frozenset(
    {
        "max_pool",
        "avg_pool",
        "adaptive_avg_pool",
        "identity",
        "shift",
        "unpool",
        "dropout",
        "drop_path",
        "zero",
    }
)
"""Operations that keep the image's channels."""
_AFTER = ACTIVATIONS | frozenset(
    {"max_pool", "avg_pool", "global_avg_pool", "adaptive_avg_pool", "identity", "dropout"}
)
"""Operations that can follow the last layer: each channel still corresponds to one class."""


def retarget(graph: Graph, shape: Shape, outputs: int) -> Graph:
    """The graph for images of this shape and this number of outputs.

    Its first convolutions get the channels of the image, and its last layer (a linear layer, or a
    convolution whose map is averaged) the number of outputs. Nothing else changes.

    Raises:
        InfeasibleError: a layer in between only fits images of another size, or there are no such
            layers.
    """
    channels, height, width = shape
    nodes = {node.name: node for node in graph}
    first = graph.nodes[0]
    if int(first.attrs["channels"]) != channels:
        nodes.update(_first(graph, channels))
    nodes[first.name] = replace(
        first, attrs={"channels": channels, "height": height, "width": width}
    )
    shapes = graph.shapes()
    for end in (graph.output, graph.auxiliary):
        if end is not None:
            last = _last(nodes, end, shapes)
            dense = last.op in ("linear", "conv") and last.attrs.get("groups", 1) == 1
            if dense and last.attrs["out"] != outputs:
                nodes[last.name] = replace(last, attrs={**last.attrs, "out": outputs})
    fitted = Graph(tuple(nodes[node.name] for node in graph), graph.output, graph.auxiliary)
    try:
        shapes = fitted.shapes()
    except InfeasibleError:
        raise
    except (ValueError, TypeError) as error:
        raise InfeasibleError(
            f"the network does not fit images of shape {channels}x{height}x{width}: {error}"
        ) from error
    if shapes[fitted.output] != (outputs,):
        raise InfeasibleError(
            f"the network ends in {fitted.output} with shape {shapes[fitted.output]}, the task has "
            f"{counted(outputs, 'output')}; it must end in a linear layer, or in a convolution and "
            "a mean, whose outputs are then replaced"
        )
    return fitted


def _first(graph: Graph, channels: int) -> dict[str, Node]:
    """The nodes that see the image's channels, adapted to this number of channels."""
    seen, changed = {graph.nodes[0].name}, dict[str, Node]()
    for node in graph.nodes[1:]:
        if seen.isdisjoint(node.inputs):
            continue
        if node.op == "conv" and node.attrs["groups"] == 1:
            changed[node.name] = replace(node, attrs={**node.attrs, "in": channels})
        elif node.op == "batch_norm" and not node.attrs["affine"]:
            changed[node.name] = replace(node, attrs={**node.attrs, "channels": channels})
            seen.add(node.name)
        elif node.op in _PASSES:
            seen.add(node.name)
        else:
            raise InfeasibleError(
                f"the images have {counted(channels, 'channel')}, the network is made for "
                f"{graph.nodes[0].attrs['channels']:g}: {node.name} ({node.op}) sees them and "
                "cannot be changed; only a convolution can"
            )
    return changed


def _last(nodes: dict[str, Node], name: str, shapes: dict[str, Shape]) -> Node:
    """The layer that computes an output."""
    node = nodes[name]
    while node.op in _AFTER or node.op == "flatten":
        before = shapes[node.inputs[0]]
        if node.op == "flatten" and before[1:] not in ((), (1, 1)):
            break
        node = nodes[node.inputs[0]]
    return node
