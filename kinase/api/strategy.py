"""`spec.strategy`: the search strategy, the second of the three pillars."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Custom, Model, Rule, Union

Start = Annotated[tuple[dict[str, Any], ...], Field(max_length=100)]
"""Architectures in the form of the space, or published ones as `{named: NASNet-A}`."""


class RandomStrategy(Model):
    """Uniform sampling without replacement: isomorphic architectures are tried once."""


class LocalSearchStrategy(Model):
    """Local search (White et al. 2020): try the neighbours of the incumbent, move, restart."""

    initial: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Architectures tried first, those of `start` and random ones; the best is the first centre."""
    move: Literal["first", "best"] = "first"
    """Move to the first neighbour that is better, or to the best of all neighbours."""
    start: Start = ()
    """Architectures tried before random ones, in the form of `spec.space`; of a `Cell` space also
    published ones by name, such as `{named: NASNet-A}`."""


class EvolutionStrategy(Model):
    """Evolution by tournament selection (Real et al. 2017, 2019)."""

    population: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """Members of the population P. Default: a quarter of the trials that the budget pays for, the
    control's left out, but 10 at least and 100, the paper's, at most; 30 where time alone is
    limited. It is settled when the experiment begins."""
    sample: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Members drawn for one tournament S; the best of them becomes the parent. Default: half of the
    population, but 25, the paper's, at most."""
    removal: Literal["oldest", "worst"] = "oldest"
    """Who dies: the oldest (regularised evolution, Real et al. 2019) or the worst of a
    tournament (Real et al. 2017)."""
    crossover: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a child has two parents, where the space has a crossover."""
    start: Start = ()
    """Architectures tried before random ones, in the form of `spec.space`; of a `Cell` space also
    published ones by name, such as `{named: NASNet-A}`."""

    rules: ClassVar = (
        Rule(
            "!has(self.sample) || !has(self.population) || self.sample <= self.population",
            "sample {self.sample} is above population {self.population}; "
            "a tournament is drawn from the population",
            ".sample",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sample is None or self.population is None:
            return self
        if self.sample > self.population:
            raise ValueError(
                f"sample {self.sample} is above population {self.population}; "
                "a tournament is drawn from the population"
            )
        return self

    def sized(self, trials: int | None) -> EvolutionStrategy:
        """The same with both sizes set.

        Args:
            trials: How many trials the search has, or None if that is not known.
        """
        population, sample = self.population, self.sample
        if population is None:
            population = 30 if trials is None else min(100, max(10, round(trials / 4)))
            population = max(population, sample or 0)
        if sample is None:
            sample = min(25, (population + 1) // 2)
        return self.model_copy(update={"population": population, "sample": sample})


class LargeScaleEvolutionStrategy(Model):
    """Large-scale evolution (Real et al. 2017). Made for `estimation: Morphism`."""

    population: Annotated[int, Field(ge=2, le=10_000)] = 1000
    """Members of the population, those under way counted."""
    start: Literal["small", "random"] = "small"
    """The networks of the first population: `small`, each one of the smaller quarter of 64 drawn at
    random that can grow, as the paper begins with single layers; or any, at `random`."""
    alter_learning_rate: bool = True
    """Whether a mutation may be another learning rate."""
    learning_rate_step: Annotated[float, Field(gt=1, le=100)] = 2.0
    """Largest factor between a parent's learning rate and its child's, up or down; the factor's
    logarithm is drawn uniformly. A line begins at the rate of `spec.training`."""
    identity: bool = True
    """Whether a mutation may be none: the parent is trained on."""
    reset_weights: bool = True
    """Whether a mutation may be to begin anew, with the parent's architecture."""


class NASHStrategy(Model):
    """Hill climbing by network morphisms (Elsken et al. 2017). Made for `estimation: Morphism`."""

    neighbours: Annotated[int, Field(ge=2, le=10_000)] = 8
    """Children of one parent in a generation, the parent trained on among them; the best of them is
    the next parent."""
    morphisms: Annotated[int, Field(ge=1, le=100)] = 5
    """Edits that make a child of its parent, one on top of the other; network morphisms lead to
    each. Fewer where the parent can grow no further."""
    include_parent: bool = True
    """Whether the last child of a generation is the parent as it is, trained on. If not, the parent
    competes by the value that it has, which suits an estimation without inheritance."""
    steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Generations after which the search ends; the paper has 8. Default: it goes on until the
    budget is spent."""
    initial: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Networks to begin with; the best of them is the first parent. The paper has one by hand."""
    start: Literal["random", "small"] = "random"
    """What these are: any of the space, at `random`; or `small`, one of the smaller quarter of 64
    drawn at random, since morphisms only enlarge, and one that can grow."""


class LEMONADEStrategy(Model):
    """Multi-objective evolution by network morphisms, exact and approximate (Elsken et al. 2019):
    objectives that need no training decide which children are trained. Made for `estimation:
    Morphism` with `approximate`."""

    initial: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Random architectures to begin with."""
    children: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Children that are made of the population in a generation, and of which the cheap objectives
    are computed (n_pc)."""
    accepted: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Of them those that are trained (n_ac)."""

    rules: ClassVar = (
        Rule(
            "self.accepted <= self.children",
            "accepted {self.accepted} is above children {self.children}; "
            "those that are trained are drawn from the children",
            ".accepted",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.accepted > self.children:
            raise ValueError(
                f"accepted {self.accepted} is above children {self.children}; "
                "those that are trained are drawn from the children"
            )
        return self


class EASStrategy(Model):
    """Efficient architecture search (Cai et al. 2018a): a policy chooses network morphisms and
    learns by reinforcement. For the space Chain; made for `estimation: Morphism`."""

    initial: Literal["small", "sampled"] = "small"
    """The start network: `small`, up to four convolutions of the least width, with a pool or a
    stride between each; or one drawn at random."""
    architecture: dict[str, Any] | None = None
    """The start network, in the form of `spec.space`. Default: as `initial` says."""
    wider_steps: Annotated[int, Field(ge=0, le=100)] = 4
    """Steps of an episode that make layers wider; in each the policy decides for every layer."""
    deeper_steps: Annotated[int, Field(ge=0, le=100)] = 5
    """Steps of an episode, after those, that put in a layer each."""
    batch: Annotated[int, Field(ge=1, le=1000)] = 10
    """Episodes from which the policy learns at a time."""
    restart: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Networks after which the best so far becomes the start network. Default: it stays."""
    reward: Literal["tan", "identity"] = "tan"
    """What the policy is rewarded with: `tan` of accuracy x pi / 2, for an objective that is an
    accuracy; or the objective's value, turned so that more is better."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Share of the way to a batch's mean reward that the baseline goes."""
    entropy: Annotated[float, Field(ge=0, le=10)] = 1e-5
    """Weight of the policy's entropy, which keeps it from settling too soon."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    """Of the policy, by Adam."""
    embedding: Annotated[int, Field(ge=1, le=256)] = 16
    """Numbers by which the policy knows a kind of layer."""
    units: Annotated[int, Field(ge=1, le=512)] = 50
    """Units of the LSTM that reads the layers, in each direction."""

    rules: ClassVar = (
        Rule(
            "self.widerSteps + self.deeperSteps > 0",
            "widerSteps and deeperSteps are 0: an episode needs a step",
            ".widerSteps",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.wider_steps + self.deeper_steps == 0:
            raise ValueError("widerSteps and deeperSteps are 0: an episode needs a step")
        return self


class PathLevelStrategy(Model):
    """Path-level network transformation (Cai et al. 2018b): a policy, a tree LSTM, unfolds the
    layer of a cell into a tree of branches and learns by reinforcement. For the space Tree; made
    for `estimation: Morphism`."""

    architecture: dict[str, Any] | None = None
    """The start network's cell, in the form of `spec.space`. Default: its one layer, not
    unfolded."""
    batch: Annotated[int, Field(ge=1, le=1000)] = 10
    """Episodes from which the policy learns at a time."""
    reward: Literal["tan", "identity"] = "tan"
    """What the policy is rewarded with: `tan` of accuracy x pi / 2, for an objective that is an
    accuracy; or the objective's value, turned so that more is better."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Share of the way to a batch's mean reward that the baseline goes."""
    entropy: Annotated[float, Field(ge=0, le=10)] = 1e-2
    """Weight of the policy's entropy, which keeps it from settling too soon."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 6e-3
    """Of the policy, by Adam."""
    embedding: Annotated[int, Field(ge=1, le=256)] = 10
    """Numbers by which the policy knows an operation or a merge."""
    units: Annotated[int, Field(ge=1, le=512)] = 100
    """Units of the tree LSTM, in each direction."""


class Strategy(Union):
    """The search strategy: how to look."""

    type: Literal[
        "Random",
        "LocalSearch",
        "Evolution",
        "LargeScaleEvolution",
        "NASH",
        "LEMONADE",
        "EAS",
        "PathLevel",
        "Custom",
    ]
    """Which of the structs below is set."""
    random: RandomStrategy | None = None
    """Uniform sampling."""
    local_search: LocalSearchStrategy | None = None
    """Local search with restarts."""
    evolution: EvolutionStrategy | None = None
    """Evolution by tournament selection."""
    large_scale_evolution: LargeScaleEvolutionStrategy | None = None
    """Evolution by pairwise tournaments that inherits weights."""
    nash: NASHStrategy | None = None
    """Hill climbing by network morphisms."""
    lemonade: LEMONADEStrategy | None = None
    """Multi-objective evolution by network morphisms."""
    eas: EASStrategy | None = None
    """A policy over network morphisms that learns by reinforcement."""
    path_level: PathLevelStrategy | None = None
    """A policy over trees of branches that learns by reinforcement."""
    custom: Custom | None = None
    """A strategy of another package (entry point group `kinase.strategies`)."""
