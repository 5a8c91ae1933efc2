"""Convert graphs to JSON, and untrusted JSON to graphs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from kinase.space.errors import GraphError
from kinase.space.graph import Graph
from kinase.space.nodes import OPS, Node

MAX_NODES = 10_000
"""Maximum number of nodes of a graph."""
MAX_PARAMS = 10**11
"""Maximum number of parameters of a graph."""
MAX_SIZE = 2**20
"""Maximum width, kernel, or other number of a node."""
NAME = re.compile(r"[A-Za-z0-9_]{1,100}")


Bounds = tuple[int, int]
_SIZE: Bounds = (1, MAX_SIZE)
_FLAG: Bounds = (0, 1)
_WINDOW = {"kernel": _SIZE, "stride": _SIZE, "padding": (0, MAX_SIZE)}
_ATTRS: dict[str, dict[str, Bounds]] = {
    "input": {"channels": _SIZE, "height": _SIZE, "width": _SIZE},
    "conv": {
        "in": _SIZE,
        "out": _SIZE,
        **_WINDOW,
        "dilation": _SIZE,
        "groups": _SIZE,
        "bias": _FLAG,
    },
    "batch_norm": {"channels": _SIZE, "affine": _FLAG},
    "max_pool": _WINDOW,
    "avg_pool": _WINDOW,
    "adaptive_avg_pool": {"height": _SIZE, "width": _SIZE},
    "unpool": {"height": _SIZE, "width": _SIZE},
    "linear": {"in": _SIZE, "out": _SIZE},
    "zero": {"stride": _SIZE},
    "slice": {"start": (0, MAX_SIZE), "size": _SIZE},
    "class_token": {"dim": _SIZE},
    "position": {"tokens": _SIZE, "dim": _SIZE},
    "group_norm": {"channels": _SIZE, "groups": _SIZE, "affine": _FLAG},
    "layer_norm": {"dim": _SIZE},
    "layer_scale": {"channels": _SIZE},
    "shuffle": {"groups": _SIZE},
    "attention": {"dim": _SIZE, "heads": _SIZE, "head_dim": _SIZE},
    "select": {"index": (0, MAX_SIZE)},
}
"""Required integers of a node, by operation."""
_OPTIONAL: dict[str, dict[str, Bounds]] = {
    "conv": {
        "kernel_h": _SIZE,
        "kernel_w": _SIZE,
        "padding_h": (0, MAX_SIZE),
        "padding_w": (0, MAX_SIZE),
        "stride_h": _SIZE,
        "stride_w": _SIZE,
    },
    "linear": {"bias": _FLAG},
    "max_pool": {"ceil": _FLAG},
    "avg_pool": {"ceil": _FLAG, "count_pad": _FLAG},
}
_REAL: dict[str, dict[str, tuple[float, float]]] = {
    "dropout": {"rate": (0.0, 1.0)},
    "drop_path": {"rate": (0.0, 1.0)},
    "leaky_relu": {"slope": (-16.0, 16.0)},
    "elu": {"alpha": (-16.0, 16.0)},
    "group_norm": {"eps": (0.0, 1.0)},
    "batch_norm": {"eps": (0.0, 1.0), "momentum": (0.0, 1.0)},
    "layer_norm": {"eps": (0.0, 1.0)},
}
"""Numbers that can be fractions."""
_NEEDED = {"dropout": {"rate"}, "leaky_relu": {"slope"}, "elu": {"alpha"}}
"""Required numbers among them."""


def dump_graph(graph: Graph) -> dict[str, Any]:
    """The graph as plain data."""
    document: dict[str, Any] = {
        "nodes": [
            {"name": n.name, "op": n.op, "inputs": list(n.inputs), "attrs": dict(n.attrs)}
            for n in graph
        ],
        "output": graph.output,
    }
    return document | ({"auxiliary": graph.auxiliary} if graph.auxiliary is not None else {})


def load_graph(data: object) -> Graph:
    """Read a graph from plain data.

    Raises:
        GraphError: the data is invalid.
        InfeasibleError: a feature map would shrink to nothing.
    """
    fields = _object(data, "graph", {"nodes", "output"}, {"auxiliary"})
    items = fields["nodes"]
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_NODES:
        size = len(items) if isinstance(items, list) else f"{items!r:.80}"
        raise GraphError(f"nodes is {size}; use a list of 1 to {MAX_NODES} nodes")
    nodes = tuple(_node(item, index) for index, item in enumerate(items))
    _check_order(nodes)
    names = {node.name for node in nodes}
    for end in ("output", "auxiliary"):
        if end in fields and (not isinstance(fields[end], str) or fields[end] not in names):
            raise GraphError(f"{end} is {fields[end]!r:.80}; use the name of a node")
    graph = Graph(nodes, fields["output"], fields.get("auxiliary"))
    check_graph(graph)
    return graph


def check_graph(graph: Graph) -> None:
    """Check properties that an edit can violate: order, numbers, shapes, groups and size.

    Raises:
        GraphError: the graph is invalid.
        InfeasibleError: a feature map shrinks to nothing.
    """
    _check_order(graph.nodes)
    for node in graph:
        for attr, value in node.attrs.items():
            _number(node.name, node.op, attr, value)
        groups = int(node.attrs.get("groups", 1))
        if node.op == "conv" and (node.attrs["in"] % groups or node.attrs["out"] % groups):
            raise GraphError(
                f"{node.name}: {groups} groups do not divide {node.attrs['in']} inputs and "
                f"{node.attrs['out']} outputs"
            )
    try:
        graph.shapes()
    except (TypeError, IndexError) as error:  # a map instead of a vector, or the reverse
        raise GraphError(f"the shapes of the graph do not fit: {error}") from error
    except ValueError as error:
        if type(error) is ValueError:
            raise GraphError(str(error)) from error
        raise
    if (params := graph.params()) > MAX_PARAMS:
        raise GraphError(f"the graph has {params:,} parameters; at most {MAX_PARAMS:,}")


def _object(data: object, path: str, needed: set[str], allowed: set[str]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise GraphError(f"{path} is {data!r:.80}; use an object with {_list(needed)}")
    for name in sorted(needed - set(data)):
        raise GraphError(f"{path} has no {name}")
    for name in data:
        if name not in needed | allowed:
            raise GraphError(f"{path}.{name!s:.80} is not a field; use {_list(needed | allowed)}")
    return data


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _node(data: object, index: int) -> Node:
    path = f"nodes[{index}]"
    fields = _object(data, path, {"name", "op", "inputs"}, {"attrs"})
    name, op, inputs = fields["name"], fields["op"], fields["inputs"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise GraphError(
            f"{path}.name is {name!r:.80}; use up to 100 letters, digits and underscores"
        )
    if not isinstance(op, str) or op not in OPS:
        raise GraphError(f"{name}: op is {op!r:.80}; use one of {_list(OPS)}")
    if not isinstance(inputs, list) or not all(isinstance(each, str) for each in inputs):
        raise GraphError(f"{name}: inputs is {inputs!r:.80}; use a list of nodes' names")
    low, high = _inputs(op)
    if not low <= len(inputs) <= high:
        wanted = str(low) if low == high else f"{low} or more"
        raise GraphError(f"{name}: {op} has {len(inputs)} inputs; use {wanted}")
    attrs = _object(fields.get("attrs", {}), f"{name}.attrs", _must(op), _may(op))
    return Node(name, op, tuple(inputs), {k: _number(name, op, k, v) for k, v in attrs.items()})


def _inputs(op: str) -> tuple[int, int]:
    match op:
        case "input":
            return 0, 0
        case "mix" | "scale":
            return 2, 2
        case "add" | "concat":
            return 1, MAX_NODES
        case _:
            return 1, 1


def _must(op: str) -> set[str]:
    return _NEEDED.get(op, set()) | set(_ATTRS.get(op, ()))


def _may(op: str) -> set[str]:
    return set(_OPTIONAL.get(op, ())) | set(_REAL.get(op, ()))


def _number(name: str, op: str, attr: str, value: object) -> int | float:
    real = _REAL.get(op, {}).get(attr)
    if real is not None:
        if type(value) in (int, float) and real[0] <= float(value) <= real[1]:  # type: ignore[arg-type]
            return float(value)  # type: ignore[arg-type]
        raise GraphError(f"{name}: {attr} is {value!r:.80}; use a number of {real[0]} to {real[1]}")
    low, high = (_ATTRS.get(op, {}) | _OPTIONAL.get(op, {}))[attr]
    whole = type(value) is int or (type(value) is float and math.isfinite(value) and value % 1 == 0)
    if not whole or not low <= value <= high:  # type: ignore[operator]
        raise GraphError(f"{name}: {attr} is {value!r:.80}; use a whole number of {low} to {high}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def _check_order(nodes: tuple[Node, ...]) -> None:
    """Check that names are unique, and that inputs exist before their readers."""
    names = [node.name for node in nodes]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise GraphError(f"two nodes have the name {twice}; names must differ")
    if [node.op for node in nodes].count("input") != 1 or nodes[0].op != "input":
        raise GraphError(f"the first node is {nodes[0].op}; use one input, and as the first node")
    known, seen = set(names), set[str]()
    late: str | None = None
    for node in nodes:
        for each in node.inputs:
            if each not in known:
                raise GraphError(f"{node.name}: its input {each!r:.80} is not a node of the graph")
            if each not in seen and late is None:
                late = f"{node.name}: its input {each} comes after it; write inputs first"
        seen.add(node.name)
    if late is not None:
        try:
            TopologicalSorter({node.name: node.inputs for node in nodes}).prepare()
        except CycleError as error:
            path = " -> ".join(reversed(error.args[1]))
            raise GraphError(f"the graph has a cycle: {path}"[:400]) from error
        raise GraphError(late)
