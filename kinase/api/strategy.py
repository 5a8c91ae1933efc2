"""`spec.strategy`: the search strategy, the second of the three pillars."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Custom, Model, Rule, Union
from kinase.api.supernet import (
    DARTS,
    ENAS,
    GAEA,
    GDAS,
    LEARNED,
    PCDARTS,
    SNAS,
    DrNAS,
    ProxylessNAS,
    Pruning,
    Relaxation,
)

Start = Annotated[tuple[dict[str, Any], ...], Field(max_length=100)]
"""Architectures in the format of the space, or published ones such as `{named: NASNet-A}`."""


class RandomStrategy(Model):
    """Uniform sampling without replacement. Isomorphic architectures are tried only once."""


class LocalSearchStrategy(Model):
    """Local search (White et al. 2020): evaluate the neighbours of the incumbent, move to a better
    one, and restart from a new architecture at a local optimum."""

    initial: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Number of architectures to evaluate first: those of `start`, then random ones. The search
    starts from the best of them."""
    move: Literal["first", "best"] = "first"
    """When to move: to the `first` neighbour that is better, or to the `best` of all neighbours."""
    start: Start = ()
    """Architectures to evaluate before random ones, in the format of `spec.space`. For a `Cell`
    space also published ones by name, such as `{named: NASNet-A}`."""


class EvolutionStrategy(Model):
    """Evolution by tournament selection (Real et al. 2017, 2019)."""

    population: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """Population size P. Default: a quarter of the trials that the budget pays for (without the
    control), at least 10 and at most 100 (the paper's value); 30 if only time is limited. The
    value is fixed when the experiment starts."""
    sample: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Tournament size S: the best of S random members becomes the parent. Default: half of the
    population, at most 25 (the paper's value)."""
    removal: Literal["oldest", "worst"] = "oldest"
    """Which member is removed: the `oldest` (regularized evolution, Real et al. 2019) or the
    `worst` of a tournament (Real et al. 2017)."""
    crossover: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a child has two parents, if the space supports crossover."""
    start: Start = ()
    """Architectures to evaluate before random ones, in the format of `spec.space`. For a `Cell`
    space also published ones by name, such as `{named: NASNet-A}`."""

    rules: ClassVar = (
        Rule(
            "!has(self.sample) || !has(self.population) || self.sample <= self.population",
            "sample {self.sample} is above population {self.population}; "
            "it can be at most the population size",
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
                "it can be at most the population size"
            )
        return self

    def sized(self, trials: int | None) -> EvolutionStrategy:
        """A copy with both sizes set.

        Args:
            trials: Number of trials of the search, or None if it is not known.
        """
        population, sample = self.population, self.sample
        if population is None:
            population = 30 if trials is None else min(100, max(10, round(trials / 4)))
            population = max(population, sample or 0)
        if sample is None:
            sample = min(25, (population + 1) // 2)
        return self.model_copy(update={"population": population, "sample": sample})


class LargeScaleEvolutionStrategy(Model):
    """Large-scale evolution (Real et al. 2017). Intended for `estimation: Morphism`."""

    population: Annotated[int, Field(ge=2, le=10_000)] = 1000
    """Population size, including members that are being trained."""
    start: Literal["small", "random"] = "small"
    """Initial population. `small`: each member is one of the smallest quarter of 64 random
    architectures, and can grow (the paper starts with single layers). `random`: any
    architecture."""
    alter_learning_rate: bool = True
    """Whether a mutation can change the learning rate."""
    learning_rate_step: Annotated[float, Field(gt=1, le=100)] = 2.0
    """Maximum factor by which a mutation raises or lowers the learning rate. The factor is drawn
    log-uniformly. Initial members use the learning rate of `spec.training`."""
    identity: bool = True
    """Whether a mutation can be the identity: the parent is trained further."""
    reset_weights: bool = True
    """Whether a mutation can reset the weights: the parent's architecture is trained from
    scratch."""


class NASHStrategy(Model):
    """Hill climbing with network morphisms (Elsken et al. 2017). Intended for `estimation:
    Morphism`."""

    neighbours: Annotated[int, Field(ge=2, le=10_000)] = 8
    """Number of children in a generation, including the parent if `includeParent` is set. The best
    of them is the next parent."""
    morphisms: Annotated[int, Field(ge=1, le=100)] = 5
    """Number of network morphisms applied in sequence to the parent to make a child. Fewer if the
    parent cannot grow further."""
    edits: Literal["drawn", "all"] | None = None
    """Number of morphisms of a child. `drawn`: from 1 to `morphisms`, each equally likely. `all`:
    always `morphisms`, as in the paper; in a small space nothing is left to grow after a few
    generations. Default: `all`."""
    saturated: Literal["backtrack", "mutate"] | None = None
    """What to do when morphisms lead to no new child of the parent. `backtrack`: make a child of
    the last former parent that can still grow, or of another initial network. `mutate`: mutate the
    parent at random, so the child inherits matching tensors at most. Default: `mutate`."""
    include_parent: bool = True
    """Whether the last child of a generation is the unchanged parent, trained further. Otherwise
    the parent competes with its known value, which suits an estimation without inheritance."""
    steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Number of generations (the paper uses 8). Default: until the budget is spent."""
    initial: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Number of initial networks. The best of them is the first parent. The paper starts from one
    hand-designed network."""
    start: Literal["random", "small"] = "random"
    """Initial networks. `random`: any architecture. `small`: one of the smallest quarter of 64
    random architectures, and one that can grow, because morphisms only enlarge."""


class LEMONADEStrategy(Model):
    """Multi-objective evolution with exact and approximate network morphisms (Elsken et al. 2019).
    Objectives that need no training decide which children are trained. Intended for `estimation:
    Morphism` with `approximate`."""

    initial: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Number of random architectures to start with."""
    children: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Number of children proposed in a generation, whose cheap objectives are computed (n_pc in the
    paper)."""
    accepted: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Number of these children that are trained (n_ac in the paper)."""

    rules: ClassVar = (
        Rule(
            "self.accepted <= self.children",
            "accepted {self.accepted} is above children {self.children}; "
            "it can be at most the number of children",
            ".accepted",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.accepted > self.children:
            raise ValueError(
                f"accepted {self.accepted} is above children {self.children}; "
                "it can be at most the number of children"
            )
        return self


class EASStrategy(Model):
    """Efficient architecture search (Cai et al. 2018a): a policy trained by reinforcement learning
    chooses network morphisms. For the space Chain; intended for `estimation: Morphism`."""

    initial: Literal["small", "sampled"] = "small"
    """The initial network. `small`: up to four convolutions of the smallest width, with a pool or a
    stride between them. `sampled`: a random architecture."""
    architecture: dict[str, Any] | None = None
    """The initial network, in the format of `spec.space`. Default: chosen by `initial`."""
    wider_steps: Annotated[int, Field(ge=0, le=100)] = 4
    """Number of steps in an episode that widen layers. In each step the policy decides for every
    layer."""
    deeper_steps: Annotated[int, Field(ge=0, le=100)] = 5
    """Number of steps in an episode, after the wider steps, that insert one layer each."""
    batch: Annotated[int, Field(ge=1, le=1000)] = 10
    """Number of episodes in a policy update."""
    restart: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Number of networks after which the best network so far becomes the initial one. Default:
    never."""
    reward: Literal["tan", "identity"] = "tan"
    """Reward of the policy. `tan`: tan(accuracy x pi / 2), for an objective that is an accuracy.
    `identity`: the objective's value, negated if less is better."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Update rate of the reward baseline towards the mean reward of a batch."""
    entropy: Annotated[float, Field(ge=0, le=10)] = 1e-5
    """Weight of the policy's entropy bonus, which prevents early convergence."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    """Learning rate of the policy (Adam)."""
    embedding: Annotated[int, Field(ge=1, le=256)] = 16
    """Size of the embedding of a layer type."""
    units: Annotated[int, Field(ge=1, le=512)] = 50
    """Hidden units of the bidirectional LSTM, in each direction."""

    rules: ClassVar = (
        Rule(
            "self.widerSteps + self.deeperSteps > 0",
            "widerSteps and deeperSteps are both 0; an episode needs at least one step",
            ".widerSteps",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.wider_steps + self.deeper_steps == 0:
            raise ValueError(
                "widerSteps and deeperSteps are both 0; an episode needs at least one step"
            )
        return self


class PathLevelStrategy(Model):
    """Path-level network transformation (Cai et al. 2018b): a tree-LSTM policy trained by
    reinforcement learning unfolds the layer of a cell into a tree of branches. For the space Tree;
    intended for `estimation: Morphism`."""

    architecture: dict[str, Any] | None = None
    """The cell of the initial network, in the format of `spec.space`. Default: a single layer, not
    unfolded."""
    batch: Annotated[int, Field(ge=1, le=1000)] = 10
    """Number of episodes in a policy update."""
    reward: Literal["tan", "identity"] = "tan"
    """Reward of the policy. `tan`: tan(accuracy x pi / 2), for an objective that is an accuracy.
    `identity`: the objective's value, negated if less is better."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Update rate of the reward baseline towards the mean reward of a batch."""
    entropy: Annotated[float, Field(ge=0, le=10)] = 1e-2
    """Weight of the policy's entropy bonus, which prevents early convergence."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 6e-3
    """Learning rate of the policy (Adam)."""
    embedding: Annotated[int, Field(ge=1, le=256)] = 10
    """Size of the embedding of an operation or a merge."""
    units: Annotated[int, Field(ge=1, le=512)] = 100
    """Hidden units of the tree LSTM, in each direction."""


class BOHBStrategy(Model):
    """The model of BOHB (Falkner et al. 2018): propose what is likely among the good trials of the
    highest rung and unlikely among the others. Intended for `estimation: Hyperband`."""

    top: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of a rung's trials that are taken as good."""
    min_points: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """Least number of good and of other trials that a rung's model requires. Default: one more
    than the number of choices in which its trials differ."""
    random_fraction: Annotated[float, Field(ge=0, le=1)] = 1 / 3
    """Share of the proposals that are random."""
    samples: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Number of candidates of which the model's best is proposed."""
    bandwidth_factor: Annotated[float, Field(gt=0, le=100)] = 3.0
    """Factor on the kernels' bandwidths of numbers, from which the candidates are drawn."""
    min_bandwidth: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Least bandwidth of a kernel, as a share of a number's range or as the chance of another
    option."""


class Strategy(Union):
    """The search strategy: how to explore the space."""

    type: Literal[
        "Random",
        "LocalSearch",
        "Evolution",
        "LargeScaleEvolution",
        "NASH",
        "LEMONADE",
        "EAS",
        "PathLevel",
        "BOHB",
        "DARTS",
        "GDAS",
        "SNAS",
        "DrNAS",
        "GAEA",
        "PCDARTS",
        "ProxylessNAS",
        "ENAS",
        "Pruning",
        "Custom",
    ]
    """Type of the strategy. The field of the same name holds its options."""
    random: RandomStrategy | None = None
    """Uniform sampling."""
    local_search: LocalSearchStrategy | None = None
    """Local search with restarts."""
    evolution: EvolutionStrategy | None = None
    """Evolution by tournament selection."""
    large_scale_evolution: LargeScaleEvolutionStrategy | None = None
    """Evolution with pairwise tournaments and inherited weights."""
    nash: NASHStrategy | None = None
    """Hill climbing with network morphisms."""
    lemonade: LEMONADEStrategy | None = None
    """Multi-objective evolution with network morphisms."""
    eas: EASStrategy | None = None
    """Reinforcement learning over network morphisms."""
    path_level: PathLevelStrategy | None = None
    """Reinforcement learning over trees of branches."""
    bohb: BOHBStrategy | None = None
    """Densities of good and other trials."""
    darts: DARTS | None = None
    """Choices of a supernet learned by gradients."""
    gdas: GDAS | None = None
    """Choices of a supernet learned by gradients, one option sampled in each step."""
    snas: SNAS | None = None
    """Choices of a supernet learned by gradients, from samples of relaxed choices."""
    dr_nas: DrNAS | None = Field(default=None, alias="drNAS")
    """Choices of a supernet learned by gradients, from samples of a Dirichlet distribution."""
    gaea: GAEA | None = None
    """Choices of a supernet learned by exponentiated gradients."""
    pc_darts: PCDARTS | None = Field(default=None, alias="pcdarts")
    """Choices of a supernet learned by gradients, on a part of the channels."""
    proxyless_nas: ProxylessNAS | None = Field(default=None, alias="proxylessNAS")
    """Choices of a supernet learned by gradients or rewards, two options at a time."""
    enas: ENAS | None = None
    """Choices of a supernet made by a controller that learns from rewards."""
    pruning: Pruning | None = None
    """A supernet that is trained whole, without its smallest kernels."""
    custom: Custom | None = None
    """A strategy from another package (entry point group `kinase.strategies`)."""

    @property
    def relaxation(self) -> Relaxation | None:
        """How a supernet's choices are learned, if the strategy is that."""
        if self.type not in LEARNED:
            return None
        return Relaxation.model_validate(
            {"type": self.type, Relaxation.members()[self.type]: self.member}
        )
