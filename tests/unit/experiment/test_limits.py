"""Limits that every candidate is within, by every strategy and estimation."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kinase.api import Kind, NASExperiment, Outcome, TrialJob
from kinase.api.load import ManifestError
from kinase.api.within import Limit
from kinase.experiment import draws
from kinase.experiment.draws import none_within
from kinase.experiment.given import counter, said_of_limits
from kinase.experiment.loop import Loop
from kinase.experiment.nothing import why
from kinase.space import make_space
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, WRITES, experiment, make_loop, score, told
from tests.unit.experiment.test_loop import Killed, Mortal
from tests.unit.experiment.test_one_shot import KNOWS, LEFT, engine, one_shot

MOST = 200
"""About one in three chains of the toy's space has so few parameters."""
LAYER = {"op": "conv", "width": 8, "kernel": 3, "stride": 1}
LARGE = {"layers": [LAYER] * 4}
CHAINS = ["Random", "LocalSearch", "Evolution", "BOHB", "LargeScaleEvolution", "LEMONADE", "EAS"]


CHAIN = {"type": "Chain", "chain": {"maxDepth": 4, "widths": [4, 8], "strides": [1]}}
"""No network vanishes."""


def limited(most: int = MOST, metric: str = "params", **spec: Any) -> NASExperiment:
    also = spec.pop("also", [])
    objective = {"limits": [{"metric": metric, "most": most}], "also": also}
    return experiment(**{"space": CHAIN, "objective": objective, **spec})


def trained(loop: Loop) -> list[Any]:
    return [t for t in loop.state.trials.values() if t.kind is not Kind.BASELINE and t.cost.epochs]


@pytest.mark.parametrize("strategy", CHAINS)
def test_nothing_above_a_limit_is_trained_or_charged(strategy: str) -> None:
    also = [{"metric": "params"}] if strategy == "LEMONADE" else []
    loop = make_loop(limited(strategy={"type": strategy}, budget={"trials": 10}, also=also))
    state = loop.run()
    assert trained(loop)
    assert all(t.resources["params"] <= MOST for t in trained(loop))
    assert {Kind.SEARCH, Kind.FINAL} <= {t.kind for t in trained(loop)}
    above = [t for t in state.trials.values() if t.resources.get("params", 0) > MOST]
    assert all(t.excluded and t.outcome is Outcome.INFEASIBLE for t in above)
    assert all(not t.cost.epochs and "is above the limit 200" in t.message for t in above)
    assert len(above) == state.excluded
    if strategy == "EAS":  # its episodes only grow
        assert state.ended is not None
        assert "is within objective.limits" in state.ended
    else:
        assert state.searched == 10


@pytest.mark.parametrize(
    "estimation",
    [
        {"type": "ASHA"},
        {"type": "Hyperband"},
        {"type": "Full", "screen": {"pool": 3, "proxies": ["params"]}},
        {"type": "Morphism"},
    ],
    ids=lambda e: e["type"],
)
def test_limits_hold_under_every_estimation(estimation: dict[str, Any]) -> None:
    def evaluate(job: TrialJob) -> dict[str, float]:
        return {**score(job), "proxy_params": 1.0}

    manifest = limited(
        strategy={"type": "LocalSearch", "localSearch": {"initial": 2}},
        estimation=estimation,
        training={"epochs": 9},
        budget={"trials": 15},
    )
    loop = make_loop(manifest, evaluate=evaluate)
    state = loop.run()
    assert state.searched == 15
    assert all(t.resources["params"] <= MOST for t in trained(loop))
    assert any(t.kind is Kind.FINAL for t in trained(loop))


def test_random_search_draws_again_and_sets_nothing_aside() -> None:
    state = make_loop(limited(strategy={"type": "Random"})).run()
    assert state.excluded == 0
    assert state.searched == 20
    assert state.counts[Kind.CONTROL] == 4


def test_neighbours_above_a_limit_are_set_aside_and_the_search_moves_on() -> None:
    loop = make_loop(limited(strategy={"type": "LocalSearch", "localSearch": {"initial": 1}}))
    state = loop.run()
    aside = [t for t in state.trials.values() if t.excluded]
    assert aside
    assert {t.operation for t in aside} == {"neighbour"}
    assert len({t.key for t in aside}) == len(aside), "each once"
    assert state.searched == 20
    assert state.spent.epochs == 20 * 2 + 2 * 4, "an infeasible one would cost a place"


@pytest.mark.parametrize("strategy", ["Evolution", "LocalSearch"])
@pytest.mark.parametrize("after", [False, True])
@WRITES
def test_killed_at_every_write_it_goes_on_to_the_same_end(
    strategy: str, after: bool, every: int
) -> None:
    search = {"type": strategy, **({"localSearch": {"initial": 1}} if strategy[0] == "L" else {})}
    manifest = limited(strategy=search, budget={"trials": 9})
    undisturbed = make_loop(manifest)
    undisturbed.run()
    assert strategy == "Evolution" or undisturbed.state.excluded
    for moment in range(1, undisturbed.journal.length + 1, every):
        store = MemoryStore()
        with pytest.raises(Killed):
            make_loop(manifest, Mortal(store, [moment], after)).run()
        again = make_loop(manifest, store)
        again.run()
        assert told(again) == told(undisturbed)
        assert again.state.excluded == undisturbed.state.excluded


@pytest.mark.parametrize("strategy", ["Random", "Evolution", "LocalSearch"])
def test_a_limit_that_nothing_is_within_ends_the_search_and_says_so(
    monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr(draws, "DRAWS", 40)
    loop = make_loop(limited(5, strategy={"type": strategy}))
    state = loop.run()
    assert state.ended == (
        "none of 40 proposals is within objective.limits: the least params are 20, and the limit "
        "is 5; raise the limit, or choose a space with smaller networks"
    )
    assert not trained(loop)
    assert state.finished is not None
    assert state.finished.winner is None
    assert "the least params are 20" in state.finished.message


def test_a_thousand_draws_in_batches_so_that_a_strategy_can_move_on() -> None:
    loop = make_loop(limited(5, strategy={"type": "Random"}, control={"share": 0}))
    state = loop.run()
    assert state.ended is not None
    assert state.ended.startswith("none of 1,000 proposals is within")
    assert state.excluded == 9
    assert state.excluded_in_row == {Kind.SEARCH: 900}
    assert why(state).startswith("no trial gave a network that could be trained and measured: 9 of")


def test_draws_in_vain_are_not_repeated_until_something_has_happened() -> None:
    loop = make_loop(limited(5, strategy={"type": "Random"}), slots=3)
    loop.run()
    assert loop.state.ended is not None
    calls = Counter[str]()
    search = loop.arms[Kind.SEARCH]
    arm = draws.Draws(loop, search)
    propose = search.propose

    def counting(*args: Any) -> Any:
        calls["propose"] += 1
        return propose(*args)

    search.propose = counting  # type: ignore[method-assign]
    assert arm.next() is None
    assert calls["propose"] == draws.BATCH
    assert arm.next() is None
    assert calls["propose"] == draws.BATCH + 1


def test_a_strategy_that_never_moves_on_is_not_asked_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draws, "DRAWS", 25)
    loop = make_loop(limited(control={"share": 0}))
    monkeypatch.setattr("kinase.strategy._fresh.sample_fresh", lambda *_: LARGE)
    state = loop.run()
    assert 10 < state.excluded < 25
    assert state.ended is not None
    assert state.ended.startswith("none of 25 proposals is within objective.limits: the least")


def test_what_the_choices_led_to_is_within_the_limits_too() -> None:
    """The first derived architecture has 372,058 parameters, the second 830,138."""
    limits = {"limits": [{"metric": "params", "most": 400_000}]}
    loop = make_loop(one_shot(objective=limits), engine=engine(LEFT[::-1]), info=KNOWS)
    state = loop.run()
    first, second = [t for t in state.trials.values() if t.kind is Kind.SEARCH]
    assert first.message == "params 830,138 is above the limit 400,000"
    assert first.excluded
    assert second.outcome is Outcome.SUCCEEDED
    assert state.counts[Kind.SEARCH] == 1
    assert all(t.resources["params"] <= 400_000 for t in state.of_kind(Kind.CONTROL, Kind.FINAL))
    assert state.trials[0].plan is not None
    assert state.trials[0].plan.limits == (Limit(metric="params", most=400_000),)


def test_a_search_whose_choices_led_above_a_limit_says_so() -> None:
    limits = {"limits": [{"metric": "params", "most": 80_000}]}
    manifest = one_shot(objective=limits, control={"share": 0})
    state = make_loop(manifest, engine=engine(LEFT), info=KNOWS).run()
    assert state.ended == (
        "the architectures that the supernet's choices have led to are scored; 2 architectures "
        "were above objective.limits: the least params are 372,058, and the limit is 80,000"
    )
    assert "2 of 3 trials are above a limit" in why(state)


@pytest.mark.parametrize("strategy", ["DARTS", "Random"])
def test_no_supernet_is_trained_for_a_limit_that_nothing_is_within(
    monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr(draws, "DRAWS", 20)
    limits = {"limits": [{"metric": "macs", "most": 9}]}
    state = make_loop(one_shot(strategy, objective=limits), engine=engine(), info=KNOWS).run()
    assert not state.trials
    assert state.ended is not None
    assert state.ended.startswith("none of 20 proposals is within objective.limits: the least")
    assert state.finished is not None
    assert state.finished.message.endswith(state.ended)


@pytest.mark.parametrize("strategy", ["Evolution", "LocalSearch"])
def test_a_start_above_a_limit_is_refused_at_once(strategy: str) -> None:
    field = strategy[0].lower() + strategy[1:]
    manifest = limited(strategy={"type": strategy, field: {"start": [LARGE]}})
    with pytest.raises(ManifestError) as refused:
        make_loop(manifest).run()
    [problem] = refused.value.problems
    assert problem.path == f"spec.strategy.{field}.start[0]"
    assert problem.message == (
        "params 1,954 is above the limit 200 (spec.objective.limits); remove it, or raise the limit"
    )


def test_a_policys_first_network_above_a_limit_is_refused_at_once() -> None:
    manifest = limited(strategy={"type": "EAS", "eas": {"architecture": LARGE}})
    with pytest.raises(ManifestError, match=r"eas.architecture: params 1,954 is above"):
        make_loop(manifest).run()


def test_a_baseline_above_a_limit_is_trained_and_never_wins() -> None:
    manifest = limited(baselines=[{"name": "by hand", "architecture": LARGE}])
    loop = make_loop(manifest)
    state = loop.run()
    [baseline] = state.of_kind(Kind.BASELINE)
    assert baseline.outcome is Outcome.SUCCEEDED
    said = said_of_limits(loop.spec, loop.space, loop.appraise)
    assert said[0].startswith("objective.limits: at most 200 params; ")
    assert said[1] == (
        "note: the baseline by hand is above objective.limits (params 1,954 is above the limit "
        "200); it is trained for comparison, as no baseline can win"
    )


def test_a_limit_that_is_probably_a_mistake_is_warned_about() -> None:
    space = make_space(limited(3).spec.space)
    assert said_of_limits(limited(3).spec, space, counter(space, INFO)) == [
        "warning: objective.limits: at most 3 params; none of 100 random networks is within (the "
        "least params are 20): raise the limit, or choose a space with smaller networks"
    ]
    assert said_of_limits(experiment().spec, space, counter(space, INFO)) == []


def test_networks_of_one_function_are_counted_each() -> None:
    """An operation on a map of zeros has parameters, too."""
    loop = make_loop(one_shot(), engine=engine(), info=KNOWS)
    lean = {"normal": [[["none", 0]], [["none", 0], ["none", 1]],
                       [["nor_conv_1x1", 0], ["none", 1], ["none", 2]]]}  # fmt: skip
    dead = {"normal": [[["none", 0]], [["none", 0], ["none", 1]],
                       [["nor_conv_1x1", 0], ["nor_conv_3x3", 1], ["none", 2]]]}  # fmt: skip
    assert loop.space.key(lean) == loop.space.key(dead)
    arm = draws.Draws(loop, loop.arms[Kind.SEARCH])
    assert arm._counts(lean)["params"] < arm._counts(dead)["params"]


def test_two_limits_that_nothing_is_within_together() -> None:
    limits = (Limit(metric="params", most=100), Limit(metric="macs", most=1000))
    counts = [{"params": 50.0, "macs": 2000.0}, {"params": 500.0, "macs": 900.0}]
    assert none_within(limits, 2, counts) == (
        "none of 2 proposals is within objective.limits: each has more than 100 params or more "
        "than 1,000 macs; raise the limit, or choose a space with smaller networks"
    )


def test_a_journal_without_limits_is_proposed_as_before() -> None:
    """Redraws have generators of their own: where all are within, nothing changes."""
    with_limit, without = make_loop(limited(10**9)), make_loop(experiment(space=CHAIN))
    with_limit.run()
    without.run()
    assert told(with_limit) == told(without)
