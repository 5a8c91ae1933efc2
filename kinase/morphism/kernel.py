"""Enlarge a window, with new weights of zero (Wei et al. 2016, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from kinase.morphism.base import Base, Change, NodeName, Place
from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.morphism.plan import Ints, Norms, Parent, Step, Take
from kinase.space.graph import Graph
from kinase.space.tensors import kernel, padding


class Kernel(Base):
    """Grow the window of a convolution, and its padding with it."""

    op: Literal["kernel"] = "kernel"
    node: NodeName
    to: Annotated[int, Field(ge=1, le=63)]
    """New height and width, at least the old ones, with the same parity."""
    dense: bool = False
    """First convert a dilated window to a dense one."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node = draft.node(self.node)
        if node.op != "conv":
            raise MorphismError(f"{self.node} is {node.op}; only a convolution's window grows")
        dilation = int(node.attrs["dilation"])
        gap = dilation if self.dense else 1
        old, pads = kernel(node), padding(node)
        sizes, padded, steps = [], [], list[Step]()
        for axis, (size, pad) in enumerate(zip(old, pads, strict=True), start=2):
            spread = gap * (size - 1) + 1
            new = max(spread, self.to)
            if (new - spread) % 2:
                raise MorphismError(
                    f"{self.node} has a window of {spread}; to is {self.to}, which must differ "
                    "by an even number so that the middle stays"
                )
            grown = (new - spread) // 2
            sizes.append(new)
            padded.append(pad + grown * (dilation // gap))
            steps.append(Take(axis, _indices(size, gap, grown)))
        if sizes == list(old):
            raise MorphismError(
                f"{self.node} has a window of {old[0]}x{old[1]}; to is {self.to}, use more"
            )
        draft.window(self.node, sizes, padded)
        draft.change(self.node, dilation=dilation // gap)
        draft.tensor(f"{self.node}.weight", Parent(f"{self.node}.weight"), *steps)
        return Change(draft.build(), draft.plan)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        for node in graph:
            if node.op == "conv":
                yield {"node": node.name}


def _indices(size: int, gap: int, grown: int) -> Ints:
    """Source of each tap: `gap` apart, with `grown` zeros on each side."""
    inner = np.full(gap * (size - 1) + 1, -1)
    inner[::gap] = np.arange(size)
    return np.pad(inner, grown, constant_values=-1)
