"""Evolution by tournament selection, with removal of the oldest or the worst member."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from kinase.api.strategy import EvolutionStrategy
from kinase.history import History, Losses, Trial
from kinase.space import Rng
from kinase.strategy._fresh import check_start, mutate_fresh, random_fresh, start_fresh
from kinase.strategy.base import Proposal, Strategy
from kinase.strategy.pareto import crowding_distance, non_dominated_sort


class Evolution(Strategy):
    """Regularized evolution (Real et al. 2019, algorithm 1) and large-scale evolution's
    tournament (Real et al. 2017, section 3.1).

    The first `population` architectures are those of `start`, then random. After that every
    proposal draws `sample` members with replacement; the best becomes the parent, and a mutation of
    it the child. A child that ends joins the population, and one member dies: with `removal:
    oldest` the oldest, with `removal: worst` the worst of a tournament of two, as in Real et al.
    2017.

    With several objectives "better" is the lower non-dominated rank, then the larger crowding
    distance (Deb et al. 2002, section III), both in the whole population.

    If `population` or `sample` is not set, and no experiment has derived them from its budget, the
    values for an unknown budget are used.
    """

    options: EvolutionStrategy

    def __init__(self, *args: object, **kwargs: object) -> None:
        """See `Strategy`."""
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        check_start(self.space, self.options.start)
        sized = self.options.sized(None)
        assert sized.population is not None
        assert sized.sample is not None
        self._size, self._sample = sized.population, sized.sample
        self._population: deque[Trial] = deque()
        self._ranked: tuple[tuple[int, ...], list[Rank]] = ((), [])
        """Cache: the trials of the population, and their ranks."""

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """First random architectures, then children of the population."""
        start = self.options.start
        if history.begun < max(self._size, len(start)) or not self._population:
            return start_fresh(self.space, start, history, rng)
        parent = self._tournament(rng, self._sample)
        if self.space.crosses and self.options.crossover and rng.random() < self.options.crossover:
            other = self._tournament(rng, self._sample)
            child = self.space.crossover(parent.architecture, other.architecture, rng)
            if self.space.key(child) not in history.by_key:
                return Proposal(child, (parent.number, other.number), "crossover")
        mutated = mutate_fresh(self.space, parent.architecture, history, rng)
        if mutated is None:
            return random_fresh(self.space, history, rng)
        return Proposal(mutated, (parent.number,), "mutate")

    def _tournament(self, rng: Rng, size: int) -> Trial:
        drawn = [int(i) for i in rng.integers(len(self._population), size=size)]
        return self._population[self._best(drawn)]

    def _best(self, drawn: Sequence[int]) -> int:
        """The position of the best of some members; the first one if equal."""
        numbers = tuple(trial.number for trial in self._population)
        if self._ranked[0] != numbers:
            self._ranked = numbers, ranked([trial.losses for trial in self._population])
        return min(drawn, key=self._ranked[1].__getitem__)

    def parents_to_come(self, history: History) -> set[int]:
        """The population."""
        return {trial.number for trial in self._population}

    def observe(self, trial: Trial, history: History) -> None:
        """Add the trial to the population, and remove one member if it is too large.

        A trial without a value is never added, because it would take the place of a working parent.
        """
        if not trial.usable:
            return
        self._population.append(trial)
        if len(self._population) <= self._size:
            return
        if self.options.removal == "oldest":
            self._population.popleft()
            return
        rng = self.rng(trial.number)
        pair = [int(i) for i in rng.choice(len(self._population), size=2, replace=False)]
        winner = self._best(pair)
        loser = pair[0] if winner == pair[1] else pair[1]
        del self._population[loser]


Rank = tuple[float, ...]
"""Less is better."""


def ranked(losses: Sequence[Losses]) -> list[Rank]:
    """Rank of each member of a population: its loss or, with several objectives, its non-dominated
    rank, then its crowding distance within the rank (larger is better).
    """
    if not losses or len(losses[0]) == 1:
        return list(losses)
    fronts: dict[int, list[int]] = {}
    for index, rank in enumerate(non_dominated_sort(losses)):
        fronts.setdefault(rank, []).append(index)
    found: dict[int, Rank] = {}
    for rank, members in fronts.items():
        distances = crowding_distance([losses[i] for i in members])
        found |= {i: (rank, -d) for i, d in zip(members, distances, strict=True)}
    return [found[i] for i in range(len(losses))]
