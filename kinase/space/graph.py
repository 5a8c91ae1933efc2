"""The network of an architecture as a graph of primitive operations.

Every search space converts an architecture to such a graph. The graph is all that is needed to
count parameters and multiply-adds, to draw the network, or to build it in torch
(`kinase_trainer.network`). So the counts are those of the trained network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kinase.space.nodes import Node, Shape
from kinase.space.rules import macs_of, params_of, shape_of


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in topological order; the first is the input."""

    nodes: tuple[Node, ...]
    output: str
    """Name of the node that computes the logits."""
    auxiliary: str | None = None
    """Name of the node that computes the auxiliary head's logits (training only)."""

    def shapes(self) -> dict[str, Shape]:
        """Shape of every node's output.

        Raises:
            InfeasibleError: a feature map shrinks to nothing.
        """
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            shapes[node.name] = shape_of(node, [shapes[i] for i in node.inputs])
        return shapes

    def params(self) -> int:
        """Number of trainable parameters, without the auxiliary head."""
        return sum(params_of(node) for node in self.without_auxiliary().nodes)

    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers and attention for one sample, without the
        auxiliary head."""
        shapes = self.shapes()
        return sum(macs_of(node, shapes[node.name]) for node in self.without_auxiliary().nodes)

    def needed(self) -> Graph:
        """The graph without unused nodes, which would be computed but never trained."""
        if self.auxiliary is None:
            return self.without_auxiliary()
        kept = {node.name for node in self.without_auxiliary()}
        kept |= {node.name for node in Graph(self.nodes, self.auxiliary).without_auxiliary()}
        return Graph(
            tuple(node for node in self.nodes if node.name in kept), self.output, self.auxiliary
        )

    def without_auxiliary(self) -> Graph:
        """The graph for inference: only nodes that lead to the output."""
        by_name = {node.name: node for node in self.nodes}
        needed: set[str] = set()
        stack = [self.output]
        while stack:
            name = stack.pop()
            if name not in needed:
                needed.add(name)
                stack.extend(by_name[name].inputs)
        kept = tuple(n for n in self.nodes if n.name in needed or n.op == "input")
        return Graph(kept, self.output)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)
