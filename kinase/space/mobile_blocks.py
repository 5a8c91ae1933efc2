"""The blocks of a MobileNet, in a network or as choices of a supernet."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from kinase.api.mobile import MobileNetSpace
from kinase.api.trial import Architecture
from kinase.space.base import Frame
from kinase.space.builder import GraphBuilder
from kinase.space.errors import InfeasibleError
from kinase.space.graph import Graph
from kinase.space.layers import scaled
from kinase.space.supernet import Choice

Block = dict[str, Any]
"""``{"kernel", "expand"}``."""
SKIP = "skip"
"""The option that leaves a block out."""
LAST = 4
"""Least number of pixels a side of the last map, for which first strides are left out."""
STEP = 8
"""Widths that are scaled by a multiplier are rounded to a multiple of it."""


def option(kernel: int, expand: int) -> str:
    """A block's name as an option of a choice."""
    return f"mb{expand}_{kernel}x{kernel}"


def group(stage: int, index: int) -> str:
    """The group of a block's choice."""
    return f"stage{stage}_block{index}"


def label(kernel: int, expand: int, width: int, stride: int) -> str:
    """A block for people: `mb6 3x3, 24, /2`."""
    return f"mb{expand} {kernel}x{kernel}, {width}" + (f", /{stride}" if stride > 1 else "")


def divisible(width: float) -> int:
    """A width as a multiple of `STEP`, not below nine tenths of it (as the code of Sandler et al.
    2018)."""
    near = max(STEP, int(width + STEP / 2) // STEP * STEP)
    return near + STEP if near < 0.9 * width else near


def multiplied(width: int, multiplier: float) -> int:
    """A width times a multiplier, as a multiple of `STEP`. With a smaller multiplier it is never
    larger, however small the width: networks of a smaller one are parts of those of a larger."""
    if multiplier == 1:
        return width
    near = divisible(width * multiplier)
    return min(width, near) if multiplier < 1 else max(width, near)


def strides(given: list[int], side: int) -> list[int]:
    """The strides from the stem on; for small images without the first ones, so that the last map
    has `LAST` pixels a side if it can.

    Args:
        given: of the stem and of each stage.
        side: pixels of the image's shorter side.
    """
    found = list(given)
    for place, stride in enumerate(given):
        *_, last = accumulate([side, *found], lambda size, step: -(-size // step))
        if last >= LAST:
            break
        if stride > 1:
            found[place] = 1
    return found


class Builder:
    """Builds a network block by block."""

    def __init__(self, options: MobileNetSpace, architecture: Architecture, frame: Frame) -> None:
        """Begin with what is before the first stage."""
        self._frame, self._multiplier = frame, float(architecture["multiplier"])
        self._fraction = frame.scale.filter_fraction
        self.choices: list[Choice] = []
        stages = options.all_stages
        self._widths = [self._width(stage.width) for stage in stages]
        _, *size = frame.input
        given = [options.stem_stride, *(stage.stride for stage in stages)]
        first, *self._strides = strides(given, min(size)) if options.fit_strides else given
        self._head = scaled(
            options.head if self._multiplier <= 1 else divisible(options.head * self._multiplier),
            self._fraction,
        )
        self.g = GraphBuilder(frame.input)
        x = self._resized(architecture.get("resolution"))
        x = self._conv("stem", x, self._width(options.stem), 3, first)
        if options.first:
            x = self._bottleneck("first", x, self._width(options.first), 3, 1, 1)
        self._x = x

    def _width(self, width: int) -> int:
        return scaled(multiplied(width, self._multiplier), self._fraction)

    def _resized(self, resolution: int | None) -> str:
        _, high, wide = self._frame.input
        side = min(high, wide)
        if resolution is None or resolution == side:
            return self.g.input
        if resolution > side:
            raise InfeasibleError(
                f"resolution {resolution} is above that of images of {high}x{wide}"
            )
        size = {
            name: round(length * resolution / side)
            for name, length in (("height", high), ("width", wide))
        }
        return self.g.unary("resize", "adaptive_avg_pool", self.g.input, **size)

    def _conv(
        self, name: str, x: str, out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> str:
        """Convolution, normalization, ReLU6."""
        g = self.g
        x = g.conv(f"{name}_conv", x, out, kernel, stride, groups=groups)
        return g.unary(f"{name}_relu", "relu6", g.batch_norm(f"{name}_bn", x))

    def _bottleneck(
        self, name: str, x: str, out: int, kernel: int, expand: int, stride: int
    ) -> str:
        g, inside = self.g, self.g.shape(x)[0]
        y = self._conv(f"{name}_expand", x, inside * expand, 1) if expand > 1 else x
        hidden = g.shape(y)[0]
        y = self._conv(f"{name}_depthwise", y, hidden, kernel, stride, hidden)
        y = g.batch_norm(f"{name}_project_bn", g.conv(f"{name}_project_conv", y, out, 1))
        return g.add(f"{name}_add", [x, y]) if g.shape(x) == g.shape(y) and stride == 1 else y

    def _block(self, name: str, stage: int, index: int, kernel: int, expand: int) -> str:
        stride = 1 if index else self._strides[stage]
        return self._bottleneck(name, self._x, self._widths[stage], kernel, expand, stride)

    def block(self, stage: int, index: int, block: Block) -> None:
        """Add a block."""
        name = group(stage, index)
        self._x = self._block(name, stage, index, block["kernel"], block["expand"])

    def choice(self, stage: int, index: int, options: tuple[str, ...]) -> None:
        """Add a choice of blocks."""
        name, ends = group(stage, index), list[str]()
        for each in options:
            if each == SKIP:
                ends.append(self._x)
                continue
            expand, kernel = (int(part.split("x")[0]) for part in each[2:].split("_"))
            ends.append(self._block(f"{name}_{each}", stage, index, kernel, expand))
        self.choices.append(Choice(name, options, name))
        self._x = self.g.choice(name, ends)

    def end(self) -> Graph:
        """The finished network."""
        g = self.g
        x = self._conv("head", self._x, self._head, 1)
        x = g.global_avg_pool("pool", x)
        return g.build(g.linear("classifier", x, self._frame.outputs))
