"""When a trial that was lost is begun again: pure functions of what its status keeps.

An attempt may be lost for a cause outside the trial: its node rejected or evicted the pod, or the
store was away. Such losses do not count as crashes, so something else must keep a trial from being
started again at once and without end.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from kinase.api import TrialReason

LOSSES = frozenset(
    {
        TrialReason.REJECTED,
        TrialReason.DISRUPTED,
        TrialReason.TERMINATED,
        TrialReason.UNAVAILABLE,
        TrialReason.CHECKPOINT_GONE,
    }
)
"""Ends that are not held against the trial."""
LASTING = timedelta(minutes=10)
"""An attempt that ran for so long shows that the trial can run: the count starts again."""
SPREAD = 0.2
"""Share by which a wait may be shorter, so that trials that were lost together do not all come
back together."""


def in_a_row(before: int, reason: TrialReason, ran: timedelta | None) -> int:
    """Attempts in a row that were lost, this one included.

    Args:
        before: those up to the attempt before.
        reason: how this one ended.
        ran: how long its trainer ran; None if it never began.
    """
    if reason not in LOSSES:
        return 0
    return 1 if ran is not None and ran >= LASTING else before + 1


def wait(losses: int, name: str, *, began: bool, first: float, most: float) -> float:
    """Seconds until the next attempt may begin.

    None after the first loss of an attempt that had begun: the node that was drained is not the
    next attempt's. From then on `first`, doubled with each loss, up to `most`.

    Args:
        losses: in a row, as `in_a_row` counts them.
        name: of the trial; it decides how much of the spread this wait is shorter by.
        began: whether the trainer of the lost attempt had begun.
        first: seconds.
        most: seconds.
    """
    steps = losses - began
    if steps <= 0:
        return 0.0
    whole = min(most, first * 2.0 ** min(steps - 1, 64))
    digest = hashlib.sha256(f"{name} {losses}".encode()).digest()
    return whole * (1 - SPREAD * int.from_bytes(digest[:4]) / 2**32)
