"""What the trainer refuses, in words for a person."""

from __future__ import annotations


class ConfigError(ValueError):
    """The manifest asks for something that is not there: a data set, a device, a task; or what is
    there cannot be used."""

    for_people = True
    """Its message needs no name of a class before it."""


class CorruptModel(ValueError):
    """A stored network is not what its manifest says; nothing of it was used."""
