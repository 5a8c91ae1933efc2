"""Chain-structured networks: layers one after another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.space import ChainSpace
from kinase.api.trial import Architecture
from kinase.space import approximate_morphisms, elastic_pools, exact_morphisms, layers
from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space
from kinase.space.builder import GraphBuilder
from kinase.space.elastic import Elastic, Layered, largest
from kinase.space.errors import ArchitectureError
from kinase.space.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENUMERABLE = 100_000
"""Maximum size of a space that is enumerated."""


class Chain(Space):
    """Chain-structured networks (Elsken, Metzen & Hutter 2019, survey, section 2).

    An architecture is ``{"layers": [{"op": "conv", "width": 16, "kernel": 3, "stride": 1}, ...]}``.
    With `skips`, a layer also has ``"skip"``: null, or the index of a layer before the previous one
    (-1 is the network's input) whose output is added to its own, through a 1x1 convolution if the
    shapes differ. Global average pooling and a linear layer end the network.
    """

    crosses = True

    def __init__(self, options: ChainSpace) -> None:
        """The space described by `space.chain`."""
        self.options = options

    # -- sampling and validation -------------------------------------------------------

    def sample(self, rng: Rng) -> Architecture:
        """Draw a depth, then each layer, uniformly; each possible skip with probability 1/2."""
        o = self.options
        depth = int(rng.integers(o.min_depth, o.max_depth + 1))
        chain = [layers.sample(o, rng) for _ in range(depth)]
        if o.skips:
            for index, layer in enumerate(chain):
                sources = self._sources(index)
                layer["skip"] = (
                    int(sources[int(rng.integers(len(sources)))])
                    if sources and rng.random() < 0.5
                    else None
                )
        return {"layers": chain}

    @staticmethod
    def _sources(index: int) -> list[int]:
        """Possible sources of a skip to layer `index`."""
        return list(range(-1, index - 1))

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        o = self.options
        if not isinstance(architecture, dict) or set(architecture) != {"layers"}:
            raise ArchitectureError(
                f"architecture is {architecture!r:.80}; a chain is an object with the field layers"
            )
        chain = architecture["layers"]
        if not isinstance(chain, list) or not o.min_depth <= len(chain) <= o.max_depth:
            found = len(chain) if isinstance(chain, list) else f"{chain!r:.80}"
            raise ArchitectureError(
                f"layers is {found}; use a list of {o.min_depth} to {o.max_depth} layers"
            )
        own = ("skip",) if o.skips else ()
        for index, layer in enumerate(chain):
            path = f"layers[{index}]"
            skip = layers.validate(o, layer, path, own).get("skip")
            if skip is not None and (type(skip) is not int or skip not in self._sources(index)):
                raise ArchitectureError(
                    f"{path}.skip is {skip!r:.80}; use null or one of {self._sources(index)}"
                )

    # -- neighbours and mutation -------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Change one choice of a layer, remove or insert a layer, or change a skip."""
        o, chain = self.options, architecture["layers"]
        for index, layer in enumerate(chain):
            for variant in layers.variants(o, layer):
                yield {"layers": [*chain[:index], variant, *chain[index + 1 :]]}
            for skip in [None, *self._sources(index)] if o.skips else []:
                if skip != layer.get("skip"):
                    changed = {**layer, "skip": skip}
                    yield {"layers": [*chain[:index], changed, *chain[index + 1 :]]}
        if len(chain) > o.min_depth:
            for index in range(len(chain)):
                yield {"layers": self._without(chain, index)}
        if len(chain) < o.max_depth:
            for index in range(len(chain) + 1):
                for new in layers.enumerate_layers(o):
                    yield {"layers": self.inserted(chain, index, new)}

    def _without(self, chain: list[dict[str, Any]], index: int) -> list[dict[str, Any]]:
        """The chain without a layer; skips keep their meaning where possible."""
        rest = [
            {**layer, "skip": _shift(layer["skip"], index, -1)} if "skip" in layer else layer
            for layer in chain[:index] + chain[index + 1 :]
        ]
        return self._settle(rest)

    def inserted(
        self, chain: list[dict[str, Any]], index: int, new: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The chain with a layer inserted, without a skip."""
        if self.options.skips:
            new = {**new, "skip": None}
        moved = [
            {**layer, "skip": _shift(layer["skip"], index, 1)} if "skip" in layer else layer
            for layer in chain[index:]
        ]
        return self._settle([*chain[:index], new, *moved])

    def _settle(self, chain: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Drop skips that point nowhere after an edit."""
        return [
            {**layer, "skip": None}
            if layer.get("skip") is not None and layer["skip"] not in self._sources(index)
            else layer
            for index, layer in enumerate(chain)
        ]

    def moves(self, architecture: Architecture) -> dict[str, list[Architecture]]:
        """Every edit that a morphism could make, by the morphism's name."""
        o, chain = self.options, architecture["layers"]
        found: dict[str, list[Architecture]] = {}

        def put(move: str, edited: list[dict[str, Any]]) -> None:
            found.setdefault(move, []).append({"layers": edited})

        for index, layer in enumerate(chain):
            before, after = chain[:index], chain[index + 1 :]
            for variant in layers.variants(o, layer):
                move = layers.move(layer, variant)
                if move is not None:
                    put(move, [*before, variant, *after])
            if layer.get("skip") is not None:
                put("cut", [*before, {**layer, "skip": None}, *after])
            else:
                for source in self._sources(index) if o.skips else ():
                    put("skip", [*before, {**layer, "skip": source}, *after])
            if layer["stride"] == 1 and len(chain) > o.min_depth:
                put("remove", self._without(chain, index))
        inserted = [
            layer
            for layer in layers.enumerate_layers(o)
            if layer["op"] in layers.WEIGHTED and layer["stride"] == 1
        ]
        channels = 0  # of an identity, which can only be widened; 0 is that of the image
        for index, layer in enumerate(chain if len(chain) < o.max_depth else (), start=1):
            channels = layer.get("width", channels)
            for new in inserted:
                if 0 < channels <= new["width"]:
                    put("deepen", self.inserted(chain, index, new))
        return found

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """One random edit: a layer changed, inserted or removed with equal probability."""
        o, chain = self.options, architecture["layers"]
        key = self.key(architecture)
        for _ in range(50):
            kinds = ["change"]
            kinds += ["insert"] if len(chain) < o.max_depth else []
            kinds += ["remove"] if len(chain) > o.min_depth else []
            kinds += ["skip"] if o.skips and len(chain) > 1 else []
            index = int(rng.integers(len(chain)))
            match kinds[int(rng.integers(len(kinds)))]:
                case "insert":
                    place = int(rng.integers(len(chain) + 1))
                    edit = self.inserted(chain, place, layers.sample(o, rng))
                case "remove":
                    edit = self._without(chain, index)
                case "skip":
                    skips = [None, *self._sources(index)]
                    skip = skips[int(rng.integers(len(skips)))]
                    edit = [*chain[:index], {**chain[index], "skip": skip}, *chain[index + 1 :]]
                case _:
                    choices = list(layers.variants(o, chain[index]))
                    if not choices:
                        continue
                    variant = choices[int(rng.integers(len(choices)))]
                    edit = [*chain[:index], variant, *chain[index + 1 :]]
            if self.key({"layers": edit}) != key:
                return {"layers": edit}
        return self.any_neighbour(architecture, rng)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Inserted or removed layers, a layer's choices, and skips."""
        o = self.options
        skips = ("add-skip", "remove-skip") if o.skips and o.max_depth > 1 else ()
        return (*layers.kinds(o, o.min_depth, o.max_depth), *skips)

    def kind(self, one: Architecture, other: Architecture) -> str:
        """The kind of an edit; a skip with another source counts as an added skip."""
        a, b = one["layers"], other["layers"]
        if found := layers.kind(a, b):
            return found
        skips = [new["skip"] for old, new in zip(a, b, strict=True) if old != new]
        return "remove-skip" if skips == [None] else "add-skip"

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """One-point crossover: the first layers of one parent, the last of the other."""
        a, b = one["layers"], other["layers"]
        low, high = self.options.min_depth, self.options.max_depth
        for _ in range(20):
            head = a[: int(rng.integers(len(a) + 1))]
            tail = b[int(rng.integers(len(b) + 1)) :]
            if low <= len(head) + len(tail) <= high:
                return {"layers": self._settle([dict(layer) for layer in head + tail])}
        return one

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """The layers as lists. A pooling of kernel 1 and stride 1 is an identity, and is removed if
        no skip refers to it."""
        chain = architecture["layers"]
        if not any(layer.get("skip") is not None for layer in chain):
            chain = [
                layer
                for layer in chain
                if layer["op"] in layers.WEIGHTED or (layer["kernel"], layer["stride"]) != (1, 1)
            ]
        return [
            [layer["op"], layer["kernel"], layer["stride"], layer.get("width"), layer.get("skip")]
            for layer in chain
        ]

    def size(self) -> Size:
        """Sum over the depths, of the choices of layers and skips."""
        o = self.options
        per_layer, total, product = layers.count(o), 0, 1
        for depth in range(1, o.max_depth + 1):
            product *= per_layer * (depth if o.skips else 1)
            total += product if depth >= o.min_depth else 0
        return Size(total, exact=1 not in o.kernels)

    def enumerate(self) -> Iterator[Architecture]:
        """Every chain, by depth."""
        if self.size().count > ENUMERABLE:
            raise NotImplementedError(f"{self.size()} chains are too many to enumerate")
        seen: set[str] = set()
        partial: list[list[dict[str, Any]]] = [[]]
        for depth in range(1, self.options.max_depth + 1):
            partial = [
                [*chain, {**layer, "skip": skip} if self.options.skips else layer]
                for chain in partial
                for layer in layers.enumerate_layers(self.options)
                for skip in ([None, *self._sources(depth - 1)] if self.options.skips else [None])
            ]
            for chain in partial if depth >= self.options.min_depth else ():
                architecture = {"layers": chain}
                key = self.key(architecture)
                if key not in seen:
                    seen.add(key)
                    yield architecture

    # -- encodings ---------------------------------------------------------------------

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """For each of `maxDepth` places: one-hot operation, width, kernel and stride, each
        scaled by its largest; with skips, one-hot source. Unused places are zero."""
        o = self.options
        width = len(o.ops) + 3 + (o.max_depth if o.skips else 0)
        rows = np.zeros((o.max_depth, width))
        for row, layer in zip(rows, architecture["layers"], strict=False):
            row[o.ops.index(layer["op"])] = 1.0
            row[len(o.ops)] = layer.get("width", 0) / max(o.widths)
            row[len(o.ops) + 1] = layer["kernel"] / max(o.kernels)
            row[len(o.ops) + 2] = layer["stride"] / max(o.strides)
            if layer.get("skip") is not None:
                row[len(o.ops) + 3 + layer["skip"] + 1] = 1.0
        return rows.ravel()

    @property
    def encoding(self) -> tuple[Part, ...]:
        """Of each place the operation, width, kernel, stride, and where its skip comes from."""
        o = self.options
        skip = (Part(o.max_depth, choice=True),) if o.skips else ()
        return (Part(len(o.ops), choice=True), Part(), Part(), Part(), *skip) * o.max_depth

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Operation sequences from the input to the output, through layers and skips."""
        chain = architecture["layers"]
        at: dict[int, set[str]] = {-1: {"in"}}
        for index, layer in enumerate(chain):
            step = layers.label(layer)
            at[index] = {f"{path}>{step}" for path in at[index - 1]}
            if layer.get("skip") is not None:
                at[index] |= at[layer["skip"]]
        return frozenset(at[len(chain) - 1])

    # -- networks ----------------------------------------------------------------------

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """Layers, global average pooling, and a linear layer."""
        g = GraphBuilder(frame.input)
        outputs = {-1: g.input}
        x = g.input
        for index, layer in enumerate(architecture["layers"]):
            name = f"layer{index}"
            x = layers.build(g, name, x, layer, frame.scale.filter_fraction)
            if layer.get("skip") is not None:
                passed = architecture["layers"][layer["skip"] + 1 : index + 1]
                stride = prod(each["stride"] for each in passed)
                x = self._add(g, name, x, outputs[layer["skip"]], stride)
            outputs[index] = x
        x = g.global_avg_pool("pool", x)
        return g.build(g.linear("classifier", x, frame.outputs))

    def elastic(self, frame: Frame) -> Elastic:
        """Layers of the greatest widths and kernels, one at each place."""
        fraction = frame.scale.filter_fraction
        nodes = elastic_pools.chain(self.options, frame.input[0], frame.outputs, fraction)
        return Layered(largest(nodes), lambda each: self.graph(each, frame), {}, {})

    @staticmethod
    def _add(g: GraphBuilder, name: str, x: str, skip: str, stride: int) -> str:
        """Add a skip over layers with this total stride; it is projected if the shapes differ."""
        channels = g.shape(x)[0]
        if g.shape(skip) != g.shape(x):
            # ceil(ceil(n / a) / b) = ceil(n / ab): one stride reaches the size of several
            skip = g.conv(f"{name}_skip_conv", skip, channels, 1, stride)
            skip = g.batch_norm(f"{name}_skip_bn", skip)
        return g.add(f"{name}_add", [x, skip])

    def exact_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """Larger or inserted layers, and projected skips."""
        networks = self.graph(parent, frame), self.graph(child, frame)
        return exact_morphisms.chain(parent["layers"], child["layers"], *networks)

    def approximate_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """Smaller, separable or removed layers, and removed skips."""
        networks = self.graph(parent, frame), self.graph(child, frame)
        return approximate_morphisms.chain(parent["layers"], child["layers"], *networks)

    def sketch(self, architecture: Architecture) -> Sketch:
        """One node per layer."""
        chain = architecture["layers"]
        nodes = [("in", "input")]
        nodes += [(str(i), layers.label(layer)) for i, layer in enumerate(chain)]
        nodes.append(("out", "pool, linear"))
        names = ["in", *(str(i) for i in range(len(chain))), "out"]
        edges = [(a, b, "") for a, b in pairwise(names)]
        edges += [
            ("in" if layer["skip"] < 0 else str(layer["skip"]), str(i), "add")
            for i, layer in enumerate(chain)
            if layer.get("skip") is not None
        ]
        return Sketch(tuple(nodes), tuple(edges))


def _shift(skip: int | None, index: int, by: int) -> int | None:
    """A skip's source after a layer was inserted (+1) or removed (-1) at `index`."""
    if skip is None or skip < index:
        return skip
    if by < 0 and skip == index:
        return None
    return skip + by
