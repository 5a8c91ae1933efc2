"""The interface of a search space."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.fidelity import Scale
from kinase.api.task import Training
from kinase.api.trial import Architecture
from kinase.space.approximate_morphisms import smaller
from kinase.space.elastic import Elastic
from kinase.space.errors import ArchitectureError
from kinase.space.exact_morphisms import larger
from kinase.space.graph import Graph
from kinase.space.nodes import Shape
from kinase.space.supernet import Supernet

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rng = np.random.Generator

KNOWN_KEYS = 20_000
"""Maximum number of keys that a space remembers, some 4 MB."""


def derive_rng(seed: int, *labels: int) -> Rng:
    """A generator that depends on the seed and the labels alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *labels])))


@dataclass(frozen=True, slots=True)
class Size:
    """Number of architectures in a space."""

    count: int
    exact: bool
    """Whether `count` is exact; otherwise it is an upper bound."""

    def __str__(self) -> str:
        large = f"{Decimal(self.count):.2e}" if self.count > 10**300 else None
        text = large or (f"{self.count:,}" if self.count < 10**7 else f"{float(self.count):.3g}")
        return text if self.exact else f"at most {text}"


@dataclass(frozen=True, slots=True)
class Frame:
    """Parameters for building a network from an architecture."""

    input: Shape
    """(channels, height, width) of one sample."""
    outputs: int
    """Width of the last layer: the number of classes."""
    scale: Scale = Scale()
    """Size of the network."""
    auxiliary: bool = False
    """Whether to build an auxiliary head, if the space has one."""
    searching: bool = False
    """Whether to build a network as it is within a supernet: batch normalization without parameters
    where the space's paper has it so."""
    partial: int | None = None
    """For a supernet of cells with partial channels (Xu et al. 2020): an operation sees one in so
    many channels, the others pass by, and the edges of a node are weighted. Its slices are no
    networks of the space. None: operations see all channels."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a space's vector."""

    columns: int = 1
    """How many of the vector's columns it takes."""
    choice: bool = False
    """Whether it is a choice: one of its columns is 1, or none. Else it is a number."""
    free: bool = False
    """Whether every value of it goes with every value of the other parts, and `near` sets it
    exactly."""

    @property
    def options(self) -> int:
        """Of a choice, not to make it included unless it is free; 0 for a number."""
        return self.columns + (not self.free) if self.choice else 0


class Space(ABC):
    """A set of architectures, with operations on them.

    An architecture is plain JSON data (lists, dicts, strings, numbers). Methods do not change their
    arguments. Two architectures with the same `key` are equivalent: they build the same network up
    to the order of its parts.
    """

    crosses: bool = False
    """Whether this space supports `crossover`."""

    @property
    def networks(self) -> Space:
        """The space of the networks alone, without the settings of their training."""
        return self

    def network(self, architecture: Architecture) -> Architecture:
        """The same architecture in the space of the networks alone, as a trainer gets it."""
        return architecture

    def trained(self, architecture: Architecture, training: Training) -> Training:
        """How the network of an architecture is trained.

        Args:
            architecture: of this space.
            training: the manifest's, for all that the architecture does not say.
        """
        return training

    def features(self, architecture: Architecture) -> dict[str, float]:
        """What is known of an architecture without its network: numbers for predictors, by name."""
        return {}

    @property
    def begins_with(self) -> Graph | None:
        """The network from which all others are made, or None if there is none or it is not known
        yet."""
        return None

    def rooted(self, root: Graph) -> Space:
        """The same space, starting from the network that the trainer reports.

        Raises:
            TypeError: the space does not start from a network.
        """
        raise TypeError(f"{type(self).__name__} does not start from a network")

    @property
    def named(self) -> Mapping[str, Architecture]:
        """Published architectures by name, for use in a manifest."""
        return {}

    def resolve(self, architecture: Architecture) -> Architecture:
        """The architecture itself, or the published one for ``{"named": NAME}``.

        Raises:
            ArchitectureError: the space has no architecture with that name.
        """
        if not self.named or not isinstance(architecture, dict) or set(architecture) != {"named"}:
            return architecture
        name = architecture["named"]
        if not isinstance(name, str) or name not in self.named:
            raise ArchitectureError(f"named is {name!r:.80}; use one of {', '.join(self.named)}")
        return self.named[name]

    @abstractmethod
    def sample(self, rng: Rng) -> Architecture:
        """Draw a random architecture."""

    @abstractmethod
    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data.

        Raises:
            ArchitectureError: it is not an architecture of this space.
        """

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Every single edit; several can give the same key. Only `neighbours` uses it.

        Raises:
            NotImplementedError: the space overrides `neighbours`.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no edits")

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """All architectures that are one edit away, each key once, without the architecture
        itself."""
        seen = {self.key(architecture)}
        for edit in self.edits(architecture):
            key = self.key(edit)
            if key not in seen:
                seen.add(key)
                yield edit

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of edits, if the space distinguishes them."""
        return ()

    def kind(self, one: Architecture, other: Architecture) -> str:
        """The kind of edit between two architectures.

        Raises:
            NotImplementedError: the space has no `kinds`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not distinguish its edits")

    def any_neighbour(self, architecture: Architecture, rng: Rng) -> Architecture:
        """A random neighbour, or the architecture itself if it has none."""
        others = list(self.neighbours(architecture))
        return others[int(rng.integers(len(others)))] if others else architecture

    @abstractmethod
    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """Apply one random edit. The result has another key, unless the space has only one
        member."""

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """Combine two architectures.

        Raises:
            NotImplementedError: the space does not support crossover (`crosses` is False).
        """
        raise NotImplementedError(f"{type(self).__name__} has no crossover")

    @abstractmethod
    def canonical(self, architecture: Architecture) -> Any:
        """Plain data that is equal for isomorphic architectures, and only for those."""

    def key(self, architecture: Architecture) -> str:
        """Canonical hash, 16 hex digits. Isomorphic architectures have the same hash. The latest
        are remembered, because strategies ask for the same ones again and again."""
        try:
            same = hashlib.blake2b(json.dumps(architecture).encode(), digest_size=16).digest()
        except (TypeError, ValueError):  # not plain data; `canonical` may say so better
            return self._hash(architecture)
        known: dict[bytes, str] = self.__dict__.setdefault("_known_keys", {})
        key = known.get(same)
        if key is None:
            key = self._hash(architecture)
            if len(known) >= KNOWN_KEYS:
                known.clear()
            known[same] = key
        return key

    def _hash(self, architecture: Architecture) -> str:
        text = json.dumps(self.canonical(architecture), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @abstractmethod
    def size(self) -> Size:
        """Number of architectures, counting isomorphic ones separately, or an upper bound."""

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture in a fixed order, one for each key; only for small spaces.

        Raises:
            NotImplementedError: the space is too large to be enumerated.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be enumerated")

    @abstractmethod
    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """Encoding of fixed length: one-hot choices and scaled numbers, each in 0..1."""

    @property
    def encoding(self) -> tuple[Part, ...]:
        """What the columns of `vector` are, in order; by default numbers."""
        return (Part(),) * len(self.vector(self.sample(derive_rng(0))))

    def near(
        self, architecture: Architecture, values: Mapping[int, float], rng: Rng
    ) -> Architecture:
        """An architecture whose encoding is near a point. By default it has as many random edits as
        there are parts to change, because a point of the encoding need not be an architecture.

        Args:
            architecture: to begin with.
            values: by the place of the part in `encoding`, its new value: 0..1 for a number, the
                number of the option for a choice, from 1, and 0 not to make it.
            rng: for the edits.
        """
        for _ in values:
            architecture = self.mutate(architecture, rng)
        return architecture

    @abstractmethod
    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Path encoding (White et al. 2021, section 3): the operation sequences from the
        input to the output. Isomorphic architectures have the same encoding."""

    @abstractmethod
    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """Build the network.

        Raises:
            InfeasibleError: the network does not exist at this input size.
        """

    def supernet(self, frame: Frame) -> Supernet | None:
        """The network that holds those of all architectures; None if the space has none.

        Args:
            frame: what surrounds it, `searching`.

        Raises:
            InfeasibleError: the network does not exist at this input size.
        """
        return None

    def path(self, architecture: Architecture) -> dict[str, int]:
        """What an architecture chooses in the supernet: for each group of choices the number of
        the option.

        Raises:
            NotImplementedError: the space has no supernet.
        """
        raise NotImplementedError(f"{type(self).__name__} has no supernet")

    def architecture(self, path: Mapping[str, int]) -> Architecture:
        """The architecture of a path: the inverse of `path`.

        Raises:
            ArchitectureError: no architecture has this path.
            NotImplementedError: the space has no supernet.
        """
        raise NotImplementedError(f"{type(self).__name__} has no supernet")

    def elastic(self, frame: Frame) -> Elastic | None:
        """The tensors that the networks of all architectures share by slices; None if the space has
        none.

        Args:
            frame: what surrounds the networks.

        Raises:
            InfeasibleError: the networks do not exist at this input size.
        """
        return None

    def nested(self, rng: Rng, free: Mapping[str, int]) -> Architecture:
        """A random architecture of `elastic` that differs from the largest one in some sizes alone.

        Args:
            rng: for the draw.
            free: of an axis (`kernel`, `depth`, `width`), how many of its largest values can be
                drawn. On the other axes it has the largest value.

        Raises:
            NotImplementedError: the space has no network that contains all others.
        """
        raise NotImplementedError(f"{type(self).__name__} has no largest network")

    @property
    def largest(self) -> Architecture | None:
        """The architecture whose network contains those of all others; None if there is none."""
        return None

    @property
    def smallest(self) -> Architecture | None:
        """The architecture whose network those of all others contain; None if there is none."""
        return None

    @property
    def unshared(self) -> str:
        """Why networks of the space share no weights, for people: what is said of a space that has
        neither `supernet` nor `elastic`."""
        return f"{type(self).__name__} names its layers differently in each network"

    def exact_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """Network morphisms, as plain data, that could turn the network of one architecture into
        that of another, so that it inherits the trained weights; None if there are none.

        They are verified (`kinase.morphism.bridge`), so wrong proposals are harmless. Default:
        larger layers with the same name.
        """
        return larger(self.graph(parent, frame), self.graph(child, frame))

    def approximate_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """The same if `exact_morphisms` finds none, with approximate morphisms to a smaller child.
        Default: layers with the same name that have another size, or are separable."""
        return smaller(self.graph(parent, frame), self.graph(child, frame))

    def moves(self, architecture: Architecture) -> dict[str, list[Architecture]]:
        """Single edits that morphisms can probably make, by the morphism's name, so that a strategy
        can first choose a morphism; empty if the space does not distinguish them."""
        return {}

    @abstractmethod
    def sketch(self, architecture: Architecture) -> Sketch:
        """Sketches of the searched part."""

    def scale(self, final: bool) -> Scale:
        """Size of the networks of the search or of the finalists."""
        return Scale()


@dataclass(frozen=True, slots=True)
class Sketch:
    """A small directed graph to draw, with the nodes of the space instead of primitive
    operations."""

    nodes: tuple[tuple[str, str], ...]
    """(id, label) of each node, in topological order."""
    edges: tuple[tuple[str, str, str], ...]
    """(from, to, label) of each edge."""
    group: dict[str, str] | None = None
    """Part of the network that a node belongs to, such as `normal` or `reduction`."""
