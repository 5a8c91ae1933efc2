"""When a trial that was lost is begun again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kinase.api import TrialReason
from kinase_operator.backoff import LASTING, LOSSES, SPREAD, in_a_row, wait


def waits(*, began: bool, name: str = "toy-00007") -> list[float]:
    return [wait(n, name, began=began, first=10, most=300) for n in range(1, 9)]


def test_waits_double_up_to_their_ceiling_and_are_the_same_each_time() -> None:
    whole = [10, 20, 40, 80, 160, 300, 300, 300]
    for found, most in ((waits(began=False), whole), (waits(began=True), [0, *whole[:-1]])):
        assert all((1 - SPREAD) * w <= f <= w for f, w in zip(found, most, strict=True)), found
    assert waits(began=False) == waits(began=False)
    assert wait(10**6, "toy-00007", began=False, first=10, most=300) <= 300


def test_trials_that_were_lost_together_do_not_come_back_together() -> None:
    found = [wait(6, f"toy-{n:05}", began=False, first=10, most=300) for n in range(64)]
    assert max(found) - min(found) > 0.8 * SPREAD * 300
    assert len(set(found)) == 64


@pytest.mark.parametrize("reason", TrialReason)
def test_only_what_is_no_fault_of_the_trials_is_counted(reason: TrialReason) -> None:
    assert in_a_row(3, reason, None) == (4 if reason in LOSSES else 0)
    assert in_a_row(3, reason, LASTING - timedelta(seconds=1)) == (4 if reason in LOSSES else 0)
    assert in_a_row(3, reason, LASTING) == (1 if reason in LOSSES else 0)
