"""Why a search ended without a network: a pure function of its trials' results."""

from __future__ import annotations

from collections import Counter

from kinase.api.trial import Outcome
from kinase.experiment.state import State
from kinase.experiment.trial_record import TrialRecord
from kinase.words import counted

NONE = "no trial gave a network that could be trained and measured"
_ABOVE = "are above a limit"
_CAUSES = {
    _ABOVE: "raise objective.limits, or choose a space with smaller networks",
    "diverged": "lower the learning rate (training.optimizer), or set training.clipNorm",
    "ran out of memory": "lower training.batchSize or budget.parallelism",
    "reached the time limit": "raise trialTemplate.timeLimit, or search smaller networks",
    "cannot be built or trained": "correct the space or the task so that its networks fit the data",
    "crashed": "see the workers' logs in the run's folder",
    "paused without a value": "have the trainer measure the objective whenever it pauses",
    "were stopped before their first epoch ended": "raise the budget, or train on less data",
}
"""A cause for a trial without a value, and the remedy."""


def why(state: State) -> str:
    """Why no trial of a search gave a network, and what to do: the most frequent cause, with a
    trial as an example."""
    causes = {trial.number: cause(trial) for trial in state.told}
    found = Counter(filter(None, causes.values()))
    if not found:
        return NONE if state.searched or not state.ended else f"{NONE}: {state.ended}"
    [(commonest, count)] = found.most_common(1)
    example = next(trial for trial in state.told if causes[trial.number] == commonest)
    said = f": {example.message}" if example.message else ""
    of = counted(len(state.told), "trial")
    return (
        f"{NONE}: {count} of {of} {commonest}, such as trial {example.number}{said:.300}; "
        f"{_CAUSES[commonest]}"
    )


def cause(trial: TrialRecord) -> str | None:
    """Why a finished trial has no value, or None if it has one."""
    if trial.outcome is Outcome.FAILED:
        return "crashed"
    if trial.excluded:
        return _ABOVE
    if trial.outcome is Outcome.INFEASIBLE:
        text = trial.message.lower()
        if "out of memory" in text or "bytes of memory" in text:
            return "ran out of memory"
        if "timelimit" in text:
            return "reached the time limit"
        return "cannot be built or trained"
    if trial.metrics:
        return None
    if trial.outcome is not Outcome.STOPPED:
        return "diverged"
    if trial.rests and trial.done:
        return "paused without a value"
    return "were stopped before their first epoch ended"
