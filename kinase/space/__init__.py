"""Search spaces: what can be found."""

from kinase.space.base import (
    ArchitectureError,
    Frame,
    InfeasibleError,
    Rng,
    Size,
    Sketch,
    Space,
    make_space,
)
from kinase.space.graph import Graph, GraphBuilder, Node

__all__ = [
    "ArchitectureError",
    "Frame",
    "Graph",
    "GraphBuilder",
    "InfeasibleError",
    "Node",
    "Rng",
    "Size",
    "Sketch",
    "Space",
    "make_space",
]
