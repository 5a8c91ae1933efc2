"""EAS: episodes of morphisms, and what the policy makes of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kinase.api import NASExperiment
from kinase.api.load import Document
from kinase.api.space import ChainSpace, MultiBranchSpace
from kinase.api.strategy import EASStrategy
from kinase.api.trial import Outcome
from kinase.experiment.check import check
from kinase.morphism.bridge import bridge
from kinase.space import ArchitectureError, Frame, Space
from kinase.space.chain import Chain
from kinase.space.multibranch import MultiBranch
from kinase.strategy import History, Proposal, Trial, derive_rng
from kinase.strategy.eas import EAS
from kinase.strategy.policy import reward
from kinase.strategy.random import Random
from kinase.strategy.testing import Make, Session, StrategyContract
from tests.cluster.crd_cases import manifest
from tests.unit.strategy.helpers import play

DEEP = ChainSpace(max_depth=12, widths=(4, 8, 16, 32), kernels=(1, 3, 5))


def eas(space: ChainSpace = DEEP, seed: int = 0, **options: Any) -> EAS:
    return EAS(Chain(space), EASStrategy(**options), seed)


def run(strategy: Any, value: Any, *args: Any, **kwargs: Any) -> History:
    """A search on a function of the layers."""
    return play(strategy, lambda each: value(each["layers"]), *args, **kwargs)


class TestContract(StrategyContract):
    """In a space where few episodes end at one network."""

    @pytest.fixture
    def space(self) -> Space:
        return Chain(ChainSpace(max_depth=6, widths=tuple(range(4, 68, 4)), kernels=(1, 3, 5, 7)))

    @pytest.fixture
    def make(self) -> Make:
        options = EASStrategy(
            initial="sampled",
            wider_steps=1,
            deeper_steps=1,
            batch=20,
            restart=20,
            reward="identity",
        )

        def make(space: Space, seed: int = 0, objectives: int = 1) -> EAS:
            return EAS(space, options, seed, objectives)

        return make


# -- the start network ---------------------------------------------------------------------


def test_the_start_is_small_and_of_the_authors_form() -> None:
    first = run(eas(ChainSpace(max_depth=12, strides=(1, 2))), len_of, 1).asked[0]
    ops = [layer["op"] for layer in first.architecture["layers"]]
    assert ops == ["conv", "maxpool"] * 3 + ["conv"]
    assert {layer.get("width", 8) for layer in first.architecture["layers"]} == {8}


@pytest.mark.parametrize(
    ("space", "depth"),
    [
        (ChainSpace(ops=("conv",), max_depth=20), 4),  # strides in place of pools
        (ChainSpace(ops=("conv",), strides=(1,), max_depth=20), 1),
        (ChainSpace(max_depth=8), 3),  # room for five more
        (ChainSpace(max_depth=4), 1),
        (ChainSpace(max_depth=9, min_depth=6), 6),
    ],
)
def test_the_start_fits_the_space(space: ChainSpace, depth: int) -> None:
    first = run(eas(space), len_of, 1).asked[0]
    Chain(space).validate(first.architecture)
    assert len(first.architecture["layers"]) == max(depth, space.min_depth)


def test_a_start_network_may_be_given() -> None:
    given = Chain(DEEP).sample(derive_rng(4))
    assert run(eas(architecture=given), len_of, 1).asked[0].architecture == given
    with pytest.raises(ArchitectureError, match="layers"):
        eas(architecture={"layers": []})


def test_a_start_that_does_not_work_is_followed_by_another() -> None:
    history = run(eas(), lambda chain: math.nan, 3, outcome=Outcome.FAILED)
    assert [trial.parents for trial in history.asked] == [(), (), ()]


def test_other_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match=r"MultiBranch, use space.type: Chain"):
        EAS(MultiBranch(MultiBranchSpace()), EASStrategy(), 0)
    with pytest.raises(ValueError, match="ops is maxpool: add conv"):
        eas(ChainSpace(ops=("maxpool",)))


def test_what_the_api_cannot_see_is_refused_with_its_field() -> None:
    document = manifest(
        {
            "strategy": {"type": "EAS"},
            "space": {"type": "Chain", "chain": {"ops": ["maxpool"]}},
        }
    )
    [problem] = check(NASExperiment.model_validate(document), Document("x.yaml", None, {}))
    assert "spec.strategy.type" in str(problem)
    assert "ops is maxpool: add conv" in str(problem)


# -- episodes ------------------------------------------------------------------------------


@pytest.mark.parametrize("ops", [("conv", "maxpool"), ("sepconv", "maxpool"), ("conv", "sepconv")])
@pytest.mark.parametrize("initial", ["small", "sampled"])
def test_an_episode_keeps_the_function_of_the_start(ops: Any, initial: Any) -> None:
    space = DEEP.model_copy(update={"ops": ops})
    strategy = eas(space, seed=3, initial=initial)
    history = run(strategy, len_of, 8)
    start = history.asked[0]
    for trial in history.asked[1:]:
        assert trial.parents == (start.number,)
        found = bridge(Chain(space), start.architecture, trial.architecture, Frame((1, 32, 32), 10))
        assert found is not None
        assert all(morphism.exact for morphism in found.morphisms)


def test_an_episode_has_its_steps() -> None:
    history = run(eas(wider_steps=2, deeper_steps=3), len_of, 20)
    small = history.asked[0].architecture["layers"]
    for trial in history.asked[1:]:
        chain = trial.architecture["layers"]
        assert len(chain) == len(small) + 3
        assert {layer["stride"] for layer in chain if layer["op"] == "conv"} == {1}
        assert max(layer.get("width", 0) for layer in chain) <= 16  # 4, twice the next larger


def test_the_best_becomes_the_start_where_that_is_wished() -> None:
    history = run(eas(restart=7, wider_steps=1, deeper_steps=1), len_of, 30)
    parents = [trial.parents[0] for trial in history.asked[1:]]
    assert parents[:7] == [0] * 7
    best = min(history.asked[:8], key=lambda trial: trial.losses)
    assert parents[7:14] == [best.number] * 7
    assert len(set(parents)) == 5


def test_a_network_that_was_tried_counts_with_what_came_of_it() -> None:
    """Four networks can be reached, so most episodes end at one that is known."""
    space = ChainSpace(max_depth=2, ops=("conv",), widths=(4, 8), kernels=(3,), strides=(1,))
    strategy = eas(space, wider_steps=1, deeper_steps=1, reward="identity", batch=4)
    seen: list[tuple[int, list[float]]] = []
    learner = strategy._learner
    update = learner.update

    def noted(episodes: Any, rewards: Any) -> None:
        seen.append((len(episodes), list(rewards)))
        update(episodes, rewards)

    learner.update = noted  # type: ignore[method-assign]
    history = run(strategy, lambda chain: sum(layer["width"] for layer in chain), 6)
    values = {key: -trial.losses[0] for key, trial in history.by_key.items()}
    assert len(values) == 6
    assert seen
    assert all(count >= 4 for count, _ in seen)
    assert sum(count for count, _ in seen) > 5  # more episodes than trials
    assert {value for _, rewards in seen for value in rewards} <= set(values.values())


def test_what_cannot_work_counts_as_the_worst_and_what_failed_not_at_all() -> None:
    strategy = eas(reward="identity")
    trials = [
        Trial(0, {}, "a", outcome=Outcome.SUCCEEDED, losses=(-0.25,)),
        Trial(1, {}, "b", outcome=Outcome.INFEASIBLE, losses=(math.inf,)),
        Trial(2, {}, "c", outcome=Outcome.FAILED, losses=(math.inf,)),
    ]
    assert strategy._reward(trials[1]) is None  # nothing has worked yet
    strategy.observe(trials[0], History())
    assert [strategy._reward(trial) for trial in trials] == [0.25, 0.25, None]


def test_a_network_that_this_policy_does_not_draw_is_not_learned_from() -> None:
    strategy = eas()
    session = Session(strategy)
    start = session.propose()
    assert start is not None
    session.ask(start)
    session.ask(Proposal(Chain(DEEP).sample(derive_rng(9))))
    assert strategy._batch == []
    drawn = session.propose()
    assert drawn is not None
    session.ask(drawn)
    assert [episode.chain for _, episode in strategy._batch] == [drawn.architecture["layers"]]


# -- what the policy learns ----------------------------------------------------------------


def len_of(chain: list[dict[str, Any]]) -> float:
    return len(chain) / 100 + sum(layer.get("width", 0) for layer in chain) / 10_000


def capacity(chain: list[dict[str, Any]]) -> float:
    """Deeper and wider is better, an accuracy that comes close to 1."""
    size = sum(math.log2(layer["width"]) for layer in chain if layer["op"] == "conv")
    return 1 - 2 ** (-size / 16)


@pytest.mark.parametrize("seed", [1, 2])
def test_it_beats_random_search_where_more_is_better(seed: int) -> None:
    trials = 30
    found = {}
    for name, strategy in (
        ("eas", eas(seed=seed)),
        ("random", Random(Chain(DEEP), None, seed)),
    ):
        history = run(strategy, capacity, trials, seed)
        found[name] = [-trial.losses[0] for trial in history.asked]
    assert max(found["eas"]) > max(found["random"])
    assert np.mean(found["eas"][-15:]) > np.mean(found["random"][-15:])


def test_it_learns_from_its_rewards() -> None:
    """What is rewarded here, a window of 5, no episode begins with."""
    strategy = eas(reward="identity", learning_rate=0.01)

    def fives(chain: list[dict[str, Any]]) -> float:
        return sum(layer["kernel"] == 5 for layer in chain) / 5

    values = [-trial.losses[0] for trial in run(strategy, fives, 51).asked]
    assert np.mean(values[1:11]) < 0.5
    assert np.mean(values[-20:]) > 0.8
    assert strategy._learner.updates == 5


def test_the_rewards_are_the_papers() -> None:
    strategy = eas()
    trial = Trial(0, {}, "a", outcome=Outcome.SUCCEEDED, losses=(-0.5,))
    assert strategy._reward(trial) == reward(-0.5, "tan") == pytest.approx(1)
