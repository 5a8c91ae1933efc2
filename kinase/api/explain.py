"""`kinase explain`: the documentation of a field, read from the models."""

from __future__ import annotations

import inspect
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kinase.api._base import format_duration
from kinase.api.experiment import NASExperiment
from kinase.api.load import close_match, models_in


@dataclass(frozen=True, slots=True)
class Field:
    """The documentation of a field."""

    name: str
    kind: str
    """integer, number, string, boolean, Object, []string, ..."""
    description: str
    bounds: str
    default: str
    """Empty if there is no default worth showing."""
    required: bool
    model: type[BaseModel] | None
    """The fields below, or None."""


def fields(model: type[BaseModel]) -> list[Field]:
    """The fields of a model, in order."""
    return [_field(info.alias or name, info) for name, info in model.model_fields.items()]


def find(path: str) -> tuple[Field | None, type[BaseModel] | None]:
    """The field at a dotted path and the model of its value; (None, top) for the empty path.

    Raises:
        LookupError: the field does not exist; the message suggests similar names.
    """
    model: type[BaseModel] | None = NASExperiment
    found: Field | None = None
    walked = ""
    for part in path.removeprefix("nasexperiment").strip(".").split("."):
        if not part:
            continue
        name = part.partition("[")[0]
        known = {f.name: f for f in fields(model)} if model else {}
        if name not in known:
            near = _meant(name, walked, list(known))
            hint = f"did you mean {' or '.join(near)}?" if near else ""
            hint = hint or f"fields: {', '.join(known) or 'none'}"
            raise LookupError(f"{walked or 'NASExperiment'} has no field {name!r}; {hint}")
        found = known[name]
        model = found.model
        walked = f"{walked}.{name}" if walked else name
    return found, model


MOST_MEANT = 3
"""Fields that are suggested for a name that is not one."""


def _meant(name: str, walked: str, known: list[str]) -> list[str]:
    """Paths of the fields that a wrong name may mean: those of the name elsewhere, else the one
    here that is most like it, else one elsewhere."""
    everywhere = sorted(
        _paths(NASExperiment),
        key=lambda path: (not path.startswith("spec."), path.count("."), path),
    )
    ends = {path: path.rpartition(".")[2] for path in everywhere}
    if same := [path for path, end in ends.items() if end.lower() == name.lower()]:
        below = [path for path in same if path.startswith(f"{walked}.")]
        return (below or same)[:MOST_MEANT]
    if near := close_match(name, known):
        return [f"{walked}.{near}" if walked else near]
    other = close_match(name, list(dict.fromkeys(ends.values())))
    return [path for path, end in ends.items() if end == other][:MOST_MEANT]


def _paths(
    model: type[BaseModel], above: str = "", seen: tuple[type[BaseModel], ...] = ()
) -> Iterator[str]:
    """Paths of all fields below a model."""
    for field in fields(model):
        path = f"{above}.{field.name}" if above else field.name
        yield path
        if field.model is not None and field.model not in seen:
            yield from _paths(field.model, path, (*seen, field.model))


def explain(path: str, *, recursive: bool = False) -> str:
    """Documentation of a field and of the fields below it, as `kubectl explain` prints it.

    Raises:
        LookupError: the field does not exist.
    """
    found, model = find(path)
    lines = ["KIND:     NASExperiment", "VERSION:  kinase.dev/v1alpha1", ""]
    if found is not None:
        lines += [f"FIELD:    {found.name} <{found.kind}>", ""]
    description = found.description if found else inspect.getdoc(NASExperiment) or ""
    lines += ["DESCRIPTION:", *_wrap(description)]
    if found is not None and found.model is not None:
        more = " ".join((inspect.getdoc(found.model) or "").split("\n\n")[0].split())
        if more and not description.startswith(more):
            more = more.removeprefix(description).strip()
            lines += ["", *_wrap(more)] if more else []
    if found is not None and (found.bounds or found.default or found.required):
        lines += [""]
        lines += [f"BOUNDS:   {found.bounds}"] if found.bounds else []
        lines += [f"DEFAULT:  {found.default}"] if found.default else []
        lines += ["REQUIRED"] if found.required else []
    if model is not None:
        lines += ["", "FIELDS:", *_tree(model, 2, recursive)]
    return "\n".join(lines)


def _tree(model: type[BaseModel], indent: int, recursive: bool) -> Iterator[str]:
    pad = " " * indent
    for field in fields(model):
        mark = " -required-" if field.required else ""
        yield f"{pad}{field.name}\t<{field.kind}>{mark}".expandtabs(24)
        if recursive:
            if field.model is not None:
                yield from _tree(field.model, indent + 2, True)
            continue
        yield from _wrap(field.description, indent + 2)
        limits = [f"bounds: {field.bounds}"] if field.bounds else []
        limits += [f"default: {field.default}"] if field.default else []
        yield from _wrap("; ".join(limits), indent + 2)
        yield ""


def _wrap(text: str, indent: int = 2) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines += textwrap.wrap(
            " ".join(paragraph.split()),
            92,
            initial_indent=" " * indent,
            subsequent_indent=" " * indent,
        )
    return lines


def _field(name: str, info: FieldInfo) -> Field:
    model = next(iter(models_in(info.annotation)), None)
    return Field(
        name=name,
        kind=_type(info.annotation),
        description=" ".join((info.description or "").split()),
        bounds=_bounds(info.annotation, info.metadata),
        default=_default(info.default),
        required=info.is_required(),
        model=model,
    )


def _default(value: Any) -> str:
    if value is PydanticUndefined or value is None or isinstance(value, BaseModel):
        return ""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]" if value else ""
    return str(value)


_SIMPLE: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    timedelta: "duration",
    int | str: "quantity",
}


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if isinstance(annotation, type) and origin is None:
        return "Object"
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return "string"
    if origin is tuple:
        return f"[]{_type(arguments[0])}"
    if origin is dict:
        return f"map[string]{_type(arguments[1]).replace('Object', 'any')}"
    real = [a for a in arguments if a is not type(None)]
    return _type(real[0]) if real else "any"


def _bounds(annotation: Any, metadata: list[Any]) -> str:
    """Bounds of a field's value, or of its items."""
    found: list[str] = []
    own: dict[str, Any] = {}
    for rule in metadata:
        for attribute in ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern"):
            if getattr(rule, attribute, None) is not None:
                own[attribute] = getattr(rule, attribute)
        for nested in getattr(rule, "metadata", ()):
            for attribute in ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern"):
                if getattr(nested, attribute, None) is not None:
                    own[attribute] = getattr(nested, attribute)
    for attribute, text in (
        ("ge", ">= {}"),
        ("gt", "> {}"),
        ("le", "<= {}"),
        ("lt", "< {}"),
        ("min_length", "at least {} long"),
        ("max_length", "at most {} long"),
        ("pattern", "of the form {}"),
    ):
        if attribute in own:
            found.append(text.format(own[attribute]))
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = _bounds(arguments[0], list(arguments[1:]))
        return ", ".join([*found, inner]) if inner else ", ".join(found)
    if origin is typing.Literal:
        found.append("one of " + ", ".join(map(str, arguments)))
    elif origin is tuple and arguments:
        inner = _bounds(arguments[0], [])
        found += [f"each {inner}"] if inner else []
    elif origin is not None and origin is not dict:
        for part in arguments:
            if part is not type(None):
                inner = _bounds(part, [])
                found += [inner] if inner else []
    return ", ".join(found)
