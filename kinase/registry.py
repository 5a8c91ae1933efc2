"""Finds the members of the pillars, Kinase's and other packages', by entry point."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from kinase.api._base import Union
from kinase.words import raised


class UnknownMember(LookupError):
    """No installed package registers an entry point with that name."""


@cache
def _group(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


class BrokenMember(ImportError):
    """A registered entry point cannot be loaded."""


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
    except (Exception, SystemExit) as error:
        raise BrokenMember(
            f"{name!r} of the entry point group {group!r} cannot be loaded from {point.value}: "
            f"{raised(error)}"
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
    """The class that a union in the manifest selects, and its options."""
    if union.kind == "Custom":
        return load(group, union.member.name), union.member.options
    return load(group, union.kind), union.member


class UnusableMember(ValueError):
    """A member of another package cannot be created with the manifest's options."""


def make(group: str, union: Union, base: type[Any], build: Callable[[Any, Any], Any]) -> Any:
    """The member that a union in the manifest selects.

    Args:
        group: entry point group.
        union: the union in the manifest.
        base: class that every member of the group derives from.
        build: creates the member from its class and its options.

    Raises:
        UnknownMember: no installed package registers it.
        BrokenMember: it cannot be loaded.
        UnusableMember: another package's member raised something, or does not derive from `base`.
    """
    cls, options = resolve(group, union)
    where = f"{union.kind!r}" if union.kind != "Custom" else f"{union.member.name!r}"
    where = f"{where} of the entry point group {group!r}"
    try:
        member = build(cls, options)
    except (Exception, SystemExit) as error:
        if union.kind != "Custom":
            raise
        text = " ".join(str(error).split())
        said = f"{type(error).__name__}: {text:.500}"
        raise UnusableMember(
            f"{where} cannot be made with options {json.dumps(options)[:200]}: "
            f"{raised(error) if isinstance(error, SystemExit) else said}"
        ) from error
    if not isinstance(member, base):
        raise UnusableMember(
            f"{where} gives {type(member).__name__}; it must derive from "
            f"{base.__module__.removesuffix('.base')}.{base.__name__}"
        )
    return member
