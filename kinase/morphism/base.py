"""What every morphism is."""

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
"""Fields of a morphism that say where it applies; the others have defaults or are numbers."""
NodeName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_]+$")]
Count = Annotated[int, Field(ge=1, le=2**20)]

WIDER_NOISE = 1e-2
"""Relative noise of replicas in EAS (Cai et al. 2018a; its published code)."""
DEEPER_NOISE = 1e-3
"""That of an inserted identity."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a morphism makes of a graph."""

    graph: Graph
    """The child."""
    plan: Plan | None
    """Its tensors; None where what is kept depends on the parent's weights and these were not
    given. The child's graph does not depend on them."""
    norms: tuple[str, ...] = ()
    """New batch normalisations that are an identity: one may set them by a batch of data."""
    morphism: Base | None = None
    """The morphism with what was chosen by the parent's weights written out."""


class Base(Model):
    """A network morphism: an edit of a graph, with a rule for its tensors."""

    exact: ClassVar[bool] = True
    """The child begins as the same function as its parent."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of all that is drawn."""
    noise: float = Field(default=0.0, ge=0, le=1)
    """Deviation of the noise on copies and identities, relative to the tensor's, so that equal
    units part ways; the child is then no longer exactly its parent. Cai et al. 2018a use 0.01 for
    copies and 0.001 for identities."""

    @abstractmethod
    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """Edit a graph.

        Args:
            graph: the parent; every node of it is needed.
            norms: of its tensors, for what chooses by them.

        Raises:
            MorphismError: it does not apply there.
        """

    @classmethod
    @abstractmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """Where it applies, in a fixed order."""


class Approximate(Base):
    """A morphism whose child is only near its parent, and is brought nearer by distillation
    (Elsken et al. 2019, section 4.2)."""

    exact: ClassVar[bool] = False
