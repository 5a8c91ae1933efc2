"""The space of MobileNets."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Model, Rule
from kinase.api.windows import ODD, Kernel, Width, check_odd


class MobileNetStage(Model):
    """A stage of a MobileNet: blocks of one width."""

    width: Width
    """Output channels of its blocks."""
    stride: Annotated[int, Field(ge=1, le=2)] = 1
    """Stride of its first block."""
    min_depth: Annotated[int, Field(ge=1, le=16)] = 1
    """Minimum number of blocks."""
    max_depth: Annotated[int, Field(ge=1, le=16)] = 4
    """Maximum number of blocks."""

    rules: ClassVar = (
        Rule(
            "self.minDepth <= self.maxDepth",
            "minDepth {self.minDepth} is above maxDepth {self.maxDepth}: the space is empty",
            ".minDepth",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_depth > self.max_depth:
            raise ValueError(
                f"minDepth {self.min_depth} is above maxDepth {self.max_depth}: the space is empty"
            )
        return self


def _mobile(depth: int) -> tuple[MobileNetStage, ...]:
    """The stages of ProxylessNAS (Cai et al. 2019, section 4.1, and its code): the last one has a
    single block."""
    strided = ((24, 2), (40, 2), (80, 2), (96, 1), (192, 2))
    stages = [MobileNetStage(width=w, stride=s, min_depth=depth) for w, s in strided]
    return (*stages, MobileNetStage(width=320, min_depth=1, max_depth=1))


class MobileNetSpace(Model):
    """Stages of inverted bottlenecks (Sandler et al. 2018): a 1x1 convolution that expands the
    channels, a depthwise one, and a 1x1 convolution that reduces them. Each block has its own
    kernel and expansion, each stage its own depth.

    The preset `ofa` is the space of Cai et al. 2020 (kernels 3, 5 and 7, expansions 3, 4 and 6,
    depths 2, 3 and 4), `proxyless` that of Cai et al. 2019 (expansions 3 and 6; any block that
    keeps the shape can be left out), both with the widths of the latter. A field that is set
    overrides the preset's value.
    """

    preset: Literal["ofa", "proxyless"] = "ofa"
    """Predefined space that provides the defaults of `stages` and `expansions`."""
    stages: Annotated[tuple[MobileNetStage, ...], Field(min_length=1, max_length=16)] | None = None
    """Stages in order. Default: set by the preset."""
    kernels: Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=8)] = (3, 5, 7)
    """Windows of a block's depthwise convolution, in pixels. They must be odd."""
    expansions: (
        Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], Field(min_length=1, max_length=8)]
        | None
    ) = None
    """Factors by which a block expands its input channels. Default: set by the preset (ofa 3, 4 and
    6, proxyless 3 and 6)."""
    multipliers: Annotated[
        tuple[Annotated[float, Field(gt=0, le=4)], ...], Field(min_length=1, max_length=8)
    ] = (1.0,)
    """Factors of all widths, of which an architecture has one."""
    resolutions: (
        Annotated[
            tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=16)
        ]
        | None
    ) = None
    """Sizes in pixels to which the shorter side of images is reduced, of which an architecture has
    one. Default: that of the images."""
    stem: Width = 32
    """Channels of the convolution before the first block."""
    stem_stride: Annotated[int, Field(ge=1, le=2)] = 2
    """Stride of that convolution."""
    first: Annotated[int, Field(ge=0, le=4096)] = 16
    """Channels of the block before the first stage, which has a kernel of 3 and does not expand; 0
    leaves it out."""
    head: Width = 1280
    """Channels of the 1x1 convolution after the last stage."""
    fit_strides: bool = True
    """Whether the first strides are left out for small images, so that the last feature map has at
    least four pixels a side: of images of 32 pixels, the strides of the stem and of the first stage
    that has one."""

    rules: ClassVar = (ODD,)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_odd(self.kernels)
        return self

    @property
    def all_stages(self) -> tuple[MobileNetStage, ...]:
        """The stages, or the preset's."""
        return self.stages or _mobile(2 if self.preset == "ofa" else 1)

    @property
    def all_expansions(self) -> tuple[int, ...]:
        """The expansions, or the preset's."""
        return self.expansions or ((3, 4, 6) if self.preset == "ofa" else (3, 6))
