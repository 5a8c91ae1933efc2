"""Makes the search space of a manifest."""

from __future__ import annotations

from kinase import registry
from kinase.api.space import Space as SpaceModel
from kinase.space.base import Space
from kinase.space.graph import Graph
from kinase.space.recipe import WithTraining


def make_space(model: SpaceModel, root: Graph | None = None) -> Space:
    """Make the search space of a manifest.

    Args:
        model: `spec.space`.
        root: the network that the search starts from, if the trainer has described one.

    Raises:
        UnknownMember: no package registers the entry point.
        ArchitectureError: the only network is named, and the space has none of that name.
    """
    space: Space = registry.make("kinase.spaces", model, Space, lambda cls, options: cls(options))
    if root is not None:
        space = space.rooted(root)
    if model.training is None:
        return space
    return WithTraining(space, model.training, model.architecture)
