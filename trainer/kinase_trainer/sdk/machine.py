"""The device and random generators of a trainer's process. torch is only used if it is loaded."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def device_name() -> str:
    """cuda if torch is loaded and has a GPU, otherwise cpu."""
    torch = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"


def device() -> torch.device | None:
    """The device to synchronize with."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return torch.device("cuda")  # type: ignore[no-any-return]


def seed(value: int, label: int) -> None:
    """Seed the generators of the loaded libraries, so that every attempt of an epoch draws the same
    numbers."""
    state = np.random.SeedSequence([value, label]).generate_state(2, np.uint32)
    random.seed(int(state[0]))
    np.random.seed(int(state[0]))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(int(state[0]) << 31 | int(state[1]))
