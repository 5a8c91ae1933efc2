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


def option_costs(supernet: Supernet, measure: Measure = "macs") -> Costs:
    """Multiply-adds for one sample, or parameters, of the nodes that only this option has: from
    which only its map is computed. Those of all choices of a group are summed."""
    graph = supernet.graph.without_auxiliary()
    shapes, nodes = graph.shapes(), {node.name: node for node in graph}
    cost = {
        name: macs_of(node, shapes[name]) if measure == "macs" else params_of(node)
        for name, node in nodes.items()
    }
    readers = Counter(name for node in graph for name in node.inputs)
    found = {group: [0] * len(options) for group, options in supernet.groups.items()}
    for choice in supernet.choices:
        if choice.node not in nodes:
            continue
        for number, start in enumerate(nodes[choice.node].inputs):
            left = Counter({start: readers[start]})
            stack = [start]
            left[start] -= 1
            while stack:
                name = stack.pop()
                if left[name] or name == graph.output:
                    continue  # something else reads it
                found[choice.group][number] += cost[name]
                for each in nodes[name].inputs:
                    left[each] = left.get(each, readers[each]) - 1
                    if not left[each]:
                        stack.append(each)
    total = sum(cost.values()) - sum(map(sum, found.values()))
    return Costs(float(total), {g: tuple(map(float, row)) for g, row in found.items()})
