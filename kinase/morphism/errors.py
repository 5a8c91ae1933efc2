"""What a morphism refuses."""

from __future__ import annotations


class MorphismError(ValueError):
    """The morphism does not fit the graph or its bounds; the message names the node, the value
    and what would be right."""
