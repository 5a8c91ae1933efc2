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
    """An architecture to try, and where it comes from."""

    architecture: Architecture
    parents: tuple[int, ...] = ()
    """Numbers of the trials that it was made from."""
    operation: str = "sample"
    """How it was made: sample, mutate, neighbour, crossover, morphism; or continue: it is the
    parent's architecture, trained on. A proposal without parents that rests on results, such as a
    model's, needs a name other than sample and start: the report takes those two for the random
    start."""
    learning_rate: float = 1.0
    """Factor on the learning rate of the training, and of a finalist's."""
    inherits: bool = True
    """Whether the weights of its parents may pass to it, where weights do."""


Known = Callable[[Architecture], Losses]
"""What is known of an architecture's losses before any training; infinity where nothing is.
Raises `InfeasibleError` where there is no such network."""

FRAME = Frame((3, 32, 32), 10)
"""For a strategy that is used without a task: CIFAR-10's."""


class Strategy(ABC):
    """A search strategy: three methods, of which only `propose` must be written.

    A strategy is replayable: `propose` is a function of the space, the options, the seed and
    the events so far (what was asked and told, in order), and of nothing else. The random
    generator that it is handed is derived from the experiment's seed and the trial's number.
    State kept in `asked` and `observe` only saves time. So a restarted experiment that replays
    its journal goes on with the very proposals of an undisturbed one.

    `kinase.strategy.testing` holds the contract as a test suite.
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
        """`options` is the strategy's struct of the manifest; `objectives` is the length of
        a trial's `losses`; `frame` is what surrounds the search's networks; `known` gives those of
        an architecture's losses that need no training, by default its parameters as the second
        and its multiply-adds as the third, on the search's networks."""
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
        """The next architecture to try, or None when the space has nothing left to offer."""

    @property
    def why_none(self) -> str:
        """Why `propose` has nothing to offer, for a person."""
        return "the search space is exhausted"

    def asked(self, trial: Trial, history: History) -> None:  # noqa: B027
        """A trial was begun; `history` holds it already."""

    def observe(self, trial: Trial, history: History) -> None:  # noqa: B027
        """A trial has its first result, at the end of its first rung or of its training; `history`
        holds it already. At later rungs `trial.losses` changes without another call."""

    def parents_to_come(self, history: History) -> set[int] | None:
        """The trials that have ended of which `propose` may yet make a child, now or after any
        further events; None where that is not known. The weights of all others are deleted where
        children inherit them."""
        return None

    def rng(self, *labels: int) -> Rng:
        """A generator of its own for a decision that is not tied to one proposal."""
        return derive_rng(self.seed, 1, *labels)


def losses(aims: Sequence[Aim], metrics: Mapping[str, float]) -> Losses:
    """Metrics as values to minimise; a missing or undefined one counts as worst."""
    return tuple(loss(aim, metrics.get(aim.metric, math.nan)) for aim in aims)


def loss(aim: Aim, value: float) -> float:
    """A metric as a value to minimise; an undefined one counts as worst."""
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
    """The strategy that a manifest describes.

    Raises:
        UnknownMember: an entry point that no package registers.
    """
    made: Strategy = registry.make(
        "kinase.strategies",
        model,
        Strategy,
        lambda cls, options: cls(space, options, seed, objectives, frame, known),
    )
    return made
