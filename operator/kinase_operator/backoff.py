"""When to restart a disrupted trial: pure functions of its status.

An attempt can be disrupted by a cause outside the trial: its node rejected or evicted the pod, or
the store was unavailable. Disruptions do not count as crashes, so a backoff and a limit are needed
to prevent endless immediate restarts.
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
"""Reasons that do not count as crashes."""
LASTING = timedelta(minutes=10)
"""Seconds after which a running attempt resets the count: it shows that the trial can run."""
SPREAD = 0.2
"""Maximum share by which a wait is shortened, so that trials that were disrupted together do not
all restart together."""


def in_a_row(before: int, reason: TrialReason, ran: timedelta | None) -> int:
    """Number of disrupted attempts in a row, including this one.

    Args:
        before: number before this attempt.
        reason: how this attempt ended.
        ran: seconds that its trainer ran, or None if it never started.
    """
    if reason not in LOSSES:
        return 0
    return 1 if ran is not None and ran >= LASTING else before + 1


def wait(losses: int, name: str, *, began: bool, first: float, most: float) -> float:
    """Seconds until the next attempt can start.

    None after the first disruption of an attempt that had started, because the next attempt gets
    another node than the drained one. Afterwards `first`, doubled with each disruption, up to
    `most`.

    Args:
        losses: disruptions in a row, as counted by `in_a_row`.
        name: name of the trial; it determines how much of the spread is used.
        began: whether the trainer of the disrupted attempt had started.
        first: first wait in seconds.
        most: longest wait in seconds.
    """
    steps = losses - began
    if steps <= 0:
        return 0.0
    whole = min(most, first * 2.0 ** min(steps - 1, 64))
    digest = hashlib.sha256(f"{name} {losses}".encode()).digest()
    return whole * (1 - SPREAD * int.from_bytes(digest[:4]) / 2**32)
