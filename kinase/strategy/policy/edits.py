"""The two edits of a chain in EAS: widen layers, insert a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kinase.space import layers
from kinase.space.chain import Chain
from kinase.space.layers import Layer

Layers = list[Layer]


@dataclass(frozen=True, slots=True)
class Edits:
    """The edits of one space of chains."""

    space: Chain

    @property
    def kernels(self) -> list[int]:
        """Windows of a new layer."""
        return sorted(set(self.space.options.kernels))

    # -- wider -------------------------------------------------------------------------

    def can_widen(self, chain: Layers) -> list[bool]:
        """For each layer, whether there is a larger width."""
        most = max(self.space.options.widths)
        return [layer["op"] in layers.WEIGHTED and layer["width"] < most for layer in chain]

    def widen(self, chain: Layers, chosen: Sequence[bool]) -> Layers:
        """Set the chosen layers to the next larger width."""
        widths = sorted(self.space.options.widths)
        return [
            {**layer, "width": next(w for w in widths if w > layer["width"])} if yes else layer
            for layer, yes in zip(chain, chosen, strict=True)
        ]

    # -- deeper ------------------------------------------------------------------------

    @property
    def can_deepen_at_all(self) -> bool:
        """Whether the space has a layer that can start as an identity."""
        o = self.space.options
        return 1 in o.strides and any(op in layers.WEIGHTED for op in o.ops)

    def blocks(self, chain: Layers) -> list[list[int]]:
        """Layers after which a new one can be inserted, by block; pools separate the blocks."""
        found: list[list[int]] = [[]]
        for index, layer in enumerate(chain):
            if layer["op"] in layers.WEIGHTED:
                found[-1].append(index)
            else:
                found.append([])
        full = len(chain) >= self.space.options.max_depth
        return [[] for _ in found] if full or not self.can_deepen_at_all else found

    def deepen(self, chain: Layers, after: int, kernel: int) -> Layers:
        """Insert a layer with the width of the previous one."""
        op = "conv" if "conv" in self.space.options.ops else "sepconv"
        new = {"op": op, "kernel": kernel, "stride": 1, "width": chain[after]["width"]}
        return self.space.inserted(chain, after + 1, new)
