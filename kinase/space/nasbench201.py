"""Cells as the strings of NAS-Bench-201 (Dong and Yang 2020)."""

from __future__ import annotations

from kinase.api.trial import Architecture
from kinase.space.errors import ArchitectureError
from kinase.space.genes import CellGenes, Pair


def to_nasbench201(architecture: Architecture) -> str:
    """The benchmark's string of a cell: ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+...``."""
    return "+".join(
        "|" + "|".join(f"{op}~{source}" for op, source in node) + "|"
        for node in architecture["normal"]
    )


def from_nasbench201(text: str) -> Architecture:
    """The architecture of one of the benchmark's strings.

    Raises:
        ArchitectureError: the string is invalid.
    """
    nodes: CellGenes = []
    for part in text.split("+"):
        pairs: list[Pair] = []
        for item in part.strip("|").split("|"):
            op, separator, source = item.partition("~")
            if not separator or not source.isdigit():
                raise ArchitectureError(f"{text!r:.120} is not a cell string of NAS-Bench-201")
            pairs.append([op, int(source)])
        nodes.append(pairs)
    return {"normal": nodes}
