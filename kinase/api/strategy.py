"""`spec.strategy`: the search strategy, the second of the three pillars."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Custom, Model, Rule, Union


class RandomStrategy(Model):
    """Uniform sampling without replacement: isomorphic architectures are tried once."""


class LocalSearchStrategy(Model):
    """Local search (White et al. 2020): try the neighbours of the incumbent, move, restart."""

    initial: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Random architectures tried first; the best of them is the first centre."""
    move: Literal["first", "best"] = "first"
    """Move to the first neighbour that is better, or to the best of all neighbours."""


class EvolutionStrategy(Model):
    """Evolution by tournament selection (Real et al. 2017, 2019)."""

    population: Annotated[int, Field(ge=2, le=10_000)] = 100
    """Members of the population P."""
    sample: Annotated[int, Field(ge=1, le=10_000)] = 25
    """Members drawn for one tournament S; the best of them becomes the parent."""
    removal: Literal["oldest", "worst"] = "oldest"
    """Who dies: the oldest (regularised evolution, Real et al. 2019) or the worst of a
    tournament (Real et al. 2017)."""
    crossover: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a child has two parents, where the space has a crossover."""

    rules: ClassVar = (
        Rule(
            "self.sample <= self.population",
            "sample {self.sample} is above population {self.population}; "
            "a tournament is drawn from the population",
            ".sample",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sample > self.population:
            raise ValueError(
                f"sample {self.sample} is above population {self.population}; "
                "a tournament is drawn from the population"
            )
        return self


class Strategy(Union):
    """The search strategy: how to look."""

    type: Literal["Random", "LocalSearch", "Evolution", "Custom"]
    """Which of the structs below is set."""
    random: RandomStrategy | None = None
    """Uniform sampling."""
    local_search: LocalSearchStrategy | None = None
    """Local search with restarts."""
    evolution: EvolutionStrategy | None = None
    """Evolution by tournament selection."""
    custom: Custom | None = None
    """A strategy of another package (entry point group `kinase.strategies`)."""
