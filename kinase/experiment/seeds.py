"""Every seed of an experiment is derived from its one seed and a label."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a seed is for. Values are part of the journal's meaning: never renumber."""

    STRATEGY = 0
    CONTROL = 2
    TRAINING = 3
    FINAL = 4
    ESTIMATION = 5
    SUPERNET = 6
    RANK_CHECK = 7


def derive(seed: int, stream: Stream, number: int = 0) -> int:
    """A seed below 2**31 for one purpose."""
    sequence = np.random.SeedSequence([seed, 7, int(stream), number])
    return int(sequence.generate_state(1)[0] & 0x7FFFFFFF)
