"""`spec.estimation.screen`: candidates are ranked by zero-cost proxies before any training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from kinase.api._base import Model

ProxyName = Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
EACH_ONCE = {"x-kubernetes-list-type": "set"}
"""The API server refuses an item that is given twice."""


class Screen(Model):
    """Draw a pool of candidates for each trial, measure zero-cost proxies on their untrained
    networks, and train the best one only (Abdelfattah et al. 2021). The other candidates are
    stopped without training."""

    pool: Annotated[int, Field(ge=2, le=10_000)] = 8
    """Number of candidates in a pool. Each counts as a trial of `budget.trials`."""
    first: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Number of candidates to choose from pools at the beginning of the search, as a warm start
    (Abdelfattah et al. 2021). Later candidates are trained as the strategy proposes them. Default:
    all are chosen from pools."""
    proxies: Annotated[
        tuple[ProxyName, ...], Field(min_length=1, max_length=16, json_schema_extra=EACH_ONCE)
    ] = ("nwot",)
    """Zero-cost proxies to measure (entry point group `kinase.proxies`). With several, candidates
    are ordered by the mean of their ranks."""

    @field_validator("proxies")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for place, name in enumerate(names):
            if name in names[:place]:
                raise ValueError(f"{name!r} is named twice; name each proxy once")
        return names
