"""`spec.space`: the search space, the first of the three pillars."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Custom, Model, Rule, Union

Width = Annotated[int, Field(ge=1, le=4096)]
Kernel = Annotated[int, Field(ge=1, le=15, multiple_of=1)]
Stride = Annotated[int, Field(ge=1, le=4)]

LayerOp = Literal["conv", "sepconv", "maxpool", "avgpool"]
CellOp = Literal[
    "none",
    "skip_connect",
    "nor_conv_1x1",
    "nor_conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_7x1_1x7",
    "max_pool_3x3",
    "avg_pool_3x3",
]


def _odd(kernels: tuple[int, ...]) -> None:
    even = [k for k in kernels if k % 2 == 0]
    if even:
        raise ValueError(f"kernels has {even}; a kernel must be odd, so that it has a centre")


_ODD = Rule(
    "self.kernels.all(k, k % 2 == 1)",
    "kernels has {self.kernels.filter(k, k % 2 == 0)}; "
    "a kernel must be odd, so that it has a centre",
    ".kernels",
)


class ChainSpace(Model):
    """Chain-structured networks: layers one after another, each with its own operation.

    A layer is a convolution (conv-BN-ReLU), a separable convolution (depthwise, then
    pointwise, then BN-ReLU) or a pooling; global average pooling and a linear layer end it.
    """

    min_depth: Annotated[int, Field(ge=1, le=64)] = 1
    """Fewest layers."""
    max_depth: Annotated[int, Field(ge=1, le=64)] = 8
    """Most layers."""
    ops: Annotated[tuple[LayerOp, ...], Field(min_length=1, max_length=8)] = (
        "conv",
        "sepconv",
        "maxpool",
    )
    """Operations a layer may have."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=32)] = (8, 16, 32, 64)
    """Output channels a convolution may have."""
    kernels: Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=8)] = (3, 5)
    """Window sizes in pixels, odd."""
    strides: Annotated[tuple[Stride, ...], Field(min_length=1, max_length=4)] = (1, 2)
    """Strides in pixels."""
    skips: bool = False
    """Whether a layer may add the output of an earlier layer to its own."""

    rules: ClassVar = (
        Rule(
            "self.minDepth <= self.maxDepth",
            "minDepth {self.minDepth} is above maxDepth {self.maxDepth}: the space is empty",
            ".minDepth",
        ),
        _ODD,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_depth > self.max_depth:
            raise ValueError(
                f"minDepth {self.min_depth} is above maxDepth {self.max_depth}: the space is empty"
            )
        _odd(self.kernels)
        return self


class MultiBranchSpace(Model):
    """Multi-branch networks: a directed acyclic graph whose nodes merge their inputs."""

    min_nodes: Annotated[int, Field(ge=1, le=32)] = 1
    """Fewest nodes."""
    max_nodes: Annotated[int, Field(ge=1, le=32)] = 6
    """Most nodes."""
    max_inputs: Annotated[int, Field(ge=1, le=8)] = 2
    """Most inputs of one node."""
    ops: Annotated[tuple[LayerOp, ...], Field(min_length=1, max_length=8)] = (
        "conv",
        "sepconv",
        "maxpool",
    )
    """Operations a node may have."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=32)] = (8, 16, 32)
    """Output channels a convolution may have."""
    kernels: Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=8)] = (3, 5)
    """Window sizes in pixels, odd."""
    strides: Annotated[tuple[Stride, ...], Field(min_length=1, max_length=4)] = (1, 2)
    """Strides in pixels."""
    merges: Annotated[tuple[Literal["add", "concat"], ...], Field(min_length=1, max_length=2)] = (
        "add",
        "concat",
    )
    """How a node may join several inputs."""

    rules: ClassVar = (
        Rule(
            "self.minNodes <= self.maxNodes",
            "minNodes {self.minNodes} is above maxNodes {self.maxNodes}: the space is empty",
            ".minNodes",
        ),
        _ODD,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_nodes > self.max_nodes:
            raise ValueError(
                f"minNodes {self.min_nodes} is above maxNodes {self.max_nodes}: the space is empty"
            )
        _odd(self.kernels)
        return self


class CellScale(Model):
    """How many cells are stacked, and how wide the first of them is."""

    cells: Annotated[int, Field(ge=1, le=200)]
    """Cells in the network, reduction cells included."""
    filters: Annotated[int, Field(ge=1, le=2048)]
    """Channels of the first normal cells; they double at each reduction."""


class CellSpace(Model):
    """Cells stacked in a macro skeleton: what is searched is the cell.

    The preset `darts` is the NASNet-like space of Liu et al. 2019 (two input nodes, two
    inputs a node, a normal and a reduction cell); `nasbench201` is that of Dong & Yang 2020
    (one cell, an operation on every edge, residual blocks between the stages). A field that
    is set replaces the preset's value.
    """

    preset: Literal["darts", "nasbench201"] = "darts"
    """Named space that the other fields start from."""
    nodes: Annotated[int, Field(ge=1, le=12)] | None = None
    """Intermediate nodes of a cell. Default: the preset's (darts 4, nasbench201 3)."""
    ops: Annotated[tuple[CellOp, ...], Field(min_length=1, max_length=16)] | None = None
    """Operations an edge may have. Default: the preset's."""
    search: CellScale | None = None
    """Scale of the networks trained during the search. Default: the preset's."""
    evaluation: CellScale | None = None
    """Scale of the finalists' networks, to which the found cell is transferred.
    Default: the preset's."""


class Space(Union):
    """The search space: which architectures can be found."""

    type: Literal["Chain", "MultiBranch", "Cell", "Custom"]
    """Which of the structs below is set."""
    chain: ChainSpace | None = None
    """Chain-structured networks."""
    multi_branch: MultiBranchSpace | None = None
    """Multi-branch networks."""
    cell: CellSpace | None = None
    """Stacked cells."""
    custom: Custom | None = None
    """A space of another package (entry point group `kinase.spaces`)."""
