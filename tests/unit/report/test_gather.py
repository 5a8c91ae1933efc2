"""From a real loop, run without torch, to the page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kinase.api.inheritance import Ancestor, Inheritance
from kinase.api.trial import Cost, Kind
from kinase.experiment.loop import Loop
from kinase.report import render
from kinase.report.gather import _morphisms, gather
from kinase.report.verdict import verdict
from tests.unit.experiment.helpers import experiment, make_loop


@pytest.fixture(scope="module")
def loop() -> Loop:
    loop = make_loop(experiment())
    loop.run()
    return loop


def test_costs_by_kind_sum_to_what_the_budget_was_charged(loop: Loop) -> None:
    data = gather(loop)
    assert sum(data.cost.values(), start=Cost()) == loop.state.spent


def test_every_trial_and_the_winner_are_told(loop: Loop) -> None:
    data = gather(loop)
    assert data.phase == "Succeeded"
    assert [t.number for t in data.trials] == list(loop.state.trials)
    assert data.winner is not None
    winner = loop.state.trials[data.winner.trial]
    assert winner.kind is Kind.FINAL
    assert data.winner.found_by == winner.parents[0]
    assert data.validation == loop.info.validation
    assert verdict(data) is not None


def test_protocol_is_kept_to_but_for_the_single_run(loop: Loop) -> None:
    items = {item.question: item for item in gather(loop).protocol}
    assert not items["Are several seeds run, and the spread reported?"].satisfied
    assert items["Is the search compared with random search under the same protocol?"].satisfied
    fidelity = items["Are the fidelities of search and final training stated?"]
    assert "search: 2 epochs; finalists: 4 epochs" in fidelity.answer


def test_without_a_control_the_protocol_says_so() -> None:
    loop = make_loop(experiment(control={"share": 0}))
    loop.run()
    items = {item.question: item for item in gather(loop).protocol}
    control = items["Is the search compared with random search under the same protocol?"]
    assert control.satisfied is False
    assert verdict(gather(loop)) is None


def test_it_renders(loop: Loop) -> None:
    assert "Succeeded" in render(gather(loop))


def test_every_trial_has_its_times(loop: Loop) -> None:
    data = gather(loop)
    assert data.trials
    for trial in data.trials:
        assert trial.asked is not None
        assert trial.ended is not None
        assert 0 <= trial.asked <= trial.ended <= data.elapsed


def test_the_morphisms_of_a_child_are_named(loop: Loop) -> None:
    """Those from its first parent; of another ancestor they say nothing about this trial's edit."""
    state = loop.state
    child = next(t for t in state.trials.values() if t.parents and t.kind is Kind.SEARCH)
    chain = ({"op": "widen", "node": "layer1", "to": 8}, {"op": "deepen", "node": "layer1"})
    for number, named in ((child.parents[0], ("widen layer1 to 8", "deepen layer1")), (999, ())):
        near = Ancestor(
            trial=number,
            prefix="trials/0",
            architecture=state.trials[child.parents[0]].architecture,
            scale=child.fidelity.scale,
            morphisms=chain,
        )
        assert _morphisms(replace(child, inherit=Inheritance(ancestors=(near,)))) == named
    assert _morphisms(child) == ()
