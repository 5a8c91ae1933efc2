"""What is wrong with an architecture or a graph."""

from __future__ import annotations


class ArchitectureError(ValueError):
    """The data is not an architecture of this space; the message names the field and value."""


class InfeasibleError(ValueError):
    """This architecture has no network at this input size: a feature map would vanish."""


class GraphError(ValueError):
    """The data is not a valid graph; the message names node, value and what would be right."""
