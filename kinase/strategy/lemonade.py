"""LEMONADE: multi-objective evolution by network morphisms, exact and approximate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kinase.api.strategy import LEMONADEStrategy
from kinase.api.trial import Architecture
from kinase.history import History, Trial
from kinase.morphism.bridge import bridge
from kinase.space import InfeasibleError, Rng
from kinase.strategy._fresh import mutate_fresh, sample_fresh
from kinase.strategy.base import Proposal, Strategy
from kinase.strategy.density import Density, Reals, draw_sparse
from kinase.strategy.pareto import dominates

ATTEMPTS = 16
"""Number of edits tried before a parent counts as having no child, and number of draws before a
network that cannot be built is proposed."""


@dataclass(frozen=True, slots=True)
class _Generation:
    """The start of a generation, which determines all of its children."""

    number: int
    front: tuple[Trial, ...]
    """The parents."""
    before: int
    """Number of trials asked before it."""

    @property
    def key(self) -> tuple[int, ...]:
        """Key that identifies it."""
        return (self.number, self.before, *(trial.number for trial in self.front))


class LEMONADE(Strategy):
    """LEMONADE (Elsken, Metzen & Hutter 2019, algorithm 1).

    The population is the Pareto front of all trials that have ended. Objectives that are known
    before training, such as the number of parameters, are cheap; the others are expensive. In each
    generation, `children` are made from parents that are drawn in proportion to the inverse density
    of the front's cheap objectives, each by one exact or approximate morphism. `accepted` of them,
    again drawn in proportion to the inverse density, are trained. So both draws only use cheap
    objectives, and training is spent where the front is sparse.

    A generation starts when all children of the previous one have been asked, from the front at
    that time, without waiting for outstanding trials.
    """

    options: LEMONADEStrategy

    def __init__(self, *args: object, **kwargs: object) -> None:
        """See `Strategy`."""
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._front: list[Trial] = []
        self._asked: dict[str, int] = {}
        """Key -> its position among the trials asked."""
        self._generation: _Generation | None = None
        """The last started generation."""
        self._left = 0
        """Its trials that are still to be asked."""
        self._accepted: tuple[tuple[int, ...], list[Proposal]] = ((), [])
        """Cache: a generation's key, and its accepted children."""
        self._known: dict[str, tuple[float, ...] | None] = {}

    @property
    def front(self) -> tuple[Trial, ...]:
        """The population: trials that do not dominate each other."""
        return tuple(self._front)

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """First random architectures, then the next accepted child of the generation."""
        generation = self._generation if self._left else self._next(len(history.asked))
        if generation is not None:
            for proposal in self._children(generation):
                if self.space.key(proposal.architecture) not in history.by_key:
                    return proposal
            [parent] = self._parents(generation, 1, rng)
            child = self._buildable(
                lambda: mutate_fresh(self.space, parent.architecture, history, rng)
            )
            if child is not None:
                return Proposal(child, (parent.number,), "mutate")
        architecture = self._buildable(lambda: sample_fresh(self.space, history, rng))
        return None if architecture is None else Proposal(architecture)

    def _buildable(self, draw: Callable[[], Architecture | None]) -> Architecture | None:
        """A random architecture whose network can be built, if some draws find one."""
        drawn = None
        for _ in range(ATTEMPTS):
            drawn = draw()
            if drawn is None or self._logs(drawn) is not None:
                break
        return drawn

    def asked(self, trial: Trial, history: History) -> None:
        """Count the remaining trials of the generation; start a new one if there is none."""
        before = len(history.asked) - 1
        if not self._left:
            generation = self._next(before)
            if generation is not None:
                self._generation, self._left = generation, self.options.accepted
        self._left = max(0, self._left - 1)
        self._asked.setdefault(trial.key, before)

    def observe(self, trial: Trial, history: History) -> None:
        """Add the trial to the front unless it is dominated, and remove the trials that it
        dominates."""
        if not all(map(math.isfinite, trial.losses)):
            return
        if any(dominates(other.losses, trial.losses) for other in self._front):
            return
        if self._logs(trial.architecture) is None:
            return
        self._front = [t for t in self._front if not dominates(trial.losses, t.losses)]
        self._front.append(trial)

    def parents_to_come(self, history: History) -> set[int]:
        """The front, and the front at the start of the current generation."""
        trials = list(self._front)
        if self._left and self._generation is not None:
            trials += self._generation.front
        return {trial.number for trial in trials}

    # -- a generation ----------------------------------------------------------------------

    def _next(self, asked: int) -> _Generation | None:
        """The generation that starts now, or None if there are no parents yet."""
        if asked < self.options.initial or not self._front:
            return None
        number = 0 if self._generation is None else self._generation.number + 1
        return _Generation(number, self.front, asked)

    def _children(self, generation: _Generation) -> list[Proposal]:
        """The accepted children of a generation, determined by its start."""
        if self._accepted[0] != generation.key:
            self._accepted = (generation.key, self._make(generation))
        return self._accepted[1]

    def _make(self, generation: _Generation) -> list[Proposal]:
        rng = self.rng(generation.number)
        made: dict[str, Proposal] = {}
        moves: dict[int, dict[str, list[Architecture]]] = {}
        for parent in self._parents(generation, self.options.children, rng):
            if parent.number not in moves:
                moves[parent.number] = self.space.moves(parent.architecture)
            for _ in range(ATTEMPTS):
                proposal = self._edit(parent, moves[parent.number], rng)
                key = self.space.key(proposal.architecture)
                new = self._asked.get(key, generation.before) >= generation.before
                if new and key not in made and self._reaches(parent, proposal.architecture):
                    made[key] = proposal
                    break
        if not made:
            return []
        children = list(made.values())
        logs = self._density(generation).log(self._cheap([p.architecture for p in children]))
        return [children[index] for index in draw_sparse(logs, self.options.accepted, rng)]

    def _parents(self, generation: _Generation, number: int, rng: Rng) -> list[Trial]:
        """Drawn with replacement, in proportion to the inverse density."""
        density = self._density(generation)
        logs = density.log(density.points)
        return [generation.front[draw_sparse(logs, 1, rng)[0]] for _ in range(number)]

    def _edit(self, parent: Trial, moves: dict[str, list[Architecture]], rng: Rng) -> Proposal:
        """Draw a morphism, then its place and numbers."""
        if not moves:
            child = self.space.mutate(parent.architecture, rng)
            return Proposal(child, (parent.number,), "morphism")
        move = list(moves)[int(rng.integers(len(moves)))]
        places = moves[move]
        return Proposal(places[int(rng.integers(len(places)))], (parent.number,), move)

    def _reaches(self, parent: Trial, child: Architecture) -> bool:
        """Whether the network can be built, and morphisms produce it."""
        if self._logs(child) is None:
            return False
        found = bridge(self.space, parent.architecture, child, self.frame, approximate=True)
        return found is not None

    # -- cheap objectives ------------------------------------------------------------------

    def _density(self, generation: _Generation) -> Density:
        return Density(self._cheap([trial.architecture for trial in generation.front]))

    def _cheap(self, architectures: Sequence[Architecture]) -> Reals:
        """(architectures, cheap objectives), as logarithms."""
        logs = [self._logs(each) or () for each in architectures]
        return np.array(logs, np.float64).reshape(len(logs), -1)

    def _logs(self, architecture: Architecture) -> tuple[float, ...] | None:
        """The logarithms of an architecture's cheap objectives, or None if it cannot be built."""
        key = self.space.key(architecture)
        if key not in self._known:
            try:
                values = [abs(v) for v in self.known(architecture)[1:] if math.isfinite(v)]
                self._known[key] = tuple(math.log(max(value, 1.0)) for value in values)
            except InfeasibleError:
                self._known[key] = None
        return self._known[key]
