"""The network that a search begins with, which the trainer alone has."""

from __future__ import annotations

from kinase.api.space import Space as SpaceModel
from kinase.api.trial import TaskInfo
from kinase.engine import EngineError
from kinase.space import GraphError, InfeasibleError, Space, load_graph, make_space


def space_of(model: SpaceModel, info: TaskInfo) -> Space:
    """The search space, beginning with what the trainer has told, which is untrusted data.

    Raises:
        EngineError: the trainer told no network, or none that is one.
    """
    if model.with_root is None:
        return make_space(model)
    if info.root is None:
        raise EngineError(
            f"the trainer does not say which network space.type {model.type} begins with: it is "
            "one that knows no such space"
        )
    try:
        root = load_graph(info.root.graph)
        shapes = root.shapes()
    except (GraphError, InfeasibleError) as error:
        raise EngineError(
            f"the network that the trainer begins with is invalid: {error}"
        ) from error
    for what, found, wanted in (
        ("images of shape", shapes[root.nodes[0].name], tuple(info.input)),
        ("an output of shape", shapes[root.output], (info.outputs,)),
    ):
        if found != wanted:
            raise EngineError(
                f"the network that the trainer begins with has {what} {found}, its task {wanted}"
            )
    return make_space(model, root)
