"""What the trainer refuses, in words for a person."""

from __future__ import annotations


class ConfigError(ValueError):
    """The manifest asks for something that is not there: a data set, a device, a task."""


class CorruptModel(ValueError):
    """A stored network is not what its manifest says; nothing of it was used."""
