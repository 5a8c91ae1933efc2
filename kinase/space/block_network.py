"""The network of cells of choice blocks, and its supernet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kinase.space import cell_ops
from kinase.space.base import Frame
from kinase.space.builder import GraphBuilder
from kinase.space.supernet import NONE, Choice, Supernet

INPUTS = 2
"""Outputs of earlier cells that a cell reads."""
Blocks = Sequence[tuple[Sequence[int], Sequence[str]]]
"""For each block its inputs and its operations, in their order."""
PROJECTION = "conv_1x1"
"""The option of an input that is there."""


def group_of_input(index: int, source: int) -> str:
    """The group of choices of a block's input."""
    return f"input_{index}_{source}"


def group_of_op(index: int, op: str) -> str:
    """The group of choices of a block's operation."""
    return f"op_{index}_{op}"


def network(blocks: Blocks, frame: Frame, cells: int, filters: int, *, every: bool) -> Supernet:
    """A 3x3 stem, three stages of equal cells, global average pooling and a linear layer. Between
    stages, average pooling halves the maps, and the filters double.

    Args:
        blocks: of the cell.
        frame: what surrounds them.
        cells: in all stages; if it is not divisible by three, the earlier stages get one more.
        filters: of the first stage.
        every: whether each input and each operation is a choice, to be there or not.
    """
    writer = _Writer(GraphBuilder(frame.input), every)
    g = writer.g
    x = g.batch_norm("stem_bn", g.conv("stem_conv", g.input, filters, 3))
    maps, index = [x, x], 0
    for stage in range(3):
        count = (cells + 2 - stage) // 3
        if stage and count:
            filters *= 2
            halved = {
                each: cell_ops.halve(g, f"reduce{stage}_{number}", each)
                for number, each in enumerate(dict.fromkeys(maps))
            }
            maps = [halved[each] for each in maps]
        for _ in range(count):
            maps = [maps[1], writer.cell(f"cell{index}", blocks, maps, filters)]
            index += 1
    x = g.global_avg_pool("pool", g.relu("last_relu", maps[1]))
    return Supernet(g.build(g.linear("classifier", x, frame.outputs)), tuple(writer.choices))


@dataclass
class _Writer:
    g: GraphBuilder
    every: bool
    choices: list[Choice] = field(default_factory=list)

    def cell(self, name: str, blocks: Blocks, maps: Sequence[str], filters: int) -> str:
        """One cell on two maps."""
        g, states = self.g, list(maps)
        for index, (sources, ops) in enumerate(blocks):
            block = f"{name}_block{index}"
            terms = []
            for source in sources:
                edge = f"{block}_input{source}"
                y = cell_ops.relu_conv_bn(g, edge, states[source], filters, 1, 1)
                terms.append(self._chosen(edge, y, PROJECTION, group_of_input(index, source)))
            x = g.add(f"{block}_inputs", terms)
            terms = []
            for op in ops:
                y = cell_ops.apply(g, f"{block}_{op}", op, x, filters, 1)
                terms.append(self._chosen(f"{block}_{op}", y, op, group_of_op(index, op)))
            states.append(g.add(block, terms))
        return g.concat(f"{name}_out", states[INPUTS:])

    def _chosen(self, name: str, x: str, option: str, group: str) -> str:
        """A map, or in a supernet a choice between it and none."""
        if not self.every:
            return x
        zero = self.g.unary(f"{name}_none", "zero", x, stride=1)
        self.choices.append(Choice(f"{name}_choice", (NONE, option), group))
        return self.g.choice(f"{name}_choice", [zero, x])
