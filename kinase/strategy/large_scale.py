"""Large-scale evolution: of two random members, the worse dies and the better has a child."""

from __future__ import annotations

import math

from kinase.api.strategy import LargeScaleEvolutionStrategy
from kinase.api.trial import Architecture
from kinase.history import History, Trial
from kinase.space import Rng
from kinase.strategy._fresh import mutate_fresh, random_fresh, sample_fresh
from kinase.strategy._grow import sample_small
from kinase.strategy.base import Proposal, Strategy
from kinase.strategy.evolution import Rank, ranked

ATTEMPTS = 16
"""Number of mutations drawn to find one of a kind, before all neighbours are listed."""
EDITS = 8
"""Number of kinds of edits in the paper: the weight of edits if a space does not distinguish
kinds."""
RATES = (1e-3, 1e3)
"""Bounds of the product of the factors on the learning rate along a lineage."""


class LargeScaleEvolution(Strategy):
    """Large-scale evolution of image classifiers (Real et al. 2017, sections 3.1 and 3.2).

    The first `population` networks are drawn from the space. After that every proposal draws two
    members; the worse dies, the better is copied and the copy mutated: by an edit of its
    architecture, a change of its learning rate, a reset of its weights, or not at all (it is
    trained further). The kinds of mutation are equally probable. A finished child joins the
    population; if it has no value, the next tournament removes nobody.

    Several objectives are compared as in `Evolution`.
    """

    options: LargeScaleEvolutionStrategy

    def __init__(self, *args: object, **kwargs: object) -> None:
        """See `Strategy`."""
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._population: list[Trial] = []
        self._ranked: tuple[tuple[int, ...], list[Rank]] = ((), [])
        """Cache: the trials of the population, and their ranks."""

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """First random networks, then children of the better of two members."""
        if history.begun < self.options.population or len(self._population) < 2:
            return self._first(history, rng)
        parent, _ = self._tournament(0, len(history.asked))
        kinds = self._kinds
        kind = kinds[int(rng.integers(len(kinds)))]
        if kind in self._others:
            return self._other(kind, parent, history, rng)
        child, kind = self._edit(kind, parent.architecture, history, rng)
        if child is None:
            return random_fresh(self.space, history, rng)
        return Proposal(child, (parent.number,), kind, parent.learning_rate)

    @property
    def _others(self) -> dict[str, bool]:
        """Mutations that keep the architecture, and whether they are enabled."""
        o = self.options
        return {
            "alter-learning-rate": o.alter_learning_rate,
            "identity": o.identity,
            "reset-weights": o.reset_weights,
        }

    @property
    def _kinds(self) -> list[str]:
        """The kinds of mutation to draw from. If a space does not distinguish its edits, they have
        the same total weight as in the paper."""
        others = [kind for kind, wanted in self._others.items() if wanted]
        return [*others, *(self.space.kinds or ("mutate",) * EDITS)]

    def _first(self, history: History, rng: Rng) -> Proposal | None:
        small = self.options.start == "small"
        found = sample_small(self.space, self.frame, history, rng) if small else None
        return random_fresh(self.space, history, rng) if found is None else Proposal(found)

    def _other(self, kind: str, parent: Trial, history: History, rng: Rng) -> Proposal | None:
        """The parent's architecture again, or None if the space has no other architecture."""
        if sample_fresh(self.space, history, rng) is None:
            return None
        rate = parent.learning_rate
        if kind == "alter-learning-rate":
            most = math.log(self.options.learning_rate_step)
            rate *= math.exp(rng.uniform(-most, most))
            rate = min(max(rate, RATES[0]), RATES[1])
        inherits = kind != "reset-weights"
        return Proposal(parent.architecture, (parent.number,), kind, rate, inherits)

    def _edit(
        self, kind: str, parent: Architecture, history: History, rng: Rng
    ) -> tuple[Architecture | None, str]:
        """A new architecture by an edit of a kind, or by any edit; with its kind."""
        if kind != "mutate":
            for _ in range(ATTEMPTS):
                child = self.space.mutate(parent, rng)
                if self.space.kind(parent, child) == kind and self._new(child, history):
                    return child, kind
            all_such = [
                e for e in self.space.neighbours(parent) if self.space.kind(parent, e) == kind
            ]
            left = [each for each in all_such if self._new(each, history)]
            if left:
                return left[int(rng.integers(len(left)))], kind
        return mutate_fresh(self.space, parent, history, rng), "mutate"

    def _new(self, architecture: Architecture, history: History) -> bool:
        return self.space.key(architecture) not in history.by_key

    def _tournament(self, *labels: int) -> tuple[Trial, Trial]:
        """The better and the worse of two random members."""
        drawn = self.rng(*labels).choice(len(self._population), size=2, replace=False)
        ranks = self._ranks()
        first, second = (int(index) for index in drawn)
        if ranks[second] < ranks[first]:
            first, second = second, first
        return self._population[first], self._population[second]

    def _ranks(self) -> list[Rank]:
        numbers = tuple(trial.number for trial in self._population)
        if self._ranked[0] != numbers:
            self._ranked = numbers, ranked([trial.losses for trial in self._population])
        return self._ranked[1]

    def parents_to_come(self, history: History) -> set[int]:
        """The population."""
        return {trial.number for trial in self._population}

    def asked(self, trial: Trial, history: History) -> None:
        """Remove the loser of the child's tournament, unless a place is free."""
        if not trial.parents:
            return
        _, loser = self._tournament(0, len(history.asked) - 1)
        if len(self._population) + history.outstanding - 1 >= self.options.population:
            self._population.remove(loser)

    def observe(self, trial: Trial, history: History) -> None:
        """Add the trial to the population, if it has a value."""
        if not trial.usable:
            return
        self._population.append(trial)
        if len(self._population) > self.options.population:
            # more were started initially than it holds, so that no slot waited
            _, loser = self._tournament(1, trial.number)
            self._population.remove(loser)
