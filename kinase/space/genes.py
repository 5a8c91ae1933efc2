"""A cell as plain data: its nodes, each a sum of pairs of an operation and a source, and its output
nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kinase.space.errors import ArchitectureError

Pair = list[Any]
"""[operation, number of the source node]."""
CellGenes = list[list[Pair]]
"""For every intermediate node its pairs. Nodes are numbered starting with the cell's inputs."""


def alive(cell: CellGenes, inputs: int) -> list[bool]:
    """For each node, whether it can be reached from an input."""
    found = [True] * inputs
    for node in cell:
        found.append(any(op != "none" and found[source] for op, source in node))
    return found


def unused(cell: CellGenes, inputs: int) -> list[int]:
    """The intermediate nodes that no other node uses."""
    taken = {source for node in cell for op, source in node if op != "none"}
    return [n for n in range(inputs, inputs + len(cell)) if n not in taken]


def ends(cell: CellGenes, inputs: int, chosen: Sequence[int] | None) -> list[int]:
    """The nodes that a cell concatenates: the chosen ones or, by default, the unused ones.

    Unreachable nodes, which only add channels of zeros, are omitted; if all are unreachable, one is
    kept.
    """
    listed = sorted(unused(cell, inputs) if chosen is None else chosen)
    reached = alive(cell, inputs)
    return [n for n in listed if reached[n]] or listed[-1:]


def check_chosen(chosen: Any, inputs: int, nodes: int, path: str) -> None:
    """Check untrusted data: a list of intermediate nodes, each once.

    Raises:
        ArchitectureError: the data is invalid.
    """
    last = inputs + nodes - 1
    if (
        not isinstance(chosen, list)
        or not chosen
        or any(type(n) is not int or not inputs <= n <= last for n in chosen)
        or len(set(chosen)) < len(chosen)
    ):
        raise ArchitectureError(
            f"{path} is {chosen!r:.80}; use a list of different nodes of the cell, "
            f"{inputs} to {last}"
        )


def as_graph(
    cell: CellGenes, inputs: int, outputs: Sequence[int], *, contracted: bool
) -> tuple[list[str], list[tuple[int, int]]]:
    """Operations and sums as labelled nodes, and the edges between them, without those that are not
    on a path from an input to an output.

    Args:
        cell: the nodes.
        inputs: number of inputs of the cell.
        outputs: the output nodes.
        contracted: whether the sum of a single identity is the map itself.
    """
    total = inputs + len(cell)
    reached = alive(cell, inputs)
    into: dict[int, list[Pair]] = {}
    stands_for = list(range(total))
    for number, node in enumerate(cell, inputs):
        pairs = [
            [op, stands_for[source]] for op, source in node if op != "none" and reached[source]
        ]
        into[number] = pairs
        if contracted and len(pairs) == 1 and pairs[0][0] == "skip_connect":
            stands_for[number] = pairs[0][1]
    needed: set[int] = set()
    stack = [stands_for[o] for o in outputs if reached[o]]
    last = list(stack)
    while stack:
        number = stack.pop()
        if number not in needed:
            needed.add(number)
            stack += [source for _, source in into.get(number, ())]
    labels = [f"in{i}" for i in range(inputs)]
    edges: list[tuple[int, int]] = []
    place = {i: i for i in range(inputs)}
    for number in sorted(n for n in needed if n >= inputs):
        place[number] = len(labels)
        labels.append("sum")
    for number in sorted(n for n in needed if n >= inputs):
        for op, source in into[number]:
            if op == "skip_connect":
                edges.append((place[source], place[number]))
            else:
                edges += [(place[source], len(labels)), (len(labels), place[number])]
                labels.append(op)
    out = len(labels)
    labels.append("out")
    edges += [(place[end], out) for end in last]
    return labels, edges
