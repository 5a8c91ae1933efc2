"""What a child of the search inherits from its ancestors, in the trial contract."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from kinase.api._base import Model
from kinase.api.fidelity import Scale


class Ancestor(Model):
    """A trial of the search whose trained weights a child can inherit."""

    trial: Annotated[int, Field(ge=0)]
    """Number of the ancestor's trial."""
    prefix: str
    """Path of its network below the experiment's store: `trials/00003`, or `trials/00003/epoch-3`
    for a trial that paused after three epochs."""
    architecture: dict[str, Any]
    """Genotype of the ancestor."""
    scale: Scale = Scale()
    """Size of the ancestor's network."""
    morphisms: tuple[dict[str, Any], ...] | None = None
    """Morphisms, in order and as plain data, that turn its network into the network of the next in
    the line: the ancestor before it in the list, or the child. None if no morphisms do."""


class Inheritance(Model):
    """What a child can inherit."""

    ancestors: Annotated[tuple[Ancestor, ...], Field(min_length=1, max_length=8)]
    """The parent, its parent, and so on. The nearest one with valid weights is used."""
    matching: bool = True
    """Whether a child that no morphisms produce takes the tensors of the same name and shape."""
    learning_rate_factor: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Factor applied to the learning rate of a child that inherits weights."""
    optimizer: bool = False
    """Whether the child also inherits the optimizer's state."""
    distil: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Number of first epochs in which the child is distilled from the ancestor's outputs instead of
    trained on labels, because some of the morphisms are approximate."""


class Inherited(Model):
    """What a child has inherited."""

    trial: Annotated[int, Field(ge=0)] | None = None
    """The ancestor whose weights were used, or None if no ancestor's weights were usable."""
    root: bool = False
    """Whether the weights are those of the network that the search starts from."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the child's parameters that come from the ancestor. It is 1 if morphisms produce the
    child, because it then starts as the ancestor's function or its approximation."""
    morphisms: Annotated[int, Field(ge=0)] | None = None
    """Number of morphisms from the ancestor to the child, or None if tensors were matched by name
    and shape."""
    distilled: Annotated[int, Field(ge=0)] = 0
    """Epochs in which the child was distilled from the ancestor, before training on labels."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """Why nearer ancestors were not used, or could not be used for distillation."""
