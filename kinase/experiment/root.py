"""The network that a search starts from, which only the trainer has."""

from __future__ import annotations

from kinase.api.space import Space as SpaceModel
from kinase.api.trial import TaskInfo
from kinase.engine import EngineError
from kinase.space import GraphError, InfeasibleError, Space, load_graph, make_space


def space_of(model: SpaceModel, info: TaskInfo) -> Space:
    """The search space, starting from the network that the trainer described, which is untrusted
    data.

    Raises:
        EngineError: the trainer described no network, or an invalid one.
    """
    if model.with_root is None:
        return make_space(model)
    if info.root is None:
        raise EngineError(
            f"the trainer did not describe the network that space.type {model.type} needs: it "
            "does not support this space"
        )
    try:
        root = load_graph(info.root.graph)
        shapes = root.shapes()
    except (GraphError, InfeasibleError) as error:
        raise EngineError(
            f"the network that the trainer starts from is invalid: {error}"
        ) from error
    for what, found, wanted in (
        ("images of shape", shapes[root.nodes[0].name], tuple(info.input)),
        ("an output of shape", shapes[root.output], (info.outputs,)),
    ):
        if found != wanted:
            raise EngineError(
                f"the network that the trainer starts from has {what} {found}, its task {wanted}"
            )
    return make_space(model, root)
