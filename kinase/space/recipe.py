"""Networks and settings of their training, searched for together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.fidelity import Scale
from kinase.api.recipe import TrainingSpace
from kinase.api.task import Training
from kinase.api.trial import Architecture
from kinase.space.axes import Value, axes_of
from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space
from kinase.space.errors import ArchitectureError
from kinase.space.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY = "training"
"""Field of an architecture with its settings."""
ENUMERABLE = 100_000
"""Maximum size of a space that is enumerated."""

Settings = dict[str, Value]


class WithTraining(Space):
    """The architectures of a space, each with settings of its training (Zela et al. 2018).

    An architecture is one of the inner space with a field `training`, such as ``{"layers": [...],
    "training": {"learningRate": 0.01, "batchSize": 64}}``. A setting that is left out is that of
    `spec.training`: a baseline needs none. With a fixed network only the settings are searched for.

    Networks, and all that follows from them, are those of the inner space. So a child that differs
    from its parent in its settings alone inherits all of its weights.
    """

    def __init__(
        self, inner: Space, model: TrainingSpace, network: Architecture | None = None
    ) -> None:
        """Add settings to a space.

        Args:
            inner: the space of the networks.
            model: `space.training`.
            network: the only network, if it is fixed.

        Raises:
            ArchitectureError: it is named, and the space has none of that name.
        """
        self._inner = inner
        self._model = model
        self._axes = axes_of(model)
        self._fixed = None if network is None else inner.resolve(network)

    @property
    def crosses(self) -> bool:  # type: ignore[override]
        """Settings always do."""
        return True

    @property
    def networks(self) -> Space:
        """The inner space."""
        return self._inner

    @property
    def begins_with(self) -> Graph | None:
        """See `Space`."""
        return self._inner.begins_with

    def rooted(self, root: Graph) -> Space:
        """See `Space`."""
        return WithTraining(self._inner.rooted(root), self._model, self._fixed)

    @property
    def named(self) -> Mapping[str, Architecture]:
        """See `Space`."""
        return self._inner.named

    def resolve(self, architecture: Architecture) -> Architecture:
        """See `Space`; also settings alone, where the network is fixed."""
        given: Any = architecture
        if not isinstance(given, dict):
            return architecture
        network = self.network(architecture)
        if self._fixed is not None and not network:
            network = self._fixed
        return self._with(self._inner.resolve(network), architecture.get(KEY))

    # -- parts ---------------------------------------------------------------------------

    def network(self, architecture: Architecture) -> Architecture:
        """The architecture without its settings."""
        return {name: value for name, value in architecture.items() if name != KEY}

    def trained(self, architecture: Architecture, training: Training) -> Training:
        """The manifest's training with the settings of an architecture."""
        return training.set_to(self._settings(architecture))

    def features(self, architecture: Architecture) -> dict[str, float]:
        """The place of each setting in its range."""
        settings = self._settings(architecture)
        return {f"{KEY}_{axis.name}": axis.place(settings.get(axis.name)) for axis in self._axes}

    @staticmethod
    def _settings(architecture: Architecture) -> Settings:
        return dict(architecture.get(KEY) or {})

    @staticmethod
    def _with(network: Architecture, settings: Any) -> Architecture:
        return network if settings is None else {**network, KEY: settings}

    # -- sampling and validation -------------------------------------------------------

    def sample(self, rng: Rng) -> Architecture:
        """A network of the inner space, and settings independent of it."""
        network = self._inner.sample(rng) if self._fixed is None else self._fixed
        return self._with(network, {axis.name: axis.sample(rng) for axis in self._axes})

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        given: Any = architecture
        network = self.network(given) if isinstance(given, dict) else given
        self._inner.validate(network)
        if self._fixed is not None and self._inner.key(network) != self._inner.key(self._fixed):
            raise ArchitectureError(
                f"the network is {network!r:.80}; this space has only that of space.architecture"
            )
        settings = given.get(KEY, {})
        if not isinstance(settings, dict):
            raise ArchitectureError(f"training is {settings!r:.80}; use an object")
        known = {axis.name: axis for axis in self._axes}
        for name, value in settings.items():
            if name not in known:
                raise ArchitectureError(
                    f"training has {name!r:.80}; this space has {', '.join(known)}"
                )
            known[name].check(value)

    # -- neighbours and mutation -------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Another network with the same settings, or another value of one setting."""
        settings = architecture.get(KEY)
        if self._fixed is None:
            for network in self._inner.neighbours(self.network(architecture)):
                yield self._with(network, settings)
        yield from self._retrained(architecture)

    def _retrained(self, architecture: Architecture) -> Iterator[Architecture]:
        settings = self._settings(architecture)
        for axis in self._axes:
            for value in axis.neighbours(settings.get(axis.name)):
                yield {**architecture, KEY: {**settings, axis.name: value}}

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """An edit of the network or of one setting, each with probability 1/2."""
        if self._fixed is None and rng.random() < 0.5:
            network = self.network(architecture)
            edited = self._inner.mutate(network, rng)
            if self._inner.key(edited) != self._inner.key(network):
                return self._with(edited, architecture.get(KEY))
        settings = self._settings(architecture)
        axis = self._axes[int(rng.integers(len(self._axes)))]
        settings[axis.name] = axis.mutate(settings.get(axis.name), rng)
        return {**architecture, KEY: settings}

    def crossover(self, one: Architecture, other: Architecture, rng: Rng) -> Architecture:
        """That of the networks, or one of them where they do not cross; each setting of either."""
        first, second = self.network(one), self.network(other)
        if self._inner.crosses:
            network = self._inner.crossover(first, second, rng)
        else:
            network = (first, second)[int(rng.integers(2))]
        found: Settings = {}
        for axis in self._axes:
            drawn = self._settings((one, other)[int(rng.integers(2))])
            if axis.name in drawn:
                found[axis.name] = drawn[axis.name]
        return self._with(network, found)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those of the networks, and `training`."""
        if self._fixed is not None:
            return ()
        return (*self._inner.kinds, KEY) if self._inner.kinds else ()

    def kind(self, one: Architecture, other: Architecture) -> str:
        """See `Space`."""
        if self._settings(one) != self._settings(other):
            return KEY
        return self._inner.kind(self.network(one), self.network(other))

    def moves(self, architecture: Architecture) -> dict[str, list[Architecture]]:
        """Those of the networks, and the neighbours in the settings."""
        settings = architecture.get(KEY)
        found = {} if self._fixed is not None else self._inner.moves(self.network(architecture))
        if not found and self._fixed is None:
            return {}
        moved = {
            move: [self._with(network, settings) for network in networks]
            for move, networks in found.items()
        }
        return {**moved, KEY: list(self._retrained(architecture))}

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """That of the network, with the settings that are given."""
        settings = self._settings(architecture)
        return [
            self._inner.canonical(self.network(architecture)),
            {name: float(settings[name]) for name in sorted(settings)},
        ]

    def size(self) -> Size:
        """Networks times settings."""
        inner = Size(1, exact=True) if self._fixed is not None else self._inner.size()
        return Size(inner.count * prod(len(axis.all()) for axis in self._axes), inner.exact)

    def enumerate(self) -> Iterator[Architecture]:
        """Every network with all settings."""
        if self.size().count > ENUMERABLE:
            raise NotImplementedError(f"{self.size()} architectures are too many to enumerate")
        networks = self._inner.enumerate() if self._fixed is None else iter([self._fixed])
        names = [axis.name for axis in self._axes]
        for network in networks:
            for values in product(*(axis.all() for axis in self._axes)):
                yield self._with(network, dict(zip(names, values, strict=True)))

    # -- encodings -----------------------------------------------------------------------

    @property
    def encoding(self) -> tuple[Part, ...]:
        """That of the networks, then the settings."""
        return (*self._network_parts, *(axis.part for axis in self._axes))

    @property
    def _network_parts(self) -> tuple[Part, ...]:
        return () if self._fixed is not None else self._inner.encoding

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """That of the network, then the settings."""
        settings = self._settings(architecture)
        own = [c for axis in self._axes for c in axis.columns(settings.get(axis.name))]
        if self._fixed is not None:
            return np.array(own, np.float64)
        return np.concatenate([self._inner.vector(self.network(architecture)), own])

    def near(
        self, architecture: Architecture, values: Mapping[int, float], rng: Rng
    ) -> Architecture:
        """The network as in its space; settings exactly."""
        first = len(self._network_parts)
        network = self.network(architecture)
        inner = {place: value for place, value in values.items() if place < first}
        if inner:
            network = self._inner.near(network, inner, rng)
        settings = self._settings(architecture)
        for place, code in values.items():
            if place >= first:
                axis = self._axes[place - first]
                value = axis.at(code)
                settings = {n: v for n, v in settings.items() if n != axis.name}
                settings |= {} if value is None else {axis.name: value}
        return self._with(network, settings)

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Those of the network, and a text for each setting."""
        settings = self._settings(architecture)
        own = {f"{KEY} {name}={value:g}" for name, value in settings.items()}
        return self._inner.paths(self.network(architecture)) | own

    # -- networks ------------------------------------------------------------------------

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """See `Space`."""
        return self._inner.graph(self.network(architecture), frame)

    @property
    def unshared(self) -> str:
        """See `Space`."""
        return "one supernet is trained with one set of settings, and space.training has many"

    def exact_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """See `Space`."""
        return self._inner.exact_morphisms(self.network(parent), self.network(child), frame)

    def approximate_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """See `Space`."""
        return self._inner.approximate_morphisms(self.network(parent), self.network(child), frame)

    def sketch(self, architecture: Architecture) -> Sketch:
        """See `Space`."""
        return self._inner.sketch(self.network(architecture))

    def scale(self, final: bool) -> Scale:
        """See `Space`."""
        return self._inner.scale(final)
