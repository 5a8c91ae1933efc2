"""Smaller children by approximate morphisms, and LEMONADE, in the loop."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from kinase.api import Kind, NASExperiment
from kinase.api.inheritance import Inherited
from kinase.estimation import InheritanceRule
from kinase.experiment import inheritance
from kinase.experiment.loop import Loop
from kinase.morphism import KINDS
from kinase.report.gather import gather, inherited_text
from kinase.strategy.lemonade import LEMONADE
from tests.unit.experiment.helpers import WRITES, with_weights
from tests.unit.experiment.test_inheritance import (
    CHAIN,
    asked,
    killed_at_every_write,
    manifest,
    run,
)


def lemonade(distil: int = 2, **spec: Any) -> NASExperiment:
    """An experiment with every approximate morphism of its space."""
    made = manifest(
        **{
            "objective": {"also": [{"metric": "params"}]},
            "morphism": {"approximate": True, "distilEpochs": distil},
            "space": {"type": "Chain", "chain": {**CHAIN, "ops": ["conv", "sepconv"]}},
            **spec,
        }
    )
    strategy = {"initial": 3, "children": 8, "accepted": 4}
    document = made.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["spec"]["strategy"] = {"type": "LEMONADE", "lemonade": strategy}
    return NASExperiment.model_validate(document)


def approximates(entry: Any) -> bool:
    """Whether an approximate morphism leads to a candidate from its parent."""
    if entry.inherit is None or entry.inherit.ancestors[0].morphisms is None:
        return False
    return not all(KINDS[m["op"]].exact for m in entry.inherit.ancestors[0].morphisms)


def test_a_smaller_child_has_the_epochs_of_its_distillation_besides() -> None:
    loop, engine = run(lemonade(budget={"trials": 60}))
    entries = [each for each in asked(loop.store) if each.kind is Kind.SEARCH]
    seen = Counter[str]()
    for entry in entries:
        if not entry.parents:
            assert (entry.inherit, entry.grant.until) == (None, 4)
            continue
        assert entry.inherit is not None
        assert entry.inherit.distil == (2 if approximates(entry) else 0)
        assert entry.grant.until == 1 + entry.inherit.distil
        chain = entry.inherit.ancestors[0].morphisms
        if entry.operation != "mutate":  # of a front whose neighbours are used up
            assert chain
            assert {"skip": "branch"}.get(entry.operation, entry.operation) in {
                m["op"] for m in chain
            }
        seen["approximate" if approximates(entry) else "exact" if chain else "none"] += 1
    assert min(seen["approximate"], seen["exact"]) > 3, seen
    assert loop.state.spent.epochs == sum(t.fidelity.epochs for t in loop.state.told)
    jobs = {job.trial: job for job in engine.launched if not job.test}
    assert all(jobs[each.trial].inherit == each.inherit for each in entries)


def test_the_strategy_knows_of_the_objective_what_needs_no_training() -> None:
    """Counted at full fidelity, and of no use below what is enough; a measured one is not known."""
    also = [{"metric": "params", "enough": 300}, {"metric": "val_loss"}, {"metric": "macs"}]
    loop, _ = run(lemonade(objective={"also": also}))
    strategy = loop.arms[Kind.SEARCH].strategy
    assert isinstance(strategy, LEMONADE)
    for trial in loop.state.of_kind(Kind.SEARCH):
        known = strategy.known(trial.architecture)
        assert known[:1] + known[2:3] == (float("inf"),) * 2
        params, macs = trial.resources["params"], trial.resources["macs"]
        assert (known[1], known[3]) == (max(300.0, params), macs) == loop.losses(trial)[1::2]


@pytest.mark.parametrize("epochs", range(24, 48, 3))
def test_epochs_are_never_overspent(epochs: int) -> None:
    loop, _ = run(lemonade(3, budget={"epochs": epochs, "parallelism": 2}), slots=2)
    assert loop.state.spent.epochs == sum(t.fidelity.epochs for t in loop.state.told) <= epochs
    assert epochs - loop.state.spent.epochs < 4  # what a child takes, or a beginner


def test_a_child_that_rests_while_it_is_distilled_keeps_its_teacher() -> None:
    """The trainer of these tests asserts that its parent's weights are there when it continues."""
    estimation = {
        "type": "ASHA",
        "inherit": {"approximate": True, "distilEpochs": 3, "epochsPerChild": 2},
        "stopping": {"type": "Median", "every": 1, "spare": 0},
    }
    loop, engine = run(lemonade(estimation=estimation, budget={"trials": 30}))
    trials = loop.state.trials
    within = {
        trial.number
        for trial in loop.state.of_kind(Kind.SEARCH)
        if trial.inherit is not None
        and any(rest.done < trial.inherit.distil for _, rest in trial.rests)
    }
    assert within
    again = {job.trial for job in engine.launched if job.trial in within and job.attempt > 1}
    assert again
    # a parent that is no longer of the front is needed for its resting child alone
    child = trials[min(again)]
    assert child.inherit is not None
    held = replace(loop.state, outstanding={child.number: child})
    assert child.inherit.ancestors[0].prefix in inheritance.needed(held, ())


@WRITES
def test_killed_at_every_write_it_goes_on_with_the_same_lineage(every: int) -> None:
    undisturbed = killed_at_every_write(lemonade(budget={"trials": 14}), every)
    assert any(map(approximates, asked(undisturbed.store)))


@pytest.mark.parametrize("slots", [1, 3])
def test_only_the_front_and_what_a_generation_began_with_keep_their_weights(slots: int) -> None:
    """The trainer of these tests asserts that each parent's weights are there."""
    loop, _ = run(lemonade(budget={"trials": 60, "parallelism": slots}), slots=slots)
    finalists = {t.number for t in loop.state.of_kind(Kind.FINAL)}
    assert with_weights(loop.store) == finalists


def test_without_the_option_a_smaller_child_takes_what_matches() -> None:
    loop, _ = run(lemonade(morphism={}))
    assert not any(map(approximates, asked(loop.store)))
    children = [each.inherit for each in asked(loop.store) if each.inherit is not None]
    assert any(each.ancestors[0].morphisms is None for each in children)
    assert all(each.distil == 0 for each in children)
    assert InheritanceRule().approximate is False


def test_the_report_says_what_was_distilled() -> None:
    text = inherited_text(Inherited(trial=3, share=1.0, morphisms=1, distilled=5))
    assert text == "from trial 3 by 1 morphism, distilled for 5 epochs"
    loop: Loop = run(lemonade())[0]
    assert any("by 1 morphism" in each.inherited for each in gather(loop).trials)
