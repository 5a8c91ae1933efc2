"""What a search space is."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase import registry
from kinase.api.fidelity import Scale
from kinase.api.space import Space as SpaceModel
from kinase.api.trial import Architecture
from kinase.space.approximate_morphisms import smaller
from kinase.space.errors import ArchitectureError
from kinase.space.exact_morphisms import larger
from kinase.space.graph import Graph
from kinase.space.nodes import Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rng = np.random.Generator


def derive_rng(seed: int, *labels: int) -> Rng:
    """A generator that depends on the seed and the labels alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *labels])))


@dataclass(frozen=True, slots=True)
class Size:
    """Number of architectures in a space."""

    count: int
    exact: bool
    """Whether `count` is the number itself; else it is an upper bound."""

    def __str__(self) -> str:
        large = f"{Decimal(self.count):.2e}" if self.count > 10**300 else None
        text = large or (f"{self.count:,}" if self.count < 10**7 else f"{float(self.count):.3g}")
        return text if self.exact else f"at most {text}"


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds an architecture when it is built into a network."""

    input: Shape
    """(channels, height, width) of one sample."""
    outputs: int
    """Width of the last layer: the number of classes."""
    scale: Scale = Scale()
    """Size of the network."""
    auxiliary: bool = False
    """Whether an auxiliary head is built, where the space has one."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a space's vector."""

    columns: int = 1
    """How many of the vector's columns it takes."""
    choice: bool = False
    """Whether it is a choice: one of its columns is 1, or none. Else it is a number."""

    @property
    def options(self) -> int:
        """Of a choice, not to make it included; 0 for a number."""
        return self.columns + 1 if self.choice else 0


class Space(ABC):
    """A set of architectures, and how to move in it.

    An architecture is plain JSON data (lists, dicts, strings, numbers). No method changes the
    architecture it is given. Two architectures with the same `key` are one: they build the
    same network up to the order of its parts.
    """

    crosses: bool = False
    """Whether `crossover` has a meaning in this space."""

    @property
    def begins_with(self) -> Graph | None:
        """The network that all others are made of, where there is one and it is known."""
        return None

    def rooted(self, root: Graph) -> Space:
        """The same space, beginning with the network that the trainer reports.

        Raises:
            TypeError: it begins with none.
        """
        raise TypeError(f"{type(self).__name__} begins with no network")

    @property
    def named(self) -> Mapping[str, Architecture]:
        """Published architectures by their names, which a manifest may give instead."""
        return {}

    def resolve(self, architecture: Architecture) -> Architecture:
        """The architecture itself, or the named one where it is ``{"named": NAME}``.

        Raises:
            ArchitectureError: the space has none of that name.
        """
        if not self.named or not isinstance(architecture, dict) or set(architecture) != {"named"}:
            return architecture
        name = architecture["named"]
        if not isinstance(name, str) or name not in self.named:
            raise ArchitectureError(f"named is {name!r:.80}; use one of {', '.join(self.named)}")
        return self.named[name]

    @abstractmethod
    def sample(self, rng: Rng) -> Architecture:
        """Draw an architecture at random."""

    @abstractmethod
    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data.

        Raises:
            ArchitectureError: it is not an architecture of this space.
        """

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Every single edit; several may give the same key. Only `neighbours` asks for it.

        Raises:
            NotImplementedError: the space writes `neighbours` itself.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no edits")

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """All architectures one edit away, each key once, the architecture itself left out."""
        seen = {self.key(architecture)}
        for edit in self.edits(architecture):
            key = self.key(edit)
            if key not in seen:
                seen.add(key)
                yield edit

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of edit, where the space tells them apart."""
        return ()

    def kind(self, one: Architecture, other: Architecture) -> str:
        """Which kind of edit made an architecture of another.

        Raises:
            NotImplementedError: the space has no `kinds`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not tell its edits apart")

    def any_neighbour(self, architecture: Architecture, rng: Rng) -> Architecture:
        """A neighbour drawn at random, or the architecture itself if it has none."""
        others = list(self.neighbours(architecture))
        return others[int(rng.integers(len(others)))] if others else architecture

    @abstractmethod
    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """Apply one random edit; the result has another key unless the space has one member."""

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """Mix two architectures.

        Raises:
            NotImplementedError: crossover has no meaning here (`crosses` is False).
        """
        raise NotImplementedError(f"{type(self).__name__} has no crossover")

    @abstractmethod
    def canonical(self, architecture: Architecture) -> Any:
        """Plain data that is equal for isomorphic architectures, and only for those."""

    def key(self, architecture: Architecture) -> str:
        """Canonical hash, 16 hex digits: isomorphic architectures have the same one."""
        text = json.dumps(self.canonical(architecture), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @abstractmethod
    def size(self) -> Size:
        """Number of architectures before isomorphic ones are counted once, or a bound."""

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture, in a fixed order, one for each key; only asked of small spaces.

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

    @abstractmethod
    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Path encoding (White et al. 2021, section 3): the operation sequences from the
        input to the output. Isomorphic architectures share it."""

    @abstractmethod
    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """Build the network.

        Raises:
            InfeasibleError: it does not exist at this input size.
        """

    def exact_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """Network morphisms, as plain data, that could make the network of one architecture that
        of another, so that it begins with the trained weights; None where there are none.

        They are verified (`kinase.morphism.bridge`), so nothing wrong follows from a guess. By
        default: layers of the same name that are larger.
        """
        return larger(self.graph(parent, frame), self.graph(child, frame))

    def approximate_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """The same if `exact_morphisms` finds none, with approximate morphisms to a smaller child.
        By default: layers of the same name of another size, or separable."""
        return smaller(self.graph(parent, frame), self.graph(child, frame))

    def moves(self, architecture: Architecture) -> dict[str, list[Architecture]]:
        """Single edits to which morphisms are likely to lead, by the morphism's name, so that one
        may choose a morphism first; none where the space does not tell them apart."""
        return {}

    @abstractmethod
    def sketch(self, architecture: Architecture) -> Sketch:
        """The searched part, for drawing."""

    def scale(self, final: bool) -> Scale:
        """Size of the networks of the search, or of the finalists."""
        return Scale()


@dataclass(frozen=True, slots=True)
class Sketch:
    """A small directed graph to draw: what the space calls a node, not every primitive."""

    nodes: tuple[tuple[str, str], ...]
    """(id, label) of each node, in topological order."""
    edges: tuple[tuple[str, str, str], ...]
    """(from, to, label) of each edge."""
    group: dict[str, str] | None = None
    """Part of the network that a node belongs to, such as `normal` or `reduction`."""


def make_space(model: SpaceModel, root: Graph | None = None) -> Space:
    """The search space that a manifest describes.

    Args:
        model: the manifest's.
        root: the network that the search begins with, where the trainer has told one.

    Raises:
        UnknownMember: an entry point that no package registers.
    """
    space: Space = registry.make("kinase.spaces", model, Space, lambda cls, options: cls(options))
    return space if root is None else space.rooted(root)
