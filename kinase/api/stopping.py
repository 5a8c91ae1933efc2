"""`spec.estimation.stopping`: rules that stop a trial by its learning curve."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kinase.api._base import Custom, Model, Union


class DomhanStopping(Model):
    """An ensemble of eleven parametric curves, fitted to the trial's own curve by Markov chain
    Monte Carlo (Domhan et al. 2015). It needs no other trials."""

    walkers: Annotated[int, Field(ge=100, le=1000)] = 100
    """Walkers of the sampler. They move together; there are at least two per parameter."""
    steps: Annotated[int, Field(ge=10, le=100_000)] = 300
    """Steps of each walker that are kept. Domhan et al. keep 2,000."""
    burn_in: Annotated[int, Field(ge=0, le=100_000)] = 200
    """Steps before them that are dropped. Domhan et al. drop 500."""


class LCNetStopping(Model):
    """A Bayesian neural network that predicts the parameters of a trial's curve from what is known
    of its architecture (Klein et al. 2017). It is fitted to the curves of all trials."""

    networks: Annotated[int, Field(ge=2, le=100)] = 5
    """Networks in the ensemble."""
    steps: Annotated[int, Field(ge=10, le=100_000)] = 300
    """Gradient steps of each network (Adam)."""
    trials: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Number of trials that must have finished before a trial can be stopped."""


class BakerStopping(Model):
    """Support vector regression from the curve so far, its differences, and what is known of the
    architecture (Baker et al. 2017). It is fitted to the curves of trials that finished."""

    trials: Annotated[int, Field(ge=6, le=10_000)] = 20
    """Number of trials that must have finished before a trial can be stopped. Baker et al. train
    100."""
    draws: Annotated[int, Field(ge=1, le=10_000)] = 30
    """Hyper-parameters that are drawn and compared by cross-validation. Baker et al. draw 1,000."""


class MedianStopping(Model):
    """Compare a trial's best value so far with the running means of the other trials after as many
    epochs (Golovin et al. 2017). `probability` is not used."""

    percentile: Annotated[float, Field(gt=0, lt=100)] = 50.0
    """Percentage of the other trials that are better than the one that a trial must match. With
    50, a trial is stopped if it is worse than the median."""
    trials: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Number of other trials that must have come as far."""


class Stopping(Union):
    """Stop a trial whose learning curve promises too little. The trial rests after each `every`
    epochs, and the rule predicts its value at the end of its grant."""

    type: Literal["Domhan", "LCNet", "Baker", "Median", "Custom"]
    """Type of the rule. The field of the same name holds its options."""
    probability: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Stop a trial if the probability that it becomes good enough is below this. Good enough is at
    least the best value at the end of the same epochs; with rungs, a value that is promoted."""
    every: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Epochs between two looks at a trial. Default: a tenth of `spec.training.epochs`, rounded
    up."""
    after: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Epochs that a trial is trained before it can be stopped. Default: `every`."""
    spare: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the trials that are trained on although the rule would stop them. They show how
    many of those that are stopped would have become the best."""
    domhan: DomhanStopping | None = None
    """Parametric curves."""
    lc_net: LCNetStopping | None = None
    """A Bayesian neural network over curves."""
    baker: BakerStopping | None = None
    """Support vector regression."""
    median: MedianStopping | None = None
    """The median of other trials."""
    custom: Custom | None = None
    """A rule from another package (entry point group `kinase.stopping`)."""
