"""Errors of morphisms."""

from __future__ import annotations


class MorphismError(ValueError):
    """The morphism does not fit the graph or its bounds; the message names the node, the value and
    what is valid."""
