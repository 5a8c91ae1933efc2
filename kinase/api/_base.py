"""Base of all API models: naming, strictness, and the union convention."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


@dataclass(frozen=True, slots=True)
class Rule:
    """A check of a validator, expressed in CEL for the API server."""

    cel: str
    """True if the object is valid. `self` is the object, `oldSelf` the object before an update."""
    message: str
    """Names the field, the value, and what is valid. A CEL expression in {} is replaced by its
    value."""
    path: str = ""
    """The field at fault, such as `.maxDepth`; empty for the whole object."""
    reason: Literal["Invalid", "Forbidden", "Required"] = "Invalid"


def _integer(value: Any) -> Any:
    if isinstance(value, str | bytes | bool):
        raise PydanticKnownError("int_type")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, str | bytes | bool):
        raise PydanticKnownError("float_type")
    return value


_INTEGER: Any = {"type": "no-info", "function": _integer}
_NUMBER: Any = {"type": "no-info", "function": _number}


def _plain_scalars(node: Any) -> Any:
    """A schema that does not convert between numbers, booleans and text."""
    if isinstance(node, list):
        return [_plain_scalars(item) for item in node]
    if not isinstance(node, dict) or node.get("function") in (_INTEGER, _NUMBER):
        return node
    node = {key: _plain_scalars(value) for key, value in node.items()}
    match node.get("type"):
        case "bool":
            return {**node, "strict": True}
        case "int":
            return {"type": "function-before", "function": _INTEGER, "schema": node}
        case "float":
            return {"type": "function-before", "function": _NUMBER, "schema": node}
    return node


class Model(BaseModel):
    """A frozen model with camelCase names in the manifest; an unknown field is an error."""

    rules: ClassVar[tuple[Rule, ...]] = ()
    """The model's validators as CEL rules."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    @classmethod
    def cel_rules(cls) -> tuple[Rule, ...]:
        """Rules that the API server checks in addition to the bounds of single fields."""
        return cls.rules

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Reject text for numbers: pydantic would read "8" as 8, but the API server rejects it."""
        schema: CoreSchema = _plain_scalars(handler(source))
        return schema


@dataclass(frozen=True, slots=True)
class Keyed:
    """Declares the field that identifies the objects of a list; duplicates are invalid."""

    key: str
    """The field's name in a manifest."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Add the check."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Declare a map list, so that server-side apply merges items by the key."""
        return {
            **handler(schema),
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": [self.key],
        }

    def _check(self, items: tuple[Model, ...]) -> tuple[Model, ...]:
        seen: set[str] = set()
        for item in items:
            by_alias = {field.alias: name for name, field in type(item).model_fields.items()}
            value = getattr(item, by_alias[self.key])
            if value in seen:
                raise ValueError(f"{self.key} {value!r} is given twice")
            seen.add(value)
        return items


DURATION = r"^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}(\.[0-9]{1,3})?s)?$"
"""Bounded to some years, which every program that handles a duration can represent."""
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds"}


def parse_duration(value: object) -> timedelta:
    """Read a Kubernetes-style duration such as ``90s``, ``5m`` or ``1h30m``.

    Raises:
        ValueError: the text is not a duration, or the duration is zero.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not value or not re.fullmatch(DURATION, value):
        raise ValueError(
            "a duration is written like 90s, 5m or 1h30m, with at most 99999h, 999999m, 99999999s"
        )
    parts = re.findall(r"([0-9.]+)([hms])", value)
    duration = timedelta(**{_UNITS[unit]: float(number) for number, unit in parts})
    if not duration:
        raise ValueError("a duration must be longer than zero")
    return duration


def format_duration(value: timedelta) -> str:
    """The inverse of `parse_duration`, in the shortest form."""
    rest = value.total_seconds()
    hours = min(rest // 3600, 99_999)
    rest -= hours * 3600
    minutes = min(rest // 60, 999_999)
    seconds = f"{rest - minutes * 60:.3f}".rstrip("0").rstrip(".")
    parts = {"h": f"{hours:.0f}", "m": f"{minutes:.0f}", "s": seconds}
    return "".join(f"{number}{unit}" for unit, number in parts.items() if number != "0") or "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 32,
            "pattern": DURATION,
            "x-kubernetes-validations": [
                {
                    "rule": "self.matches('[1-9]')",  # not empty and not zero
                    "message": "a duration is written like 90s, 5m or 1h30m, longer than zero",
                }
            ],
        },
        mode="validation",
    ),
]

METRIC = r"^[a-z][a-z0-9_]{0,39}$"
Metric = Annotated[str, Field(max_length=40, pattern=METRIC)]
"""Name of a metric. It is short because a status contains many."""

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
MAX_NAME = 46
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=DNS_LABEL)]
"""A DNS label, short enough to append the numbers of a trial and an attempt."""
ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
"""Name of any other Kubernetes object."""


def struct_name(kind: str) -> str:
    """Name in a manifest of the struct of a type: `LocalSearch` has `localSearch`, an acronym such
    as `LEMONADE` has `lemonade`, and `LCNet` has `lcNet`."""
    return re.sub(r"^([A-Z]+(?=[A-Z][a-z])|[A-Z]+$|[A-Z])", lambda m: m[0].lower(), kind)


@cache
def _members(union: type[Union]) -> dict[str, str]:
    by_alias = {field.alias: name for name, field in union.model_fields.items()}
    literal = union.model_fields[union.discriminator].annotation
    return {
        kind: by_alias[struct_name(kind)]
        for kind in getattr(literal, "__args__", ())
        if struct_name(kind) in by_alias
    }


class Union(Model):
    """A discriminated union as Kubernetes writes one: ``type`` plus the one struct of that name.

    A member's field is the type's name in camelCase (`LEMONADE`: `lemonade`). The struct can be
    omitted if all of its fields have defaults; `member` then returns one with the defaults.
    """

    discriminator: ClassVar[str] = "type"

    @classmethod
    def members(cls) -> dict[str, str]:
        """Map each type to the Python name of its struct's field."""
        return _members(cls)

    @classmethod
    def cel_rules(cls) -> tuple[Rule, ...]:
        """Rules of the union, and the model's own."""
        found: list[Rule] = []
        for kind, name in cls.members().items():
            field = cls.model_fields[name]
            found.append(
                Rule(
                    f"!has(self.{field.alias}) || self.{cls.discriminator} == {kind!r}",
                    f"{cls.discriminator} is {{self.{cls.discriminator}}}, so the struct "
                    f"'{field.alias}' must not be set; "
                    f"remove it or set {cls.discriminator}: {kind}",
                    f".{field.alias}",
                    "Forbidden",
                )
            )
            [struct] = [part for part in get_args(field.annotation) if part is not NoneType]
            needed = [f.alias for f in struct.model_fields.values() if f.is_required()]
            if needed:
                found.append(
                    Rule(
                        f"self.{cls.discriminator} != {kind!r} || has(self.{field.alias})",
                        f"{cls.discriminator} is {kind}, which requires {field.alias}.{needed[0]}",
                        f".{field.alias}",
                        "Required",
                    )
                )
        return (*found, *cls.rules)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Add an empty struct for the chosen type, so that its defaults or missing fields show."""
        if not isinstance(data, dict):
            return data
        default = cls.model_fields[cls.discriminator].default
        kind = data.get(cls.discriminator, default)
        field = cls.members().get(kind) if isinstance(kind, str) else None
        if field is None:
            return data
        alias = cls.model_fields[field].alias or field
        if data.get(alias) is None and data.get(field) is None:
            return {**data, alias: {}}
        return data

    @model_validator(mode="after")
    def _one_struct(self) -> Self:
        kind = getattr(self, self.discriminator)
        for other, field in self.members().items():
            if other != kind and getattr(self, field) is not None:
                alias = type(self).model_fields[field].alias
                raise ValueError(
                    f"{self.discriminator} is {kind}, so the struct {alias!r} must not be set; "
                    f"remove it or set {self.discriminator}: {other}"
                )
        return self

    @property
    def kind(self) -> str:
        """The selected type."""
        return str(getattr(self, self.discriminator))

    @property
    def shown(self) -> str:
        """The chosen type for a person: for a custom member, its own name."""
        member = self.member
        return member.name if isinstance(member, Custom) else self.kind

    @property
    def member(self) -> Any:
        """The struct of the selected type, or None if the type has no struct."""
        field = self.members().get(self.kind)
        return getattr(self, field) if field else None


class Custom(Model):
    """A member that another Python package provides through an entry point."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    """Name of the entry point, as registered by its package."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options passed to the member's constructor, as plain data."""


def exactly_one(*names: str) -> str:
    """CEL: exactly one of the fields is set."""
    return f"[{', '.join(f'has(self.{name})' for name in names)}].filter(set, set).size() == 1"
