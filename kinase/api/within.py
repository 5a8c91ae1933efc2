"""`spec.objective.limits`: the most that a network may have of what is counted before training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from kinase.api._base import Model

FIELD = "objective.limits"
"""Where a manifest has them."""


class Limit(Model):
    """The most that a network may have of something that is counted before training."""

    metric: Literal["params", "macs"]
    """What is counted on the network of full fidelity: its parameters, or its multiply-adds for one
    sample."""
    most: Annotated[int, Field(ge=1, le=10**15)]
    """The largest number that is allowed."""

    @property
    def text(self) -> str:
        """For people, such as `at most 1,000,000 params`."""
        return f"at most {self.most:,} {self.metric}"


def above(limits: Iterable[Limit], counts: Mapping[str, float]) -> list[Limit]:
    """The limits that a network's counts are above."""
    return [limit for limit in limits if counts.get(limit.metric, 0) > limit.most]


def why_above(limits: Iterable[Limit], counts: Mapping[str, float]) -> str:
    """Which limits a network's counts are above, and by what; empty if they are within all."""
    return ", ".join(
        f"{limit.metric} {counts[limit.metric]:,.0f} is above the limit {limit.most:,}"
        for limit in above(limits, counts)
    )


def excess(limits: Iterable[Limit], counts: Mapping[str, float]) -> float:
    """How far counts are above the limits: the largest of the ratios, at most 1 if they are within
    all."""
    return max((counts.get(limit.metric, 0) / limit.most for limit in limits), default=0.0)
