"""Finds the members of the pillars, ours and other packages', by entry point."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from kinase.api._base import Union


class UnknownMember(LookupError):
    """No installed package registers an entry point of that name."""


@cache
def _group(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


class BrokenMember(ImportError):
    """An entry point is registered and cannot be loaded."""


def names(group: str) -> list[str]:
    """Names registered in an entry point group, sorted."""
    return sorted(_group(group))


def load(group: str, name: str) -> Any:
    """Load the object that entry point `name` of `group` refers to.

    Raises:
        UnknownMember: no installed package registers it.
        BrokenMember: its module is missing, fails to import, or has no such object.
    """
    point = _point(group, name)
    try:
        return point.load()
    except Exception as error:
        raise BrokenMember(
            f"{name!r} of the entry point group {group!r} cannot be loaded from {point.value}: "
            f"{type(error).__name__}: {error}"
        ) from error


def package(group: str, name: str) -> str:
    """The top-level package of an entry point, which is not imported.

    Raises:
        UnknownMember: no installed package registers it.
    """
    return _point(group, name).module.partition(".")[0]


def _point(group: str, name: str) -> EntryPoint:
    try:
        return _group(group)[name]
    except KeyError:
        known = ", ".join(names(group)) or "none"
        raise UnknownMember(
            f"{name!r} is not registered in the entry point group {group!r}; known: {known}"
        ) from None


def resolve(group: str, union: Union) -> tuple[Any, Any]:
    """The class that a union of the manifest names, and the options for it."""
    if union.kind == "Custom":
        return load(group, union.member.name), union.member.options
    return load(group, union.kind), union.member
