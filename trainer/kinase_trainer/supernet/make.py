"""The relaxation of a plan, and what steps its choices."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kinase.api.supernet import Choosing, Relaxation, SupernetPlan
from kinase.space import Space
from kinase.space.supernet import Supernet
from kinase_trainer.supernet.beta import Beta
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.drnas import DrNas
from kinase_trainer.supernet.extra import Extra
from kinase_trainer.supernet.gaea import Gaea
from kinase_trainer.supernet.gdas import Gdas
from kinase_trainer.supernet.pc_darts import PcDarts
from kinase_trainer.supernet.perturbation import Perturbation
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
    """0: the choices learn from the step of the weights. 1 or 2: from held-out samples, see
    `SupernetRun.order`."""


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
    """
    generator = torch.Generator().manual_seed(seed)
    made: Learned
    order: int
    if plan.type == "Uniform":
        return Choices(Uniform(supernet, space, within), None, 0)
    assert supernet is not None, "choices can only be learned where all options can run"
    match plan.type:
        case "Pruning":
            assert plan.pruning is not None
            return Choices(Pruning(supernet, plan.pruning.shares), None, 0)
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
    options = plan.member
    assert isinstance(options, Choosing)
    adam = torch.optim.Adam(
        made.parameters(),
        lr=options.learning_rate,
        betas=options.betas,
        weight_decay=options.weight_decay,
    )
    return Choices(made, adam, order)


def make_extras(plan: SupernetPlan, relaxation: Made) -> tuple[Extra, ...]:
    """What a plan adds to the training of a relaxation.

    Raises:
        ValueError: it does not fit the relaxation; the message names the field.
    """
    found: list[Extra] = []
    if plan.selection is not None:
        found.append(Perturbation(plan.selection))
    if plan.smooth is not None:
        found.append(Smooth(plan.smooth, relaxation))
    if plan.beta is not None:
        found.append(Beta(plan.beta, relaxation))
    return (*found, Watch(plan.watch))
