"""What an architecture's network costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinase.api.trial import Architecture, TaskInfo
from kinase.experiment import members
from kinase.space import Frame, Graph, Space

if TYPE_CHECKING:
    from kinase.experiment.record import Record


def full_frame(space: Space, info: TaskInfo) -> Frame:
    """What surrounds the networks of full fidelity."""
    return Frame(info.input, info.outputs, space.scale(final=True))


def counts_of(graph: Graph) -> dict[str, float]:
    """Parameters and multiply-adds."""
    return {"params": float(graph.params()), "macs": float(graph.macs())}


def count(record: Record, architecture: Architecture) -> dict[str, float]:
    """Parameters and multiply-adds at full fidelity; the search's scale must exist too.

    Raises:
        InfeasibleError: the network cannot be built.
        EngineError: another package's space failed.
    """
    shape, full = record.info.input, record.space.scale(final=True)
    # of another package's space: anything
    graph: Any = record.space.graph(architecture, full_frame(record.space, record.info))
    if not isinstance(graph, Graph):
        found = TypeError(f"it gave {graph!r:.200}; wanted is a kinase.space.Graph")
        raise members.space_failed(record, "graph", found)
    counts = counts_of(graph)
    if (record.reduced, record.fidelity.scale) != (shape, full):
        record.space.graph(architecture, record.frame)
    return counts
