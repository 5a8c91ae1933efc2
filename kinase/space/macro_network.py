"""The network of a macro architecture, and its supernet."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kinase.space import cell_ops
from kinase.space.base import Frame
from kinase.space.builder import GraphBuilder
from kinase.space.errors import InfeasibleError
from kinase.space.supernet import NONE, SKIP, Choice, Supernet

Layers = Sequence[tuple[str | tuple[str, ...], Collection[int]]]
"""For each layer its operation and its skips, or all operations of a supernet and all skips."""


def group_of_op(index: int) -> str:
    """The group of choices of a layer's operation."""
    return f"op_{index}"


def group_of_skip(index: int, skip: int) -> str:
    """The group of choices of a skip to a layer."""
    return f"skip_{index}_{skip}"


def network(layers: Layers, frame: Frame, filters: int) -> Supernet:
    """The network for CIFAR-10 of Pham et al. 2018 (section 3.2, and the authors' code): a 3x3
    stem, the layers, global average pooling and a linear layer. At one and two thirds of the depth
    a separate factorized reduction halves each map that is read later.

    Within a supernet the maps that join are added, and widths stay as they are. Otherwise they are
    concatenated, a 1x1 convolution brings them to the layer's width, and reductions double the
    filters.

    Raises:
        InfeasibleError: a map is too small to be halved.
    """
    return _Writer(frame, filters, len(layers)).write(layers)


class _Writer:
    def __init__(self, frame: Frame, filters: int, count: int) -> None:
        self._g = GraphBuilder(frame.input)
        self._frame, self._filters = frame, filters
        third = count // 3
        self._reductions = [third, 2 * third] if third else []
        """The numbers of the maps that are the last ones of their stage."""
        self._maps: dict[tuple[int, int], str] = {}
        """By the number of a map and of a stage: its node."""
        self._choices: list[Choice] = []

    def write(self, layers: Layers) -> Supernet:
        g = self._g
        x = g.conv("stem_conv", g.input, self._filters, 3)
        self._maps[0, 0] = g.batch_norm("stem_bn", x)
        for index, (op, skips) in enumerate(layers):
            stage = self._stage(index)
            y = self._layer(index, op, stage)
            if index:
                y = self._join(index, y, skips, stage, every=not isinstance(op, str))
            self._maps[index + 1, stage] = y
        x = g.global_avg_pool("pool", self._maps[len(layers), self._stage(len(layers) - 1)])
        graph = g.build(g.linear("classifier", x, self._frame.outputs))
        return Supernet(graph, tuple(self._choices))

    def _stage(self, index: int) -> int:
        """The stage in which a layer is."""
        return sum(index >= last for last in self._reductions)

    def _width(self, stage: int) -> int:
        return self._filters if self._frame.searching else self._filters * 2**stage

    def _map(self, number: int, stage: int) -> str:
        """A map at the size of a stage."""
        if (number, stage) not in self._maps:
            before = self._map(number, stage - 1)
            name = f"map{number}_reduce{stage}"
            _, height, width = self._g.shape(before)
            if min(height, width) < 2:
                raise InfeasibleError(
                    f"{name}: stride 2 on a feature map of {height}x{width} leaves nothing"
                )
            self._maps[number, stage] = cell_ops.factorized_reduce(
                self._g, name, before, self._width(stage), relu=False
            )
        return self._maps[number, stage]

    def _layer(self, index: int, op: str | tuple[str, ...], stage: int) -> str:
        x, width = self._map(index, stage), self._width(stage)
        if isinstance(op, str):
            return _operation(self._g, f"layer{index}_{op}", op, x, width)
        options = [_operation(self._g, f"layer{index}_{each}", each, x, width) for each in op]
        name = f"layer{index}_op"
        self._choices.append(Choice(name, op, group_of_op(index)))
        return self._g.choice(name, options)

    def _join(self, index: int, y: str, skips: Collection[int], stage: int, *, every: bool) -> str:
        g, name = self._g, f"layer{index}"
        maps = [self._map(skip, stage) for skip in skips]
        if every:
            zero = g.unary(f"{name}_none", "zero", y, stride=1)
            names = [f"{name}_skip{skip}" for skip in skips]
            maps = [g.choice(n, [zero, each]) for n, each in zip(names, maps, strict=True)]
            self._choices += [
                Choice(n, (NONE, SKIP), group_of_skip(index, skip))
                for n, skip in zip(names, skips, strict=True)
            ]
        if self._frame.searching:
            return g.batch_norm(f"{name}_bn", g.add(f"{name}_add", [*maps, y]))
        x = g.relu(f"{name}_relu", g.concat(f"{name}_concat", [*maps, y]))
        return g.batch_norm(f"{name}_bn", g.conv(f"{name}_conv", x, self._width(stage), 1))


def _operation(g: GraphBuilder, name: str, op: str, x: str, out: int) -> str:
    """Conv-BN-ReLU of one pixel, then the operation."""
    x = g.batch_norm(f"{name}_pre_bn", g.conv(f"{name}_pre_conv", x, out, 1))
    x = g.relu(f"{name}_pre_relu", x)
    if op.endswith("pool_3x3"):
        return g.pool(name, x, op[:3], 3, 1)
    if op.startswith("sep"):
        x = g.conv(f"{name}_dw", x, out, int(op[-1]), groups=out)
        x = g.conv(f"{name}_pw", x, out, 1)
    else:
        x = g.conv(f"{name}_conv", x, out, int(op[-1]))
    return g.relu(f"{name}_relu", g.batch_norm(f"{name}_bn", x))
