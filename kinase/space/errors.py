"""Errors of architectures and graphs."""

from __future__ import annotations


class ArchitectureError(ValueError):
    """The data is not an architecture of this space; the message names the field and value."""


class InfeasibleError(ValueError):
    """The network does not exist at this input size: a feature map would vanish."""


class Unshared(ValueError):
    """The networks of a space share no weights, or not in the form that is needed."""


class GraphError(ValueError):
    """The data is not a valid graph; the message names the node, the value and what is valid."""
