"""`spec.trialTemplate`: how to run a trial, locally or as a pod."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from kinase.api._base import DNS_LABEL, Duration, Keyed, Model, Rule
from kinase.api.names import GROUP

Label = Annotated[
    str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")
]
LabelKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=317,
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?"
        r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    ),
]
ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
_QUANTITY = r"^[+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$"


def _quantity(value: Any) -> Any:
    if isinstance(value, str):
        fits = len(value) <= 32 and bool(re.fullmatch(_QUANTITY, value))
    else:
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not fits:
        raise ValueError(f"a quantity is written like 1, 500m or 4Gi; got {value!r}")
    return value


Quantity = Annotated[
    int | str,
    BeforeValidator(_quantity),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "maxLength": 32,
            "pattern": _QUANTITY,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A number, or a quantity such as 500m or 4Gi."""
_UNITS = {
    **{unit: Decimal(10) ** (3 * place - 9) for place, unit in enumerate(("n", "u", "m", ""))},
    **{unit: Decimal(1000) ** (place + 1) for place, unit in enumerate("kMGTPE")},
    **{f"{unit}i": Decimal(1024) ** (place + 1) for place, unit in enumerate("KMGTPE")},
}


def amount(quantity: int | str) -> int:
    """The value of a quantity, rounded down."""
    if isinstance(quantity, int):
        return quantity
    found = re.fullmatch(r"(.*?)(|[numkMGTPE]|[KMGTPE]i)", quantity.removeprefix("+"))
    assert found is not None
    return int(Decimal(found[1]) * _UNITS[found[2]])


Labels = Annotated[dict[LabelKey, Label], Field(max_length=32)]
Annotations = Annotated[
    dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)
]


Free = Annotated[
    dict[str, Any],
    Field(max_length=16, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
]
"""Validated by Kubernetes when the pod is created."""


def _one_of(*names: str) -> str:
    """CEL: exactly one of the fields is set."""
    return f"[{', '.join(f'has(self.{name})' for name in names)}].filter(set, set).size() == 1"


FileMode = Annotated[int, Field(ge=0, le=0o777)]


class Resources(Model):
    """Resource requests and limits of a trial's container."""

    limits: Annotated[dict[LabelKey, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """Resource limits. Request devices here, such as nvidia.com/gpu."""
    requests: Annotated[dict[LabelKey, Quantity], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """Resource requests. Default: the limits."""


class Toleration(Model):
    """A taint that a trial's pod tolerates."""

    key: Annotated[str, Field(max_length=317)] | None = None
    """Key of the taint. Default: any."""
    operator: Literal["Exists", "Equal", "Lt", "Gt"] = "Equal"
    """How to compare the value."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: all effects."""
    toleration_seconds: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """For NoExecute: seconds until the pod is evicted. Default: never."""

    rules: ClassVar = (
        Rule(
            "self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "operator Exists takes no value; got '{self.value}'",
            ".value",
        ),
        Rule(
            "self.operator == 'Exists' || (has(self.key) && self.key != '')",
            "operator {self.operator} needs a key; only Exists can omit it, to tolerate every "
            "taint",
            ".key",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds requires the effect NoExecute",
            ".tolerationSeconds",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError(f"operator Exists takes no value; got {self.value!r}")
        if self.operator != "Exists" and not self.key:
            raise ValueError(
                f"operator {self.operator} needs a key; only Exists can omit it, to tolerate "
                "every taint"
            )
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds requires the effect NoExecute")
        return self


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
            _one_of("secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef"),
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
        Rule(_one_of("secretRef", "configMapRef"), "set exactly one of secretRef, configMapRef"),
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.secret_ref is None) == (self.config_map_ref is None):
            raise ValueError("set exactly one of secretRef, configMapRef")
        return self


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
            _one_of(
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


class Cache(Model):
    """A folder of the node where trials share the weights that they read from the store
    (estimation type Morphism). Damaged files are detected and read again from the store."""

    volume: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the volume: a persistentVolumeClaim, a hostPath or a csi volume. An emptyDir is not
    shared between pods."""
    size: Quantity = "10Gi"
    """Maximum size. The least recently used files are deleted first."""


class Security(Model):
    """User and privileges of the trial's container. By default it runs as user 65532 without
    privileges."""

    run_as_user: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """User ID. 0 (root) must be allowed by the operator's administrator."""
    run_as_group: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Group ID."""
    fs_group: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Group ID that owns the volumes."""
    privileged: bool = False
    """Whether the container is privileged. The operator's administrator must allow it."""


class LocalReference(Model):
    """An object in the experiment's namespace."""

    name: ObjectName
    """Name of the object."""


class ControllerTemplate(Model):
    """How to run the experiment's controller on a cluster."""

    service_account_name: ObjectName | None = None
    """ServiceAccount of the controller's pod, for example for a cloud identity. The operator's
    administrator must allow it. It is granted the controller's permissions. Default: chosen by
    the operator, normally a ServiceAccount created for this controller."""


class TrialTemplate(Model):
    """How to run a trial. A local run uses only `timeLimit` and `maxRetries`; all other fields
    configure the pod on a cluster."""

    time_limit: Duration | None = None
    """Maximum time of one attempt, such as 10m, counted from the start of its process. A trial that
    takes longer is infeasible. Waiting for a node, a queue or an image is not counted. Default: no
    limit."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 2
    """Number of retries after a crash. A lost node, an eviction or a killed controller does not use
    up a retry."""
    max_disruptions: Annotated[int, Field(ge=0, le=999)] = 100
    """On a cluster, the number of retries in a row after disruptions: the node rejected or evicted
    the pod, or the store was unavailable. An attempt that runs for 10 minutes resets the count.
    The delay between attempts grows from 10 s to 5 min, so 100 retries take about 8 hours. After
    the last retry the trial fails."""
    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Container image of the trainer. Default: the operator's trainer image."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When to pull the image. Default: as in Kubernetes."""
    image_pull_secrets: Annotated[
        tuple[LocalReference, ...], Field(max_length=8), Keyed("name")
    ] = ()
    """Secrets for pulling the image."""
    command: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=64)
    ] = ()
    """Command to run instead of the image's, for your own trainer (docs/trial-contract.md)."""
    args: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=64)] = ()
    """Arguments of the command."""
    resources: Resources = Resources()
    """Resource requests and limits of a trial."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels that a node must have."""
    affinity: Annotated[dict[str, Any], Field(max_length=3)] | None = None
    """Affinity, as in a pod spec."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints that the pods tolerate."""
    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods, for example for a cloud identity. The operator's administrator
    must allow it. No API token is mounted. Default: `default`."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""
    runtime_class_name: ObjectName | None = None
    """RuntimeClass of the pods."""
    scheduler_name: ObjectName | None = None
    """Scheduler of the pods. Default: the cluster's default scheduler."""
    managed_by: (
        Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] | None
    ) = None
    """Controller that manages the Jobs instead of Kubernetes, such as kueue.x-k8s.io/multikueue."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=16), Keyed("name")] = ()
    """Volumes of the pods, typically for data."""
    volume_mounts: Annotated[tuple[Mount, ...], Field(max_length=16), Keyed("mountPath")] = ()
    """Where to mount the volumes."""
    cache: Cache | None = None
    """Node-local cache for the weights that trials read. Default: no cache."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), Keyed("name")] = ()
    """Environment variables."""
    env_from: Annotated[tuple[EnvFrom, ...], Field(max_length=8)] = ()
    """Environment variables from all keys of Secrets or ConfigMaps."""
    shm_size: Quantity | None = None
    """Size of /dev/shm, such as 2Gi. Data loaders pass batches through it, and their number is
    chosen so that the batches fit. Default: the container runtime's 64 MiB."""
    labels: Labels = Field(default_factory=dict)
    """Labels for a trial's Job and pod, such as Kueue's kueue.x-k8s.io/queue-name."""
    annotations: Annotations = Field(default_factory=dict)
    """Annotations for a trial's Job and pod."""
    grace_period: Duration | None = None
    """Termination grace period: the time a pod has to write a checkpoint. Default: 30s."""
    security: Security = Security()
    """User and privileges of the container."""

    rules: ClassVar = (
        Rule(
            "!has(self.volumeMounts) || self.volumeMounts.all(m, "
            "has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            "volumeMounts refers to a volume that does not exist: "
            "{self.volumeMounts.filter(m, !(has(self.volumes) && "
            "self.volumes.exists(v, v.name == m.name)))[0].name}",
            ".volumeMounts",
        ),
        Rule(
            "!has(self.shmSize) || !has(self.volumeMounts) || "
            "!self.volumeMounts.exists(m, m.mountPath == '/dev/shm')",
            "shmSize already mounts /dev/shm; remove one of them",
            ".shmSize",
        ),
        Rule(
            "!has(self.cache) || (has(self.volumes) && self.volumes.exists(v, "
            "v.name == self.cache.volume && (has(v.hostPath) || has(v.csi) || "
            "!v.?persistentVolumeClaim.?readOnly.orValue(!has(v.persistentVolumeClaim)))))",
            "cache.volume '{self.cache.volume}' does not refer to a volume that outlives a "
            "pod; use a writable persistentVolumeClaim, a hostPath or a csi volume",
            ".cache.volume",
        ),
        *(
            Rule(
                f"!has(self.{name}) || !self.{name}.exists(key, key.startsWith('{GROUP}/'))",
                f"{name} has a reserved key: keys that start with {GROUP}/ belong to the operator",
                f".{name}",
                "Forbidden",
            )
            for name in ("labels", "annotations")
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [volume.name for volume in self.volumes]
        for mount in self.volume_mounts:
            if mount.name not in names:
                raise ValueError(
                    f"volumeMounts refers to a volume that does not exist: {mount.name!r} "
                    f"(volumes: {', '.join(names) or 'none'})"
                )
            if mount.mount_path == "/dev/shm" and self.shm_size is not None:
                raise ValueError("shmSize already mounts /dev/shm; remove one of them")
        lasting = [
            v.name
            for v in self.volumes
            if v.host_path
            or v.csi
            or (v.persistent_volume_claim and not v.persistent_volume_claim.read_only)
        ]
        if self.cache is not None and self.cache.volume not in lasting:
            raise ValueError(
                f"cache.volume {self.cache.volume!r} does not refer to a volume that outlives "
                f"a pod (such volumes: {', '.join(lasting) or 'none'}); use a writable "
                "persistentVolumeClaim, a hostPath or a csi volume"
            )
        for field, keys in (("labels", self.labels), ("annotations", self.annotations)):
            for key in keys:
                if key.startswith(f"{GROUP}/"):
                    raise ValueError(
                        f"{field} has the reserved key {key!r}: keys that start with {GROUP}/ "
                        "belong "
                        "to the operator"
                    )
        return self


def unrestricted(template: TrialTemplate) -> list[tuple[str, str]]:
    """What in a template violates Pod Security `restricted`: pairs of field and reason."""
    found = [
        (f"volumes[{i}].hostPath", f"mounts the folder {v.host_path.path!r} of the node")
        for i, v in enumerate(template.volumes)
        if v.host_path is not None
    ]
    if template.security.privileged:
        found.append(("security.privileged", "a privileged container"))
    if template.security.run_as_user == 0:
        found.append(("security.runAsUser", "a container run as root"))
    return found
