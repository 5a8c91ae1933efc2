"""Cell spaces from the literature, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kinase.api.space import CellScale
from kinase.api.trial import Architecture


@dataclass(frozen=True, slots=True)
class Preset:
    """Wiring and stacking of the cells of a family."""

    nodes: int
    """Intermediate nodes of a cell."""
    ops: tuple[str, ...]
    """Operations that an edge can have."""
    inputs: int
    """Input nodes of a cell: 1 for the previous cell, 2 for the two previous ones."""
    dense: bool
    """Whether a node has an edge from every earlier node; otherwise it has two chosen inputs."""
    reduction: bool
    """Whether reduction cells are also searched."""
    search: CellScale
    evaluation: CellScale
    same_source: bool = False
    """Whether both inputs of a node can come from the same source."""
    concat: Literal["all", "unused", "chosen"] = "all"
    """Which intermediate nodes are concatenated, if nodes choose their inputs."""
    named: Mapping[str, Architecture] = field(default_factory=dict)
    """Published cells by name."""


# As the authors of DARTS define all four (cnn/genotypes.py of their code).
_DARTS: dict[str, Architecture] = {
    # of the first version of their paper
    "DARTS_V1": {
        "normal": [
            [["sep_conv_3x3", 1], ["sep_conv_3x3", 0]],
            [["skip_connect", 0], ["sep_conv_3x3", 1]],
            [["skip_connect", 0], ["sep_conv_3x3", 1]],
            [["sep_conv_3x3", 0], ["skip_connect", 2]],
        ],
        "reduction": [
            [["max_pool_3x3", 0], ["max_pool_3x3", 1]],
            [["skip_connect", 2], ["max_pool_3x3", 0]],
            [["max_pool_3x3", 0], ["skip_connect", 2]],
            [["skip_connect", 2], ["avg_pool_3x3", 0]],
        ],
    },
    # of the second: the search of the second order
    "DARTS_V2": {
        "normal": [
            [["sep_conv_3x3", 0], ["sep_conv_3x3", 1]],
            [["sep_conv_3x3", 0], ["sep_conv_3x3", 1]],
            [["sep_conv_3x3", 1], ["skip_connect", 0]],
            [["skip_connect", 0], ["dil_conv_3x3", 2]],
        ],
        "reduction": [
            [["max_pool_3x3", 0], ["max_pool_3x3", 1]],
            [["skip_connect", 2], ["max_pool_3x3", 1]],
            [["max_pool_3x3", 0], ["skip_connect", 2]],
            [["skip_connect", 2], ["max_pool_3x3", 1]],
        ],
    },
}
_NASNET: dict[str, Architecture] = {
    # Zoph, Vasudevan, Shlens & Le 2018, figure 4
    "NASNet-A": {
        "normal": [
            [["sep_conv_5x5", 1], ["sep_conv_3x3", 0]],
            [["sep_conv_5x5", 0], ["sep_conv_3x3", 0]],
            [["avg_pool_3x3", 1], ["skip_connect", 0]],
            [["avg_pool_3x3", 0], ["avg_pool_3x3", 0]],
            [["sep_conv_3x3", 1], ["skip_connect", 1]],
        ],
        "reduction": [
            [["sep_conv_5x5", 1], ["sep_conv_7x7", 0]],
            [["max_pool_3x3", 1], ["sep_conv_7x7", 0]],
            [["avg_pool_3x3", 1], ["sep_conv_5x5", 0]],
            [["skip_connect", 3], ["avg_pool_3x3", 2]],
            [["sep_conv_3x3", 2], ["max_pool_3x3", 1]],
        ],
    },
    # Real, Aggarwal, Huang & Le 2019, figure 5
    "AmoebaNet-A": {
        "normal": [
            [["avg_pool_3x3", 0], ["max_pool_3x3", 1]],
            [["sep_conv_3x3", 0], ["sep_conv_5x5", 2]],
            [["sep_conv_3x3", 0], ["avg_pool_3x3", 3]],
            [["sep_conv_3x3", 1], ["skip_connect", 1]],
            [["skip_connect", 0], ["avg_pool_3x3", 1]],
        ],
        "reduction": [
            [["avg_pool_3x3", 0], ["sep_conv_3x3", 1]],
            [["max_pool_3x3", 0], ["sep_conv_7x7", 2]],
            [["sep_conv_7x7", 0], ["avg_pool_3x3", 1]],
            [["max_pool_3x3", 0], ["max_pool_3x3", 1]],
            [["conv_7x1_1x7", 0], ["sep_conv_3x3", 5]],
        ],
    },
}

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
        named=_DARTS,
    ),
    # Zoph et al. 2018, section 3, with the eight operations of Real et al. 2019, section 3.1, which
    # are those of NASNet-A and AmoebaNet-A and one more. Children of the search have two normal
    # cells before, between and after the reductions, and 32 filters; finalists are as in DARTS.
    "nasnet": Preset(
        nodes=5,
        ops=(
            "skip_connect",
            "sep_conv_3x3",
            "sep_conv_5x5",
            "sep_conv_7x7",
            "avg_pool_3x3",
            "max_pool_3x3",
            "dil_conv_3x3",
            "conv_7x1_1x7",
        ),
        inputs=2,
        dense=False,
        reduction=True,
        search=CellScale(cells=8, filters=32),
        evaluation=CellScale(cells=20, filters=36),
        same_source=True,
        concat="unused",
        named=_NASNET,
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
