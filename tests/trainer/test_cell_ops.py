"""What of an image reaches the operations of a cell, and its networks."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from kinase.api.fidelity import Scale
from kinase.api.space import CellOp, CellSpace
from kinase.space import Frame, GraphBuilder, cell_ops
from kinase.space.cell import Cell
from kinase_trainer.network import Network

OPS = [op for op in get_args(CellOp) if op != "none"]


def reached(network: Network, shape: tuple[int, int, int], samples: int) -> torch.Tensor:
    """(H, W): whether any image's gradient reaches a pixel in any channel."""
    torch.manual_seed(0)
    images = torch.randn(samples, *shape, requires_grad=True)
    output = network.train()(images)
    (output * torch.randn_like(output)).sum().backward()  # a plain sum a normalization takes away
    assert images.grad is not None
    return images.grad.abs().sum((0, 1)) > 0


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (6, 9), (9, 6), (1, 5)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", OPS)
def test_gradients_reach_every_pixel(op: str, stride: int, size: tuple[int, int]) -> None:
    shape = (4, *size)
    g = GraphBuilder(shape)
    built = g.build(cell_ops.apply(g, "op", op, g.input, 4, stride))
    found = reached(Network(built), shape, 64)
    assert built.shapes()[built.output] == (4, *(-(-side // stride) for side in size))
    rows, columns = (torch.arange(side) % 2 for side in size)
    wanted = torch.ones(size, dtype=torch.bool)
    if op == "skip_connect" and stride == 2:
        # as published (Zoph et al. 2018): two windows of one pixel, one further down and across
        wanted = rows[:, None] == columns[None, :]
    elif op.startswith("dil_conv") and stride == 2:
        # as published (Liu et al. 2019): it steps as far as its taps are apart
        wanted = rows[:, None] + columns[None, :] == 0
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", ["NASNet-A", "AmoebaNet-A"])
@pytest.mark.parametrize("size", [(16, 16), (9, 14)])
def test_gradients_reach_every_pixel_and_parameter_of_a_published_network(
    name: str, size: tuple[int, int]
) -> None:
    space = Cell(CellSpace(preset="nasnet"))
    frame = Frame((3, *size), 10, Scale(cells=3, filters=4))
    built = space.graph(space.named[name], frame)
    network = Network(built)
    assert sum(p.numel() for p in network.parameters()) == built.params()
    assert reached(network, frame.input, 4).all()  # type: ignore[arg-type]
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_a_map_that_is_added_to_itself_is_doubled() -> None:
    space = Cell(CellSpace(preset="nasnet", nodes=1))
    twice = [[["skip_connect", 1], ["skip_connect", 1]]]
    cell = {"normal": twice, "reduction": twice}
    space.validate(cell)
    network = Network(space.graph(cell, Frame((3, 4, 4), 10, Scale(cells=1, filters=4)))).eval()
    seen: dict[str, torch.Tensor] = {}
    for name in ("cell0_pre1_bn", "cell0_out"):
        network.nodes[name].register_forward_hook(
            lambda _, __, out, name=name: seen.__setitem__(name, out)
        )
    network(torch.rand(2, 3, 4, 4))
    assert torch.equal(seen["cell0_out"], 2 * seen["cell0_pre1_bn"])
