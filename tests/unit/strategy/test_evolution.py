"""Evolution against the toy problem of Real et al. 2019, and its invariants."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from kinase.api import Outcome
from kinase.api.strategy import EvolutionStrategy
from kinase.space import Graph, Rng, Size, Sketch, Space
from kinase.strategy.base import History, Trial, derive_rng
from kinase.strategy.evolution import Evolution, ranked
from tests.unit.strategy.helpers import screened

BITS = 100


class BitStrings(Space):
    """The toy of the paper's published notebook: strings of 100 bits."""

    def sample(self, rng: Rng) -> dict[str, Any]:
        return {"bits": [int(b) for b in rng.integers(0, 2, BITS)]}

    def validate(self, architecture: dict[str, Any]) -> None:
        assert len(architecture["bits"]) == BITS

    def neighbours(self, architecture: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for i in range(BITS):
            bits = list(architecture["bits"])
            bits[i] ^= 1
            yield {"bits": bits}

    def mutate(self, architecture: dict[str, Any], rng: Rng) -> dict[str, Any]:
        bits = list(architecture["bits"])
        bits[int(rng.integers(BITS))] ^= 1
        return {"bits": bits}

    def canonical(self, architecture: dict[str, Any]) -> Any:
        return architecture["bits"]

    def size(self) -> Size:
        return Size(2**BITS, exact=True)

    def vector(self, architecture: dict[str, Any]) -> Any:
        return np.array(architecture["bits"], dtype=np.float64)

    def paths(self, architecture: dict[str, Any]) -> frozenset[str]:
        return frozenset()

    def graph(self, architecture: dict[str, Any], frame: Any) -> Graph:
        raise NotImplementedError

    def sketch(self, architecture: dict[str, Any]) -> Sketch:
        raise NotImplementedError


def evolve(seed: int, removal: str, trials: int) -> tuple[Evolution, History]:
    space = BitStrings()
    options = EvolutionStrategy(population=100, sample=10, removal=removal)  # type: ignore[arg-type]
    strategy, history = Evolution(space, options, seed), History()
    noise = np.random.default_rng(seed)
    for number in range(trials):
        proposal = strategy.propose(history, derive_rng(seed, 0, number))
        assert proposal is not None
        trial = Trial(
            number, proposal.architecture, space.key(proposal.architecture), proposal.parents
        )
        history.ask(trial)
        strategy.asked(trial, history)
        value = sum(trial.architecture["bits"]) / BITS + 0.01 * noise.standard_normal()
        history.tell(number, Outcome.SUCCEEDED, (-value,))
        strategy.observe(trial, history)
    return strategy, history


def test_the_papers_toy_is_solved_as_published() -> None:
    best = []
    for seed in range(6):
        _, history = evolve(seed, "oldest", 1000)
        best.append(max(sum(t.architecture["bits"]) / BITS for t in history.told))
    assert all(0.85 <= value <= 1.0 for value in best), best
    assert 0.88 <= statistics.fmean(best) <= 0.97


def test_the_population_holds_the_youngest() -> None:
    strategy, _ = evolve(0, "oldest", 350)
    assert [t.number for t in strategy._population] == list(range(250, 350))


def test_removal_of_the_worst_keeps_the_best_for_ever() -> None:
    strategy, history = evolve(0, "worst", 350)
    best = min(history.told, key=lambda t: t.losses)
    assert best.number in {t.number for t in strategy._population}
    assert len(strategy._population) == 100


def test_the_first_population_is_of_trials_that_were_trained() -> None:
    """Not of candidates that a screen passed over."""
    space = BitStrings()
    options = EvolutionStrategy(population=2, sample=1)
    strategy, history = Evolution(space, options, 0), History()
    for _ in range(3):
        screened(strategy, history, space)
    assert [bool(trial.parents) for trial in history.asked] == [False] * 6 + [True] * 3


@pytest.mark.parametrize("removal", ["oldest", "worst"])
def test_children_descend_from_the_population(removal: str) -> None:
    _, history = evolve(1, removal, 250)
    assert all(t.parents == () for t in history.asked[:100])
    for trial in history.asked[100:]:
        [parent] = trial.parents
        ours, theirs = trial.architecture["bits"], history.by_number[parent].architecture["bits"]
        assert sum(a != b for a, b in zip(ours, theirs, strict=True)) == 1


# Sizes


@pytest.mark.parametrize(
    ("given", "trials", "sizes"),
    [
        ({}, 20, (10, 5)),
        ({}, 80, (20, 10)),
        ({}, 120, (30, 15)),
        ({}, 400, (100, 25)),  # the paper's
        ({}, 100_000, (100, 25)),
        ({}, None, (30, 15)),
        ({"population": 16}, 400, (16, 8)),
        ({"sample": 40}, 80, (40, 40)),
        ({"population": 100, "sample": 10}, 20, (100, 10)),
    ],
)
def test_sizes_follow_the_budget(given: Any, trials: int | None, sizes: tuple[int, int]) -> None:
    sized = EvolutionStrategy(**given).sized(trials)
    assert (sized.population, sized.sample) == sizes
    assert sized.sized(7) == sized


# Several objectives


def parents(losses: list[tuple[float, ...]], sample: int, draws: int) -> list[int]:
    """Who wins tournaments in a population of these losses."""
    options = EvolutionStrategy(population=len(losses), sample=sample)
    strategy, history = Evolution(BitStrings(), options, 0, len(losses[0])), History()
    rng = np.random.default_rng(0)
    for number, each in enumerate(losses):
        bits = {"bits": [int(b) for b in rng.integers(0, 2, BITS)]}
        history.ask(Trial(number, bits, str(number)))
        history.tell(number, Outcome.SUCCEEDED, each)
        strategy.observe(history.by_number[number], history)
    found = [strategy.propose(history, derive_rng(0, 0, n)) for n in range(draws)]
    return [p.parents[0] for p in found if p is not None]


def test_crowding_is_that_of_the_whole_population() -> None:
    """A line of points of which one stands apart: by the definition of Deb et al. 2002 the ends
    come first, then that one, whoever is drawn beside it."""
    line = [(x, 10.0 - x) for x in (0.0, 1.0, 2.0, 3.0, 6.5, 10.0)]
    ranks = ranked(line)
    assert ranks[0] == ranks[5] == (0, -math.inf)
    assert ranks[4] == pytest.approx((0, -2 * 7 / 10))
    assert ranks[1] == pytest.approx((0, -2 * 2 / 10))
    ladder = [(1.0, 1.0), (0.0, 0.0), (2.0, 2.0)]
    assert [rank for rank, _ in ranked(ladder)] == [1, 0, 2]


def test_the_ends_of_the_front_are_parents_as_often_as_they_are_drawn() -> None:
    """Of a population on one front the two ends are equal and before all others: a tournament of 2
    of 50 is theirs where one is drawn, 1 - (48 / 50)^2 of all. Ranked among those drawn, every pair
    is two ends, and the first one wins."""
    front = [(float(i), float(49 - i)) for i in range(50)]
    won = parents(front, 2, 2000)
    share = sum(parent in (0, 49) for parent in won) / len(won)
    assert share == pytest.approx(1 - (48 / 50) ** 2, abs=0.02)
    assert len(set(won)) > 45  # everyone else has children, too


def test_a_member_of_a_worse_front_is_no_parent_beside_a_better_one() -> None:
    points = [(float(i), float(9 - i)) for i in range(10)]
    behind = [(x + 20, y + 20) for x, y in points]
    won = parents(points + behind, 20, 200)
    assert sum(parent >= 10 for parent in won) == 0
