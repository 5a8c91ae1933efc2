"""The shared tensors of chains and multi-branch networks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from kinase.api.space import ChainSpace, MultiBranchSpace
from kinase.space.layers import WEIGHTED, scaled
from kinase.space.nodes import Node

Numbers = dict[str, int | float]


def _conv(name: str, inside: int, out: int, kernel: int, groups: int = 1) -> Node:
    attrs: Numbers = {"in": inside, "out": out, "kernel": kernel, "stride": 1}
    attrs |= {"padding": kernel // 2, "dilation": 1, "groups": groups, "bias": 0}
    return Node(name, "conv", (), attrs)


def _norm(name: str, channels: int) -> Node:
    return Node(name, "batch_norm", (), {"channels": channels, "affine": 1})


def _layer(
    options: ChainSpace | MultiBranchSpace, name: str, inside: int, width: int
) -> Iterator[Node]:
    """What a layer can have: both kinds of convolutions end in the same normalization."""
    kernel = max(options.kernels)
    if "conv" in options.ops:
        yield _conv(f"{name}_conv", inside, width, kernel)
    if "sepconv" in options.ops:
        yield _conv(f"{name}_depthwise", inside, inside, kernel, groups=inside)
        yield _conv(f"{name}_pointwise", inside, width, 1)
    if set(WEIGHTED) & set(options.ops):
        yield _norm(f"{name}_bn", width)


def chain(options: ChainSpace, channels: int, outputs: int, fraction: float) -> Iterator[Node]:
    """The largest layers of all chains. A layer's input channels are the first ones, whichever
    layer they come from.

    Args:
        options: `space.chain`.
        channels: of the image.
        outputs: number of classes.
        fraction: by which widths are scaled.
    """
    width = scaled(max(options.widths), fraction)
    weighted = bool(set(WEIGHTED) & set(options.ops))
    pools = bool(set(options.ops) - set(WEIGHTED))
    after = [channels]  # the most channels before each layer
    for index in range(options.max_depth):
        name, inside = f"layer{index}", after[-1]
        yield from _layer(options, name, inside, width)
        out = max([width] * weighted + [inside] * pools)
        if options.skips and index > 0:
            yield _conv(f"{name}_skip_conv", max(after[:index]), out, 1)
            yield _norm(f"{name}_skip_bn", out)
        after.append(out)
    most = max(after[options.min_depth :])
    yield Node("classifier", "linear", (), {"in": most, "out": outputs})


def branches(
    options: MultiBranchSpace, channels: int, outputs: int, fraction: float
) -> tuple[list[Node], dict[str, str], dict[str, dict[str, int]]]:
    """The largest nodes of all multi-branch networks.

    A node's input channels are those of the image, then those of each earlier node, whether it
    reads them through poolings or not. A sum has the channels of the first map that was not
    projected.

    Returns:
        The layers; the source of each one's output; and where each source begins in its input.
    """
    o = options
    width = scaled(max(o.widths), fraction)
    weighted = bool(set(WEIGHTED) & set(o.ops))
    names = ["input", *(f"node{index}" for index in range(o.max_nodes if weighted else 0))]
    sizes = [channels, *[width] * (len(names) - 1)]
    ends = list(accumulate(sizes))
    begins = dict(zip(names, [0, *ends], strict=False))
    widest = _widest(o, channels, width)
    nodes: list[Node] = []
    sources = {"input": "input"}
    places: dict[str, dict[str, int]] = {"classifier": begins}
    for index in range(o.max_nodes):
        name = f"node{index}"
        inside = ends[min(index, len(ends) - 1)]
        sources |= dict.fromkeys((f"{name}_conv", f"{name}_pointwise"), name)
        parts = [f"{name}_conv", f"{name}_depthwise", f"{name}_pointwise"]
        nodes += _layer(o, name, inside, width)
        if "add" in o.merges and o.max_inputs > 1 and index:
            for number in range(min(o.max_inputs, index + 1)):
                most = max(widest[: index + 1])
                nodes.append(_conv(f"{name}_in{number}_conv", inside, most, 1))
                nodes.append(_norm(f"{name}_in{number}_bn", most))
                parts.append(f"{name}_in{number}_conv")
        places |= dict.fromkeys(parts, begins)
    nodes.append(Node("classifier", "linear", (), {"in": ends[-1], "out": outputs}))
    return nodes, sources, places


def _widest(options: MultiBranchSpace, channels: int, width: int) -> list[int]:
    """The most channels of the image's map and of each node's."""
    o = options
    weighted = bool(set(WEIGHTED) & set(o.ops))
    pools = bool(set(o.ops) - set(WEIGHTED))
    found = [channels]
    for _ in range(o.max_nodes):
        largest = sorted(found, reverse=True)
        joined = sum(largest[: o.max_inputs]) if "concat" in o.merges else largest[0]
        found.append(max([width] * weighted + [joined] * pools))
    return found
