"""The interface of a morphism."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from kinase.api._base import Model
from kinase.morphism.plan import Norms, Plan
from kinase.space.graph import Graph

Place = dict[str, Any]
"""Fields of a morphism that name its place in the graph; the others have defaults or are
numbers."""
NodeName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_]+$")]
Count = Annotated[int, Field(ge=1, le=2**20)]

WIDER_NOISE = 1e-2
"""Relative noise of replicas in EAS (Cai et al. 2018a; its published code)."""
DEEPER_NOISE = 1e-3
"""Relative noise of an inserted identity in EAS."""


@dataclass(frozen=True, slots=True)
class Change:
    """The result of applying a morphism to a graph."""

    graph: Graph
    """Graph of the child."""
    plan: Plan | None
    """Plan of its tensors; None if it depends on the parent's weights and these were not given. The
    child's graph does not depend on them."""
    norms: tuple[str, ...] = ()
    """New batch normalizations that are an identity, which can be calibrated with a batch of
    data."""
    morphism: Base | None = None
    """The morphism, including choices that depend on the parent's weights."""


class Base(Model):
    """A network morphism: an edit of a graph, with a rule for its tensors."""

    exact: ClassVar[bool] = True
    """Whether the child starts as the same function as its parent."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of all random numbers."""
    noise: float = Field(default=0.0, ge=0, le=1)
    """Standard deviation of the noise on copies and identities, relative to the tensor's, so that
    equal units diverge. With noise, the child is no longer exactly its parent. Cai et al. 2018a use
    0.01 for copies and 0.001 for identities."""

    @abstractmethod
    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """Edit a graph.

        Args:
            graph: graph of the parent, without unused nodes.
            norms: norms of its tensors, for morphisms that depend on them.

        Raises:
            MorphismError: the morphism does not apply there.
        """

    @classmethod
    @abstractmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """The places where it applies, in a fixed order."""


class Approximate(Base):
    """A morphism whose child only approximates its parent, and is then improved by distillation
    (Elsken et al. 2019, section 4.2)."""

    exact: ClassVar[bool] = False
