"""Convolutional neural fabrics: parts of a trellis of layers and scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.fidelity import Scale
from kinase.api.space import FabricSpace
from kinase.api.trial import Architecture
from kinase.space import fabric_network
from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space
from kinase.space.errors import ArchitectureError
from kinase.space.fabric_network import group
from kinase.space.graph import Graph
from kinase.space.path_encoding import shortest
from kinase.space.supernet import NO_PARTS, Inputs, Supernet
from kinase.space.trellis import Place, Trellis, Wires
from kinase.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENUMERABLE = 100_000
"""Maximum size of a space that is enumerated."""
CHAIN = ("same",)
"""The inputs of a node that nothing is known of."""


class Fabric(Space):
    """Parts of a convolutional neural fabric (Saxena & Verbeek 2016, section 3.1).

    An architecture is ``{"layers": [[["same"], [], ["finer", "coarser"]], ...]}``: for every layer
    but the first, and every scale from the finest on, the inputs of the node, see `trellis.STEPS`.
    A node that leads nowhere has none. Every node of the first layer can be read.
    """

    crosses = True

    def __init__(self, options: FabricSpace) -> None:
        """The space described by `space.fabric`."""
        self.options = options
        self.trellis = Trellis(options.layers, options.scales)

    @property
    def named(self) -> Mapping[str, Architecture]:
        """The whole fabric."""
        return {"whole": self._written(self.trellis.needed(lambda p: self.trellis.inputs[p]))}

    def scale(self, final: bool) -> Scale:
        """Channels of the networks of the search or of the finalists."""
        o = self.options
        return Scale(filters=o.evaluation_channels or o.channels if final else o.channels)

    def _written(self, wires: Wires) -> Architecture:
        layers, scales = range(1, self.trellis.layers), range(self.trellis.scales)
        return {"layers": [[[*wires.get((n, scale), ())] for scale in scales] for n in layers]}

    def _wires(self, architecture: Architecture) -> dict[Place, tuple[str, ...]]:
        """The nodes that are kept, readers first."""
        layers = architecture["layers"]
        return self.trellis.needed(lambda place: tuple(layers[place[0] - 1][place[1]]))

    # -- sampling and validation -------------------------------------------------------

    def sample(self, rng: Rng) -> Architecture:
        """From the output on, draw any inputs of each node that is read, uniformly, but at least
        one."""

        def draw(place: Place) -> tuple[str, ...]:
            names = self.trellis.inputs[place]
            bits = int(rng.integers(1, 2 ** len(names)))
            return tuple(name for number, name in enumerate(names) if bits >> number & 1)

        return self._written(self.trellis.needed(draw))

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        if not isinstance(architecture, dict) or set(architecture) != {"layers"}:
            raise ArchitectureError(
                f"architecture is {architecture!r:.80}; it is an object with the field layers"
            )
        layers, count = architecture["layers"], self.trellis.layers - 1
        if not isinstance(layers, list) or len(layers) != count:
            found = len(layers) if isinstance(layers, list) else f"{layers!r:.80}"
            raise ArchitectureError(
                f"layers is {found}; use a list of {counted(count, 'layer')}, all but the first"
            )
        for index, layer in enumerate(layers):
            if not isinstance(layer, list) or len(layer) != self.trellis.scales:
                raise ArchitectureError(
                    f"layers[{index}] is {layer!r:.80}; use a list of "
                    f"{counted(self.trellis.scales, 'node')}"
                )
            for scale, names in enumerate(layer):
                self._check(names, (index + 1, scale))
        kept = self._wires(architecture)
        for (layer, scale), names in kept.items():
            if not names:
                raise ArchitectureError(
                    f"layers[{layer - 1}][{scale}] has no inputs, but it is read; name one or more"
                )
        for index, layer in enumerate(layers):
            for scale, names in enumerate(layer):
                if names and (index + 1, scale) not in kept:
                    raise ArchitectureError(
                        f"layers[{index}][{scale}] has inputs, but it leads nowhere; use []"
                    )

    def _check(self, names: Any, place: Place) -> None:
        known = self.trellis.inputs[place]
        if not isinstance(names, list) or [n for n in known if n in names] != names:
            raise ArchitectureError(
                f"layers[{place[0] - 1}][{place[1]}] is {names!r:.80}; use some of "
                f"{', '.join(known)}, in this order"
            )

    # -- neighbours and mutation -------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Add, remove or exchange an input of a node. A node that is read from now on reads the
        same scale of the layer before, and so on; one that is no longer read is left out."""
        for place in self._wires(architecture):
            yield from self._rewired(architecture, place)

    def _rewired(self, architecture: Architecture, place: Place) -> list[Architecture]:
        old = self._wires(architecture)
        given, known = old[place], self.trellis.inputs[place]
        sets = [{*given, new} for new in known if new not in given]
        for gone in given:
            rest = {*given} - {gone}
            sets += [rest] if rest else []
            sets += [{*rest, new} for new in known if new not in given]
        found = []
        for names in sets:
            wires = {**old, place: tuple(name for name in known if name in names)}
            kept = self.trellis.needed(lambda each, wires=wires: wires.get(each, CHAIN))  # type: ignore[misc]
            found.append(self._written(kept))
        return found

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """Add, remove or exchange an input of a random node."""
        places = [p for p in self._wires(architecture) if len(self.trellis.inputs[p]) > 1]
        if not places:
            return architecture
        edits = self._rewired(architecture, places[int(rng.integers(len(places)))])
        edit: Architecture = edits[int(rng.integers(len(edits)))]
        return edit

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """Uniform crossover: every node has the inputs of one of the parents that read it."""
        parents = [self._wires(each) for each in (one, other)]

        def draw(place: Place) -> tuple[str, ...]:
            there = [wires[place] for wires in parents if place in wires]
            return there[int(rng.integers(len(there)))]

        return self._written(self.trellis.needed(draw))

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """The inputs of every node: a node is known by its layer and scale."""
        return architecture["layers"]

    @cached_property
    def _size(self) -> Size:
        return Size(self.trellis.parts(), exact=True)

    def size(self) -> Size:
        """Number of parts whose edges are all on a path from the image to the output."""
        return self._size

    def enumerate(self) -> Iterator[Architecture]:
        """Every part of a small fabric."""
        if self.size().count > ENUMERABLE:
            raise NotImplementedError(f"{self.size()} architectures are too many to enumerate")
        yield from map(self._written, self.trellis.enumerate())

    # -- encodings ---------------------------------------------------------------------

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """Which edges there are."""
        layers = architecture["layers"]
        return np.array(
            [
                float(name in layers[layer - 1][scale])
                for (layer, scale), names in self.trellis.inputs.items()
                for name in names
            ]
        )

    @property
    def encoding(self) -> tuple[Part, ...]:
        """Whether each edge is there."""
        return (Part(1, choice=True),) * sum(len(n) for n in self.trellis.inputs.values())

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Sequences of steps between scales, from the image to the output, the shortest ones."""
        at: dict[Place, list[str]] = {}
        for scale in range(self.trellis.scales):
            at[0, scale] = ["in" + ">finer" * scale]
        wires = self._wires(architecture)
        for place in self.trellis.inputs:
            at[place] = shortest(
                f"{path}>{name}"
                for name in wires.get(place, ())
                for path in at[self.trellis.source(place, name)]
            )
        return frozenset(at[self.trellis.output])

    # -- networks ----------------------------------------------------------------------

    def _network(self, wires: Wires, frame: Frame, *, every: bool) -> Supernet:
        o, scale = self.options, frame.scale
        channels = (scale.filters or o.evaluation_channels or o.channels) * scale.filter_fraction
        channels = max(1, round(channels))
        return fabric_network.network(self.trellis, wires, frame, channels, every=every)

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """The nodes that lead to the output, global average pooling and a linear layer."""
        return self._network(self._wires(architecture), frame, every=False).graph

    def supernet(self, frame: Frame) -> Supernet | None:
        """The whole fabric, each edge of which can be left out. None with partial channels, which
        only cells have."""
        if frame.partial is not None:
            return None
        whole = self._network(self.trellis.inputs, frame, every=True)
        limits = [
            Inputs(tuple(group(place, name) for name in names), len(names), least=1)
            for place, names in self.trellis.inputs.items()
        ]
        return Supernet(whole.graph, whole.choices, tuple(limits))

    @property
    def unshared(self) -> str:
        """See `Space`."""
        return NO_PARTS

    def path(self, architecture: Architecture) -> dict[str, int]:
        """Whether each edge is there."""
        layers = architecture["layers"]
        return {
            group(place, name): int(name in layers[place[0] - 1][place[1]])
            for place, names in self.trellis.inputs.items()
            for name in names
        }

    def architecture(self, path: Mapping[str, int]) -> Architecture:
        """The edges of a path that lead to the output."""
        found = self._written(
            self.trellis.needed(
                lambda place: tuple(n for n in self.trellis.inputs[place] if path[group(place, n)])
            )
        )
        try:
            self.validate(found)
        except ArchitectureError as error:
            raise ArchitectureError(f"the path is no architecture: {error}") from None
        return found

    def sketch(self, architecture: Architecture) -> Sketch:
        """One node per layer and scale."""
        wires = self._wires(architecture)
        read = {self.trellis.source(p, name) for p, names in wires.items() for name in names}
        first = max(scale for layer, scale in read if layer == 0)
        boxes, edges = [("in", "image")], [("in", "0_0", "")]
        for place in [*((0, s) for s in range(first + 1)), *sorted(wires)]:
            layer, scale = place
            boxes.append((f"{layer}_{scale}", f"1/{2**scale}" if scale else "1"))
            if not layer and scale:
                edges.append((f"0_{scale - 1}", f"0_{scale}", "finer"))
            for name in wires.get(place, ()):
                a, b = self.trellis.source(place, name)
                edges.append((f"{a}_{b}", f"{layer}_{scale}", name))
        layer, scale = self.trellis.output
        edges.append((f"{layer}_{scale}", "out", ""))
        return Sketch((*boxes, ("out", "pool, linear")), tuple(edges))
