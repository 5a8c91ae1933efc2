"""Widths and windows of layers, as fields of a search space."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kinase.api._base import Rule

Width = Annotated[int, Field(ge=1, le=4096)]
Kernel = Annotated[int, Field(ge=1, le=15, multiple_of=1)]


def check_odd(kernels: tuple[int, ...]) -> None:
    """Raises ValueError if a window has no centre."""
    even = [k for k in kernels if k % 2 == 0]
    if even:
        raise ValueError(f"kernels has {even}; kernel sizes must be odd")


ODD = Rule(
    "self.kernels.all(k, k % 2 == 1)",
    "kernels has {self.kernels.filter(k, k % 2 == 0)}; kernel sizes must be odd",
    ".kernels",
)
