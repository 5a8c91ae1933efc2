"""How a supernet is trained beyond how its choices are made: a watch, repairs, a cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kinase.api._base import Model


class EarlyStop(Model):
    """End of a search before its choices collapse (Zela et al. 2020): when the dominant eigenvalue
    has grown. The choices are then those of the earlier evaluation."""

    first: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Epochs that are trained at least."""
    ratio: Annotated[float, Field(gt=1, le=1000)] = 1.3
    """The search ends when the mean is larger than the earlier one by this factor."""
    window: Annotated[int, Field(ge=1, le=25)] = 5
    """Evaluations in a mean, around the one for which it stands."""
    earlier: Annotated[int, Field(ge=1, le=25)] = 4
    """Evaluations between the two means."""


class Watch(Model):
    """Watch of a supernet's choices. The share of skips among the derived options and the mean
    entropy of the choices are metrics of every epoch (`supernet_skips`, `supernet_entropy`)."""

    every: Annotated[int, Field(ge=0, le=1000)] = 0
    """Epochs between two evaluations of the dominant eigenvalue of the held-out loss in the choices
    (`supernet_eigenvalue`), each of which costs up to about 40 passes of a batch. 0: never, or
    every second epoch with `stop`."""
    stop: EarlyStop | None = None
    """Rule that ends the search early. By default it runs to its last epoch."""


class Smooth(Model):
    """Weights that learn under noisy choices, so that the loss is flat around these (Chen & Hsieh
    2020). For DARTS, PCDARTS and GAEA."""

    type: Literal["Random", "Adversarial"] = "Random"
    """`Random`: uniform noise. `Adversarial`: the noise with the largest loss of a batch, which
    costs `steps` + 2 more passes."""
    smallest: Annotated[float, Field(ge=0, le=1)] = 0.03
    """Largest change of a weight in the first epoch; it grows linearly."""
    largest: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Largest change of a weight after the last epoch."""
    steps: Annotated[int, Field(ge=1, le=100)] = 7
    """Steps to find the adversarial noise."""


class Beta(Model):
    """Penalty that keeps the choices alike (Ye et al. 2022). For relaxations with a softmax."""

    largest: Annotated[float, Field(gt=0, le=10_000)] = 50.0
    """Weight after the last epoch; it grows linearly from 0."""


class Cost(Model):
    """Cost of an architecture by which the choices learn as well (Cai et al. 2019): the expected
    multiply-adds or parameters. Their expected number is a metric of every epoch
    (`supernet_cost`)."""

    measure: Literal["macs", "params"] = "macs"
    """What an option costs."""
    form: Literal["Logarithm", "Linear"] = "Logarithm"
    """`Logarithm`: the loss is multiplied by weight * (log cost / log reference)^power. `Linear`:
    weight * (cost - reference) / reference is added to it."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 0.2
    """Weight. The paper has 0.1 with `Linear`."""
    power: Annotated[float, Field(gt=0, le=100)] = 0.3
    """Power, with `Logarithm`."""
    reward: Annotated[float, Field(ge=0, le=100)] = 0.1
    """Power of reference / cost, by which a reward is multiplied."""
    reference: Annotated[float, Field(gt=0, le=1e15)] | None = None
    """The cost that is aimed at. By default a share of the mean over all options."""
    share: Annotated[float, Field(gt=0, le=100)] = 1.0
    """That share."""


class Progressive(Model):
    """Options that are given up while the supernet trains, so that the rest takes less time and
    memory (Chen et al. 2021). For DARTS, PCDARTS, GAEA, SNAS and DrNAS."""

    keep: Annotated[int, Field(ge=1, le=100)] = 4
    """Options that each choice keeps."""
    after: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the epochs after which the others are given up."""


class Perturbation(Model):
    """Selection by what the removal of an option costs in held-out accuracy, edge by edge, while
    the weights continue to train (Wang et al. 2021). For every relaxation, also `Uniform`."""

    search: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Share of the epochs before the first decision. The decisions are spread evenly over the
    others."""
    rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor of the learning rate of the weights once decisions are made."""


class SupernetOptions(Model):
    """How a supernet is trained, beyond how its choices are made: in the manifest, and in a job."""

    held: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the training split that is held out for the choices, if they learn from other
    samples than the weights. Otherwise the weights learn from all."""
    frozen: Annotated[int, Field(ge=0, le=100_000)] = 0
    """First epochs in which the choices do not learn. The relaxation can have a share of
    the epochs: the larger number counts."""
    watch: Watch = Watch()
    """Watch of collapse."""
    smooth: Smooth | None = None
    """Noise on the choices in the steps of the weights."""
    beta: Beta | None = None
    """Penalty on the choices."""
    cost: Cost | None = None
    """Cost that the choices take into account."""
    progressive: Progressive | None = None
    """Options that are given up during the training."""
    selection: Perturbation | None = None
    """Selection by perturbation. By default the architecture is that of the choices."""
