"""A network that holds the networks of all architectures of a space, and its slices.

A slice is proposed by names and verified by structure: `Supernet.slice` gives the network of one
path, and `match` finds for every node of the network that the space builds its counterpart there,
or says where the two differ. So what is scored with shared weights is what is counted and trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from kinase.space.graph import Graph
from kinase.space.nodes import Node

NONE = "none"
"""The option that leaves an edge out."""
SKIP = "skip"
"""The option of a map that joins the result of an operation."""
NO_PARTS = "only cells have operations that see a part of the channels"
"""Why the networks of a space share no weights if `Frame.partial` is set."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A place in a supernet where one of several options is chosen."""

    node: str
    """The graph's `choice` node; its inputs are the options, in their order."""
    options: tuple[str, ...]
    group: str
    """Choices of one group are made alike, as those of all copies of a cell."""


@dataclass(frozen=True, slots=True)
class Edges:
    """A node that is a weighted sum of its edges."""

    node: str
    """The graph's `choice` node; its inputs are the edges, in their order."""
    groups: tuple[str, ...]
    """The group of choices of each edge."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """A node that takes some of its edges: so many of these groups are not none."""

    groups: tuple[str, ...]
    count: int
    """How many, or how many at most."""
    least: int | None = None
    """How many at least. None: as many as `count`."""


@dataclass(frozen=True)
class Supernet:
    """A network with every option of every choice."""

    graph: Graph
    choices: tuple[Choice, ...]
    inputs: tuple[Inputs, ...] = ()
    """Where a path has a limited number of edges. A group is in one of them at most."""
    edges: tuple[Edges, ...] = ()
    """The nodes whose edges have weights: with partial channels."""

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The options of every group, in order."""
        found: dict[str, tuple[str, ...]] = {}
        for choice in self.choices:
            if found.setdefault(choice.group, choice.options) != choice.options:
                raise ValueError(f"choices of the group {choice.group} differ in their options")
        return found

    def check(self, path: Mapping[str, int]) -> None:
        """Check untrusted data.

        Raises:
            ValueError: it is not a path: a group is missing or unknown, or an option does not
                exist.
        """
        missing = sorted(set(self.groups) - set(path))
        unknown = sorted(set(path) - set(self.groups))
        for what, names in (("missing", missing), ("unknown", unknown)):
            if names:
                raise ValueError(f"path: choices that are {what}: {', '.join(names):.200}")
        for group, option in path.items():
            most = len(self.groups[group])
            if type(option) is not int or not 0 <= option < most:
                raise ValueError(f"path.{group} is {option!r:.40}; use 0 to {most - 1}")

    def best(self, scores: Mapping[str, Sequence[float]]) -> dict[str, int]:
        """The path of the best options (Liu et al. 2019, section 2.4).

        Where a node takes some of its edges, they are those whose best option, other than none, has
        the highest score; an edge that is taken has that option. If their number is free within
        limits, edges for which none scores best are left out. Elsewhere the best option is chosen,
        none included. Of equal scores the first counts.

        Args:
            scores: of each group, one for each option; a higher one is better.

        Raises:
            ValueError: a score is not a number, or a group lacks some.
        """
        path: dict[str, int] = {}
        for group, options in self.groups.items():
            given = scores.get(group, ())
            if len(given) != len(options) or any(math.isnan(score) for score in given):
                raise ValueError(f"scores of {group} are {list(given)!r:.80}; use one an option")
            path[group] = max(range(len(options)), key=lambda number: scores[group][number])
        for node in self.inputs:
            strongest: dict[str, int] = {}
            taken: set[str] = set()
            for group in node.groups:
                options = self.groups[group]
                real = [number for number, option in enumerate(options) if option != NONE]
                strongest[group] = max(real, key=lambda number: scores[group][number])
                if options[path[group]] != NONE:
                    taken.add(group)
                path[group] = options.index(NONE)
            strength = {group: scores[group][number] for group, number in strongest.items()}
            least = node.count if node.least is None else node.least
            order = sorted(node.groups, key=lambda g: -strength[g])
            wanted = [g for place, g in enumerate(order) if place < least or g in taken]
            for group in wanted[: node.count]:
                path[group] = strongest[group]
        return path

    def slice(self, path: Mapping[str, int], *, choices: bool = False) -> Graph:
        """The network of a path, under the supernet's names.

        A choice becomes its option. A sum loses the terms that are none; if all are, it keeps the
        first, which is zero.

        Args:
            path: the option of each group of choices.
            choices: whether the choices stay, each with its option as its only input, and the sums
                as they are.

        Raises:
            ValueError: it is not a path, or operations see a part of the channels.
        """
        self.check(path)
        if self.edges:
            raise ValueError(
                "a supernet with partial channels has no slices; its architectures are trained "
                "from scratch"
            )
        chosen = {c.node: path[c.group] for c in self.choices}
        none = {c.node for c in self.choices if c.options[path[c.group]] == NONE}
        stands_for: dict[str, str] = {}
        nodes: list[Node] = []
        for node in self.graph:
            inputs = node.inputs
            if node.op == "add" and not choices:
                inputs = tuple(x for x in inputs if x not in none) or inputs[:1]
            inputs = tuple(stands_for.get(x, x) for x in inputs)
            if node.op == "choice" and choices:
                nodes.append(replace(node, inputs=(inputs[chosen[node.name]],)))
            elif node.op == "choice":
                stands_for[node.name] = inputs[chosen[node.name]]
            else:
                nodes.append(replace(node, inputs=inputs))
        return Graph(tuple(nodes), stands_for.get(self.graph.output, self.graph.output)).needed()

    def narrowed(self, options: Mapping[str, Sequence[int]]) -> Graph:
        """The network with some of the options of each group. Choices stay, each with these as its
        inputs, in this order.

        Args:
            options: of each group, at least one.
        """
        kept = {c.node: options[c.group] for c in self.choices}
        nodes = [
            replace(node, inputs=tuple(node.inputs[number] for number in kept[node.name]))
            if node.name in kept
            else node
            for node in self.graph
        ]
        return Graph(tuple(nodes), self.graph.output).needed()


def match(graph: Graph, other: Graph) -> dict[str, str]:
    """For every node of a graph its counterpart in another of the same structure: same operation,
    same numbers, and inputs that match in order.

    Raises:
        ValueError: the graphs differ; the message says where.
    """
    ours, theirs = ({node.name: node for node in each} for each in (graph, other))
    found: dict[str, str] = {}
    stack = [(graph.output, other.output)]
    while stack:
        name, counterpart = stack.pop()
        if name in found:
            if found[name] != counterpart:
                raise ValueError(f"{name} is both {found[name]} and {counterpart}")
            continue
        a, b = ours[name], theirs[counterpart]
        if a.op != b.op or dict(a.attrs) != dict(b.attrs) or len(a.inputs) != len(b.inputs):
            raise ValueError(f"{name} ({a.op}) is not {counterpart} ({b.op})")
        found[name] = counterpart
        stack.extend(zip(a.inputs, b.inputs, strict=True))
    if len(set(found.values())) < len(found):
        raise ValueError("two nodes have the same counterpart")
    return found
