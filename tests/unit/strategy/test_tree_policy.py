"""The policy over trees learns by the right gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from autograd import grad

from kinase.api.space import TreeSpace
from kinase.space.tree import Tree
from kinase.strategy import derive_rng
from kinase.strategy.policy import Adam, Parameters, Reinforce
from kinase.strategy.policy import tree_lstm as lstm
from kinase.strategy.policy.layers import Traced
from kinase.strategy.policy.reinforce import surrogate
from kinase.strategy.policy.trees import Choice, Episode, Player, TreePolicy
from tests.unit.strategy.helpers import assert_gradient

SPACE = Tree(TreeSpace(max_depth=2, ops=("conv_1x1", "max_pool_3x3"), widths=(2,)))
START: dict[str, Any] = {"merge": "none", "branches": [{"op": "layer"}]}


def policy(space: Tree = SPACE) -> tuple[TreePolicy, Parameters]:
    made = TreePolicy(space, embedding=3, units=4)
    p = made.parameters(derive_rng(1))
    # away from 0, so that no gate is at the same place as the others
    rng = derive_rng(2)
    return made, {name: value + rng.normal(0, 0.3, value.shape) for name, value in p.items()}


def episodes(made: TreePolicy, p: Parameters, count: int) -> list[Episode]:
    return [Player(made, p).play(START, derive_rng(3, i)) for i in range(count)]


def test_gradients_are_those_of_finite_differences() -> None:
    made, p = policy()
    drawn, advantages = episodes(made, p, 6), np.array([1.0, -0.5, 2.0, 0.3, -1.0, 0.7])
    merges = {node[0] for each in drawn for node in nodes(each)}
    assert merges == {"none", "add", "concat"}

    def loss(parameters: Parameters) -> Traced:
        return surrogate(made.score, parameters, drawn, advantages, 0.1)

    assert_gradient(loss, p, derive_rng(4))


def nodes(episode: Episode) -> list[lstm.Node]:
    """Every node that was read."""
    found: list[lstm.Node] = []

    def visit(node: lstm.Node) -> None:
        found.append(node)
        for _, below in node[1]:
            if below is not None:
                visit(below)

    for step in episode.steps:
        visit(step.focus[0])
    return found


def test_a_batch_is_scored_as_its_episodes_are_one_by_one() -> None:
    made, p = policy(Tree(TreeSpace(widths=(8,))))
    drawn = episodes(made, p, 5)
    logs, entropy = made.score(p, drawn)
    alone = [made.score(p, [each]) for each in drawn]
    assert logs == pytest.approx([float(each[0]) for each, _ in alone])
    assert entropy == pytest.approx(np.mean([float(each) for _, each in alone]))


def test_the_entropies_of_an_episodes_choices_are_summed() -> None:
    """As in the authors' code, which adds the gradients of all choices, then divides by the number
    of episodes."""
    made, p = policy()
    for episode in episodes(made, p, 4):
        each = [made.score(p, [Episode((step,), {})])[1] for step in episode.steps]
        assert made.score(p, [episode])[1] == pytest.approx(sum(each))


def test_probabilities_of_all_choices_are_one() -> None:
    made, p = policy()
    for step in {(s.actor, s.focus): s for e in episodes(made, p, 8) for s in e.steps}.values():
        every = [
            Episode((Choice(step.actor, step.focus, step.allowed, i),), {})
            for i in range(len(step.allowed))
        ]
        assert np.exp(made.score(p, every)[0]).sum() == pytest.approx(1)


def test_what_cannot_be_divided_is_masked() -> None:
    """Of two channels a second division is left out: it has no probability and no gradient."""
    made, p = policy()
    masked = 0
    for episode in episodes(made, p, 40):
        SPACE.validate(episode.architecture)
        joined = episode.cell["merge"] == "concat"
        for step in episode.steps:
            if step.actor == "merge":
                below = len(step.focus[1]) > 1 and joined
                assert step.allowed == (True, True, not below)
                masked += below
    assert masked
    focus = (("concat", (("layer", ("none", (("identity", None),))), ("layer", None))), (0, 0))
    step = Choice("merge", focus, (True, True, False), 0)

    def loss(parameters: Parameters) -> Traced:
        return surrogate(made.score, parameters, [Episode((step,), {})], np.ones(1), 0.1)

    found = grad(loss)(p)
    assert not np.any(found["merge.w"][:, 2])
    assert np.any(found["merge.w"][:, 0])
    mask = np.array([step.allowed], dtype=np.float64)
    logs = made.decide(p, "merge", lstm.encode(p, made.ops, [focus]), mask)
    assert np.exp(logs)[0, 2] == 0


def test_drawn_as_often_as_is_likely() -> None:
    made, p = policy(Tree(TreeSpace(max_depth=2, max_branches=2, ops=("conv_1x1",), widths=(2,))))
    player, counts = Player(made, p), dict[str, int]()
    drawn = [player.play(START, derive_rng(5, i)) for i in range(1000)]
    for episode in drawn:
        counts[repr(episode.cell)] = counts.get(repr(episode.cell), 0) + 1
    likely = np.exp(made.score(p, drawn[:40])[0])
    for episode, probability in zip(drawn, likely, strict=False):
        found = counts[repr(episode.cell)] / len(drawn)
        assert found == pytest.approx(probability, abs=4 * math.sqrt(probability / len(drawn)))


def test_what_the_encoder_sees() -> None:
    """The order of a sum's branches is not seen, that of a join's is; nor is one branch of a sum
    told from an equal one."""
    made, p = policy()

    def seen(merge: str, *branches: lstm.Branch, at: int) -> Any:
        tree: lstm.Node = ("none", (("layer", (merge, branches)),))
        return lstm.encode(p, made.ops, [(tree, (0, at))])[0]

    pool, conv = ("max_pool_3x3", None), ("conv_1x1", None)
    assert seen("add", pool, conv, at=0) == pytest.approx(seen("add", conv, pool, at=1))
    assert seen("add", pool, pool, at=0) == pytest.approx(seen("add", pool, pool, at=1))
    assert seen("add", pool, conv, at=0) != pytest.approx(seen("add", pool, pool, at=0))
    assert seen("concat", pool, pool, at=0) != pytest.approx(seen("concat", pool, pool, at=1))


def test_a_choice_that_is_rewarded_becomes_likely() -> None:
    """An operation behind the layer, at a learning rate and units of the authors."""
    space = Tree(TreeSpace(max_depth=2, ops=("conv_1x1", "max_pool_3x3"), merges=("add",)))
    made = TreePolicy(space, embedding=10, units=25)
    learner: Reinforce[Episode] = Reinforce(
        made.score, made.parameters(derive_rng(1)), Adam(6e-3), 0.95, 1e-2
    )
    good = {"op": "layer", "node": {"merge": "none", "branches": [{"op": "conv_1x1"}]}}

    def value(episode: Episode) -> float:
        cell = episode.cell
        return float(cell["merge"] == "none") + float(cell["branches"] == [good])

    for update in range(50):
        player = Player(made, learner.parameters)
        drawn = [player.play(START, derive_rng(1, update, i)) for i in range(10)]
        learner.update(drawn, [value(each) for each in drawn])
    player = Player(made, learner.parameters)
    last = [player.play(START, derive_rng(2, i)) for i in range(100)]
    assert np.mean([value(each) == 2 for each in last]) > 0.9
