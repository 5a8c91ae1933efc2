"""Manifests from YAML. Every problem is reported with file, line, field, value and what is
valid."""

from __future__ import annotations

import codecs
import difflib
import re
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kinase.api import forms
from kinase.api.experiment import NASExperiment
from kinase.words import counted

MAX_BYTES = 1 << 20
"""Maximum size of a manifest in bytes."""
MAX_NODES = 100_000
"""Maximum number of values in a manifest after its aliases are resolved."""

Path_ = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: 1e-3 is a number, although YAML 1.1 requires 1.0e-3."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem at one place in a manifest."""

    file: str
    line: int
    """Counted from 1; 0 if the problem has no line."""
    path: str
    """Field, as `spec.space.chain.maxDepth`; empty for the whole document."""
    message: str
    """The rule, and the value that violates it."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class ManifestError(ValueError):
    """A manifest that cannot be used."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """`problems` are all problems that were found."""
        super().__init__(format_problems(problems))
        self.problems = list(problems)


def format_problems(problems: Sequence[Problem]) -> str:
    """One line per problem."""
    return "\n".join(str(problem) for problem in problems)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document as plain data, with the line of every field."""

    file: str
    data: Any
    lines: dict[Path_, int]

    def problem(self, path: Path_, message: str) -> Problem:
        """A problem at a field, or at its nearest parent that the document contains."""
        place = path
        while place and place not in self.lines:
            place = place[:-1]
        return Problem(self.file, self.lines.get(place, 1), dotted(path), message)


def dotted(path: Path_) -> str:
    """`spec.also[0].metric` for ("spec", "also", 0, "metric")."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def parts(text: str) -> Path_:
    """The fields of a dotted path: ("spec", "also", 0, "metric") for `spec.also[0].metric`."""
    return tuple(int(p) if p.isdigit() else p for p in re.findall(r"[^.\[\]]+", text))


def load_manifest(path: str | Path) -> NASExperiment:
    """Read and validate the manifest of a `NASExperiment`.

    Raises:
        ManifestError: it cannot be read or used; holds every problem that was found.
    """
    return validate(read_document(path))


def read_document(path: str | Path) -> Document:
    """Read the only `NASExperiment` in a YAML (or JSON) file, without validation.

    Raises:
        ManifestError: the file cannot be read, or is not valid YAML, or does not hold exactly one.
    """
    file = str(path)
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL character
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ManifestError([Problem(file, 0, "", f"cannot be read: {reason}")]) from None
    return parse_document(file, raw)


def parse_document(file: str, raw: bytes) -> Document:
    """The only `NASExperiment` in a text, without validation; problems name `file`.

    Raises:
        ManifestError: as `read_document`.
    """
    if len(raw) > MAX_BYTES:
        raise ManifestError([Problem(file, 0, "", f"is larger than {MAX_BYTES:,} bytes")])
    raw = _utf8(file, raw)
    try:
        nodes = [n for n in yaml.compose_all(raw, Loader=_Loader) if n is not None]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        text = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = mark.line + 1 if mark is not None else 0
        raise ManifestError([Problem(file, line, "", f"is not valid YAML: {text}")]) from None
    except RecursionError:
        raise ManifestError([_too_deep(file)]) from None
    try:
        documents = [_construct(file, node) for node in nodes]
    except RecursionError:
        raise ManifestError([_too_deep(file)]) from None
    found = [d for d in documents if len(nodes) == 1 or _kind(d.data) == "NASExperiment"]
    if len(found) != 1:
        raise ManifestError(
            [
                Problem(
                    file,
                    1,
                    "",
                    f"holds {counted(len(found), 'document')} of kind NASExperiment; "
                    "give exactly one",
                )
            ]
        )
    return found[0]


def _too_deep(file: str) -> Problem:
    return Problem(file, 0, "", "lists or mappings are nested too deeply; no field needs that")


def _utf8(file: str, raw: bytes) -> bytes:
    """Decode a file as UTF-8, or as UTF-16 if it has a byte order mark; reject other encodings."""
    if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        try:
            return raw.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise ManifestError(
                [Problem(file, 0, "", f"begins as UTF-16 and is not: {error.reason}")]
            ) from None
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 (byte 0x{raw[error.start]:02x}); save the file as UTF-8"
        raise ManifestError([Problem(file, line, "", message)]) from None
    return raw


def _kind(data: Any) -> Any:
    return data.get("kind") if isinstance(data, dict) else None


def _construct(file: str, root: yaml.Node) -> Document:
    """Convert a YAML tree to plain data with line numbers; a duplicate key is an error."""
    lines: dict[Path_, int] = {}
    budget = [MAX_NODES]
    scalars = _Loader("")

    def build(node: yaml.Node, path: Path_, within: tuple[int, ...]) -> Any:
        budget[0] -= 1
        line = node.start_mark.line + 1
        if budget[0] < 0 or id(node) in within:
            raise ManifestError(
                [Problem(file, line, dotted(path), "aliases make the document too large")]
            )
        lines.setdefault(path, line)
        within = (*within, id(node))
        if isinstance(node, yaml.SequenceNode):
            return [build(item, (*path, i), within) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = str(getattr(key_node, "value", ""))
                here = (*path, key)
                if not isinstance(key_node, yaml.ScalarNode) or key == "<<":
                    message = "a key must be a plain name"
                    raise ManifestError(
                        [Problem(file, key_node.start_mark.line + 1, dotted(path), message)]
                    )
                if key in result:
                    message = f"is given twice, first in line {lines[here]}"
                    raise ManifestError(
                        [Problem(file, key_node.start_mark.line + 1, dotted(here), message)]
                    )
                lines[here] = key_node.start_mark.line + 1
                result[key] = build(value_node, here, within)
            return result
        try:
            value = scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise ManifestError(
                [Problem(file, line, dotted(path), f"cannot be read: {error}")]
            ) from None
        # a date or a set has no place in a manifest; a duration such as 1h stays text
        plain = value is None or isinstance(value, str | int | float | bool)
        return value if plain else str(getattr(node, "value", value))

    return Document(file, build(root, (), ()), lines)


def validate(document: Document) -> NASExperiment:
    """Check a document against the models.

    Raises:
        ManifestError: holds every problem that was found.
    """
    if not isinstance(document.data, dict):
        message = f"is {_shown(document.data)}; a manifest is a mapping with apiVersion and kind"
        raise ManifestError([document.problem((), message)])
    try:
        # only camelCase, as in the API server
        return NASExperiment.model_validate(document.data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ManifestError([explained(document, e) for e in error.errors()]) from None


def _shown(value: Any) -> str:
    """A value for an error message, truncated to fit a line."""
    try:
        text = repr(value)
    except ValueError:  # Python converts no number of thousands of digits
        return f"a value of type {type(value).__name__} with a number of too many digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def explained(document: Document, error: ErrorDetails) -> Problem:
    """A pydantic error as a message for people."""
    path: Path_ = tuple(part for part in error["loc"] if part != "[key]")
    kind, context = error["type"], error.get("ctx", {})
    value = _shown(error["input"])
    match kind:
        case "extra_forbidden":
            return document.problem(path, _unknown(path))
        case "missing":
            return document.problem(path, "is missing; it must be set")
        case "value_error":
            text = str(context.get("error", error["msg"]))
            return document.problem(_named_in(document, path, text), f"{text}{_got(error, text)}")
        case "literal_error" | "enum":
            wanted = str(context.get("expected", ""))
            close = close_match(value.strip("'"), [w.strip("' ") for w in _words(wanted)])
            hint = f"; did you mean {close!r}?" if close else ""
            return document.problem(path, f"{value} is not one of {wanted}{hint}")
        case "greater_than_equal":
            return document.problem(path, f"{value} is too small; use at least {context['ge']}")
        case "greater_than":
            return document.problem(path, f"{value} is too small; use more than {context['gt']}")
        case "less_than_equal":
            return document.problem(path, f"{value} is too large; use at most {context['le']}")
        case "less_than":
            return document.problem(path, f"{value} is too large; use less than {context['lt']}")
        case "too_short":
            return document.problem(
                path, f"has too few items; give {context['min_length']} or more"
            )
        case "too_long":
            return document.problem(
                path, f"has too many items; give at most {context['max_length']}"
            )
        case "string_pattern_mismatch":
            form = forms.of(str(context["pattern"]))
            return document.problem(path, f"{value} does not have the form of {form}")
        case "string_too_short":
            return document.problem(path, "is empty; it must have a value")
        case "string_too_long":
            most = context["max_length"]
            return document.problem(path, f"has more than {most} characters; use at most {most}")
        case _:
            if kind in _WRONG_TYPE:
                return document.problem(path, f"{value} {_WRONG_TYPE[kind]}")
            return document.problem(path, f"is {value}, and {_lower(error['msg'])}")


_WRONG_TYPE = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "is not a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "is not a number"),
    "finite_number": "is not a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "is not true or false"),
    "string_type": "is not text; put it in quotes if it is meant as text",
    **dict.fromkeys(
        ("model_type", "dict_type", "model_attributes_type"),
        "is not a mapping; write its fields below it, as name: value",
    ),
    **dict.fromkeys(("tuple_type", "list_type"), "is not a list; write [a, b], or a line each"),
}
"""Message for a value of the wrong type, by pydantic's name of the error."""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _words(text: str) -> list[str]:
    return text.replace(" or ", ", ").split(", ")


def _got(error: ErrorDetails, text: str) -> str:
    """The value, if it is a scalar and the rule does not name it."""
    value = error["input"]
    try:
        simple = isinstance(value, str | int | float) and str(value) not in text
    except ValueError:  # of too many digits
        simple = True
    return f"; got {_shown(value)}" if simple else ""


def _named_in(document: Document, path: Path_, text: str) -> Path_:
    """Place of a rule over several fields: the first field that it names and the document
    contains."""
    data = document.data
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return path
    places: list[tuple[int, Path_]] = []
    for below in _paths(data):
        names = [part for part in below if isinstance(part, str)]
        for name in (".".join(names), names[-1] if names else ""):
            position = text.find(name) if name else -1
            if position >= 0 and _is_word(text, position, len(name)):
                places.append((position, below))
                break
    return path + min(places, key=lambda p: (p[0], len(p[1])))[1] if places else path


def _is_word(text: str, start: int, length: int) -> bool:
    around = text[start - 1 : start] + text[start + length : start + length + 1]
    return not any(c.isalnum() or c == "_" for c in around)


def _paths(data: Any, at: Path_ = ()) -> Iterator[Path_]:
    items = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in items:
        yield (*at, key)
        yield from _paths(value, (*at, key))


def close_match(word: str, known: Sequence[str]) -> str | None:
    """The known word closest to a mistyped one, or None."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(by_lower), 1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def _unknown(path: Path_) -> str:
    """Message for an unknown field."""
    model = model_at(path[:-1])
    known = [f.alias or name for name, f in model.model_fields.items()] if model else []
    close = close_match(str(path[-1]), known)
    if close:
        return f"unknown field {path[-1]!r}; did you mean {close!r}?"
    if model and not known:
        return f"unknown field {path[-1]!r}; {path[-2]} has no fields: remove it"
    return f"unknown field {path[-1]!r}; the fields here are {', '.join(known)}"


def model_at(path: Path_) -> type[BaseModel] | None:
    """The model for a place in the manifest, or None."""
    model: type[BaseModel] = NASExperiment
    for part in path:
        if isinstance(part, int):
            continue
        field = next((f for name, f in model.model_fields.items() if part in (f.alias, name)), None)
        below = models_in(field.annotation) if field else []
        if not below:
            return None
        model = below[0]
    return model


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type is made of: `tuple[Measure, ...] | None` gives `Measure`."""
    if typing.get_origin(annotation) is None:
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        return [annotation] if is_model else []
    return [m for part in typing.get_args(annotation) for m in models_in(part)]
