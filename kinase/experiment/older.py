"""What older journals do not record, from the texts that they have."""

from __future__ import annotations

import re

REASONS = {
    "trials": r"(\d+) trials? (?:was|were) run",
    "epochs": r"the (?:budget of )?(\d+) epochs? (?:is|are) spent\b.*",
    "deviceHours": r"the (?:budget of )?(\S+) device hours? (?:is|are) spent",
    "target": r"the target (\S+) is reached",
}
"""Texts of older journals, which do not record the limits, for the limit that ended a search."""
ROUNDED = 1e-5
"""Relative error of the numbers in these texts, which have six digits."""


def limits_of(reason: str, elapsed: float) -> dict[str, float]:
    """The limit that ended a search, from the text in an older journal.

    Args:
        reason: `Ended.reason`.
        elapsed: seconds that the experiment had run. A shorter duration would not resume it.
    """
    if reason == "the duration is over":
        return {"duration": elapsed}
    for name, pattern in REASONS.items():
        if found := re.fullmatch(pattern, reason):
            try:
                value = float(found[1])
            except ValueError:
                return {}
            return {name: value * (1 + ROUNDED) if name == "deviceHours" else value}
    return {}
