"""Strategies that live on inheritance, through the real trainer: what children begin with."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api import Kind, Outcome
from kinase.experiment.loop import Loop
from kinase.experiment.trial_record import TrialRecord
from kinase_trainer import trial
from tests.trainer.helpers import search
from tests.unit.experiment.helpers import with_weights

CHAIN = {"maxDepth": 4, "ops": ["conv"], "widths": [4, 8, 16], "kernels": [3], "strides": [1, 2]}


def run(strategy: dict[str, Any], trials: int, epochs: int = 6, **morphism: Any) -> Loop:
    return search(
        "search",
        training={"epochs": epochs, "device": "cpu", "batchSize": 128},
        space={"type": "Chain", "chain": CHAIN},
        strategy=strategy,
        estimation={"type": "Morphism", "morphism": {"epochsPerChild": 1, **morphism}},
        budget={"trials": trials},
        control={"share": 0},
        finalists={"count": 1, "epochs": 1},
    )


def children(loop: Loop) -> list[TrialRecord]:
    found = [t for t in loop.state.of_kind(Kind.SEARCH) if t.parents]
    assert found
    assert {t.outcome for t in found} == {Outcome.SUCCEEDED}
    return found


def test_children_of_large_scale_evolution_inherit_weights_and_rates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: dict[int, float] = {}
    train = trial._train

    def watched(job: Any, *rest: Any) -> Any:
        rates[job.trial] = job.training.optimizer.member.learning_rate
        return train(job, *rest)

    monkeypatch.setattr(trial, "_train", watched)
    options = {"population": 3, "start": "random"}
    loop = run({"type": "LargeScaleEvolution", "largeScaleEvolution": options}, 18, epochs=2)
    found = children(loop)
    trials = loop.state.trials
    for child in found:
        [number] = child.parents
        if child.operation == "reset-weights":
            assert child.inherited is None
            assert child.cost.epochs == 2
            continue
        assert child.inherited is not None
        assert child.inherited.trial == number
        assert child.cost.epochs == 1
        if child.architecture == trials[number].architecture:
            assert child.inherited.morphisms == 0
            assert child.inherited.share == 1
        altered = child.operation == "alter-learning-rate"
        assert (child.learning_rate != trials[number].learning_rate) == altered
    kinds = {child.operation for child in found}
    assert kinds >= {"alter-learning-rate", "identity", "reset-weights"}
    assert kinds & set(loop.space.kinds)
    assert rates == {n: pytest.approx(0.1 * t.learning_rate) for n, t in trials.items()}
    [final] = loop.state.of_kind(Kind.FINAL)
    assert final.learning_rate == trials[final.parents[0]].learning_rate


def test_children_of_nash_go_on_from_their_parents() -> None:
    """At nearly no learning rate a child, and the parent trained on, score as the parent did."""
    nash = {"neighbours": 3, "morphisms": 2, "initial": 2, "start": "random"}
    loop = run({"type": "NASH", "nash": nash}, 8, learningRateFactor=1e-6, noise=0)
    trials = loop.state.trials
    for child in children(loop):
        [number] = child.parents
        assert child.inherited is not None
        assert child.inherited.trial == number
        assert child.cost.epochs == 1
        if child.operation == "mutate":
            continue  # no morphisms lead to it
        assert child.inherited.morphisms is not None
        assert (child.inherited.morphisms == 0) == (child.operation == "continue")
        score = child.metrics["val_accuracy"]
        assert score == pytest.approx(trials[number].metrics["val_accuracy"], abs=0.06)
        assert score > 0.3
    operations = [child.operation for child in children(loop)]
    assert operations.count("continue") == 2
    assert operations.count("morphism") >= 3
    assert with_weights(loop.store) == {t.number for t in loop.state.of_kind(Kind.FINAL)}
