"""`spec.estimation.screen`: candidates are ranked by zero-cost proxies before any training."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from kinase.api._base import Model, Rule

ProxyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class Screen(Model):
    """Draw a pool of candidates for each trial, measure zero-cost proxies on their untrained
    networks, and train the best one only (Abdelfattah et al. 2021). The other candidates are
    stopped without training."""

    rules: ClassVar = (
        Rule(
            "!has(self.proxies) || self.proxies.all(p, self.proxies.exists_one(q, q == p))",
            "proxies are named twice; name each once",
            ".proxies",
        ),
    )

    pool: Annotated[int, Field(ge=2, le=10_000)] = 8
    """Number of candidates in a pool. Each counts as a trial of `budget.trials`."""
    proxies: Annotated[tuple[ProxyName, ...], Field(min_length=1, max_length=16)] = ("nwot",)
    """Zero-cost proxies to measure (entry point group `kinase.proxies`). With several, candidates
    are ordered by the mean of their ranks."""

    @field_validator("proxies")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for place, name in enumerate(names):
            if name in names[:place]:
                raise ValueError(f"{name!r} is named twice; name each proxy once")
        return names
