"""Errors of the trainer, with messages for people."""

from __future__ import annotations


class ConfigError(ValueError):
    """The manifest asks for something that does not exist: a data set, a device, a task; or what is
    there cannot be used."""

    for_people = True
    """Its message needs no name of a class before it."""


class CorruptModel(ValueError):
    """A stored network differs from its card; it was not used."""
