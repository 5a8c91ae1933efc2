"""Answers of a trainer, which are untrusted."""

from __future__ import annotations

from pydantic import ValidationError

from kinase.api.trial import TrialResult
from kinase.engine.base import Finished, Lost


def wrong(error: ValidationError) -> str:
    """The problem of a trainer's answer, in one line."""
    found = []
    for each in error.errors(include_url=False)[:3]:
        place = ".".join(map(str, each["loc"])) or "the whole"
        value = " ".join(repr(each["input"]).split())
        found.append(f"{place[:100]} is {value:.100}: {each['msg']:.200}")
    return "; ".join(found)


def result_of(trial: int, text: str) -> Finished | Lost:
    """A trial's result, or a message that says why it is invalid."""
    try:
        result = TrialResult.model_validate_json(text)
    except ValidationError as error:
        return Lost(trial, f"the trainer's result is invalid: {wrong(error)}")
    if result.trial != trial:
        return Lost(
            trial, f"the trainer's result is invalid: trial is {result.trial}; it must be {trial}"
        )
    return Finished(trial, result)
