"""`spec.space`: the search space, the first of the three pillars."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Custom, Model, Rule, Union
from kinase.api.mobile import MobileNetSpace
from kinase.api.model_space import ModelSpace
from kinase.api.recipe import TrainingSpace
from kinase.api.windows import ODD, Kernel, Width, check_odd

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
TreeOp = Literal[
    "conv_1x1",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "max_pool_3x3",
    "avg_pool_3x3",
]
MacroOp = Literal[
    "conv_3x3",
    "conv_5x5",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "avg_pool_3x3",
    "max_pool_3x3",
]
BlockOp = Literal[
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "conv_7x1_1x7",
    "max_pool_3x3",
    "avg_pool_3x3",
]


class ChainSpace(Model):
    """Chain-structured networks: layers one after another, each with its own operation.

    A layer is a convolution (conv-BN-ReLU), a separable convolution (depthwise, then
    pointwise, then BN-ReLU) or a pooling; global average pooling and a linear layer end it.
    """

    min_depth: Annotated[int, Field(ge=1, le=64)] = 1
    """Minimum number of layers."""
    max_depth: Annotated[int, Field(ge=1, le=64)] = 8
    """Maximum number of layers."""
    ops: Annotated[tuple[LayerOp, ...], Field(min_length=1, max_length=8)] = (
        "conv",
        "sepconv",
        "maxpool",
    )
    """Operations that a layer can have."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=32)] = (8, 16, 32, 64)
    """Output channels that a convolution can have."""
    kernels: Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=8)] = (3, 5)
    """Window sizes in pixels. They must be odd."""
    strides: Annotated[tuple[Stride, ...], Field(min_length=1, max_length=4)] = (1, 2)
    """Strides in pixels."""
    skips: bool = False
    """Whether a layer can add the output of an earlier layer to its own."""

    rules: ClassVar = (
        Rule(
            "self.minDepth <= self.maxDepth",
            "minDepth {self.minDepth} is above maxDepth {self.maxDepth}: the space is empty",
            ".minDepth",
        ),
        ODD,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_depth > self.max_depth:
            raise ValueError(
                f"minDepth {self.min_depth} is above maxDepth {self.max_depth}: the space is empty"
            )
        check_odd(self.kernels)
        return self


class MultiBranchSpace(Model):
    """Multi-branch networks: a directed acyclic graph whose nodes merge their inputs."""

    min_nodes: Annotated[int, Field(ge=1, le=32)] = 1
    """Minimum number of nodes."""
    max_nodes: Annotated[int, Field(ge=1, le=32)] = 6
    """Maximum number of nodes."""
    max_inputs: Annotated[int, Field(ge=1, le=8)] = 2
    """Maximum number of inputs of a node."""
    ops: Annotated[tuple[LayerOp, ...], Field(min_length=1, max_length=8)] = (
        "conv",
        "sepconv",
        "maxpool",
    )
    """Operations that a node can have."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=32)] = (8, 16, 32)
    """Output channels that a convolution can have."""
    kernels: Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=8)] = (3, 5)
    """Window sizes in pixels. They must be odd."""
    strides: Annotated[tuple[Stride, ...], Field(min_length=1, max_length=4)] = (1, 2)
    """Strides in pixels."""
    merges: Annotated[tuple[Literal["add", "concat"], ...], Field(min_length=1, max_length=2)] = (
        "add",
        "concat",
    )
    """Ways for a node to merge several inputs."""

    rules: ClassVar = (
        Rule(
            "self.minNodes <= self.maxNodes",
            "minNodes {self.minNodes} is above maxNodes {self.maxNodes}: the space is empty",
            ".minNodes",
        ),
        ODD,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_nodes > self.max_nodes:
            raise ValueError(
                f"minNodes {self.min_nodes} is above maxNodes {self.max_nodes}: the space is empty"
            )
        check_odd(self.kernels)
        return self


class CellScale(Model):
    """Number of stacked cells, and width of the first cells."""

    cells: Annotated[int, Field(ge=1, le=200)]
    """Number of cells in the network, including reduction cells."""
    filters: Annotated[int, Field(ge=1, le=2048)]
    """Channels of the first normal cells; they double at each reduction."""


class CellSpace(Model):
    """Cells stacked in a fixed macro skeleton. The search space is the cell.

    The preset `darts` is the NASNet-like space of Liu et al. 2019 (two input nodes, two
    inputs a node, a normal and a reduction cell); `nasbench201` is that of Dong & Yang 2020
    (one cell, an operation on every edge, residual blocks between the stages); `nasnet` is that
    of Zoph et al. 2018 and Real et al. 2019 (like `darts`, but both inputs of a node can come from
    the same source, and a cell concatenates the nodes that no other node uses). A field that is
    set overrides the preset's value.
    """

    preset: Literal["darts", "nasbench201", "nasnet"] = "darts"
    """Predefined space that provides the defaults of the other fields."""
    nodes: Annotated[int, Field(ge=1, le=12)] | None = None
    """Number of intermediate nodes of a cell. Default: set by the preset (darts 4, nasbench201 3,
    nasnet 5)."""
    ops: Annotated[tuple[CellOp, ...], Field(min_length=1, max_length=16)] | None = None
    """Operations that an edge can have. Default: set by the preset."""
    search: CellScale | None = None
    """Scale of the networks trained during the search. Default: set by the preset."""
    evaluation: CellScale | None = None
    """Scale of the finalists' networks, to which the best cells are transferred. Default: set by
    the preset."""
    same_source: bool | None = None
    """Whether both inputs of a node can come from the same source. Not allowed for nasbench201.
    Default: set by the preset (darts false, nasnet true)."""
    concat: Literal["all", "unused", "chosen"] | None = None
    """Which intermediate nodes are concatenated to form the cell's output. `unused`: the nodes that
    no other node uses, unless an architecture lists its own. `chosen`: each architecture lists its
    own, so they are part of the search. Not allowed for nasbench201. Default: set by the preset
    (darts all, nasnet unused)."""

    rules: ClassVar = (
        Rule(
            "self.preset != 'nasbench201' || !has(self.sameSource)",
            "sameSource is {self.sameSource}; a node of nasbench201 takes all nodes before it; "
            "remove sameSource",
            ".sameSource",
        ),
        Rule(
            "self.preset != 'nasbench201' || !has(self.concat)",
            "concat is {self.concat}; the output of a nasbench201 cell is its last node; remove "
            "concat",
            ".concat",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preset == "nasbench201" and self.same_source is not None:
            raise ValueError(
                f"sameSource is {str(self.same_source).lower()}; a node of nasbench201 takes all "
                "nodes before it; remove sameSource"
            )
        if self.preset == "nasbench201" and self.concat is not None:
            raise ValueError(
                f"concat is {self.concat}; the output of a nasbench201 cell is its last node; "
                "remove concat"
            )
        return self


class TreeSpace(Model):
    """Tree-structured cells in a plain stack. The search space is the tree into which the single
    convolution of a cell is unfolded (Cai et al. 2018b).

    A network is a 3x3 convolution, stages of equal cells, global average pooling and a linear
    layer; each stage after the first halves the map.
    """

    max_depth: Annotated[int, Field(ge=1, le=4)] = 3
    """Maximum depth of the tree in nodes, including the root."""
    max_branches: Annotated[int, Field(ge=2, le=4)] = 3
    """Maximum number of branches of a sum (at least two). A concatenation always has two."""
    merges: Annotated[tuple[Literal["add", "concat"], ...], Field(min_length=1, max_length=2)] = (
        "add",
        "concat",
    )
    """Ways for a node to merge branches. `add`: each branch takes the whole feature map. `concat`:
    each branch takes a part of the channels."""
    ops: Annotated[tuple[TreeOp, ...], Field(min_length=1, max_length=8)] = (
        "conv_1x1",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "sep_conv_7x7",
        "max_pool_3x3",
        "avg_pool_3x3",
    )
    """Operations that a branch can have. A branch can always be the identity, too."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (16, 32, 64)
    """Channels of each stage."""
    cells: Annotated[int, Field(ge=1, le=32)] = 2
    """Cells in each stage."""
    evaluation_cells: Annotated[int, Field(ge=1, le=32)] | None = None
    """Cells in each stage of the finalists' networks, to which the best cell is transferred.
    Default: as in the search."""
    stem: Width | None = None
    """Channels of the convolution before the first cell. Default: the width of the first stage."""


class MacroSpace(Model):
    """Whole networks (Pham et al. 2018, section 2.3): an operation for each layer, and any set of
    earlier layers whose outputs join the layer's own. The supernet holds all of them.

    A network is a 3x3 convolution, the layers, global average pooling and a linear layer. The map
    is halved after one third and two thirds of the layers.
    """

    layers: Annotated[int, Field(ge=1, le=48)] = 12
    """Number of layers."""
    ops: Annotated[tuple[MacroOp, ...], Field(min_length=1, max_length=8)] = (
        "conv_3x3",
        "conv_5x5",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "avg_pool_3x3",
        "max_pool_3x3",
    )
    """Operations that a layer can have."""
    filters: Annotated[int, Field(ge=1, le=2048)] = 36
    """Channels of the networks trained during the search. Outside a supernet they double where the
    map is halved."""
    evaluation_filters: Annotated[int, Field(ge=1, le=2048)] | None = None
    """Channels of the finalists' networks. Default: as in the search."""


class ChoiceBlocksSpace(Model):
    """Cells of choice blocks, stacked (Bender et al. 2018, section 3.1). A block adds up some
    inputs, applies some operations to the sum, and adds up their results; all blocks of a cell are
    concatenated. The supernet has every input and every operation.

    A network is a 3x3 convolution, three stages of equal cells, global average pooling and a linear
    layer. Average pooling halves the map between stages, and the channels double.
    """

    blocks: Annotated[int, Field(ge=1, le=8)] = 4
    """Choice blocks of a cell."""
    max_inputs: Annotated[int, Field(ge=1, le=8)] = 2
    """Maximum number of inputs of a block: outputs of the two cells before it and of earlier
    blocks."""
    max_ops: Annotated[int, Field(ge=1, le=8)] | None = None
    """Maximum number of operations of a block. Default: no limit."""
    ops: Annotated[tuple[BlockOp, ...], Field(min_length=1, max_length=8)] = (
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "sep_conv_7x7",
        "conv_7x1_1x7",
        "max_pool_3x3",
        "avg_pool_3x3",
    )
    """Operations that a block can have. `skip_connect` is the identity."""
    search: CellScale | None = None
    """Scale of the networks trained during the search. Default: 8 cells and 16 filters."""
    evaluation: CellScale | None = None
    """Scale of the finalists' networks, to which the best cell is transferred. Default: as in the
    search."""


class FabricSpace(Model):
    """Convolutional neural fabrics (Saxena & Verbeek 2016): a trellis of layers and scales. A node
    adds up 3x3 convolutions of up to three nodes of the layer before it: of the same scale, of the
    finer one by stride 2, of the coarser one by upsampling. An architecture is the part of the
    fabric that it keeps.
    """

    layers: Annotated[int, Field(ge=2, le=32)] = 9
    """Number of layers of the trellis."""
    scales: Annotated[int, Field(ge=1, le=10)] = 6
    """Number of scales, each half the size of the one before it. The first has the size of the
    image; the last must not be smaller than one pixel."""
    channels: Annotated[int, Field(ge=1, le=2048)] = 27
    """Channels of every node of the networks trained during the search."""
    evaluation_channels: Annotated[int, Field(ge=1, le=2048)] | None = None
    """Channels of every node of the finalists' networks. Default: as in the search."""


class Space(Union):
    """The search space: the set of architectures that can be found."""

    type: Literal[
        "Chain",
        "MultiBranch",
        "Cell",
        "Tree",
        "Macro",
        "ChoiceBlocks",
        "Fabric",
        "MobileNet",
        "Model",
        "Custom",
    ]
    """Type of the search space. The field of the same name holds its options."""
    chain: ChainSpace | None = None
    """Chain-structured networks."""
    multi_branch: MultiBranchSpace | None = None
    """Multi-branch networks."""
    cell: CellSpace | None = None
    """Stacked cells."""
    tree: TreeSpace | None = None
    """Stacked tree-structured cells."""
    macro: MacroSpace | None = None
    """Whole networks with any skips."""
    choice_blocks: ChoiceBlocksSpace | None = None
    """Stacked cells of choice blocks."""
    fabric: FabricSpace | None = None
    """Parts of a trellis of layers and scales."""
    mobile_net: MobileNetSpace | None = None
    """Stages of inverted bottlenecks."""
    model: ModelSpace | None = None
    """An existing network, changed by network morphisms."""
    custom: Custom | None = None
    """A space from another package (entry point group `kinase.spaces`)."""
    training: TrainingSpace | None = None
    """Settings of the training that are searched for together with the network."""
    architecture: dict[str, Any] | None = None
    """The only network, in the format of this space: only `training` is searched for. For a `Cell`
    space, a published architecture can be given as `{named: DARTS_V2}`. Default: every network of
    the space."""

    # no rule of the CRD: CEL does not see a field whose values may be anything
    @model_validator(mode="after")
    def _something_to_search(self) -> Self:
        if self.architecture is not None and self.training is None:
            raise ValueError(
                "architecture is set, so training must be set, too: nothing is left to search for"
            )
        return self

    @property
    def networks(self) -> Space:
        """The space of the networks alone, as a trainer gets it."""
        if self.training is None:
            return self
        return self.model_copy(update={"training": None, "architecture": None})

    @property
    def with_root(self) -> Space | None:
        """The space of the networks if it starts from an existing one, else None."""
        return self.networks if self.model is not None else None
