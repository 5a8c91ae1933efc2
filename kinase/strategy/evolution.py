"""Evolution by tournament selection, with removal of the oldest or of the worst."""

from __future__ import annotations

from collections import deque

from kinase.api.strategy import EvolutionStrategy
from kinase.space import Rng
from kinase.strategy._fresh import check_start, mutate_fresh, random_fresh, start_fresh
from kinase.strategy.base import History, Losses, Proposal, Strategy, Trial
from kinase.strategy.pareto import crowding_distance, non_dominated_sort


class Evolution(Strategy):
    """Regularised evolution (Real et al. 2019, algorithm 1) and large-scale evolution's
    tournament (Real et al. 2017, section 3.1).

    The first `population` architectures are those of `start`, then random. After that every
    proposal draws `sample` members with replacement; the best becomes the parent, and a mutation of
    it the child. A child that ends joins the population, and one member dies: with `removal:
    oldest` the oldest, with `removal: worst` the worst of a tournament of two, as in Real et al.
    2017.

    With several objectives "better" is the lower non-dominated rank, then the larger crowding
    distance (Deb et al. 2002), both among the members drawn.
    """

    options: EvolutionStrategy

    def __init__(self, *args: object, **kwargs: object) -> None:
        """See `Strategy`."""
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        check_start(self.space, self.options.start)
        self._population: deque[Trial] = deque()

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """A random architecture at first, then a child of the population."""
        size = self.options.population
        start = self.options.start
        if len(history.asked) < max(size, len(start)) or not self._population:
            return start_fresh(self.space, start, history, rng)
        parent = self._tournament(rng, self.options.sample)
        if self.space.crosses and self.options.crossover and rng.random() < self.options.crossover:
            other = self._tournament(rng, self.options.sample)
            child = self.space.crossover(parent.architecture, other.architecture, rng)
            if self.space.key(child) not in history.by_key:
                return Proposal(child, (parent.number, other.number), "crossover")
        mutated = mutate_fresh(self.space, parent.architecture, history, rng)
        if mutated is None:
            return random_fresh(self.space, history, rng)
        return Proposal(mutated, (parent.number,), "mutate")

    def _tournament(self, rng: Rng, size: int) -> Trial:
        drawn = [self._population[int(i)] for i in rng.integers(len(self._population), size=size)]
        return drawn[best(tuple(t.losses for t in drawn))]

    def parents_to_come(self, history: History) -> set[int]:
        """The population."""
        return {trial.number for trial in self._population}

    def observe(self, trial: Trial, history: History) -> None:
        """The trial joins the population; beyond its size one member dies.

        A trial without a value never joins: it could not become a parent of anything that
        works, and its place is worth more to one that did.
        """
        if not trial.usable:
            return
        self._population.append(trial)
        if len(self._population) <= self.options.population:
            return
        if self.options.removal == "oldest":
            self._population.popleft()
            return
        rng = self.rng(trial.number)
        pair = [int(i) for i in rng.choice(len(self._population), size=2, replace=False)]
        winner = pair[best(tuple(self._population[i].losses for i in pair))]
        loser = pair[0] if winner == pair[1] else pair[1]
        del self._population[loser]


def best(losses: tuple[Losses, ...]) -> int:
    """Index of the best; the first among equals."""
    if len(losses[0]) == 1:
        return min(range(len(losses)), key=lambda i: losses[i])
    ranks = non_dominated_sort(losses)
    front = [i for i, rank in enumerate(ranks) if rank == 0]
    distances = crowding_distance([losses[i] for i in front])
    return front[max(range(len(front)), key=lambda i: (distances[i], -i))]
