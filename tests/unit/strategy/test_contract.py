"""Every strategy, with each of its choices, through the contract."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from kinase.api.space import ChainSpace
from kinase.api.strategy import Strategy as StrategyModel
from kinase.api.trial import Architecture
from kinase.morphism.bridge import Bridge, bridge
from kinase.space import Frame, Space
from kinase.space.chain import Chain
from kinase.strategy import Strategy, make_strategy
from kinase.strategy.base import FRAME
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
    "large-scale evolution": {
        "type": "LargeScaleEvolution",
        "largeScaleEvolution": {"population": 8, "start": "random"},
    },
    "bohb": {"type": "BOHB", "bohb": {"minPoints": 4, "samples": 8}},
}


class TestMembers(StrategyContract):
    @pytest.fixture(params=MEMBERS.values(), ids=MEMBERS.keys())
    def make(self, request: pytest.FixtureRequest) -> Make:
        model = StrategyModel.model_validate(request.param)

        def make(space: Space, seed: int = 0, objectives: int = 1) -> Strategy:
            return make_strategy(model, space, seed, objectives)

        return make


GROWERS: dict[str, dict[str, Any]] = {
    "nash": {"type": "NASH", "nash": {"neighbours": 4, "morphisms": 1, "initial": 2}},
    "nash, from scratch": {
        "type": "NASH",
        "nash": {"neighbours": 4, "morphisms": 1, "includeParent": False, "start": "small"},
    },
}
SMALL = ChainSpace(max_depth=3, ops=("conv",), widths=(4, 8, 16), kernels=(3, 5), strides=(1, 2))


@functools.cache
def bridged(parent: str, child: str) -> Bridge | None:
    return bridge(Chain(SMALL), json.loads(parent), json.loads(child), FRAME)


class TestGrowers(StrategyContract):
    """Strategies that look for bridges, which is slow: in a small space, each bridge once."""

    @pytest.fixture
    def space(self, monkeypatch: pytest.MonkeyPatch) -> Space:
        def known(_: Space, parent: Architecture, child: Architecture, frame: Frame) -> Any:
            return bridged(json.dumps(parent), json.dumps(child))

        monkeypatch.setattr("kinase.strategy._grow.bridge", known)
        return Chain(SMALL)

    @pytest.fixture(params=list(GROWERS.values()), ids=list(GROWERS))
    def make(self, request: pytest.FixtureRequest) -> Make:
        model = StrategyModel.model_validate(request.param)

        def make(space: Space, seed: int = 0, objectives: int = 1) -> Strategy:
            return make_strategy(model, space, seed, objectives)

        return make
