"""Evolution against the toy problem of Real et al. 2019, and its invariants."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from kinase.api import Outcome
from kinase.api.strategy import EvolutionStrategy
from kinase.space import Graph, Rng, Size, Sketch, Space
from kinase.strategy.base import History, Trial, derive_rng
from kinase.strategy.evolution import Evolution

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


@pytest.mark.parametrize("removal", ["oldest", "worst"])
def test_children_descend_from_the_population(removal: str) -> None:
    _, history = evolve(1, removal, 250)
    assert all(t.parents == () for t in history.asked[:100])
    for trial in history.asked[100:]:
        [parent] = trial.parents
        ours, theirs = trial.architecture["bits"], history.by_number[parent].architecture["bits"]
        assert sum(a != b for a, b in zip(ours, theirs, strict=True)) == 1
