"""Rewards of a policy."""

from __future__ import annotations

import math
from typing import Literal

HIGHEST = 0.999
"""Higher accuracies count as this one, so that no reward is infinite or outweighs all others."""


def reward(loss: float, kind: Literal["tan", "identity"]) -> float:
    """The reward of a trial with this loss.

    `tan` is tan(accuracy x pi / 2), so that the same gain counts more at a high accuracy (Cai et
    al. 2018a, section 4); the loss must be a negative accuracy, which is clipped to 0..1.
    `identity` is the negative of the loss.
    """
    if kind == "identity":
        return -loss
    return math.tan(min(max(-loss, 0.0), HIGHEST) * math.pi / 2)
