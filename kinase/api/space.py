"""`spec.space`: the search space, the first of the three pillars."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

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
TreeOp = Literal[
    "conv_1x1",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "max_pool_3x3",
    "avg_pool_3x3",
]
MorphismOp = Literal[
    "widen",
    "heads",
    "deepen",
    "kernel",
    "factor",
    "skip",
    "join",
    "branch",
    "unfold",
    "path",
    "prune",
    "crop",
    "remove",
    "cut",
    "separate",
]
ModelName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*([.:][A-Za-z_][A-Za-z0-9_]*)*$",
    ),
]
NodeName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_]+$")]
WeightsFile = Annotated[str, Field(min_length=1, max_length=1024)]
Deviation = Annotated[float, Field(gt=0)]
Factor = Annotated[float, Field(gt=1, le=16)]


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
    (one cell, an operation on every edge, residual blocks between the stages); `nasnet` is that
    of Zoph et al. 2018 and Real et al. 2019 (as `darts`, but both inputs of a node may come from
    one source, and a cell ends in the nodes that no other takes). A field that is set replaces
    the preset's value.
    """

    preset: Literal["darts", "nasbench201", "nasnet"] = "darts"
    """Named space that the other fields start from."""
    nodes: Annotated[int, Field(ge=1, le=12)] | None = None
    """Intermediate nodes of a cell. Default: the preset's (darts 4, nasbench201 3, nasnet 5)."""
    ops: Annotated[tuple[CellOp, ...], Field(min_length=1, max_length=16)] | None = None
    """Operations an edge may have. Default: the preset's."""
    search: CellScale | None = None
    """Scale of the networks trained during the search. Default: the preset's."""
    evaluation: CellScale | None = None
    """Scale of the finalists' networks, to which the found cell is transferred.
    Default: the preset's."""
    same_source: bool | None = None
    """Whether both inputs of a node may come from one source. Not of nasbench201. Default: the
    preset's (darts false, nasnet true)."""
    concat: Literal["all", "unused", "chosen"] | None = None
    """Intermediate nodes that a cell ends in, concatenated. `unused`: those that no other node
    takes, unless an architecture lists its own. `chosen`: each architecture lists its own, which
    are searched too. Not of nasbench201. Default: the preset's (darts all, nasnet unused)."""

    rules: ClassVar = (
        Rule(
            "self.preset != 'nasbench201' || !has(self.sameSource)",
            "sameSource is {self.sameSource}; a node of nasbench201 takes every node before it, "
            "so leave it out",
            ".sameSource",
        ),
        Rule(
            "self.preset != 'nasbench201' || !has(self.concat)",
            "concat is {self.concat}; a cell of nasbench201 ends in its last node, so leave it out",
            ".concat",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preset == "nasbench201" and self.same_source is not None:
            raise ValueError(
                f"sameSource is {str(self.same_source).lower()}; a node of nasbench201 takes every "
                "node before it, so leave it out"
            )
        if self.preset == "nasbench201" and self.concat is not None:
            raise ValueError(
                f"concat is {self.concat}; a cell of nasbench201 ends in its last node, so leave "
                "it out"
            )
        return self


class TreeSpace(Model):
    """Tree-structured cells in a plain stack: what is searched is the tree into which the one
    convolution of a cell unfolds (Cai et al. 2018b).

    A network is a 3x3 convolution, stages of equal cells, global average pooling and a linear
    layer; each stage after the first halves the map.
    """

    max_depth: Annotated[int, Field(ge=1, le=4)] = 3
    """Most nodes one below the other, the first included."""
    max_branches: Annotated[int, Field(ge=2, le=4)] = 3
    """Most branches of a sum; it has at least two. A concatenation has two."""
    merges: Annotated[tuple[Literal["add", "concat"], ...], Field(min_length=1, max_length=2)] = (
        "add",
        "concat",
    )
    """How a node may join branches. `add`: each takes all of the map. `concat`: each takes its part
    of the channels."""
    ops: Annotated[tuple[TreeOp, ...], Field(min_length=1, max_length=8)] = (
        "conv_1x1",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "sep_conv_7x7",
        "max_pool_3x3",
        "avg_pool_3x3",
    )
    """Operations a branch may have; it may always have none, and then passes its map on."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (16, 32, 64)
    """Channels of each stage."""
    cells: Annotated[int, Field(ge=1, le=32)] = 2
    """Cells in each stage."""
    evaluation_cells: Annotated[int, Field(ge=1, le=32)] | None = None
    """The same in the finalists' networks, to which the found cell is transferred. Default: as in
    the search."""
    stem: Width | None = None
    """Channels of the convolution before the first cell. Default: those of the first stage."""


class ModelGraph(Model):
    """A network as a graph of primitive operations, as `kinase.space.dump_graph` writes one."""

    nodes: Annotated[tuple[dict[str, Any], ...], Field(min_length=2, max_length=2000)]
    """Each with `name`, `op`, `inputs` and `attrs`, inputs first; the first are the images."""
    output: NodeName
    """Name of the node that gives the logits."""
    auxiliary: NodeName | None = None
    """Name of the node that gives an auxiliary head's logits, in training alone."""

    @property
    def plain(self) -> dict[str, Any]:
        """As `kinase.space.load_graph` reads it."""
        return self.model_dump(mode="json", exclude_none=True)


class ModelSpace(Model):
    """A network that is there, and what network morphisms make of it: the search begins with its
    graph and its trained weights, and grows, widens or shrinks it.
    """

    source: Literal["torchvision", "module", "graph"] = Field(alias="from")
    """Where the network comes from. `torchvision`: one of its classifiers. `module`: your own
    `torch.nn.Module`, imported in the trainer alone. `graph`: the field `graph`."""
    name: ModelName | None = None
    """Of torchvision, such as resnet50. Of your own, what makes the module, as
    `my_package.networks:make_network`."""
    arguments: Annotated[dict[str, Any], Field(max_length=32)] = Field(default_factory=dict)
    """What it is called with, by name, such as `{image_size: 32}`."""
    graph: ModelGraph | None = None
    """The network itself, as plain data: nodes and output."""
    weights: WeightsFile | None = None
    """Its trained weights: a safetensors file with the names of the module's `state_dict`, as a
    path where the trainer runs, or as a URI, file:// or s3:// (of the service of `storage`).
    Default: drawn by `seed`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of what no file gives: all weights, or those of a last layer that is made anew."""
    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=64)] | None = None
    """Of each channel, one for all is enough: what the network's images, in 0..1, were reduced by
    when its weights were trained. Default: that of the training split."""
    deviation: Annotated[tuple[Deviation, ...], Field(min_length=1, max_length=64)] | None = None
    """Of each channel: what they were then divided by. Default: that of the training split."""
    operations: Annotated[tuple[MorphismOp, ...], Field(min_length=1, max_length=16)] = (
        "widen",
        "deepen",
        "kernel",
        "skip",
        "branch",
        "prune",
        "remove",
        "separate",
    )
    """The network morphisms by which an architecture may differ from the network."""
    factors: Annotated[tuple[Factor, ...], Field(min_length=1, max_length=8)] = (1.5, 2.0)
    """By which of these a width grows (`widen`, `heads`) or shrinks (`prune`)."""
    rule: Literal["replicate", "zero"] = "replicate"
    """What new units are: copies, whose outgoing weights are divided, or drawn ones, whose outgoing
    weights are zero."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Deviation of the noise on copied units, relative to the tensor's, so that the copies part
    ways. 0 keeps a network of exact morphisms exactly the function that it begins with."""
    steps: Annotated[int, Field(ge=1, le=100)] = 4
    """Most morphisms of an architecture that is drawn at random."""
    max_morphisms: Annotated[int, Field(ge=1, le=200)] = 64
    """Most morphisms of any architecture."""
    max_params: Annotated[int, Field(ge=1, le=10**11)] | None = None
    """Most parameters of an architecture; the network's own are always allowed. Default: four times
    those."""
    max_macs: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Most multiply-adds of an architecture, as `maxParams`."""
    max_nodes: Annotated[int, Field(ge=1, le=10_000)] = 2000
    """Most nodes of an architecture's graph, as `maxParams`."""

    rules: ClassVar = (
        Rule(
            "self.from == 'graph' ? has(self.graph) && !has(self.name) : "
            "has(self.name) && !has(self.graph)",
            "from is {self.from}: set graph where it is graph, and name otherwise, not both",
            ".from",
        ),
        Rule(
            "self.from != 'torchvision' || !has(self.name) || self.name.matches('^[a-z0-9_]+$')",
            "name is {self.name}; a network of torchvision is named like resnet50",
            ".name",
        ),
        Rule(
            "self.from != 'module' || !has(self.name) || self.name.contains(':')",
            "name is {self.name}; use what makes the module, as my_package.networks:make_network",
            ".name",
        ),
        Rule(
            "!has(self.weights) || !self.weights.matches('[.](pth|pt|ckpt|bin|pkl|pickle|tar)$')",
            "weights is {self.weights}, a pickled file, which is never opened: convert it once "
            "with safetensors.torch.save_file(torch.load(path, weights_only=True), out)",
            ".weights",
        ),
        Rule(
            "!has(self.mean) || !has(self.deviation) || self.mean.size() == self.deviation.size() "
            "|| self.mean.size() == 1 || self.deviation.size() == 1",
            "mean has {self.mean.size()} numbers, deviation {self.deviation.size()}; "
            "each has one for all channels or one a channel",
            ".mean",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        graph, name = self.graph is not None, self.name
        if graph != (self.source == "graph") or graph == (name is not None):
            raise ValueError(
                f"from is {self.source}: set graph where it is graph, and name otherwise, not both"
            )
        if self.source == "torchvision" and not re.fullmatch(r"[a-z0-9_]+", name or ""):
            raise ValueError(f"name is {name}; a network of torchvision is named like resnet50")
        if self.source == "module" and ":" not in (name or ""):
            raise ValueError(
                f"name is {name}; use what makes the module, as my_package.networks:make_network"
            )
        if self.weights and re.search(r"\.(pth|pt|ckpt|bin|pkl|pickle|tar)$", self.weights):
            raise ValueError(
                f"weights is {self.weights}, a pickled file, which is never opened: convert it "
                "once with safetensors.torch.save_file(torch.load(path, weights_only=True), out)"
            )
        if self.mean is not None and self.deviation is not None:
            sizes = len(self.mean), len(self.deviation)
            if sizes[0] != sizes[1] and 1 not in sizes:
                raise ValueError(
                    f"mean has {sizes[0]} numbers, deviation {sizes[1]}; "
                    "each has one for all channels or one a channel"
                )
        return self


class Space(Union):
    """The search space: which architectures can be found."""

    type: Literal["Chain", "MultiBranch", "Cell", "Tree", "Model", "Custom"]
    """Which of the structs below is set."""
    chain: ChainSpace | None = None
    """Chain-structured networks."""
    multi_branch: MultiBranchSpace | None = None
    """Multi-branch networks."""
    cell: CellSpace | None = None
    """Stacked cells."""
    tree: TreeSpace | None = None
    """Stacked cells that are trees of branches."""
    model: ModelSpace | None = None
    """What network morphisms make of a network that one has."""
    custom: Custom | None = None
    """A space of another package (entry point group `kinase.spaces`)."""

    @property
    def begun(self) -> Space | None:
        """Itself, where it begins with a network that the trainer has; else None."""
        return self if self.model is not None else None
