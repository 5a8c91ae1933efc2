"""Policies learn by the right gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from kinase.api.space import ChainSpace
from kinase.space.chain import Chain
from kinase.strategy import derive_rng
from kinase.strategy.policy import Adam, Baseline, Parameters, Reinforce, reward
from kinase.strategy.policy.chains import ChainPolicy, Deeper, Episode, Player, Wider
from kinase.strategy.policy.layers import Traced, log_softmax, softmax_entropy
from kinase.strategy.policy.reinforce import surrogate
from tests.unit.strategy.helpers import assert_gradient

SPACE = Chain(ChainSpace(max_depth=7, widths=(4, 8, 16), kernels=(1, 3, 5), skips=True))
CONV = {"op": "conv", "width": 4, "kernel": 3, "stride": 1, "skip": None}
POOL = {"op": "maxpool", "kernel": 3, "stride": 2, "skip": None}
START = [CONV, POOL, {**CONV, "width": 16}]
"""The last layer cannot be made wider; the first block has one place, the second one, too."""


def policy() -> tuple[ChainPolicy, Parameters]:
    made = ChainPolicy(SPACE, embedding=3, units=4)
    return made, made.parameters(derive_rng(1))


def episodes(made: ChainPolicy, p: Parameters, count: int = 4) -> list[Episode]:
    # different numbers of steps give sequences of different lengths
    return [Player(made, p).play(START, i % 3, 3 - i % 2, derive_rng(2, i)) for i in range(count)]


# -- the policy of chains ------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences() -> None:
    made, p = policy()
    drawn, advantages = episodes(made, p), np.array([1.0, -0.5, 2.0, 0.3])

    def loss(parameters: Parameters) -> Traced:
        return surrogate(made.score, parameters, drawn, advantages, 0.1)

    assert_gradient(loss, p, derive_rng(3))


def test_a_batch_is_scored_as_its_episodes_are_one_by_one() -> None:
    made, p = policy()
    drawn = episodes(made, p, 6)
    logs, entropy = made.score(p, drawn)
    alone = [made.score(p, [each]) for each in drawn]
    assert logs == pytest.approx([each[0] for each, _ in alone])
    steps = [len(each.steps) for each in drawn]
    assert entropy == pytest.approx(
        sum(spread * n for (_, spread), n in zip(alone, steps, strict=True)) / sum(steps)
    )


def test_probabilities_of_all_choices_are_one() -> None:
    made, p = policy()
    tokens = Player(made, p).play(START, 1, 0, derive_rng(0)).steps[0].tokens
    free = (True, False, False)
    wider = [Episode((Wider(tokens, free, (yes, False, False)),), []) for yes in (True, False)]
    assert np.exp(made.score(p, wider)[0]).sum() == pytest.approx(1)
    deeper = [
        Episode((Deeper(tokens, (2, 0, 1), (block, place, window)),), [])
        for block, places in ((0, 2), (2, 1))
        for place in range(places)
        for window in range(3)
    ]
    assert np.exp(made.score(p, deeper)[0]).sum() == pytest.approx(1)


def test_a_layer_that_cannot_be_made_wider_has_no_gradient() -> None:
    made, p = policy()
    tokens = Player(made, p).play(START, 1, 0, derive_rng(0)).steps[0].tokens

    def loss(parameters: Parameters, chosen: tuple[bool, ...]) -> Traced:
        step = Wider(tokens, (True, False, False), chosen)
        return surrogate(made.score, parameters, [Episode((step,), [])], np.ones(1), 0.1)

    one, other = (grad(loss)(p, (True, False, last)) for last in (False, True))
    for name in p:
        assert np.array_equal(one[name], other[name])
    assert any(np.any(one[name]) for name in p)


def test_a_choice_that_is_not_allowed_has_no_probability_and_no_gradient() -> None:
    allowed = np.array([[1.0, 0.0, 1.0]])

    def loss(logits: Traced) -> Traced:
        logs = log_softmax(logits, allowed)
        return logs[0, 0] + anp.sum(softmax_entropy(logs))

    logits = np.array([[0.3, 5.0, -0.2]])
    assert np.exp(log_softmax(logits, allowed))[0, 1] == 0
    assert grad(loss)(logits)[0, 1] == 0
    assert grad(loss)(logits)[0, 0] != 0


def test_drawn_as_often_as_is_likely() -> None:
    made, p = policy()
    counts: dict[object, int] = {}
    player = Player(made, p)
    drawn = [player.play(START, 1, 1, derive_rng(5, i)) for i in range(1000)]
    for episode in drawn:
        key = tuple(step.chosen for step in episode.steps)
        counts[key] = counts.get(key, 0) + 1
    likely = np.exp(made.score(p, drawn)[0])
    for episode, probability in zip(drawn[:50], likely, strict=False):
        found = counts[tuple(step.chosen for step in episode.steps)] / len(drawn)
        assert found == pytest.approx(probability, abs=4 * math.sqrt(probability / len(drawn)))


# -- learning ------------------------------------------------------------------------------


def bandit(p: Parameters, arms: Sequence[int]) -> tuple[Traced, Traced]:
    logs = log_softmax(anp.reshape(p["arms"], (1, -1)))
    return anp.sum(np.eye(len(p["arms"]))[list(arms)] * logs, axis=1), anp.sum(
        softmax_entropy(logs)
    )


def test_the_expected_gradient_of_two_arms_is_the_closed_form() -> None:
    logits, rewards = np.array([0.7, -0.4]), (3.0, 1.0)
    chance = np.exp(logits) / np.exp(logits).sum()
    for baseline in (0.0, 1.7):
        expected = sum(
            chance[arm]
            * grad(
                lambda p, arm=arm, b=baseline: surrogate(
                    bandit, p, [arm], np.array([rewards[arm] - b]), 0.0
                )
            )({"arms": logits})["arms"]
            for arm in (0, 1)
        )
        rise = chance[0] * chance[1] * (rewards[0] - rewards[1])
        assert expected == pytest.approx([-rise, rise])  # of a loss: less is better


@pytest.mark.parametrize("seed", range(2))
def test_the_good_one_of_two_arms_is_found(seed: int) -> None:
    learner = Reinforce(bandit, {"arms": np.zeros(2)}, Adam(0.05), 0.95, 1e-5)
    rng = derive_rng(seed)
    for _ in range(100):
        chance = np.exp(learner.parameters["arms"])
        arms = [int(rng.random() < chance[1] / chance.sum()) for _ in range(10)]
        learner.update(arms, [float(arm) for arm in arms])
    assert np.exp(bandit(learner.parameters, [1])[0][0]) > 0.9


def test_the_baseline_is_the_closed_form() -> None:
    baseline, decay = Baseline(0.95), 0.95
    batches = [np.array([1.0, 3.0]), np.array([4.0, 4.0]), np.array([-1.0, 2.0])]
    for count, batch in enumerate(batches, start=1):
        above = baseline.advantages(batch)
        wanted = sum(
            decay * (1 - decay) ** (count - 1 - i) * batches[i].mean() for i in range(count)
        )
        assert baseline.value == pytest.approx(wanted)
        assert above == pytest.approx(batch - wanted)


def test_rewards() -> None:
    assert reward(-0.5, "tan") == pytest.approx(1)
    assert reward(-0.25, "tan") == pytest.approx(math.sqrt(2) - 1)
    assert reward(0.2, "tan") == 0
    assert reward(-1.0, "tan") == reward(-7.0, "tan") == pytest.approx(636.6, abs=0.1)
    assert reward(0.2, "identity") == -0.2


def test_a_decision_that_is_rewarded_becomes_likely() -> None:
    made = ChainPolicy(SPACE, embedding=16, units=50)
    learner: Reinforce[Episode] = Reinforce(
        made.score, made.parameters(derive_rng(1)), Adam(2e-3), 0.95, 1e-5
    )
    for update in range(25):
        drawn = [
            Player(made, learner.parameters).play(START, 0, 1, derive_rng(1, update, i))
            for i in range(10)
        ]
        learner.update(drawn, [float(each.steps[0].chosen[2] == 2) for each in drawn])
    tokens = drawn[0].steps[0].tokens
    good = [
        Episode((Deeper(tokens, (1, 1), (block, 0, 2)),), [])
        for block in (0, 1)  # wherever it is put in
    ]
    assert np.exp(made.score(learner.parameters, good)[0]).sum() > 0.9
