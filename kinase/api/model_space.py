"""The space of an existing network."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Model, Rule

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


class ModelGraph(Model):
    """A network as a graph of primitive operations, as `kinase.space.dump_graph` writes one."""

    nodes: Annotated[tuple[dict[str, Any], ...], Field(min_length=2, max_length=2000)]
    """Nodes in topological order, each with `name`, `op`, `inputs` and `attrs`. The first node is
    the input."""
    output: NodeName
    """Name of the node that produces the logits."""
    auxiliary: NodeName | None = None
    """Name of the node that produces the logits of an auxiliary head, used only in training."""

    @property
    def plain(self) -> dict[str, Any]:
        """As `kinase.space.load_graph` reads it."""
        return self.model_dump(mode="json", exclude_none=True)


class ModelSpace(Model):
    """An existing network and everything that network morphisms make of it. The search starts from
    the network's graph and trained weights, and deepens, widens or shrinks it."""

    source: Literal["torchvision", "module", "graph"] = Field(alias="from")
    """Source of the network. `torchvision`: a torchvision classifier. `module`: your own
    `torch.nn.Module`, imported only in the trainer. `graph`: the field `graph`."""
    name: ModelName | None = None
    """For torchvision, the name of the model, such as resnet50. For your own module, the callable
    that returns it, such as `my_package.networks:make_network`."""
    arguments: Annotated[dict[str, Any], Field(max_length=32)] = Field(default_factory=dict)
    """Keyword arguments of the model or callable, such as `{image_size: 32}`."""
    graph: ModelGraph | None = None
    """The network itself, as plain data: nodes and output."""
    weights: WeightsFile | None = None
    """Trained weights: a safetensors file with the names of the module's `state_dict`. Give a path
    on the trainer's machine, or a file:// or s3:// URI (the same service as `storage`). Default:
    random weights drawn with `seed`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the random weights: all of them without `weights`, else those of a replaced last
    layer."""
    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=64)] | None = None
    """Mean by channel (or one value for all) with which the network's images, scaled to 0..1, were
    normalized when its weights were trained. Default: the mean of the training split."""
    deviation: Annotated[tuple[Deviation, ...], Field(min_length=1, max_length=64)] | None = None
    """Standard deviation by channel for the same normalization. Default: that of the training
    split."""
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
    """Network morphisms that can be applied to the network."""
    factors: Annotated[tuple[Factor, ...], Field(min_length=1, max_length=8)] = (1.5, 2.0)
    """Factors by which a width can grow (`widen`, `heads`) or shrink (`prune`)."""
    rule: Literal["replicate", "zero"] = "replicate"
    """How to initialize new units: `replicate` copies existing units and divides their outgoing
    weights; `zero` draws new units and sets their outgoing weights to zero."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Standard deviation of the noise added to copied units, relative to the tensor's, so that
    copies diverge. With 0, exact morphisms preserve the function exactly."""
    steps: Annotated[int, Field(ge=1, le=100)] = 4
    """Maximum number of morphisms of a randomly sampled architecture."""
    max_morphisms: Annotated[int, Field(ge=1, le=200)] = 64
    """Maximum number of morphisms of any architecture."""
    max_params: Annotated[int, Field(ge=1, le=10**11)] | None = None
    """Maximum number of parameters of an architecture. The original network is always allowed.
    Default: four times its parameters."""
    max_macs: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Maximum number of multiply-adds of an architecture. Default: four times those of the original
    network."""
    max_nodes: Annotated[int, Field(ge=1, le=10_000)] = 2000
    """Maximum number of nodes of an architecture's graph. The original network is always
    allowed."""

    rules: ClassVar = (
        Rule(
            "self.from == 'graph' ? has(self.graph) && !has(self.name) : "
            "has(self.name) && !has(self.graph)",
            "from is {self.from}: set graph if from is graph, otherwise set name, and not both",
            ".from",
        ),
        Rule(
            "self.from != 'torchvision' || !has(self.name) || self.name.matches('^[a-z0-9_]+$')",
            "name is {self.name}; a torchvision model is named like resnet50",
            ".name",
        ),
        Rule(
            "self.from != 'module' || !has(self.name) || self.name.contains(':')",
            "name is {self.name}; give the callable that returns the module, like "
            "my_package.networks:make_network",
            ".name",
        ),
        Rule(
            "!has(self.weights) || !self.weights.matches('[.](pth|pt|ckpt|bin|pkl|pickle|tar)$')",
            "weights is {self.weights}, a pickle file, which Kinase never opens: convert it "
            "once with safetensors.torch.save_file(torch.load(path, weights_only=True), out)",
            ".weights",
        ),
        Rule(
            "!has(self.mean) || !has(self.deviation) || self.mean.size() == self.deviation.size() "
            "|| self.mean.size() == 1 || self.deviation.size() == 1",
            "mean has {self.mean.size()} numbers, deviation {self.deviation.size()}; "
            "each needs one number for all channels, or one per channel",
            ".mean",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        graph, name = self.graph is not None, self.name
        if graph != (self.source == "graph") or graph == (name is not None):
            raise ValueError(
                f"from is {self.source}: set graph if from is graph, otherwise set name, and not "
                "both"
            )
        if self.source == "torchvision" and not re.fullmatch(r"[a-z0-9_]+", name or ""):
            raise ValueError(f"name is {name}; a torchvision model is named like resnet50")
        if self.source == "module" and ":" not in (name or ""):
            raise ValueError(
                f"name is {name}; give the callable that returns the module, like "
                "my_package.networks:make_network"
            )
        if self.weights and re.search(r"\.(pth|pt|ckpt|bin|pkl|pickle|tar)$", self.weights):
            raise ValueError(
                f"weights is {self.weights}, a pickle file, which Kinase never opens: convert it "
                "once with safetensors.torch.save_file(torch.load(path, weights_only=True), out)"
            )
        if self.mean is not None and self.deviation is not None:
            sizes = len(self.mean), len(self.deviation)
            if sizes[0] != sizes[1] and 1 not in sizes:
                raise ValueError(
                    f"mean has {sizes[0]} numbers, deviation {sizes[1]}; "
                    "each needs one number for all channels, or one per channel"
                )
        return self
