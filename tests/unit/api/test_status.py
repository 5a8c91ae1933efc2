"""A status stays small, whatever is put into it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from kinase.api.status import (
    MAX_ARCHITECTURE,
    MAX_FRONT,
    MAX_MESSAGE,
    MAX_METRICS,
    MAX_RUNGS,
    MAX_STATUS,
    Condition,
    ConditionType,
    CostStatus,
    ExperimentStatus,
    FrontPoint,
    Incumbent,
    LimitStatus,
    Phase,
    RungStatus,
    StoppingStatus,
    StorageStatus,
    TrialCounts,
    TrialStatus,
    WeightsStatus,
)

COUNT = 2**53
NUMBER = -1.2345678901234567e-300
NOW = datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
METRICS = {f"metric_{i:02d}".ljust(40, "x"): NUMBER for i in range(99)}
OBJECTIVES = dict(list(METRICS.items())[:5])
"""The first and four further."""


def condition(kind: str, message: str) -> Condition:
    return Condition(
        type=kind,
        status="Unknown",
        reason="R" * 64,
        message=message,
        last_transition_time=NOW,
        observed_generation=COUNT,
    )


def largest() -> ExperimentStatus:
    architecture = {"a": "x" * (MAX_ARCHITECTURE - len('{"a":""}'))}
    trial = Incumbent(
        trial=COUNT, value=NUMBER, metrics=METRICS, rung=1000, architecture=architecture
    )
    assert trial.architecture == architecture
    return ExperimentStatus(
        observed_generation=COUNT,
        phase=max(Phase, key=len),
        conditions=tuple(condition(kind, "m" * 99_999) for kind in ConditionType),
        start_time=NOW,
        completion_time=NOW,
        progress="p" * 64,
        trials=TrialCounts(**dict.fromkeys(TrialCounts.model_fields, COUNT)),
        estimation="e" * 64,
        rungs=(
            RungStatus(
                rung=1000,
                **dict.fromkeys(RungStatus.model_fields.keys() - {"rung"}, COUNT),
            ),
        )
        * MAX_RUNGS,
        stopping=StoppingStatus(stopped=COUNT, spared=COUNT, won=COUNT),
        best=trial,
        control=trial,
        winner=trial,
        test=METRICS,
        front=(FrontPoint(trial=COUNT, values=OBJECTIVES),) * MAX_FRONT,
        budget=(LimitStatus(name="deviceHours", spent=NUMBER, left=NUMBER, total=NUMBER),) * 4,
        budget_left="b" * 128,
        cost=CostStatus(epochs=COUNT, samples=COUNT, device_seconds=-NUMBER),
        weights=WeightsStatus(written=COUNT, kept=COUNT),
        storage=StorageStatus(
            uri="u" * 1280,
            endpoint="e" * 1280,
            region="r" * 64,
            credentials_secret="s" * 253,
            ca_config_map="c" * 253,
        ),
        report="r" * 1280,
        model="m" * 1280,
    )


def test_the_largest_status_is_small() -> None:
    status = largest()
    assert None not in status.model_dump().values()
    text = json.dumps(status.model_dump(mode="json", by_alias=True), separators=(",", ":"))
    assert MAX_STATUS * 0.9 < len(text) < MAX_STATUS


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", ""),
        ("short", "short"),
        ("a" * MAX_MESSAGE, "a" * MAX_MESSAGE),
        ("a" * (MAX_MESSAGE + 1), "a" * (MAX_MESSAGE - 3) + "…"),
        ("ü" * MAX_MESSAGE, "ü" * (MAX_MESSAGE // 2 - 2) + "…"),
        ("\ud800" * 2000, "?" * (MAX_MESSAGE - 3) + "…"),
    ],
)
def test_a_long_message_is_cut(said: str, kept: str) -> None:
    for message in (condition("Ready", said).message, TrialStatus(message=said).message):
        assert message == kept
        assert len(message.encode()) <= MAX_MESSAGE


def test_what_is_too_large_is_left_out() -> None:
    many: Any = {"Top-1": 1.0, "a" * 41: 1.0, "": 1.0, **METRICS}
    trial = Incumbent(trial=1, value=0.5, metrics=many, architecture={"a": "x" * MAX_ARCHITECTURE})
    assert trial.architecture is None
    assert list(trial.metrics) == list(METRICS)[:MAX_METRICS]


def test_a_front_has_no_more_points() -> None:
    with pytest.raises(ValidationError):
        ExperimentStatus(front=(FrontPoint(trial=1, values={}),) * (MAX_FRONT + 1))


def test_a_status_of_a_later_version_is_read() -> None:
    read = ExperimentStatus.model_validate({"phase": "Searching", "later": {"a": 1}})
    assert read == ExperimentStatus(phase=Phase.SEARCHING)
