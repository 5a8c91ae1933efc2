"""What every model of the API shares: naming, strictness, and the union convention."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

_DURATION = re.compile(
    r"^(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+(?:\.\d+)?)s)?$"
)


class Model(BaseModel):
    """A frozen model with camelCase names in the manifest; an unknown field is an error."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


def parse_duration(value: object) -> timedelta:
    """Read a Kubernetes-style duration such as ``90s``, ``5m`` or ``1h30m``.

    Raises:
        ValueError: the text is no duration, or the duration is zero.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        raise ValueError("a duration is written like 90s, 5m or 1h30m")
    parts = {unit: float(text) for unit, text in match.groupdict().items() if text}
    duration = timedelta(**parts)
    if not duration:
        raise ValueError("a duration must be longer than zero")
    return duration


def format_duration(value: timedelta) -> str:
    """The inverse of `parse_duration`, in the shortest form."""
    total = value.total_seconds()
    hours, rest = divmod(total, 3600)
    minutes, seconds = divmod(rest, 60)
    text = "".join(f"{int(n)}{unit}" for n, unit in ((hours, "h"), (minutes, "m")) if n)
    if seconds or not text:
        text += f"{seconds:g}s"
    return text


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?$"},
        mode="validation",
    ),
]

Name = Annotated[
    str,
    Field(min_length=1, max_length=50, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
]
"""A DNS label, short enough that a trial's number and an attempt's still fit behind it."""


class Union(Model):
    """A discriminated union as Kubernetes writes one: ``type`` plus the one struct of that name.

    A member's field is the type's name in camelCase. The struct may be left out where all
    of its fields have defaults; `member` then gives it whole.
    """

    discriminator: ClassVar[str] = "type"

    @classmethod
    def members(cls) -> dict[str, str]:
        """Map each type to the Python name of its struct's field."""
        by_alias = {field.alias: name for name, field in cls.model_fields.items()}
        literal = cls.model_fields[cls.discriminator].annotation
        return {
            kind: by_alias[kind[0].lower() + kind[1:]]
            for kind in getattr(literal, "__args__", ())
            if kind[0].lower() + kind[1:] in by_alias
        }

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Put an empty struct in for the chosen type, so that its defaults (or its gaps) show."""
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
        """The chosen type."""
        return str(getattr(self, self.discriminator))

    @property
    def member(self) -> Any:
        """The struct of the chosen type, or None where the type carries none."""
        field = self.members().get(self.kind)
        return getattr(self, field) if field else None


class Custom(Model):
    """A member that another Python package brings, found by entry point."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    """Name of the entry point, as the package that brings it registers it."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What the member's own constructor takes, as plain data."""
