"""Path-level transformation: episodes that unfold a cell, and what the policy makes of them."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

from kinase.api import NASExperiment
from kinase.api.load import Document
from kinase.api.space import ChainSpace, TreeSpace
from kinase.api.strategy import PathLevelStrategy
from kinase.api.trial import Outcome
from kinase.experiment.check import check
from kinase.morphism.bridge import bridge
from kinase.space import ArchitectureError, Frame, Space
from kinase.space.chain import Chain
from kinase.space.tree import Tree
from kinase.strategy import History, derive_rng
from kinase.strategy.path_level import PathLevel
from kinase.strategy.policy import Parameters, reward, tree_lstm
from kinase.strategy.testing import Make, StrategyContract
from tests.cluster.crd_cases import manifest
from tests.unit.strategy.helpers import play

START = {"cell": {"merge": "none", "branches": [{"op": "layer"}]}}
TWO = TreeSpace(max_depth=2, widths=(8, 16), cells=1)


def path_level(space: TreeSpace = TWO, seed: int = 0, **options: Any) -> PathLevel:
    return PathLevel(Tree(space), PathLevelStrategy(**{"units": 8, **options}), seed)


def run(strategy: Any, value: Any, *args: Any, **kwargs: Any) -> History:
    """A search on a function of the cell."""
    return play(strategy, lambda each: value(each["cell"]), *args, **kwargs)


def count(cell: dict[str, Any], op: str) -> int:
    return sum(
        (each["op"] == op) + (count(each["node"], op) if "node" in each else 0)
        for each in cell["branches"]
    )


encode = tree_lstm.encode
READ: dict[object, Any] = {}


def read_once(p: Parameters, ops: Any, asked: Any) -> Any:
    """What the encoder says, found out once: the contract begins many searches anew."""
    if not isinstance(p["ops"], np.ndarray):
        return encode(p, ops, asked)  # for its gradient
    key = (*(value.tobytes() for value in p.values()), ops, *asked)
    if key not in READ:
        READ[key] = encode(p, ops, asked)
    return READ[key]


class TestContract(StrategyContract):
    """In a space of short episodes, with few units."""

    @pytest.fixture(autouse=True)
    def known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tree_lstm, "encode", read_once)

    @pytest.fixture
    def space(self) -> Space:
        ops = ("conv_1x1", "sep_conv_3x3", "sep_conv_5x5", "max_pool_3x3", "avg_pool_3x3")
        return Tree(TreeSpace(max_depth=2, max_branches=2, ops=ops))

    @pytest.fixture
    def tiny(self) -> Space | None:
        return Tree(TreeSpace(max_depth=2, max_branches=2, ops=("conv_1x1",), widths=(2,)))

    @pytest.fixture
    def make(self) -> Make:
        options = PathLevelStrategy(embedding=2, units=2, batch=20, reward="identity", entropy=0)

        def make(space: Space, seed: int = 0, objectives: int = 1) -> PathLevel:
            return PathLevel(space, options, seed, objectives)

        return make


# -- the start network ---------------------------------------------------------------------


def test_the_start_is_one_layer() -> None:
    history = run(path_level(), lambda cell: 0.5, 3)
    assert history.asked[0].architecture == START
    assert [trial.parents for trial in history.asked] == [(), (0,), (0,)]


def test_a_start_network_may_be_given() -> None:
    given = Tree(TWO).sample(derive_rng(4))
    assert run(path_level(architecture=given), lambda cell: 0.5, 1).asked[0].architecture == given
    with pytest.raises(ArchitectureError, match="cell is"):
        path_level(architecture={"cell": []})


def test_what_the_start_has_stays() -> None:
    branch = {
        "op": "layer",
        "node": {"merge": "add", "branches": [{"op": "identity"}, {"op": "sep_conv_7x7"}]},
    }
    given = {"cell": {"merge": "concat", "branches": [branch, {"op": "layer"}]}}
    before = copy.deepcopy(given)
    history = run(path_level(TreeSpace(), architecture=given), lambda cell: 0.5, 12)
    for trial in history.asked:
        cell = trial.architecture["cell"]
        assert cell["merge"] == "concat"
        node = cell["branches"][0]["node"]
        assert [node["merge"], node["branches"][1]["op"]] == ["add", "sep_conv_7x7"]
    assert given == before


def test_a_start_that_does_not_work_has_no_children_and_is_unfolded_all_the_same() -> None:
    history = run(path_level(), lambda cell: math.nan, 4, outcome=Outcome.FAILED)
    assert [trial.parents for trial in history.asked] == [()] * 4
    again = run(path_level(), lambda cell: 0.5, 4)
    assert [t.architecture for t in history.asked] == [t.architecture for t in again.asked]


def test_other_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Chain, use space.type: Tree"):
        PathLevel(Chain(ChainSpace()), PathLevelStrategy(), 0)


def test_a_start_of_another_space_is_refused_with_its_field() -> None:
    document = manifest(
        {
            "strategy": {"type": "PathLevel", "pathLevel": {"architecture": {"layers": []}}},
            "space": {"type": "Tree"},
        }
    )
    [problem] = check(NASExperiment.model_validate(document), Document("x.yaml", None, {}))
    assert "spec.strategy.pathLevel.architecture" in str(problem)
    assert "an object with the field cell" in str(problem)


# -- episodes ------------------------------------------------------------------------------


def test_most_episodes_without_pools_keep_the_function_of_the_start() -> None:
    ops = ("conv_1x1", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7")
    space = TreeSpace(ops=ops, widths=(8, 16), cells=1)
    kept = 0
    for trial in run(path_level(space), lambda cell: 0.5, 31).asked[1:]:
        found = bridge(Tree(space), START, trial.architecture, Frame((1, 16, 16), 10))
        kept += found is not None and found.exact
    assert kept > 18


# -- what the policy learns ----------------------------------------------------------------


def test_it_learns_from_its_rewards() -> None:
    """Rewarded is a large window behind the layer, which few episodes have at first."""
    strategy = path_level(reward="identity", units=25)

    def sevens(cell: dict[str, Any]) -> float:
        return float(min(count(cell, "sep_conv_7x7"), 2))

    values = [-trial.losses[0] for trial in run(strategy, sevens, 121).asked]
    assert np.mean(values[1:21]) < 0.8
    assert np.mean(values[-20:]) > 1.5
    assert strategy._learner.updates >= 11


def test_the_rewards_are_the_papers() -> None:
    strategy = path_level()
    history = run(strategy, lambda cell: 0.5, 1)
    assert strategy._reward(history.asked[0]) == reward(-0.5, "tan") == pytest.approx(1)
