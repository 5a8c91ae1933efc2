"""The trellis of a fabric: which nodes a node can read, and what is left of a part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

Place = tuple[int, int]
"""(layer, scale) of a node; scale 0 is the finest."""
Wires = Mapping[Place, tuple[str, ...]]
"""For each node that is kept, beyond the first layer, the names of its inputs in order."""
States = dict[tuple[int, int], int]
"""Bits of the nodes that are read in a layer, and in the one before it: how many ways there are."""

STEPS = {"finer": (-1, -1), "same": (-1, 0), "coarser": (-1, 1), "above": (0, -1)}
"""What an input of a node is, with the difference of its layer and scale: the node of the finer
scale, the same one, the coarser one in the layer before; in the last layer also the finer one of
that layer."""


@dataclass(frozen=True)
class Trellis:
    """Layers times scales (Saxena & Verbeek 2016, section 3.1). In the first layer each node reads
    the finer one, the finest reads the image; in the last one it can do so as well, and the
    coarsest node of it is the output."""

    layers: int
    scales: int

    @property
    def output(self) -> Place:
        """The node whose map is classified."""
        return self.layers - 1, self.scales - 1

    @cached_property
    def inputs(self) -> dict[Place, tuple[str, ...]]:
        """The possible inputs of every node beyond the first layer, no node before its inputs."""
        found = {}
        for layer in range(1, self.layers):
            for scale in range(self.scales):
                names = [
                    name
                    for name, (_, step) in STEPS.items()
                    if 0 <= scale + step < self.scales
                    and (name != "above" or layer == self.layers - 1)
                ]
                found[layer, scale] = tuple(names)
        return found

    @staticmethod
    def source(place: Place, name: str) -> Place:
        """The node that an input names."""
        back, step = STEPS[name]
        return place[0] + back, place[1] + step

    def needed(self, inputs_of: Callable[[Place], tuple[str, ...]]) -> dict[Place, tuple[str, ...]]:
        """The nodes from which the output can be reached.

        Args:
            inputs_of: asked for each of them beyond the first layer, readers first.

        Returns:
            Their inputs.
        """
        wanted, found = {self.output}, dict[Place, tuple[str, ...]]()
        for place in reversed(self.inputs):
            if place in wanted:
                found[place] = inputs_of(place)
                wanted |= {self.source(place, name) for name in found[place]}
        return found

    def enumerate(self) -> Iterator[dict[Place, tuple[str, ...]]]:
        """Every part of a small trellis: the inputs of the nodes that lead to the output."""
        places = [*reversed(self.inputs)]

        def extended(number: int, wanted: set[Place], found: Wires) -> Iterator[Wires]:
            if number == len(places):
                yield found
            elif (place := places[number]) not in wanted:
                yield from extended(number + 1, wanted, found)
            else:
                names = self.inputs[place]
                for size in range(1, len(names) + 1):
                    for taken in combinations(names, size):
                        read = wanted | {self.source(place, name) for name in taken}
                        yield from extended(number + 1, read, {**found, place: taken})

        yield from map(dict, extended(0, {self.output}, {}))

    def paths(self) -> int:
        """How many chains of nodes lead from the image to the output."""
        ways = {(0, scale): 1 for scale in range(self.scales)}
        for place, names in self.inputs.items():
            ways[place] = sum(ways[self.source(place, name)] for name in names)
        return ways[self.output]

    def parts(self) -> int:
        """How many parts there are: sets of edges, each on a chain from the image to the output.

        Nodes are decided from the output on. A state says which nodes of this layer and of the one
        before it are read by those that are decided; nodes that no one reads have no inputs.
        """
        states = {(1 << (self.scales - 1), 0): 1}
        for place in reversed(self.inputs):
            states = self._decided(states, place)
            if place[1] == 0:
                states = _moved(states)
        return sum(states.values())

    def _decided(self, states: States, place: Place) -> States:
        found: States = {}
        names = self.inputs[place]
        for (here, before), ways in states.items():
            if not here >> place[1] & 1:
                found[here, before] = found.get((here, before), 0) + ways
                continue
            for bits in range(1, 2 ** len(names)):
                state = here & ~(1 << place[1]), before
                for number, name in enumerate(names):
                    if bits >> number & 1:
                        back, step = STEPS[name]
                        mark = 1 << (place[1] + step)
                        state = (state[0], state[1] | mark) if back else (state[0] | mark, state[1])
                found[state] = found.get(state, 0) + ways
        return found


def _moved(states: States) -> States:
    """The states seen from the layer before."""
    found: States = {}
    for (_, before), ways in states.items():
        found[before, 0] = found.get((before, 0), 0) + ways
    return found
