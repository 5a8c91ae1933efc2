"""`spec.estimation`: performance estimation, the third of the three pillars."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Custom, Model, Rule, Union
from kinase.api.ladder import LADDERS, Ladder
from kinase.api.screen import Screen
from kinase.api.stopping import Stopping
from kinase.api.supernet import BATCH, MOST_ALSO, Sampling
from kinase.api.supernet_options import SupernetOptions

Epochs = Annotated[int, Field(ge=1, le=100_000)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class AutoEstimation(Model):
    """The estimation that suits the search. By what was measured: `ASHA`; with NASH, `ASHA` with
    `inherit`. As in the strategy's paper: with LEMONADE, EAS, PathLevel and LargeScaleEvolution,
    `Morphism`; with a strategy that learns the choices of a supernet, such as DARTS, `OneShot`.
    Where a ladder does not fit it is `Morphism` with NASH, and `Full` with all others:
    the trainer cannot pause, `training.epochs` is below 9, there are several objectives, or
    `stopping` is set. With `trialTemplate.command` it is `Full`. The choice is recorded when the
    search starts, and stays."""


class FullEstimation(Model):
    """Train every candidate as configured in `spec.training`."""


class LowerFidelityEstimation(Model):
    """Train every candidate at a lower fidelity. Finalists are trained at full fidelity."""

    epochs: Epochs | None = None
    """Training epochs of a candidate. Default: `spec.training.epochs`."""
    data_fraction: Fraction = 1.0
    """Share of the training split to train on: a fixed subset chosen by the split's seed."""
    resolution: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Input height and width in pixels. Default: the task's."""
    filter_fraction: Fraction = 1.0
    """Factor applied to every channel count, rounded, with at least 1 channel."""
    cells: Annotated[int, Field(ge=1, le=200)] | None = None
    """Number of cells in the network (space type Cell only). Default: `space.cell.search.cells`."""


class MorphismEstimation(Model):
    """Start a child from its parent's trained weights and train it for a few epochs. If network
    morphisms produce the child, it starts as the same function as its parent. A candidate without
    a parent is trained as configured in `spec.training`."""

    epochs_per_child: Epochs | None = None
    """Training epochs of a child. Default: a third of `spec.training.epochs`, rounded up."""
    fallback: Literal["matching", "scratch"] = "matching"
    """What to do when no morphism produces the child, for example because it is smaller.
    `matching`: copy every tensor of the same name and shape, and train it like any child.
    `scratch`: train it from scratch, as configured in `spec.training`."""
    approximate: bool = False
    """Whether a child that only approximate morphisms produce (Elsken et al. 2019) inherits through
    them: layers removed, made separable, or given fewer filters, smaller windows or fewer skips."""
    distil_epochs: Annotated[int, Field(ge=0, le=100_000)] = 5
    """Epochs in which such a child is distilled from its parent's outputs, before it is trained on
    labels for `epochsPerChild` epochs. They are charged in addition."""
    rule: Literal["zero", "replicate"] = "zero"
    """How to initialize the new units of a wider layer. `zero`: draw them and set their outgoing
    weights to zero (Elsken et al. 2017). `replicate`: copy existing units and divide their outgoing
    weights (Chen et al. 2016)."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Standard deviation of the noise added to copied units, relative to the tensor's, so that
    copies diverge. With 0, a child is exactly its parent's function."""
    learning_rate_factor: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Factor applied to the learning rate of a child that inherits weights."""
    optimizer_state: Literal["fresh", "inherit"] = "fresh"
    """Whether a child inherits the optimizer's momentum or moments with the weights."""

    def child_epochs(self, full: int) -> int:
        """Training epochs of a child, where a network from scratch trains for so many."""
        return self.epochs_per_child or -(-full // 3)


class Inherit(MorphismEstimation):
    """Start a child from its parent's trained weights, as the type `Morphism` does, while
    candidates without a parent climb the ladder of the estimation. A child has a separate ladder
    with two rungs: it trains for `firstEpochs`, pauses, and is compared with its parent and with
    other children, never with networks from scratch. The best train for all of
    `epochsPerChild`."""

    first_epochs: Epochs | None = None
    """Training epochs of a child before it is compared. Default: a third of `epochsPerChild`,
    rounded up. With `epochsPerChild`, children do not pause."""
    eta: Annotated[int, Field(ge=2, le=100)] = 3
    """One in `eta` of the children of one parent trains on. The best of them trains on in any case
    once it is as good as its parent."""

    rules: ClassVar = (
        Rule(
            "!has(self.firstEpochs) || !has(self.epochsPerChild) || "
            "self.firstEpochs <= self.epochsPerChild",
            "firstEpochs {self.firstEpochs} is above epochsPerChild {self.epochsPerChild}; "
            "it can be at most epochsPerChild",
            ".firstEpochs",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        first, whole = self.first_epochs, self.epochs_per_child
        if first is not None and whole is not None and first > whole:
            raise ValueError(
                f"firstEpochs {first} is above epochsPerChild {whole}; "
                "it can be at most epochsPerChild"
            )
        return self

    def first(self, whole: int) -> int:
        """Epochs before a child is compared, of so many in all."""
        return min(whole, self.first_epochs or -(-whole // 3))


class SuccessiveHalvingEstimation(Ladder):
    """Successive halving (Karnin et al. 2013; Jamieson & Talwalkar 2016): train many candidates a
    little, and the best of them more, until one is trained in full; then begin again."""

    initial: Annotated[int, Field(ge=2, le=100_000)] | None = None
    """Number of candidates that begin a bracket. Default: `eta` to the power of the number of
    promotions, so that one of them gets to the full fidelity."""


Brackets = Literal["paper", "table"]


class HyperbandEstimation(Ladder):
    """Hyperband (Li et al. 2017): brackets of successive halving in turn, from many candidates
    that begin with little to a few that are trained in full at once."""

    brackets: Brackets = "paper"
    """Number of candidates that begin the bracket with s promotions, of at most S. `paper`:
    (S + 1) eta^s / (s + 1), rounded up (algorithm 1). `table`: (S + 1) / (s + 1) rounded down,
    times eta^s, as in the paper's table and in HpBandSter. For 81 epochs and `eta` 3: 81, 34, 15,
    8, 5 and 81, 27, 9, 6, 5."""


Score = Literal["best", "last"]


class ASHAEstimation(Ladder):
    """Asynchronous successive halving (Li et al. 2020): a trial that ends a rung pauses, and
    continues as soon as it is among the best of all that got there. No slot waits for another."""

    score: Score = "last"
    """What trials of a rung are compared by: the `best` value up to its end, or the `last` one.
    They differ with the axis `epochs` and `horizon: full` only."""
    promote: Literal["soon", "delayed", "last"] = "delayed"
    """When to promote. `soon`: as soon as a trial is among the best 1/eta of its rung (Li et al.
    2020). `delayed`: the same, while fewer than 1/eta of the rung's trials were promoted; so early
    promotions that later results prove wrong are made up for. `last`: when the budget pays for no
    further candidate and the promotions that are due. It needs a budget of epochs or trials;
    without one, trials are promoted soon."""


class AsyncHyperbandEstimation(ASHAEstimation):
    """Asynchronous Hyperband (Li et al. 2020, section 3.3): ASHA in several brackets at once, whose
    candidates begin at different rungs."""

    brackets: Brackets = "paper"
    """A candidate's bracket is drawn in proportion to the sizes that Hyperband's brackets have by
    this convention."""


class FreezeThawEstimation(Model):
    """Freeze-thaw (Swersky et al. 2014): after each few epochs a trial pauses, and a Gaussian
    process over all learning curves says which trial to continue, or whether to begin a new one,
    to learn most about which is best in the end."""

    every: Epochs | None = None
    """Epochs of a trial between two decisions. Default: a twentieth of `spec.training.epochs`,
    rounded up; at least a thousandth."""
    initial: Annotated[int, Field(ge=2, le=1000)] = 5
    """Number of trials that are begun before the first decision."""
    paused: Annotated[int, Field(ge=1, le=100)] = 10
    """Number of paused trials, the most promising ones, among which a decision is made."""
    fresh: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of new trials that compete with them in a decision. At most one is begun."""
    draws: Annotated[int, Field(ge=50, le=100_000)] = 500
    """Samples by which the entropy of the best trial is estimated."""


class OneShotEstimation(SupernetOptions):
    """Train one network that holds all candidates, a supernet, and score each candidate with its
    part of the weights, without training it (Bender et al. 2018; Pham et al. 2018). Finalists are
    trained. The space must have a supernet; `kinase validate` says whether it has."""

    epochs: Epochs | None = None
    """Training epochs of the supernet. Default: `spec.training.epochs`."""
    sampling: Sampling | None = None
    """How architectures are drawn while the supernet trains. Default: `Uniform`. It must not be set
    if the strategy learns the choices, such as DARTS."""
    candidates: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Maximum number of candidates to score, including those of the control. `budget.trials` is
    another limit. Default: 1000, as in Guo et al. (2020) and Li & Talwalkar (2020); 5 with PCDARTS,
    whose candidates are trained."""
    finalists: Literal["scratch", "inherit"] = "scratch"
    """How finalists begin. `scratch`: with new weights, as in the papers of cells, whose finalists
    are larger than the supernet. `inherit`: with the candidate's part of the supernet, as in Cai et
    al. (2020), as far as tensors have the same name and shape."""
    recalibrate: Annotated[int, Field(ge=0, le=1_000_000)] = 2000
    """Number of training samples from which the statistics of batch normalizations are computed
    again for each candidate. 0 keeps those of the supernet, which are those of no candidate."""
    batch: Annotated[int, Field(ge=1, le=MOST_ALSO)] = BATCH
    """Maximum number of candidates that one pod of a cluster scores, because it takes longer to
    start than to score one. They are proposed together. With a strategy that learns from results,
    at most a quarter of all candidates are under way at once, so there can be fewer in a pod. The
    processes of a local run stay warm and get one candidate at a time."""
    check: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of scored candidates, drawn at random, that are trained like finalists once the search
    is over, so that the report can say how well the supernet ranks. `budget.epochs` must pay for
    them. Must be 0 with PCDARTS, whose candidates are not scored."""


UNTRAINED = (
    "type is OneShot, whose candidates are not trained, so {name} must not be set; remove it or "
    "set another type"
)
INHERITS = (
    "inherit is for the types with a ladder ("
    + ", ".join(LADDERS)
    + "); type is {type}: remove inherit, or use one of them"
)
_AXES = " && ".join(
    f"self.?{name}.?axis.orValue('epochs') == 'epochs'" for name in LADDERS.values()
)


class Estimation(Union):
    """Performance estimation: how to score a candidate cheaply."""

    rules = (
        Rule(
            "!has(self.stopping) || self.type != 'FreezeThaw'",
            "type is {self.type}, which judges learning curves itself, so stopping must not "
            "be set; remove it or set another type",
            ".stopping",
            "Forbidden",
        ),
        *(
            Rule(
                f"!has(self.{name}) || self.type != 'OneShot'",
                UNTRAINED.format(name=name),
                f".{name}",
                "Forbidden",
            )
            for name in ("stopping", "screen")
        ),
        Rule(
            f"!has(self.inherit) || self.type in {list(LADDERS)}",
            INHERITS.format(type="{self.type}"),
            ".inherit",
            "Forbidden",
        ),
        Rule(
            f"!has(self.inherit) || ({_AXES})",
            "inherit requires the axis epochs: children have the network and the data of the full "
            "fidelity",
            ".inherit",
            "Forbidden",
        ),
    )

    type: Literal[
        "Auto",
        "Full",
        "LowerFidelity",
        "Morphism",
        "SuccessiveHalving",
        "Hyperband",
        "ASHA",
        "AsyncHyperband",
        "FreezeThaw",
        "OneShot",
        "Custom",
    ] = "Auto"
    """Type of the estimation. The field of the same name holds its options. `Auto` chooses one by
    the strategy, the training and the trainer."""
    auto: AutoEstimation | None = None
    """A type that suits the search."""
    full: FullEstimation | None = None
    """Full training."""
    lower_fidelity: LowerFidelityEstimation | None = None
    """Fewer epochs, less data, smaller inputs or smaller networks."""
    morphism: MorphismEstimation | None = None
    """Weights inherited from the parent."""
    successive_halving: SuccessiveHalvingEstimation | None = None
    """Many candidates trained a little, the best of them more."""
    hyperband: HyperbandEstimation | None = None
    """Successive halving from several first rungs."""
    asha: ASHAEstimation | None = None
    """Successive halving in which no slot waits."""
    async_hyperband: AsyncHyperbandEstimation | None = None
    """Asynchronous successive halving from several first rungs."""
    freeze_thaw: FreezeThawEstimation | None = None
    """Trials paused and continued by a model of their learning curves."""
    one_shot: OneShotEstimation | None = None
    """Weights shared by all candidates in one supernet."""
    custom: Custom | None = None
    """An estimator from another package (entry point group `kinase.estimators`)."""
    stopping: Stopping | None = None
    """Rule that stops a trial by its learning curve. Default: none."""
    inherit: Inherit | None = None
    """Weights that children inherit (types with a ladder only). Default: children are trained from
    scratch, except with the type `Morphism`."""
    screen: Screen | None = None
    """Zero-cost proxies that choose which candidates are trained. Default: none."""

    @property
    def inheriting(self) -> MorphismEstimation | None:
        """How children inherit weights; None where they do not."""
        return self.morphism or self.inherit

    @model_validator(mode="after")
    def _one_rule(self) -> Estimation:
        if self.stopping is not None and self.type == "FreezeThaw":
            raise ValueError(
                f"type is {self.type}, which judges learning curves itself, so stopping must not "
                "be set; remove it or set another type"
            )
        return self

    @model_validator(mode="after")
    def _untrained(self) -> Estimation:
        for name in ("stopping", "screen"):
            if self.type == "OneShot" and getattr(self, name) is not None:
                raise ValueError(UNTRAINED.format(name=name))
        return self

    @model_validator(mode="after")
    def _inherits(self) -> Estimation:
        if self.inherit is None:
            return self
        if self.type not in LADDERS:
            raise ValueError(INHERITS.format(type=self.type))
        if self.member.axis != "epochs":
            raise ValueError(
                "inherit requires the axis epochs: children have the network and the data of the "
                "full fidelity"
            )
        return self
