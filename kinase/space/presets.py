"""Named cell spaces of the literature."""

from __future__ import annotations

from dataclasses import dataclass

from kinase.api.space import CellScale


@dataclass(frozen=True, slots=True)
class Preset:
    """How cells of a family are wired and stacked."""

    nodes: int
    """Intermediate nodes of a cell."""
    ops: tuple[str, ...]
    """Operations of an edge."""
    inputs: int
    """Input nodes of a cell: 1 for the previous cell, 2 for the two previous ones."""
    dense: bool
    """Whether every earlier node is joined to a node by an edge; else two are chosen."""
    reduction: bool
    """Whether reduction cells are searched, too."""
    search: CellScale
    evaluation: CellScale


PRESETS = {
    # Liu, Simonyan & Yang 2019 (DARTS), sections 2 and 3: the operations of section 3.1.1; the
    # zero operation takes part in the relaxation only, so that no found cell holds it.
    "darts": Preset(
        nodes=4,
        ops=(
            "max_pool_3x3",
            "avg_pool_3x3",
            "skip_connect",
            "sep_conv_3x3",
            "sep_conv_5x5",
            "dil_conv_3x3",
            "dil_conv_5x5",
        ),
        inputs=2,
        dense=False,
        reduction=True,
        search=CellScale(cells=8, filters=16),
        evaluation=CellScale(cells=20, filters=36),
    ),
    # Dong & Yang 2020 (NAS-Bench-201), section 2: four nodes, the first of which is the input.
    "nasbench201": Preset(
        nodes=3,
        ops=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
        inputs=1,
        dense=True,
        reduction=False,
        search=CellScale(cells=15, filters=16),
        evaluation=CellScale(cells=15, filters=16),
    ),
}
