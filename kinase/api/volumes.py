"""Volumes of a trial's pod, and where they are mounted."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import DNS_LABEL, Model, ObjectName, Rule, exactly_one
from kinase.api.quantity import Quantity

Free = Annotated[
    dict[str, Any],
    Field(max_length=16, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
]
"""Validated by Kubernetes when the pod is created."""
FileMode = Annotated[int, Field(ge=0, le=0o777)]


class KeyPath(Model):
    """A key that is mounted as a file."""

    key: Annotated[str, Field(min_length=1, max_length=253)]
    """The key."""
    path: Annotated[str, Field(min_length=1, max_length=1024)]
    """Path of the file within the volume."""
    mode: FileMode | None = None
    """Permissions of the file. Default: the volume's."""


class ClaimVolume(Model):
    """A persistent volume claim."""

    claim_name: ObjectName
    """Name of the claim, in the experiment's namespace."""
    read_only: bool = False
    """Whether it is mounted read-only."""


class ConfigMapVolume(Model):
    """A ConfigMap that is mounted as files."""

    name: ObjectName
    """Name of the ConfigMap."""
    items: Annotated[tuple[KeyPath, ...], Field(max_length=64)] = ()
    """Keys to mount. Default: all keys, under their own names."""
    default_mode: FileMode | None = None
    """Permissions of the files. Default: 0644."""
    optional: bool = False
    """Whether the pod can start without it."""


class SecretVolume(Model):
    """A Secret that is mounted as files."""

    secret_name: ObjectName
    """Name of the Secret."""
    items: Annotated[tuple[KeyPath, ...], Field(max_length=64)] = ()
    """Keys to mount. Default: all keys, under their own names."""
    default_mode: FileMode | None = None
    """Permissions of the files. Default: 0644."""
    optional: bool = False
    """Whether the pod can start without it."""


class EmptyDirVolume(Model):
    """Scratch space that is deleted with the pod."""

    medium: Literal["", "Memory"] = ""
    """Where to store it: on the node's disk, or in memory."""
    size_limit: Quantity | None = None
    """Maximum size."""


class HostPathVolume(Model):
    """A folder of the node. It violates the Pod Security level `restricted`, so the operator's
    administrator must allow it."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    """Path on the node."""
    type: (
        Literal[
            "",
            "DirectoryOrCreate",
            "Directory",
            "FileOrCreate",
            "File",
            "Socket",
            "CharDevice",
            "BlockDevice",
        ]
        | None
    ) = None
    """What must exist at the path before mounting. Default: no check."""


class Volume(Model):
    """A volume of a trial's pod. Exactly one source must be set."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """Name of the volume, a DNS label. Names that start with kinase- are reserved for the
    operator."""
    persistent_volume_claim: ClaimVolume | None = None
    """A persistent volume claim, the usual source of data sets."""
    config_map: ConfigMapVolume | None = None
    """A ConfigMap."""
    secret: SecretVolume | None = None
    """A Secret."""
    empty_dir: EmptyDirVolume | None = None
    """Scratch space."""
    csi: Free | None = None
    """An inline volume of a CSI driver, as in a pod spec."""
    ephemeral: Free | None = None
    """A claim that is created with the pod, as in a pod spec."""
    projected: Free | None = None
    """Several sources in one volume, as in a pod spec."""
    host_path: HostPathVolume | None = None
    """A folder of the node, if the administrator allows it."""

    rules: ClassVar = (
        Rule(
            exactly_one(
                "persistentVolumeClaim",
                "configMap",
                "secret",
                "emptyDir",
                "csi",
                "ephemeral",
                "projected",
                "hostPath",
            ),
            "volume '{self.name}' must have exactly one source",
        ),
        Rule(
            "!self.name.startsWith('kinase-')",
            "name '{self.name}' is reserved: names that start with kinase- belong to the operator",
            ".name",
            "Forbidden",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        sources = [
            f for f in type(self).model_fields if f != "name" and getattr(self, f) is not None
        ]
        if len(sources) != 1:
            raise ValueError(
                f"volume {self.name!r} has {len(sources)} sources; it must have exactly one"
            )
        if self.name.startswith("kinase-"):
            raise ValueError(
                f"name {self.name!r} is reserved: names that start with kinase- belong to the "
                "operator"
            )
        return self


class Mount(Model):
    """Where a volume is mounted in the trial's container."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the volume."""
    mount_path: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^/[^:]*$")]
    """Absolute path in the container. /kinase is reserved for the operator."""
    sub_path: Annotated[str, Field(max_length=1024)] | None = None
    """Path within the volume."""
    read_only: bool = False
    """Whether it is mounted read-only."""

    rules: ClassVar = (
        Rule(
            "self.mountPath != '/kinase' && !self.mountPath.startsWith('/kinase/')",
            "mountPath '{self.mountPath}' is reserved: /kinase belongs to the operator",
            ".mountPath",
            "Forbidden",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if f"{self.mount_path}/".startswith("/kinase/"):
            raise ValueError(
                f"mountPath {self.mount_path!r} is reserved: /kinase belongs to the operator"
            )
        return self
