"""Search spaces: which architectures can be found."""

from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space, derive_rng
from kinase.space.builder import GraphBuilder
from kinase.space.errors import ArchitectureError, GraphError, InfeasibleError
from kinase.space.graph import Graph
from kinase.space.graph_json import dump_graph, load_graph
from kinase.space.make import make_space
from kinase.space.nodes import Node

__all__ = [
    "ArchitectureError",
    "Frame",
    "Graph",
    "GraphBuilder",
    "GraphError",
    "InfeasibleError",
    "Node",
    "Part",
    "Rng",
    "Size",
    "Sketch",
    "Space",
    "derive_rng",
    "dump_graph",
    "load_graph",
    "make_space",
]
