"""Partial channels: the authors' network, DARTS as its special case, and what passes by."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kinase.api.fidelity import Scale
from kinase.api.space import CellSpace
from kinase.api.supernet import PCDARTS, Relaxation, SupernetPlan
from kinase.space import Frame, InfeasibleError, derive_rng
from kinase.space.cell import Cell
from kinase.space.supernet import Supernet
from kinase_trainer.supernet.make import make_choices
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.pc_darts import PcDarts

DARTS = Cell(CellSpace(preset="darts"))
FRAME = Frame((1, 8, 8), 10, Scale(cells=3, filters=4), searching=True, partial=4)
IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def supernet(frame: Frame = FRAME, space: Cell = DARTS) -> Supernet:
    """With partial channels."""
    found = space.supernet(frame)
    assert found is not None
    return found


@pytest.mark.parametrize(("cells", "filters", "params"), [(8, 16, 299_578), (3, 8, 34_026)])
def test_it_has_the_parameters_of_its_authors_network(
    cells: int, filters: int, params: int
) -> None:
    # model_search.py of yuhuixu1993/PC-DARTS, without the alphas and betas
    frame = replace(FRAME, input=(3, 32, 32), scale=Scale(cells=cells, filters=filters))
    assert supernet(frame).graph.params() == params


@pytest.mark.parametrize("preset", ["darts", "nasbench201"])
def test_all_channels_and_equal_edges_are_darts(preset: str) -> None:
    space = Cell(CellSpace.model_validate({"preset": preset}))
    torch.manual_seed(0)
    plain = Supernetwork(supernet(replace(FRAME, partial=None), space)).eval()
    whole = Supernetwork(supernet(replace(FRAME, partial=1), space)).eval()
    whole.load_state_dict(plain.state_dict())
    weights = {
        group: torch.softmax(torch.randn(len(options)), 0)
        for group, options in plain.supernet.groups.items()
    }
    for network in (plain, whole):
        network.mix(weights)  # edges have a weight of 1
    with torch.no_grad():
        torch.testing.assert_close(whole(IMAGES), plain(IMAGES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side", [8, 7])
def test_the_other_channels_pass_by(side: int) -> None:
    network = Supernetwork(supernet(replace(FRAME, input=(1, side, side))))
    PcDarts(network.supernet, torch.Generator()).choose(network, torch.Generator())
    maps: dict[str, torch.Tensor] = {}
    for name, module in network.nodes.items():
        module.register_forward_hook(lambda _, __, y, name=name: maps.update({name: y}))
    with torch.no_grad():
        network(torch.rand(2, 1, side, side))
    compared = 0
    for edge in (n.removesuffix("_shuffle") for n in maps if n.endswith("_shuffle")):
        out = maps[f"{edge}_shuffle"]
        back = out.unflatten(1, (-1, 4)).transpose(1, 2).flatten(1, 2)  # undo the shuffle
        mixed, rest = maps[edge], maps[f"{edge}_rest"]
        if f"{edge}_pool" in maps:
            rest = torch.nn.functional.max_pool2d(rest, 2, 2, ceil_mode=True)
        assert torch.equal(back, torch.cat([mixed, rest], 1))
        assert mixed.shape[1] == out.shape[1] // 4
        compared += 1
    assert compared == len(network.supernet.choices)


def test_edges_count_in_what_is_derived_and_learn() -> None:
    whole = supernet()
    relaxation = PcDarts(whole, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for groups, name in relaxation._nodes.items():
            if len(groups) == 5:
                relaxation.betas[name].copy_(torch.tensor([0.0, 3.0, 0.0, 3.0, 0.0]))
    path = relaxation.derive()
    assert [path[f"normal_3_{n}"] > 0 for n in range(5)] == [False, True, False, True, False]
    network = Supernetwork(whole)
    relaxation.choose(network, torch.Generator())
    network(IMAGES).square().sum().backward()
    assert all(p.grad is not None for p in relaxation.parameters())
    assert len(list(relaxation.parameters())) == 2 * (14 + 4)


def test_it_has_no_slices_and_does_not_change_networks() -> None:
    architecture = DARTS.sample(derive_rng(0))
    with pytest.raises(ValueError, match="trained from scratch"):
        supernet().slice(DARTS.path(architecture))
    plain = replace(FRAME, partial=None)
    assert DARTS.graph(architecture, FRAME) == DARTS.graph(architecture, plain)


def test_channels_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(InfeasibleError, match="need a multiple of 4"):
        supernet(replace(FRAME, scale=Scale(cells=3, filters=6)))


def test_a_plan_says_what_it_needs() -> None:
    plan = SupernetPlan(relaxation=Relaxation(type="PCDARTS", pc_darts=PCDARTS()))
    assert (plan.relaxation.partial, plan.waits(50)) == (4, 15)
    assert SupernetPlan(frozen=3).waits(50) == 3
    assert SupernetPlan().relaxation.partial is None
    plain = supernet(replace(FRAME, partial=None))
    with pytest.raises(ValueError, match="PCDARTS needs a supernet with partial channels"):
        make_choices(plan.relaxation, plain, DARTS, 0)
    assert isinstance(make_choices(plan.relaxation, supernet(), DARTS, 0).relaxation, PcDarts)
