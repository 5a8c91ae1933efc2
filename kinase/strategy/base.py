"""What a search strategy is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinase import registry
from kinase.api.objective import Aim
from kinase.api.strategy import Strategy as StrategyModel
from kinase.api.trial import Architecture
from kinase.history import History, Losses, Trial
from kinase.space import Frame, Rng, Space, derive_rng


@dataclass(frozen=True, slots=True)
class Proposal:
    """An architecture to try, and its origin."""

    architecture: Architecture
    parents: tuple[int, ...] = ()
    """Numbers of the parents' trials."""
    operation: str = "sample"
    """How it was made: sample, mutate, neighbour, crossover, morphism; or continue, if the parent's
    architecture is trained further. A proposal without parents that depends on results, such as one
    from a surrogate model, needs a name other than sample and start, which the report counts as the
    random start."""
    learning_rate: float = 1.0
    """Factor on the learning rate, also for a finalist."""
    inherits: bool = True
    """Whether it can inherit its parents' weights."""


Known = Callable[[Architecture], Losses]
"""An architecture's losses that are known without training; infinity for the others. Raises
`InfeasibleError` if the network does not exist."""

FRAME = Frame((3, 32, 32), 10)
"""Default frame for a strategy without a task: that of CIFAR-10."""


class Strategy(ABC):
    """A search strategy. Only `propose` is required; the other methods are optional.

    A strategy is replayable: `propose` depends only on the space, the options, the seed and the
    events so far (everything asked and told, in order). Its random generator is derived from the
    experiment's seed and the trial's number. State from `asked` and `observe` is only a cache. So
    an experiment that is restarted and replays its journal continues with the same proposals as an
    undisturbed one.

    `kinase.strategy.testing` contains the contract as a test suite.
    """

    def __init__(
        self,
        space: Space,
        options: Any,
        seed: int,
        objectives: int = 1,
        frame: Frame = FRAME,
        known: Known | None = None,
    ) -> None:
        """`options` is the strategy's struct in the manifest, `objectives` the length of a trial's
        `losses`, and `frame` the frame of the search's networks. `known` returns an architecture's
        losses that need no training; by default its parameters as the second and its multiply-adds
        as the third, for the search's networks."""
        self.space = space
        self.options = options
        self.seed = seed
        self.objectives = objectives
        self.frame = frame
        self.known = known or self._counted

    def _counted(self, architecture: Architecture) -> Losses:
        graph = self.space.graph(architecture, self.frame)
        found = (math.inf, float(graph.params()), float(graph.macs()))
        return (found + (math.inf,) * self.objectives)[: self.objectives]

    @abstractmethod
    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """The next architecture to try, or None if the space is exhausted."""

    @property
    def why_none(self) -> str:
        """Why `propose` returned None, for people."""
        return "the search space is exhausted"

    def asked(self, trial: Trial, history: History) -> None:  # noqa: B027
        """A trial was started; `history` already contains it."""

    def observe(self, trial: Trial, history: History) -> None:  # noqa: B027
        """A trial has its first result, at the end of its first rung or of its training; `history`
        holds it already. At later rungs `trial.losses` changes without another call."""

    def parents_to_come(self, history: History) -> set[int] | None:
        """The finished trials that `propose` can still use as parents, now or after any further
        events, or None if unknown. If children inherit weights, the weights of all other trials are
        deleted."""
        return None

    def rng(self, *labels: int) -> Rng:
        """A random generator for a decision that does not belong to one proposal."""
        return derive_rng(self.seed, 1, *labels)


def losses(aims: Sequence[Aim], metrics: Mapping[str, float]) -> Losses:
    """Metrics as values to minimize; a missing or undefined one counts as worst."""
    return tuple(loss(aim, metrics.get(aim.metric, math.nan)) for aim in aims)


def loss(aim: Aim, value: float) -> float:
    """A metric as a value to minimize; an undefined one counts as worst."""
    if not math.isfinite(value):
        return math.inf
    sign = -1.0 if aim.goal == "maximize" else 1.0
    return sign * value if aim.enough is None else max(sign * value, sign * aim.enough)


def make_strategy(
    model: StrategyModel,
    space: Space,
    seed: int,
    objectives: int = 1,
    frame: Frame = FRAME,
    known: Known | None = None,
) -> Strategy:
    """Make the strategy of a manifest.

    Raises:
        UnknownMember: no package registers the entry point.
    """
    made: Strategy = registry.make(
        "kinase.strategies",
        model,
        Strategy,
        lambda cls, options: cls(space, options, seed, objectives, frame, known),
    )
    return made
