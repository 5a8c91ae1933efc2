"""The relaxation of a plan, and what steps its choices."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kinase.api.supernet import OFA, Choosing, Relaxation, SupernetPlan
from kinase.space import Space
from kinase.space.supernet import Supernet
from kinase.space.supernet_costs import option_costs
from kinase_trainer.supernet.beta import Beta
from kinase_trainer.supernet.cost import Cost
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.drnas import DrNas
from kinase_trainer.supernet.enas import Enas
from kinase_trainer.supernet.extra import Extra
from kinase_trainer.supernet.fair import Fair
from kinase_trainer.supernet.gaea import Gaea
from kinase_trainer.supernet.gdas import Gdas
from kinase_trainer.supernet.ofa import Ofa, Shrinking
from kinase_trainer.supernet.path_dropout import PathDropout
from kinase_trainer.supernet.pc_darts import PcDarts
from kinase_trainer.supernet.perturbation import Perturbation
from kinase_trainer.supernet.progressive import Progressive
from kinase_trainer.supernet.proxyless import Proxyless, ProxylessReinforce
from kinase_trainer.supernet.pruning import Pruning
from kinase_trainer.supernet.relaxation import Learned
from kinase_trainer.supernet.relaxation import Relaxation as Made
from kinase_trainer.supernet.smooth import Smooth
from kinase_trainer.supernet.snas import Snas
from kinase_trainer.supernet.uniform import Uniform
from kinase_trainer.supernet.watch import Watch
from kinase_trainer.supernet.within import Within


@dataclass(frozen=True)
class Choices:
    """A relaxation with its optimizer."""

    relaxation: Made
    chooser: torch.optim.Optimizer | None
    order: int
    """0: the choices learn from the step of the weights, or after the epochs. 1 or 2: from held-out
    samples, see `SupernetRun.order`."""
    interval: int = 1
    """See `SupernetRun.interval`."""
    rounds: int = 0
    """See `SupernetRun.rounds`."""
    own_statistics: bool = False
    """See `SupernetRun.own_statistics`."""

    @property
    def holds_out(self) -> bool:
        """Whether the choices learn from other samples than the weights."""
        return self.order > 0 or self.rounds > 0


def make_choices(
    plan: Relaxation,
    supernet: Supernet | None,
    space: Space,
    seed: int,
    within: Within | None = None,
) -> Choices:
    """Make the relaxation that a plan names.

    Args:
        plan: from the job.
        supernet: whose choices they are; None of a space whose networks share slices.
        space: whose supernet it is.
        seed: of the first values.
        within: the limits of random paths.

    Raises:
        ValueError: the relaxation does not fit the supernet or the space.
    """
    generator = torch.Generator().manual_seed(seed)
    made: Learned
    order: int
    if plan.type == "Uniform":
        return Choices(Uniform(supernet, space, within), None, 0)
    if plan.type == "OFA":
        shrinks = plan.member
        assert isinstance(shrinks, OFA)
        return Choices(Ofa(space, shrinks), None, 0)
    assert supernet is not None, "choices can only be learned where all options can run"
    match plan.type:
        case "Pruning":
            assert plan.pruning is not None
            return Choices(Pruning(supernet, plan.pruning.shares), None, 0)
        case "FairNAS":
            return Choices(Fair(supernet), None, 0)
        case "PathDropout":
            assert plan.path_dropout is not None
            dropout = PathDropout(supernet, plan.path_dropout.rate)
            return Choices(dropout, None, 0, own_statistics=True)
        case "ENAS":
            assert plan.enas is not None
            enas = Enas(supernet, generator, plan.enas)
            return Choices(enas, _adam(enas, plan.enas, eps=1e-3), 0, rounds=plan.enas.steps)
        case "ProxylessNAS":
            options = plan.proxyless_nas
            assert options is not None
            made = (
                Proxyless(supernet, generator)
                if options.mode == "Gradient"
                else ProxylessReinforce(supernet, generator, options.paths)
            )
            return Choices(made, _adam(made, options), 1, interval=options.interval)
        case "GAEA":
            assert plan.gaea is not None
            made = Gaea(supernet, generator)
            return Choices(made, torch.optim.SGD(made.parameters(), lr=plan.gaea.rate), 1)
        case "DARTS":
            assert plan.darts is not None
            made, order = Darts(supernet, generator), plan.darts.order
        case "GDAS":
            assert plan.gdas is not None
            made, order = Gdas(supernet, generator, plan.gdas.hottest, plan.gdas.coldest), 1
        case "SNAS":
            assert plan.snas is not None
            made, order = Snas(supernet, generator, plan.snas.hottest, plan.snas.coldest), 0
        case "PCDARTS":
            made, order = PcDarts(supernet, generator), 1
        case "DrNAS":
            made, order = DrNas(supernet, generator), 1
    assert isinstance(plan.member, Choosing)
    return Choices(made, _adam(made, plan.member), order)


def _adam(made: Made, options: Choosing, eps: float = 1e-8) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        made.parameters(),
        lr=options.learning_rate,
        betas=options.betas,
        eps=eps,
        weight_decay=options.weight_decay,
    )


def make_extras(plan: SupernetPlan, relaxation: Made) -> tuple[Extra, ...]:
    """What a plan adds to the training of a relaxation.

    Raises:
        ValueError: it does not fit the relaxation; the message names the field.
    """
    found: list[Extra] = []
    if isinstance(relaxation, Ofa):
        found.append(Shrinking(relaxation))
    if plan.selection is not None:
        found.append(Perturbation(plan.selection))
    if plan.progressive is not None:
        if plan.selection is not None:
            raise ValueError("progressive must not be set with selection, which decides as well")
        found.append(Progressive(plan.progressive, relaxation))
    if plan.smooth is not None:
        found.append(Smooth(plan.smooth, relaxation))
    if plan.beta is not None:
        found.append(Beta(plan.beta, relaxation))
    if plan.cost is not None:
        costs = option_costs(relaxation.supernet, plan.cost.measure)
        found.append(Cost(plan.cost, relaxation, costs))
    return (*found, Watch(plan.watch))
