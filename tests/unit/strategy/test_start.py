"""Searches that begin with given architectures."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.space import CellSpace
from kinase.api.strategy import EvolutionStrategy, LocalSearchStrategy
from kinase.space import ArchitectureError
from kinase.space.cell import Cell
from kinase.strategy.evolution import Evolution
from kinase.strategy.local_search import LocalSearch
from tests.unit.strategy.helpers import play

SPACE = Cell(CellSpace(preset="nasnet"))
NAMES = [{"named": "NASNet-A"}, {"named": "AmoebaNet-A"}]
KINDS: list[Any] = [
    (Evolution, EvolutionStrategy, {"population": 4, "sample": 4}),
    (LocalSearch, LocalSearchStrategy, {"initial": 3}),
]


def depth(architecture: Any) -> float:
    return -str(architecture).count("sep_conv")


@pytest.mark.parametrize(("strategy", "options", "fields"), KINDS)
def test_the_first_trials_are_those_that_are_given(
    strategy: Any, options: Any, fields: dict[str, Any]
) -> None:
    given = options.model_validate({**fields, "start": [*NAMES, NAMES[0]]})
    history = play(strategy(SPACE, given, 0), depth, 12)
    trials = list(history.asked)
    wanted = [SPACE.named["NASNet-A"], SPACE.named["AmoebaNet-A"]]
    assert [t.architecture for t in trials[:2]] == wanted  # one that comes twice is tried once
    assert SPACE.key(trials[2].architecture) not in map(SPACE.key, wanted)
    assert any(t.parents for t in trials)
    assert len({t.key for t in trials}) == 12


@pytest.mark.parametrize(("strategy", "options", "fields"), KINDS)
def test_without_a_start_nothing_has_changed(
    strategy: Any, options: Any, fields: dict[str, Any]
) -> None:
    given = options.model_validate(fields)
    one, other = (play(strategy(SPACE, given, 0), depth, 8) for _ in range(2))
    assert [t.key for t in one.asked] == [t.key for t in other.asked]
    assert not any(SPACE.key(a) in one.by_key for a in SPACE.named.values())


@pytest.mark.parametrize(("strategy", "options", "fields"), KINDS)
def test_a_start_that_is_not_of_the_space_is_refused(
    strategy: Any, options: Any, fields: dict[str, Any]
) -> None:
    given = options.model_validate({**fields, "start": [NAMES[0], {"named": "DARTS_V1"}]})
    with pytest.raises(ArchitectureError, match=r"^start\[1\]: named is 'DARTS_V1'; use one of"):
        strategy(SPACE, given, 0)


def test_a_start_larger_than_the_population_is_tried_whole() -> None:
    drawn = [SPACE.sample(Evolution(SPACE, EvolutionStrategy(), 0).rng(i)) for i in range(6)]
    options = EvolutionStrategy.model_validate({"population": 2, "sample": 2, "start": drawn})
    history = play(Evolution(SPACE, options, 0), depth, 8)
    assert [t.architecture for t in history.asked][:6] == drawn
    assert history.asked[6].parents
