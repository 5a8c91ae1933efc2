"""What each option of a supernet costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from kinase.space.rules import macs_of, params_of
from kinase.space.supernet import Supernet

Measure = Literal["macs", "params"]


@dataclass(frozen=True)
class Costs:
    """The cost of a path is the sum of the options', where all that an option reads is used."""

    fixed: float
    """Of what every path has."""
    options: dict[str, tuple[float, ...]]
    """Of each option of each group."""

    def of(self, path: dict[str, int]) -> float:
        """The cost of a path."""
        return self.fixed + sum(self.options[group][option] for group, option in path.items())


def option_nodes(supernet: Supernet) -> dict[tuple[str, int], list[str]]:
    """The nodes that only one option has: from which only its map is computed.

    Returns:
        Of each choice's node and the number of an option, the names, the option's map first.
    """
    graph = supernet.graph.without_auxiliary()
    nodes = {node.name: node for node in graph}
    # zeros have the shape of another option's map, and need nothing of it
    readers = Counter(name for node in graph if node.op != "zero" for name in node.inputs)
    found: dict[tuple[str, int], list[str]] = {}
    for choice in supernet.choices:
        if choice.node not in nodes:
            continue
        for number, start in enumerate(nodes[choice.node].inputs):
            own = found[choice.node, number] = []
            if nodes[start].op == "zero":
                own.append(start)
                continue
            left = {start: readers[start] - 1}
            stack = [start] if not left[start] else []
            while stack:
                name = stack.pop()
                own.append(name)
                for each in nodes[name].inputs:
                    left[each] = left.get(each, readers[each]) - 1
                    if not left[each]:
                        stack.append(each)
    return found


def option_costs(supernet: Supernet, measure: Measure = "macs") -> Costs:
    """Multiply-adds for one sample, or parameters, of the nodes that only one option has. Those of
    all choices of a group are summed."""
    graph = supernet.graph.without_auxiliary()
    shapes, nodes = graph.shapes(), {node.name: node for node in graph}
    cost = {
        name: macs_of(node, shapes[name]) if measure == "macs" else params_of(node)
        for name, node in nodes.items()
    }
    groups = {choice.node: choice.group for choice in supernet.choices}
    found = {group: [0] * len(options) for group, options in supernet.groups.items()}
    for (choice, number), names in option_nodes(supernet).items():
        found[groups[choice]][number] += sum(cost[name] for name in names)
    total = sum(cost.values()) - sum(map(sum, found.values()))
    return Costs(float(total), {g: tuple(map(float, row)) for g, row in found.items()})
