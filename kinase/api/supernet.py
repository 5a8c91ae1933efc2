"""How a supernet is trained, and how a candidate is scored with its weights."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Model, Rule, Union
from kinase.api.supernet_options import SupernetOptions
from kinase.api.within import Limit
from kinase.words import counted

Temperature = Annotated[float, Field(gt=0, le=1000)]
Rate = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(gt=0, le=1)]


class Choosing(Model):
    """Adam for the parameters of the choices."""

    learning_rate: Rate = 3e-4
    """Learning rate."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.5,
        0.999,
    )
    """Decay rates of the two moment estimates."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 1e-3
    """Weight decay."""


class DARTS(Choosing):
    """All options of a choice, weighted by a softmax (Liu et al. 2019)."""

    order: Literal[1, 2] = 2
    """1: a choice sees the weights as they are. 2: as they would be after their next step, which
    costs about four times as much."""


class PCDARTS(Choosing):
    """DARTS with partial channels: an option sees a part of the channels, the others pass by, and
    the edges of a node are weighted by a softmax (Xu et al. 2020). Architectures are trained from
    scratch, as the supernet's weights are not theirs."""

    learning_rate: Rate = 6e-4
    """Learning rate."""
    partial: Annotated[int, Field(ge=1, le=64)] = 4
    """An option sees one in so many channels."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of the epochs before the choices begin to learn."""


class GDAS(Choosing):
    """One option of a choice in each step, drawn by Gumbel-max (Dong & Yang 2019)."""

    hottest: Temperature = 10.0
    """Temperature in the first epoch; it falls linearly."""
    coldest: Temperature = 0.1
    """Temperature in the last epoch."""


class SNAS(Choosing):
    """All options of a choice, weighted by a sample of the concrete distribution (Xie et al. 2019).
    Weights and choices learn from the same samples."""

    hottest: Temperature = 1.0
    """Temperature in the first epoch; it falls linearly."""
    coldest: Temperature = 0.03
    """Temperature in the last epoch."""


class DrNAS(Choosing):
    """All options of a choice, weighted by a sample of a Dirichlet distribution (Chen et al.
    2021)."""

    learning_rate: Rate = 6e-4
    """Learning rate."""


class GAEA(Model):
    """All options of a choice, weighted by a point of the simplex that moves by exponentiated
    gradients (Li et al. 2021)."""

    rate: Rate = 0.1
    """Step of the exponentiated gradient."""


class ProxylessNAS(Choosing):
    """One option of a choice in each step of the weights, drawn by a softmax; two of them, or
    rewards, in each step of the choices (Cai et al. 2019)."""

    learning_rate: Rate = 1e-3
    """Learning rate."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.0,
        0.999,
    )
    """Decay rates of the two moment estimates."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Weight decay."""
    mode: Literal["Gradient", "Reinforce"] = "Gradient"
    """`Gradient`: two options are run, and which of them is used is gated. `Reinforce`: the
    held-out accuracy of a few paths is the reward."""
    interval: Annotated[int, Field(ge=1, le=100_000)] = 5
    """Steps of the weights for each of the choices."""
    paths: Annotated[int, Field(ge=1, le=1000)] = 10
    """Paths in a step with rewards."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of the epochs before the choices begin to learn. The paths are random until then."""


class ENAS(Choosing):
    """Paths that an LSTM writes option by option, which learns from their held-out accuracy after
    each epoch (Pham et al. 2018)."""

    learning_rate: Rate = 3.5e-3
    """Learning rate of the controller. The paper has 0.001 for whole networks."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.0,
        0.999,
    )
    """Decay rates of the two moment estimates."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Weight decay."""
    units: Annotated[int, Field(ge=1, le=4096)] = 64
    """Hidden units."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 30
    """Steps of the controller after each epoch. The paper has 50 for whole networks."""
    paths: Annotated[int, Field(ge=1, le=1000)] = 10
    """Paths in a step. The paper has 20 for whole networks."""
    tanh: Annotated[float, Field(gt=0, le=100)] = 1.1
    """Largest logit. The paper has 1.5 for whole networks."""
    reduce: Annotated[float, Field(gt=0, le=100)] = 2.5
    """The largest logit of an operation is smaller by this factor. The paper has 1 for whole
    networks."""
    entropy: Annotated[float, Field(ge=0, le=10)] = 1e-4
    """Reward of a path's entropy."""
    baseline: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the mean reward."""
    skip_target: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Probability of a skip connection to aim at, where it is a choice between it and none."""
    skip_weight: Annotated[float, Field(ge=0, le=100)] = 0.8
    """Weight of the difference from it."""
    derived: Annotated[int, Field(ge=1, le=100)] = 10
    """Paths that are drawn and scored at the end."""


class PathDropout(Model):
    """All options that are not dropped, at random in each step (Bender et al. 2018)."""

    rate: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability that a node loses all its inputs, after the last epoch; it grows linearly from
    0."""


MOST_ALSO = 100
"""Maximum number of further candidates in a job."""
BATCH = 16
"""Candidates that one pod scores by default."""
Length = Annotated[float, Field(ge=0, le=1_000_000)]


class OFA(Model):
    """Progressive shrinking (Cai et al. 2020): the largest network is trained alone, then together
    with networks of smaller kernels, then also of fewer layers, then also of smaller widths, all of
    which are slices of it. For the space MobileNet, and for Model with operations that only
    shrink."""

    largest: Length = 180.0
    """Length of the training of the largest network alone, relative to the other phases: the
    supernet's epochs are divided in proportion. 0: it is trained already."""
    kernel: Length = 120.0
    """Length of the phase in which kernels become free."""
    depth: tuple[Length, Length] = (25.0, 120.0)
    """Lengths of the phases in which depths become free: the two largest ones, then all."""
    width: tuple[Length, Length] = (25.0, 120.0)
    """Lengths of the phases in which widths become free: the two largest ones, then all."""
    networks: tuple[
        Annotated[int, Field(ge=1, le=64)],
        Annotated[int, Field(ge=1, le=64)],
        Annotated[int, Field(ge=1, le=64)],
    ] = (1, 2, 4)
    """Networks of a step, whose gradients are added, while kernels, depths and widths become
    free."""
    distillation: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Weight of the distance to the outputs of the largest network as it was before others were
    trained, added to the loss of the labels. 0: no distillation."""
    transforms: bool = True
    """Whether a smaller depthwise kernel is the centre of the next larger one times a learned
    matrix. If not, it is the centre."""
    sort: bool = True
    """Whether channels are sorted by their weights before widths become free, so that a narrower
    network has those with the largest weights."""
    sandwich: bool = False
    """Whether each step trains the smallest and the largest network, and only the others are drawn
    (Yu & Huang 2019)."""

    rules: ClassVar = (
        Rule(
            "self.largest > 0.0 || self.kernel > 0.0 || self.depth.exists(d, d > 0.0) || "
            "self.width.exists(w, w > 0.0)",
            "largest, kernel, depth and width are 0: no phase is left",
            ".largest",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any((self.largest, self.kernel, *self.depth, *self.width)):
            raise ValueError("largest, kernel, depth and width are 0: no phase is left")
        return self


CANDIDATES = 1000
"""Candidates that are scored by default."""
TRAINED = 5
"""The same where each is trained."""
LEARNED = (
    "DARTS",
    "GDAS",
    "SNAS",
    "DrNAS",
    "GAEA",
    "PCDARTS",
    "ProxylessNAS",
    "ENAS",
    "Pruning",
)
"""Types that learn the choices, so that an architecture is left at the end. Each is a strategy."""
COSTED = tuple(name for name in LEARNED if name != "Pruning")
"""Those whose choices are parameters that can learn by a cost."""
SOFTMAX = ("DARTS", "GDAS", "SNAS", "PCDARTS", "ProxylessNAS")
"""Those of them whose choices are a softmax of parameters."""
PROGRESSIVE = ("DARTS", "PCDARTS", "GAEA", "SNAS", "DrNAS")
"""Those that weight all options of a choice."""
SMOOTH = ("DARTS", "PCDARTS", "GAEA")
"""Those of them whose weights are not drawn."""


class Pruning(Model):
    """All options at once. An architecture is what is left without the edges whose kernels are the
    smallest (Saxena & Verbeek 2016). For the space Fabric."""

    shares: Annotated[tuple[Share, ...], Field(min_length=1, max_length=32)] = (
        1.0,
        0.75,
        0.5,
        0.25,
    )
    """Shares of the edges that are kept: there is an architecture for each. Each node keeps one
    edge or more."""


class Sampling(Union):
    """How architectures are drawn while a supernet trains for a strategy that samples. Nothing is
    learned of the choices."""

    type: Literal["Uniform", "FairNAS", "PathDropout", "OFA"] = "Uniform"
    """Type of the sampling. `Uniform`: a random architecture in each step (Guo et al. 2020; Li &
    Talwalkar 2020). `FairNAS`: in each step as many as a choice has options, each of which is used
    once (Chu et al. 2021). `PathDropout`: all options but those dropped (Bender et al. 2018).
    `OFA`: random slices of a network, from large to small ones (Cai et al. 2020), for the spaces
    MobileNet, and Model with operations that only shrink. The field of the same name holds its
    options."""
    path_dropout: PathDropout | None = None
    """Options dropped at random."""
    ofa: OFA | None = None
    """Progressive shrinking of the largest network."""


class Relaxation(Union):
    """How choices are made while a supernet trains, in a trial's job."""

    type: Literal[
        "Uniform",
        "FairNAS",
        "PathDropout",
        "DARTS",
        "GDAS",
        "SNAS",
        "DrNAS",
        "GAEA",
        "PCDARTS",
        "ProxylessNAS",
        "ENAS",
        "Pruning",
        "OFA",
    ] = "Uniform"
    """Type of the relaxation. Four learn nothing of the choices. `Uniform`: a random architecture
    in each step (Guo et al. 2020; Li & Talwalkar 2020). `FairNAS`: in each step as many as a choice
    has options, each of which is used once (Chu et al. 2021). `PathDropout`: all options but those
    dropped (Bender et al. 2018). `OFA`: random slices of a network, from large to small ones (Cai
    et al. 2020). The field of the same name holds the options of the others."""
    path_dropout: PathDropout | None = None
    """PathDropout."""
    darts: DARTS | None = None
    """DARTS."""
    gdas: GDAS | None = None
    """GDAS."""
    snas: SNAS | None = None
    """SNAS."""
    dr_nas: DrNAS | None = Field(default=None, alias="drNAS")
    """DrNAS."""
    gaea: GAEA | None = None
    """GAEA."""
    pc_darts: PCDARTS | None = Field(default=None, alias="pcdarts")
    """PC-DARTS."""
    proxyless_nas: ProxylessNAS | None = Field(default=None, alias="proxylessNAS")
    """ProxylessNAS."""
    enas: ENAS | None = None
    """ENAS."""
    pruning: Pruning | None = None
    """All options at once, then those with large kernels."""
    ofa: OFA | None = None
    """OFA."""

    @property
    def single_level(self) -> bool:
        """Whether weights and choices learn from the same samples."""
        return self.type in ("Uniform", "FairNAS", "PathDropout", "SNAS", "Pruning", "OFA")

    @property
    def mixes(self) -> bool:
        """Whether all options of all choices run in a step."""
        return self.type in ("PathDropout", "DARTS", "SNAS", "DrNAS", "GAEA", "PCDARTS")

    @property
    def form(self) -> Literal["choices", "slices", "any"]:
        """How the networks must share weights (`kinase.space.sharing`)."""
        if self.type == "OFA":
            return "slices"
        return "any" if self.type == "Uniform" else "choices"

    @property
    def partial(self) -> int | None:
        """`Frame.partial` of the supernet. If it is a number, slices of the supernet are no
        networks of the space, so architectures are not scored with its weights."""
        return self.pc_darts.partial if self.type == "PCDARTS" and self.pc_darts else None


class SupernetPlan(SupernetOptions):
    """A supernet's training, in a trial's job."""

    relaxation: Relaxation = Relaxation()
    """How choices are made."""
    limits: tuple[Limit, ...] = ()
    """`objective.limits`: paths that are drawn at random are within them where that can be, and so
    are derived architectures."""

    def waits(self, epochs: int) -> int:
        """First of so many epochs in which the choices do not learn, also by the relaxation."""
        return max(self.frozen, int(epochs * getattr(self.relaxation.member, "warmup", 0.0)))

    def unfit(self, epochs: int) -> str:
        """Why an option cannot be used with the relaxation, in a training of so many epochs; empty
        if all can."""
        kind = self.relaxation.type
        if self.selection is not None and self.progressive is not None:
            return "progressive must not be set with selection, which decides as well"
        if self.progressive is not None and kind not in PROGRESSIVE:
            return f"progressive is for {_listed(PROGRESSIVE)}, and choices are made by {kind}"
        if self.smooth is not None and kind not in SMOOTH:
            return f"smooth is for {_listed(SMOOTH)}, and choices are made by {kind}"
        if self.beta is not None and kind not in SOFTMAX:
            return f"beta is for {_listed(SOFTMAX)}, and choices are made by {kind}"
        if self.cost is not None and kind not in COSTED:
            return f"cost is for {_listed(COSTED)}, and choices are made by {kind}"
        waits = self.waits(epochs)
        if kind in COSTED and waits >= epochs:
            return (
                f"frozen: the choices do not learn in the first {waits} of "
                f"{counted(epochs, 'epoch')}; use a smaller number"
            )
        return ""


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


class Derived(Model):
    """An architecture that is left of a supernet's choices."""

    architecture: dict[str, Any]
    """The genotype."""
    score: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """How sure the choices are of it, such as the mean probability of its options."""
