"""Whole networks: an operation for each layer, and any skips between layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.fidelity import Scale
from kinase.api.space import MacroSpace
from kinase.api.trial import Architecture
from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space
from kinase.space.errors import ArchitectureError
from kinase.space.graph import Graph
from kinase.space.macro_network import group_of_op, group_of_skip, network
from kinase.space.path_encoding import shortest
from kinase.space.supernet import NO_PARTS, Supernet
from kinase.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENUMERABLE = 100_000
"""Maximum size of a space that is enumerated."""
Layer = dict[str, Any]
"""``{"op", "skips"}``."""


class Macro(Space):
    """Whole networks (Pham et al. 2018, section 2.3).

    An architecture is ``{"layers": [{"op": "conv_3x3", "skips": []}, {"op": "max_pool_3x3",
    "skips": [0]}, ...]}``. A layer applies its operation to the output of the layer before it.
    `skips` are the earlier maps that join the result: 0 is that of the stem, n that of the nth
    layer. The map that the layer reads is none of them.
    """

    crosses = True

    def __init__(self, options: MacroSpace) -> None:
        """The space described by `space.macro`."""
        self.options = options
        self.ops: tuple[str, ...] = tuple(dict.fromkeys(options.ops))

    def scale(self, final: bool) -> Scale:
        """Filters of the networks of the search or of the finalists."""
        o = self.options
        return Scale(filters=o.evaluation_filters or o.filters if final else o.filters)

    # -- sampling and validation -------------------------------------------------------

    def sample(self, rng: Rng) -> Architecture:
        """Draw each operation and each skip, uniformly."""
        return {
            "layers": [
                {
                    "op": self.ops[int(rng.integers(len(self.ops)))],
                    "skips": np.flatnonzero(rng.random(index) < 0.5).tolist(),
                }
                for index in range(self.options.layers)
            ]
        }

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        if not isinstance(architecture, dict) or set(architecture) != {"layers"}:
            raise ArchitectureError(
                f"architecture is {architecture!r:.80}; it is an object with the field layers"
            )
        layers, count = architecture["layers"], self.options.layers
        if not isinstance(layers, list) or len(layers) != count:
            found = len(layers) if isinstance(layers, list) else f"{layers!r:.80}"
            raise ArchitectureError(f"layers is {found}; use a list of {counted(count, 'layer')}")
        for index, layer in enumerate(layers):
            path = f"layers[{index}]"
            if not isinstance(layer, dict) or set(layer) != {"op", "skips"}:
                raise ArchitectureError(
                    f"{path} is {layer!r:.80}; a layer is an object with the fields op and skips"
                )
            if layer["op"] not in self.ops:
                raise ArchitectureError(
                    f"{path}.op is {layer['op']!r:.80}; use one of {', '.join(self.ops)}"
                )
            skips = layer["skips"]
            if (
                not isinstance(skips, list)
                or any(type(s) is not int or not 0 <= s < index for s in skips)
                or sorted(set(skips)) != skips
            ):
                allowed = f"increasing numbers from 0 to {index - 1}" if index else "an empty list"
                raise ArchitectureError(f"{path}.skips is {skips!r:.80}; use {allowed}")

    # -- neighbours and mutation -------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Change an operation, add or remove a skip."""
        for index, layer in enumerate(architecture["layers"]):
            for op in self.ops:
                if op != layer["op"]:
                    yield self._with(architecture, index, {**layer, "op": op})
            for skip in range(index):
                yield self._with(architecture, index, _toggled(layer, skip))

    @staticmethod
    def _with(architecture: Architecture, index: int, layer: Layer) -> Architecture:
        layers = architecture["layers"]
        return {"layers": [*layers[:index], layer, *layers[index + 1 :]]}

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """Change an operation, or add or remove a skip, with equal probability."""
        layers = architecture["layers"]
        skips = [(index, skip) for index in range(len(layers)) for skip in range(index)]
        if skips and (len(self.ops) == 1 or rng.random() < 0.5):
            index, skip = skips[int(rng.integers(len(skips)))]
            return self._with(architecture, index, _toggled(layers[index], skip))
        if len(self.ops) == 1:
            return architecture
        index = int(rng.integers(len(layers)))
        others = [op for op in self.ops if op != layers[index]["op"]]
        layer = {**layers[index], "op": others[int(rng.integers(len(others)))]}
        return self._with(architecture, index, layer)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The operation of a layer, and its skips."""
        skips = ("add-skip", "remove-skip") if self.options.layers > 1 else ()
        return (("operation",) if len(self.ops) > 1 else ()) + skips

    def kind(self, one: Architecture, other: Architecture) -> str:
        """The kind of an edit."""
        counts = [sum(len(layer["skips"]) for layer in each["layers"]) for each in (one, other)]
        if counts[0] == counts[1]:
            return "operation"
        return "add-skip" if counts[1] > counts[0] else "remove-skip"

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """Uniform crossover: every layer with its skips comes from one of the parents."""
        pairs = zip(one["layers"], other["layers"], strict=True)
        return {"layers": [pair[int(rng.integers(2))] for pair in pairs]}

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """The layers: each reads the one before it, so no two descriptions are isomorphic."""
        return [[layer["op"], layer["skips"]] for layer in architecture["layers"]]

    def size(self) -> Size:
        """An operation for each layer, and any set of skips: 6^12 2^66 with 12 layers."""
        layers = self.options.layers
        return Size(len(self.ops) ** layers * 2 ** (layers * (layers - 1) // 2), exact=True)

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture of a small space."""
        if self.size().count > ENUMERABLE:
            raise NotImplementedError(f"{self.size()} architectures are too many to enumerate")
        choices: list[list[Layer]] = [
            [
                {"op": op, "skips": [skip for skip in range(index) if bits >> skip & 1]}
                for op in self.ops
                for bits in range(2**index)
            ]
            for index in range(self.options.layers)
        ]
        for layers in product(*choices):
            yield {"layers": list(layers)}

    # -- encodings ---------------------------------------------------------------------

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """For each layer its one-hot operation, and for each possible skip whether it is left out
        and whether it is there."""
        found: list[float] = []
        for index, layer in enumerate(architecture["layers"]):
            found += [float(layer["op"] == op) for op in self.ops]
            for skip in range(index):
                found += [1.0, 0.0] if skip not in layer["skips"] else [0.0, 1.0]
        return np.array(found)

    @property
    def encoding(self) -> tuple[Part, ...]:
        """Of each layer the operation and each possible skip; every combination is allowed."""
        op, skip = Part(len(self.ops), choice=True, free=True), Part(2, choice=True, free=True)
        return tuple(part for index in range(self.options.layers) for part in (op, *[skip] * index))

    def near(
        self, architecture: Architecture, values: Mapping[int, float], rng: Rng
    ) -> Architecture:
        """The architecture with these choices."""
        places = [
            (index, skip) for index in range(self.options.layers) for skip in (None, *range(index))
        ]
        for place, value in values.items():
            index, skip = places[place]
            layer, option = architecture["layers"][index], int(value) - 1
            if skip is None:
                changed = {**layer, "op": self.ops[option]}
            else:
                changed = _toggled(layer, skip) if (skip in layer["skips"]) != option else layer
            architecture = self._with(architecture, index, changed)
        return architecture

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Operation sequences from the input to the output, the shortest ones."""
        at = [["in"]]
        for layer in architecture["layers"]:
            own = [f"{path}>{layer['op']}" for path in at[-1]]
            at.append(shortest([*own, *(path for skip in layer["skips"] for path in at[skip])]))
        return frozenset(at[-1])

    # -- networks ----------------------------------------------------------------------

    def _filters(self, frame: Frame) -> int:
        filters = frame.scale.filters or self.options.evaluation_filters or self.options.filters
        return max(1, round(filters * frame.scale.filter_fraction))

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """The layers in their skeleton, at the frame's scale."""
        layers = [(layer["op"], layer["skips"]) for layer in architecture["layers"]]
        return network(layers, frame, self._filters(frame)).graph

    def supernet(self, frame: Frame) -> Supernet | None:
        """Every operation of each layer, and every skip. None with partial channels, which
        only cells have."""
        if frame.partial is not None:
            return None
        layers = [(self.ops, range(index)) for index in range(self.options.layers)]
        return network(layers, frame, self._filters(frame))

    @property
    def unshared(self) -> str:
        """See `Space`."""
        return NO_PARTS

    def path(self, architecture: Architecture) -> dict[str, int]:
        """The operation of each layer, and whether each skip is there."""
        found: dict[str, int] = {}
        for index, layer in enumerate(architecture["layers"]):
            found[group_of_op(index)] = self.ops.index(layer["op"])
            for skip in range(index):
                found[group_of_skip(index, skip)] = int(skip in layer["skips"])
        return found

    def architecture(self, path: Mapping[str, int]) -> Architecture:
        """The layers that have these operations and skips."""
        return {
            "layers": [
                {
                    "op": self.ops[path[group_of_op(index)]],
                    "skips": [s for s in range(index) if path[group_of_skip(index, s)]],
                }
                for index in range(self.options.layers)
            ]
        }

    def sketch(self, architecture: Architecture) -> Sketch:
        """One node per layer."""
        layers = architecture["layers"]
        names = ["in", *(str(index) for index in range(len(layers)))]
        edges: list[tuple[str, str, str]] = []
        for index, layer in enumerate(layers):
            edges.append((names[index], names[index + 1], ""))
            edges += [(names[skip], names[index + 1], "skip") for skip in layer["skips"]]
        boxes = [("in", "input"), *((str(i), layer["op"]) for i, layer in enumerate(layers))]
        edges.append((names[-1], "out", ""))
        return Sketch((*boxes, ("out", "pool, linear")), tuple(edges))


def _toggled(layer: Layer, skip: int) -> Layer:
    """A layer with a skip more or less."""
    return {**layer, "skips": sorted({*layer["skips"]} ^ {skip})}
