"""Every strategy, with each of its choices, through the contract."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.strategy import Strategy as StrategyModel
from kinase.space import Space
from kinase.strategy import Strategy, make_strategy
from kinase.strategy.testing import Make, StrategyContract

MEMBERS: dict[str, dict[str, Any]] = {
    "random": {"type": "Random"},
    "local search, first": {"type": "LocalSearch", "localSearch": {"initial": 4}},
    "local search, best": {
        "type": "LocalSearch",
        "localSearch": {"initial": 4, "move": "best"},
    },
    "evolution, oldest": {"type": "Evolution", "evolution": {"population": 8, "sample": 4}},
    "evolution, worst": {
        "type": "Evolution",
        "evolution": {"population": 8, "sample": 2, "removal": "worst"},
    },
    "evolution, crossover": {
        "type": "Evolution",
        "evolution": {"population": 8, "sample": 4, "crossover": 0.5},
    },
}


class TestMembers(StrategyContract):
    @pytest.fixture(params=MEMBERS.values(), ids=MEMBERS.keys())
    def make(self, request: pytest.FixtureRequest) -> Make:
        model = StrategyModel.model_validate(request.param)

        def make(space: Space, seed: int = 0, objectives: int = 1) -> Strategy:
            return make_strategy(model, space, seed, objectives)

        return make
