"""Environment variables of a trial's container."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Model, ObjectName, Rule, exactly_one
from kinase.api.quantity import Quantity


class KeyReference(Model):
    """A key of a Secret or a ConfigMap."""

    name: ObjectName
    """Name of the object, in the experiment's namespace."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """Key in the object."""
    optional: bool = False
    """Whether the pod can start without it."""


class FieldReference(Model):
    """A field of the pod."""

    api_version: Literal["v1"] | None = None
    """Version of the pod's API."""
    field_path: Annotated[str, Field(min_length=1, max_length=512)]
    """Path, such as metadata.name."""


class ResourceReference(Model):
    """A resource request or limit of the trial's container."""

    container_name: Annotated[str, Field(max_length=63)] | None = None
    """The container. Default: the trial's."""
    resource: Annotated[str, Field(min_length=1, max_length=317)]
    """Name of the resource, such as limits.cpu."""
    divisor: Quantity | None = None
    """Unit of the value. Default: 1."""


class EnvSource(Model):
    """Source of a variable's value. Exactly one field must be set."""

    secret_key_ref: KeyReference | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyReference | None = None
    """A key of a ConfigMap."""
    field_ref: FieldReference | None = None
    """A field of the pod."""
    resource_field_ref: ResourceReference | None = None
    """A resource limit or request of the container, for example to set the number of threads."""

    rules: ClassVar = (
        Rule(
            exactly_one("secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef"),
            "set exactly one of secretKeyRef, configMapKeyRef, fieldRef, resourceFieldRef",
        ),
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        fields = (
            self.secret_key_ref,
            self.config_map_key_ref,
            self.field_ref,
            self.resource_field_ref,
        )
        if sum(value is not None for value in fields) != 1:
            raise ValueError(
                "set exactly one of secretKeyRef, configMapKeyRef, fieldRef, resourceFieldRef"
            )
        return self


class EnvVar(Model):
    """An environment variable of the trial's container."""

    name: Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
    """Name of the variable. Names that start with KINASE_ are reserved for the operator."""
    value: Annotated[str, Field(max_length=8192)] | None = None
    """Value of the variable."""
    value_from: EnvSource | None = None
    """Source of the value, instead of `value`."""

    rules: ClassVar = (
        Rule(
            "!has(self.value) || !has(self.valueFrom)",
            "value and valueFrom are both set; set only one of them",
            ".value",
        ),
        Rule(
            "!self.name.startsWith('KINASE_')",
            "name '{self.name}' is reserved: names that start with KINASE_ belong to the operator",
            ".name",
            "Forbidden",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.value is not None and self.value_from is not None:
            raise ValueError("value and valueFrom are both set; set only one of them")
        if self.name.startswith("KINASE_"):
            raise ValueError(
                f"name {self.name!r} is reserved: names that start with KINASE_ belong to the "
                "operator"
            )
        return self


class ObjectReference(Model):
    """A Secret or a ConfigMap in the experiment's namespace."""

    name: ObjectName
    """Name of the object."""
    optional: bool = False
    """Whether the pod can start without it."""


class EnvFrom(Model):
    """Environment variables from all keys of an object. Exactly one reference must be set."""

    prefix: Annotated[str, Field(max_length=64)] | None = None
    """Prefix of every variable name."""
    secret_ref: ObjectReference | None = None
    """A Secret."""
    config_map_ref: ObjectReference | None = None
    """A ConfigMap."""

    rules: ClassVar = (
        Rule(
            exactly_one("secretRef", "configMapRef"), "set exactly one of secretRef, configMapRef"
        ),
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.secret_ref is None) == (self.config_map_ref is None):
            raise ValueError("set exactly one of secretRef, configMapRef")
        return self
