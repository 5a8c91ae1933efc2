"""Add channels: Net2Wider (Chen et al. 2016, section 2.2), or with zero outgoing weights (Elsken et
al. 2017, section 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from kinase.morphism.base import Base, Change, Count, NodeName, Place
from kinase.morphism.carry import carry, strata
from kinase.morphism.channels import Channels, is_depthwise
from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.morphism.plan import Ints, Norms, Parent, Scale, Step, Take, seed_for
from kinase.morphism.plan import Noise as AddNoise
from kinase.space.graph import Graph
from kinase.space.nodes import Node

Growth = Literal["replicate", "zero"]


def check_source(draft: Draft, channels: Channels, name: str) -> int:
    """The width of a node. Raises MorphismError if it cannot change."""
    node = draft.node(name)
    if node.op not in ("conv", "linear") or is_depthwise(node):
        source = node
        while source.inputs and (source.op not in ("conv", "linear") or is_depthwise(source)):
            source = draft.nodes[source.inputs[0]]
        hint = f"; its width is that of {source.name}" if source.inputs else ""
        raise MorphismError(f"{name} is {node.op}, which has no separate width{hint}")
    if reason := channels.fixed(name):
        raise MorphismError(f"the width of {name} cannot change: {reason}")
    classes = channels.of(name).classes
    if len(np.unique(classes)) < len(classes):
        raise MorphismError(f"the width of {name} cannot change: some of its channels are tied")
    return len(classes)


def sources(graph: Graph) -> Iterator[Node]:
    """Nodes whose width can change."""
    channels = Channels(graph)
    for node in graph:
        if node.op in ("conv", "linear") and not is_depthwise(node):
            classes = channels.of(node.name).classes
            if channels.fixed(node.name) is None and len(np.unique(classes)) == len(classes):
                yield node


def check_step(name: str, width: int, to: int, parts: int) -> None:
    """Check that each part of the channels changes alike."""
    if width % parts or to % parts:
        raise MorphismError(
            f"{name} has {width} channels in {parts} groups; to is {to}, use a multiple of {parts}"
        )


class Widen(Base):
    """Add output channels to a convolution or linear layer, and to all nodes that share them."""

    op: Literal["widen"] = "widen"
    node: NodeName
    to: Count
    """New width."""
    rule: Growth = "replicate"
    """`replicate`: copies of random channels with divided outgoing weights. `zero`: random channels
    with outgoing weights of zero."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        channels = Channels(graph)
        width = check_source(draft, channels, self.node)
        if self.to <= width:
            raise MorphismError(f"{self.node} has {width} channels; to is {self.to}, use more")
        parts = strata(draft, channels, self.node)
        check_step(self.node, width, self.to, parts)
        counts = np.ones(channels.number, np.int64)
        classes = channels.of(self.node).classes.reshape(parts, -1)
        extra = (self.to - width) // parts
        for index, part in enumerate(classes):
            np.add.at(counts, part[self._chosen(len(part), extra, index)], 1)
        carry(draft, channels, counts, self.rule)
        return Change(draft.build(), draft.plan)

    def _chosen(self, width: int, extra: int, part: int) -> Ints:
        """The channels to copy; random ones are added at the end."""
        if self.rule == "zero":
            return np.full(extra, width - 1)
        random = np.random.RandomState(seed_for(self.seed, f"{self.node}/{part}"))
        return random.randint(0, width, extra).astype(np.int64)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        for node in sources(graph):
            yield {"node": node.name}


class Heads(Base):
    """Add heads to an attention: copies with divided output weights, or random ones with output
    weights of zero. Heads are independent, so nothing else changes."""

    op: Literal["heads"] = "heads"
    node: NodeName
    to: Count
    """New number of heads."""
    rule: Growth = "zero"

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node = draft.node(self.node)
        if node.op != "attention":
            raise MorphismError(f"{self.node} is {node.op}; use an attention")
        heads, size = int(node.attrs["heads"]), int(node.attrs["head_dim"])
        if self.to <= heads:
            raise MorphismError(f"{self.node} has {heads} heads; to is {self.to}, use more")
        draft.change(self.node, heads=self.to)
        random = np.random.RandomState(seed_for(self.seed, self.node))
        chosen = np.concatenate([np.arange(heads), random.randint(0, heads, self.to - heads)])
        counts = np.bincount(chosen, minlength=heads)[chosen]
        at = np.arange(heads * size, self.to * size)
        rows = (chosen[:, None] * size + np.arange(size)).ravel()
        share = np.repeat(1 / counts, size)
        ones = np.ones(len(rows))
        if self.rule == "zero":
            rows[at] = -1
        for part in ("query", "key", "value"):
            for tensor in (f"{self.node}.{part}.weight", f"{self.node}.{part}.bias"):
                steps: list[Step] = [Take(0, rows)]
                seed = seed_for(self.seed, tensor)
                if self.rule == "replicate":
                    steps.append(Scale(0, ones, share))
                if tensor.endswith("weight") and (self.rule == "zero" or self.noise):
                    zero = self.rule == "zero"
                    std = float(node.attrs["dim"]) ** -0.5 if zero else self.noise
                    steps.append(AddNoise(std, not zero, seed, 0, at))
                draft.tensor(tensor, Parent(tensor), *steps)
        output = f"{self.node}.output.weight"
        steps = [Take(1, rows)]
        if self.rule == "replicate":
            steps.append(Scale(1, share, ones))
        draft.tensor(output, Parent(output), *steps)
        return Change(draft.build(), draft.plan)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        for node in graph:
            if node.op == "attention":
                yield {"node": node.name}
