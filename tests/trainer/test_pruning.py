"""A fabric that is trained whole, and pruned."""

from __future__ import annotations

import pytest
import torch

from kinase.api.fidelity import Scale
from kinase.api.space import FabricSpace, MacroSpace
from kinase.api.supernet import Pruning as Options
from kinase.api.supernet import Relaxation
from kinase.space import Frame
from kinase.space.fabric import Fabric
from kinase.space.macro import Macro
from kinase_trainer.network import Network
from kinase_trainer.supernet.make import make_choices
from kinase_trainer.supernet.network import Supernetwork
from kinase_trainer.supernet.pruning import Pruning

SPACE = Fabric(FabricSpace(layers=4, scales=3))
FRAME = Frame((3, 8, 8), 10, Scale(filters=3), searching=True)


def whole() -> tuple[Supernetwork, Pruning]:
    supernet = SPACE.supernet(FRAME)
    assert supernet is not None
    torch.manual_seed(0)
    plan = Relaxation(type="Pruning", pruning=Options(shares=(1.0, 0.5, 0.01)))
    choices = make_choices(plan, supernet, SPACE, 0)
    assert isinstance(choices.relaxation, Pruning)
    assert choices.chooser is None
    return Supernetwork(supernet), choices.relaxation


def test_every_edge_is_trained() -> None:
    network, relaxation = whole()
    relaxation.choose(network, torch.Generator())
    images = torch.rand(4, 3, 8, 8)
    alone = Network(SPACE.graph(SPACE.named["whole"], FRAME))
    names = dict(network.named_parameters())
    alone.load_state_dict(
        {k: v for k, v in network.state_dict().items() if k in alone.state_dict()}
    )
    assert set(dict(alone.named_parameters())) == set(names)
    torch.testing.assert_close(network(images), alone(images), atol=1e-6, rtol=1e-6)
    network(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in names.values())


def test_the_edges_with_the_largest_kernels_are_left() -> None:
    network, relaxation = whole()
    generator = torch.Generator().manual_seed(1)
    size = {}
    with torch.no_grad():
        for group in network.supernet.groups:
            weight = network.nodes[f"{group}_conv"].weight
            assert isinstance(weight, torch.Tensor)
            size[group] = float(torch.rand((), generator=generator)) + 0.1
            weight.mul_(size[group] / weight.norm())
    relaxation.read(network)
    (everything, all_of_it), (half, part), (least, _) = relaxation.candidates()
    assert set(everything.values()) == {1}
    assert all_of_it == pytest.approx(1.0)
    order = sorted(size, key=lambda group: -size[group])
    largest = set(order[: -(-len(order) // 2)])
    taken = {group for group, option in half.items() if option}
    assert largest <= taken
    for group in taken - largest:  # each the largest one of a node that would have none
        node = group.rpartition("_")[0]
        rest = [other for other in size if other.startswith(f"{node}_")]
        assert largest.isdisjoint(rest)
        assert size[group] == max(size[other] for other in rest)
    squares = sum(size[group] ** 2 for group in taken) / sum(each**2 for each in size.values())
    assert part == pytest.approx(squares, rel=1e-5)
    SPACE.validate(SPACE.architecture(half))
    # one edge a node is one path from the image to the output
    chain = SPACE.architecture(least)
    assert {len(names) for layer in chain["layers"] for names in layer} == {0, 1}


def test_a_choice_between_operations_is_not_pruned() -> None:
    supernet = Macro(MacroSpace(layers=3)).supernet(FRAME)
    assert supernet is not None
    with pytest.raises(
        ValueError, match=r"the options of op_0 are conv_3x3, .* use the space Fabric"
    ):
        Pruning(supernet, (0.5,))
