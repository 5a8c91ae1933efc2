"""Why a search gave no network."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.trial import Kind, Outcome
from kinase.experiment.entries import Rested
from kinase.experiment.nothing import NONE, why
from kinase.experiment.state import State
from kinase.experiment.trial_record import TrialRecord
from kinase.history import WHOLE


def state(*ended: tuple[Outcome, dict[str, float], str]) -> State:
    found = State()
    for number, (outcome, metrics, message) in enumerate(ended):
        trial = TrialRecord(number, Kind.SEARCH, {}, "k", WHOLE, 0, {}, (), "")
        trial.outcome, trial.metrics, trial.message = outcome, metrics, message
        found.told.append(trial)
    return found


NAN = (Outcome.SUCCEEDED, {}, "the loss is nan in epoch 1; the training ended there")


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        ([], NONE),
        (
            [NAN, (Outcome.FAILED, {}, "boom"), NAN],
            f"{NONE}: 2 of 3 trials diverged, such as trial 0: {NAN[2]}; "
            "lower the learning rate (training.optimizer), or set training.clipNorm",
        ),
        (
            [(Outcome.INFEASIBLE, {}, "out of memory at training.batchSize 64")],
            f"{NONE}: 1 of 1 trial ran out of memory, such as trial 0: out of memory at "
            "training.batchSize 64; lower training.batchSize or budget.parallelism",
        ),
        (
            [(Outcome.INFEASIBLE, {}, "it ran longer than trialTemplate.timeLimit, 1 s")],
            "1 of 1 trial reached the time limit, such as trial 0: it ran longer than "
            "trialTemplate.timeLimit, 1 s; raise trialTemplate.timeLimit",
        ),
        (
            [(Outcome.INFEASIBLE, {}, "a map of 1x1 cannot be pooled")],
            "cannot be built or trained, such as trial 0: a map of 1x1 cannot be pooled; correct",
        ),
        ([(Outcome.STOPPED, {}, "")], "stopped before their first epoch ended, such as trial 0;"),
        ([(Outcome.FAILED, {}, "boom")], "1 of 1 trial crashed, such as trial 0: boom; see the"),
        ([(Outcome.SUCCEEDED, {"a": 1.0}, "")], NONE),
    ],
)
def test_the_commonest_cause_is_named_with_what_helps(ended: list[Any], text: str) -> None:
    assert text in why(state(*ended))


def test_a_trial_that_paused_was_not_stopped_before_its_first_epoch() -> None:
    found = state((Outcome.STOPPED, {}, "it can no longer be promoted"))
    rest = Rested(trial=0, done=1)
    found.told[0].rests.append((WHOLE, rest))
    found.told[0].done = rest.done
    assert "1 of 1 trial paused without a value, such as trial 0: it can no" in why(found)
    assert "have the trainer measure the objective whenever it pauses" in why(found)
