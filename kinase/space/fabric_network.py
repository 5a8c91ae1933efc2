"""The network of a part of a fabric, and the whole fabric as a supernet."""

from __future__ import annotations

from kinase.space.base import Frame
from kinase.space.builder import GraphBuilder
from kinase.space.errors import InfeasibleError
from kinase.space.supernet import NONE, Choice, Supernet
from kinase.space.trellis import Place, Trellis, Wires
from kinase.words import counted

CONV = "conv_3x3"
"""The option of an edge that is there."""


def group(place: Place, name: str) -> str:
    """The group of choices of a node's input."""
    return f"layer{place[0]}_scale{place[1]}_{name}"


def network(
    trellis: Trellis, wires: Wires, frame: Frame, channels: int, *, every: bool
) -> Supernet:
    """Nodes, each the sum of 3x3 convolutions of its inputs, batch normalization and a ReLU (Saxena
    & Verbeek 2016, section 3.1), then global average pooling and a linear layer.

    Args:
        trellis: of layers and scales.
        wires: the inputs of the nodes beyond the first layer.
        frame: what surrounds them.
        channels: of every node.
        every: whether each input is a choice, to be there or not.

    Raises:
        InfeasibleError: the image has fewer scales.
    """
    g, choices = GraphBuilder(frame.input), list[Choice]()
    at: dict[Place, str] = {}

    def ended(place: Place, x: str) -> str:
        name = f"layer{place[0]}_scale{place[1]}"
        at[place] = g.relu(f"{name}_relu", g.batch_norm(f"{name}_bn", x))
        return at[place]

    def edge(place: Place, name: str) -> str:
        here, source = group(place, name), trellis.source(place, name)
        x, stride = at[source], 1 + (source[1] < place[1])
        if source[1] > place[1]:
            _, height, width = g.shape(at[0, place[1]])
            x = g.unpool(f"{here}_unpool", x, height, width)
        y = g.conv(f"{here}_conv", x, channels, 3, stride)
        if not every:
            return y
        zero = g.unary(f"{here}_none", "zero", x, stride=stride)
        choices.append(Choice(here, (NONE, CONV), here))
        return g.choice(here, [zero, y])

    x = ended((0, 0), g.conv("layer0_scale0_conv", g.input, channels, 3))
    for scale in range(1, trellis.scales):
        _, height, width = g.shape(x)
        if max(height, width) == 1:
            raise InfeasibleError(
                f"scale {scale - 1} of the image is one pixel, so there is no scale {scale}: use "
                f"at most {counted(scale, 'scale')}"
            )
        x = ended((0, scale), g.conv(f"layer0_scale{scale}_conv", x, channels, 3, 2))
    for place in sorted(wires):
        terms = [edge(place, name) for name in wires[place]]
        ended(place, g.add(f"layer{place[0]}_scale{place[1]}", terms))
    x = g.global_avg_pool("pool", at[trellis.output])
    return Supernet(g.build(g.linear("classifier", x, frame.outputs)), tuple(choices))
