"""A job's optional fields: what they may say, and how a job is written for a trainer."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kinase.api import TrialJob

OLD: dict[str, Any] = {
    "experiment": "test",
    "trial": 7,
    "task": {},
    "training": {},
    "space": {"type": "Chain"},
    "architecture": {},
    "fidelity": {"epochs": 9},
    "seed": 1,
    "prefix": "trials/00007",
}
NEW: dict[str, Any] = {"until": 3, "done": 1, "measure": ["synflow"], "workers": 4}


def written(job: TrialJob, **how: bool) -> set[str]:
    text = TrialJob.model_validate_json(job.model_dump_json(by_alias=True, **how))
    assert text == job
    return set(job.model_dump(mode="json", by_alias=True, **how)) & set(NEW)


@pytest.mark.parametrize("how", [{}, {"exclude_none": True}], ids=["command", "cluster"])
def test_a_trainer_that_is_asked_nothing_new_sees_nothing_new(how: dict[str, bool]) -> None:
    """However an engine writes a job: a strict parser may refuse a field that it does not know."""
    assert written(TrialJob.model_validate(OLD), **how) == set()
    assert (
        written(TrialJob.model_validate({**OLD, "done": 0, "measure": [], "workers": 1}), **how)
        == set()
    )
    for name, value in NEW.items():
        assert written(TrialJob.model_validate({**OLD, name: value}), **how) == {name}
    assert written(TrialJob.model_validate({**OLD, "until": 0}), **how) == {"until"}


def test_the_last_epoch_of_an_attempt() -> None:
    assert TrialJob.model_validate(OLD).last_epoch == 9
    assert TrialJob.model_validate({**OLD, "until": 0}).last_epoch == 0
    assert TrialJob.model_validate({**OLD, **NEW}).last_epoch == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"until": 10}, "until is 10; it must be at most fidelity.epochs, 9"),
        ({"until": -1}, "greater than or equal to 0"),
        ({"until": 3, "done": 4}, "done is 4; it must be at most 3, the epochs to train"),
        ({"done": 10}, "done is 10; it must be at most 9, the epochs to train"),
        ({"workers": 0}, "greater than or equal to 1"),
        ({"workers": 65}, "less than or equal to 64"),
        ({"measure": ["../x"]}, "String should match pattern"),
        ({"measure": ["a"] * 33}, "at most 32 items"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrialJob.model_validate({**OLD, **change})
