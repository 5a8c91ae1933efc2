"""Cells as paths through their supernet, and back."""

from __future__ import annotations

from collections.abc import Mapping

from kinase.api.trial import Architecture
from kinase.space.cell_form import CellForm
from kinase.space.errors import ArchitectureError
from kinase.space.genes import CellGenes
from kinase.space.supernet import NONE, Inputs


def shared(form: CellForm) -> bool:
    """Whether one network can hold those of all cells: not if cells end in different nodes, as
    the next cell's input would then differ in its channels."""
    return form.dense or form.concat == "all"


def options(form: CellForm) -> tuple[str, ...]:
    """What an edge of the supernet can be. Where a node has two inputs, the other edges are
    none."""
    return form.ops if form.dense or NONE in form.ops else (NONE, *form.ops)


def slots(form: CellForm) -> int:
    """How many edges of the supernet there are from one node to another: two if both inputs of a
    node can have one source."""
    return 2 if form.same_source and not form.dense else 1


def everything(form: CellForm) -> CellGenes:
    """The supernet's cell: each node takes each one before it, by all operations."""
    return [
        [[options(form), source] for _ in range(slots(form)) for source in range(before)]
        for before in range(form.inputs, form.inputs + form.nodes)
    ]


def group(part: str, index: int, number: int) -> str:
    """The group of choices of a node's edge."""
    return f"{part}_{index}_{number}"


def limits(form: CellForm) -> tuple[Inputs, ...]:
    """How many edges the nodes take, where they do not take all."""
    if form.dense:
        return ()
    found = []
    for part in form.parts:
        for index in range(form.nodes):
            before = form.inputs + index
            for slot in range(slots(form)):
                numbers = range(slot * before, (slot + 1) * before)
                groups = tuple(group(part, index, number) for number in numbers)
                found.append(Inputs(groups, form.pairs(before) // slots(form)))
    return tuple(found)


def path(form: CellForm, architecture: Architecture) -> dict[str, int]:
    """The option of every edge of the supernet."""
    numbers = {op: number for number, op in enumerate(options(form))}
    found: dict[str, int] = {}
    for part in form.parts:
        for index, node in enumerate(architecture[part]):
            before = form.inputs + index
            for number in range(before * slots(form)):
                found[group(part, index, number)] = numbers.get(NONE, 0)
            for place, (op, source) in enumerate(node):
                slot = place if slots(form) > 1 else 0
                found[group(part, index, slot * before + source)] = numbers[op]
    return found


def architecture(form: CellForm, chosen: Mapping[str, int]) -> Architecture:
    """The cells of a path.

    Raises:
        ArchitectureError: a node has another number of inputs than it must have.
    """
    ops = options(form)
    found: Architecture = {}
    for part in form.parts:
        found[part] = []
        for index in range(form.nodes):
            before = form.inputs + index
            pairs: list[tuple[str, int]] = []
            for number in range(before * slots(form)):
                op = ops[chosen[group(part, index, number)]]
                if op != NONE or form.dense:
                    pairs.append((op, number % before))
            pairs.sort(key=lambda pair: pair[1])
            found[part].append([list(pair) for pair in pairs])
    try:
        form.check(found)
    except ArchitectureError as error:
        raise ArchitectureError(f"the path is no architecture: {error}") from None
    return found
