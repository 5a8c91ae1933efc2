"""A fabric with one path is a chain of convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinase.api.fidelity import Scale
from kinase.api.space import FabricSpace
from kinase.space import Frame
from kinase.space.fabric import Fabric
from kinase_trainer.network import Network
from kinase_trainer.supernet.network import Supernetwork

FRAME = Frame((3, 8, 8), 10, Scale(filters=4), searching=True)
IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def chain(network: Network, steps: list[tuple[str, str]]) -> Tensor:
    """The network by hand.

    Args:
        network: whose weights are used.
        steps: (node, input) from the image on.
    """
    x = IMAGES
    nodes = network.nodes
    for node, step in steps:
        conv = nodes[f"{node}{step and '_'}{step}_conv"]
        assert isinstance(conv, nn.Conv2d)
        if step == "coarser":  # each pixel in the corner of a square of zeros
            spread = torch.zeros(len(x), x.shape[1], 2 * x.shape[2], 2 * x.shape[3])
            spread[:, :, ::2, ::2] = x
            x = spread
        down = 2 if step in ("finer", "above") or (not step and not node.endswith("scale0")) else 1
        x = F.conv2d(x, conv.weight, stride=down, padding=1)
        x = nodes[f"{node}_bn"](x).relu()
    classified: Tensor = nodes["classifier"](x.mean((2, 3)))
    return classified


def test_one_path_is_that_network() -> None:
    space = Fabric(FabricSpace(layers=4, scales=3))
    one = {"layers": [[[], ["finer"], []], [["coarser"], [], []], [["same"], ["above"], ["above"]]]}
    space.validate(one)
    steps = [
        ("layer0_scale0", ""),
        ("layer1_scale1", "finer"),
        ("layer2_scale0", "coarser"),
        ("layer3_scale0", "same"),
        ("layer3_scale1", "above"),
        ("layer3_scale2", "above"),
    ]
    torch.manual_seed(0)
    network = Network(space.graph(one, FRAME)).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(IMAGES), chain(network, steps), atol=1e-6, rtol=1e-6)


def test_a_whole_fabric_with_all_but_one_path_of_zeros_is_that_network() -> None:
    """Zeros in the kernels of the other edges are the same as no edges."""
    space = Fabric(FabricSpace(layers=3, scales=2))
    one = {"layers": [[["same"], []], [[], ["finer"]]]}
    torch.manual_seed(0)
    supernet = space.supernet(FRAME)
    assert supernet is not None
    whole = Supernetwork(supernet).eval()
    path = space.path(one)
    whole.follow(path)
    with torch.no_grad():
        wanted = whole(IMAGES)
        for group, taken in path.items():
            if not taken:
                whole.nodes[f"{group}_conv"].weight.zero_()  # type: ignore[operator, union-attr]
        whole.mix({group: torch.tensor([0.0, 1.0]) for group in path})
        torch.testing.assert_close(whole(IMAGES), wanted, atol=1e-6, rtol=1e-6)
