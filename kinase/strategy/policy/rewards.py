"""What a policy is rewarded with."""

from __future__ import annotations

import math
from typing import Literal

HIGHEST = 0.999
"""Accuracies above count as this one, so that no reward outweighs all others, or is infinite."""


def reward(loss: float, kind: Literal["tan", "identity"]) -> float:
    """The reward of a trial with this value, less being better.

    `tan` is tan(accuracy x pi / 2), by which the same gain counts for more where it is harder to
    come by (Cai et al. 2018a, section 4); the loss is then an accuracy's negative, and what lies
    outside of 0..1 is taken for the nearest end. `identity` is the negative of the loss.
    """
    if kind == "identity":
        return -loss
    return math.tan(min(max(-loss, 0.0), HIGHEST) * math.pi / 2)
