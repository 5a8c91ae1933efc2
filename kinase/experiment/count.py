"""What an architecture's network costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinase.api.trial import Architecture
from kinase.experiment import members
from kinase.space import Frame, Graph

if TYPE_CHECKING:
    from kinase.experiment.record import Record


def count(record: Record, architecture: Architecture) -> dict[str, float]:
    """Parameters and multiply-adds at full fidelity; the search's scale must exist too.

    Raises:
        InfeasibleError: the network cannot be built.
        EngineError: another package's space failed.
    """
    shape, full = record.info.input, record.space.scale(final=True)
    # of another package's space: anything
    graph: Any = record.space.graph(architecture, Frame(shape, record.info.outputs, full))
    if not isinstance(graph, Graph):
        found = TypeError(f"it gave {graph!r:.200}; wanted is a kinase.space.Graph")
        raise members.space_failed(record, "graph", found)
    counts = {"params": float(graph.params()), "macs": float(graph.macs())}
    if (record.reduced, record.fidelity.scale) != (shape, full):
        record.space.graph(architecture, record.frame)
    return counts
