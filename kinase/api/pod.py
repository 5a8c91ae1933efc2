"""`spec.trialTemplate`: how a trial is run, on a machine or as a pod."""

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
        raise ValueError(f"an amount is written like 1, 500m or 4Gi; got {value!r}")
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
"""A number, or text such as 500m, 4Gi."""
_UNITS = {
    **{unit: Decimal(10) ** (3 * place - 9) for place, unit in enumerate(("n", "u", "m", ""))},
    **{unit: Decimal(1000) ** (place + 1) for place, unit in enumerate("kMGTPE")},
    **{f"{unit}i": Decimal(1024) ** (place + 1) for place, unit in enumerate("KMGTPE")},
}


def amount(quantity: int | str) -> int:
    """What a quantity comes to, rounded down."""
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
"""What Kubernetes checks when the pod is made."""


def _one_of(*names: str) -> str:
    """CEL of: exactly one of the fields is set."""
    return f"[{', '.join(f'has(self.{name})' for name in names)}].filter(set, set).size() == 1"


FileMode = Annotated[int, Field(ge=0, le=0o777)]


class Resources(Model):
    """What a trial's container asks for and may use."""

    limits: Annotated[dict[LabelKey, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """Most that it may use; devices such as nvidia.com/gpu are named here."""
    requests: Annotated[dict[LabelKey, Quantity], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """What it is promised. Default: the limits."""


class Toleration(Model):
    """A taint that a trial's pod bears."""

    key: Annotated[str, Field(max_length=317)] | None = None
    """Key of the taint. Default: any."""
    operator: Literal["Exists", "Equal", "Lt", "Gt"] = "Equal"
    """How the value is compared."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: all."""
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
            "operator {self.operator} needs a key; Exists bears every taint without one",
            ".key",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds is for the effect NoExecute",
            ".tolerationSeconds",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError(f"operator Exists takes no value; got {self.value!r}")
        if self.operator != "Exists" and not self.key:
            raise ValueError(
                f"operator {self.operator} needs a key; Exists bears every taint without one"
            )
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds is for the effect NoExecute")
        return self


class KeyReference(Model):
    """A key of a Secret or a ConfigMap."""

    name: ObjectName
    """Name of the object, in the experiment's namespace."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """Key in it."""
    optional: bool = False
    """Whether the pod starts without it."""


class FieldReference(Model):
    """A field of the pod."""

    api_version: Literal["v1"] | None = None
    """Version of the pod's API."""
    field_path: Annotated[str, Field(min_length=1, max_length=512)]
    """Path, such as metadata.name."""


class ResourceReference(Model):
    """What the trial's container asks for or may use."""

    container_name: Annotated[str, Field(max_length=63)] | None = None
    """The container. Default: the trial's."""
    resource: Annotated[str, Field(min_length=1, max_length=317)]
    """Name, such as limits.cpu."""
    divisor: Quantity | None = None
    """Unit in which it is given. Default: 1."""


class EnvSource(Model):
    """Where a variable's value comes from; exactly one is set."""

    secret_key_ref: KeyReference | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyReference | None = None
    """A key of a ConfigMap."""
    field_ref: FieldReference | None = None
    """A field of the pod."""
    resource_field_ref: ResourceReference | None = None
    """A limit or a request of the container, such as for a number of threads."""

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
    """A variable of the trial's environment."""

    name: Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
    """Name of the variable. Names that begin with KINASE_ are the operator's own."""
    value: Annotated[str, Field(max_length=8192)] | None = None
    """Its value."""
    value_from: EnvSource | None = None
    """Where the value comes from, instead of `value`."""

    rules: ClassVar = (
        Rule(
            "!has(self.value) || !has(self.valueFrom)",
            "value and valueFrom exclude each other; set one",
            ".value",
        ),
        Rule(
            "!self.name.startsWith('KINASE_')",
            "name '{self.name}' is the operator's own; KINASE_ is reserved",
            ".name",
            "Forbidden",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.value is not None and self.value_from is not None:
            raise ValueError("value and valueFrom exclude each other; set one")
        if self.name.startswith("KINASE_"):
            raise ValueError(f"name {self.name!r} is the operator's own; KINASE_ is reserved")
        return self


class ObjectReference(Model):
    """A Secret or a ConfigMap in the experiment's namespace."""

    name: ObjectName
    """Name of the object."""
    optional: bool = False
    """Whether the pod starts without it."""


class EnvFrom(Model):
    """Variables from all keys of an object; exactly one reference is set."""

    prefix: Annotated[str, Field(max_length=64)] | None = None
    """Put before every name."""
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
    """A key as a file."""

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
    """A ConfigMap as files."""

    name: ObjectName
    """Name of the ConfigMap."""
    items: Annotated[tuple[KeyPath, ...], Field(max_length=64)] = ()
    """The keys to show. Default: all, under their own names."""
    default_mode: FileMode | None = None
    """Permissions of the files. Default: 0644."""
    optional: bool = False
    """Whether the pod starts without it."""


class SecretVolume(Model):
    """A Secret as files."""

    secret_name: ObjectName
    """Name of the Secret."""
    items: Annotated[tuple[KeyPath, ...], Field(max_length=64)] = ()
    """The keys to show. Default: all, under their own names."""
    default_mode: FileMode | None = None
    """Permissions of the files. Default: 0644."""
    optional: bool = False
    """Whether the pod starts without it."""


class EmptyDirVolume(Model):
    """Scratch space that ends with the pod."""

    medium: Literal["", "Memory"] = ""
    """Where it lies: the node's disk, or memory."""
    size_limit: Quantity | None = None
    """Most that it may hold."""


class HostPathVolume(Model):
    """A folder of the node. Breaks Pod Security `restricted`: only where the operator's
    administrator allows it."""

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
    """What must be there before it is mounted. Default: no check."""


class Volume(Model):
    """A volume of a trial's pod; exactly one source is set."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """Name, a DNS label. Names that begin with kinase- are the operator's own."""
    persistent_volume_claim: ClaimVolume | None = None
    """A persistent volume claim: the usual place of data sets."""
    config_map: ConfigMapVolume | None = None
    """A ConfigMap."""
    secret: SecretVolume | None = None
    """A Secret."""
    empty_dir: EmptyDirVolume | None = None
    """Scratch space."""
    csi: Free | None = None
    """An inline volume of a CSI driver, as in a pod."""
    ephemeral: Free | None = None
    """A claim made with the pod, as in a pod."""
    projected: Free | None = None
    """Several sources in one, as in a pod."""
    host_path: HostPathVolume | None = None
    """A folder of the node, where the administrator allows it."""

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
            "volume '{self.name}' has no source or several; set exactly one",
        ),
        Rule(
            "!self.name.startsWith('kinase-')",
            "name '{self.name}' is the operator's own; kinase- is reserved",
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
            raise ValueError(f"volume {self.name!r} has {len(sources)} sources; set exactly one")
        if self.name.startswith("kinase-"):
            raise ValueError(f"name {self.name!r} is the operator's own; kinase- is reserved")
        return self


class Mount(Model):
    """Where a volume appears in the trial's container."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the volume."""
    mount_path: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^/[^:]*$")]
    """Absolute path; /kinase is the operator's own."""
    sub_path: Annotated[str, Field(max_length=1024)] | None = None
    """Path within the volume."""
    read_only: bool = False
    """Whether it is mounted read-only."""

    rules: ClassVar = (
        Rule(
            "self.mountPath != '/kinase' && !self.mountPath.startsWith('/kinase/')",
            "mountPath '{self.mountPath}' is the operator's own; /kinase is reserved",
            ".mountPath",
            "Forbidden",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if f"{self.mount_path}/".startswith("/kinase/"):
            raise ValueError(
                f"mountPath {self.mount_path!r} is the operator's own; /kinase is reserved"
            )
        return self


class Cache(Model):
    """A folder of the node in which its trials share the weights that they read from the store
    (estimation type Morphism). A file that is damaged there is found, and read anew."""

    volume: Annotated[str, Field(min_length=1, max_length=63)]
    """Name of the volume: a persistentVolumeClaim, a hostPath, or a csi volume. No other trial sees
    what is in an emptyDir."""
    size: Quantity = "10Gi"
    """Most that it may hold; what was used longest ago goes first."""


class Security(Model):
    """Who the trial's container runs as. Unset, it runs as user 65532 without any privilege."""

    run_as_user: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """User. 0 only where the operator's administrator allows it."""
    run_as_group: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Group."""
    fs_group: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Group that owns the volumes."""
    privileged: bool = False
    """Whether it has all privileges, where the operator's administrator allows it."""


class LocalReference(Model):
    """An object in the experiment's namespace."""

    name: ObjectName
    """Name of the object."""


class ControllerTemplate(Model):
    """How the experiment's controller is run on a cluster."""

    service_account_name: ObjectName | None = None
    """ServiceAccount of its pod, by which a cloud knows it, where the operator's administrator
    allows it. It is given the controller's rights. Default: the operator's choice, which is one of
    the controller's own."""


class TrialTemplate(Model):
    """How a trial is run. Only `timeLimit` and `maxRetries` matter on one machine; the rest
    shapes the pod on a cluster."""

    time_limit: Duration | None = None
    """Longest time of one attempt, such as 10m, counted from the start of its process; a trial that
    takes longer is infeasible. The wait for a node, a queue or an image does not count.
    Default: none."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 2
    """Further attempts after a crash. A lost machine, an eviction or a killed controller does
    not count."""
    max_disruptions: Annotated[int, Field(ge=0, le=999)] = 100
    """On a cluster, further attempts in a row after one that was lost for no fault of the trial's
    own: its node rejected or evicted the pod, or the store was away. An attempt that runs for 10
    minutes starts the count again. The wait between attempts grows from 10 s to 5 min, so 100 of
    them take about 8 hours; after them the trial has failed."""
    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Image of the trainer. Default: the operator's."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When the image is pulled. Default: Kubernetes'."""
    image_pull_secrets: Annotated[
        tuple[LocalReference, ...], Field(max_length=8), Keyed("name")
    ] = ()
    """Secrets to pull the image with."""
    command: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=64)
    ] = ()
    """Command in place of the image's, for a trainer of one's own (docs/trial-contract.md)."""
    args: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=64)] = ()
    """Arguments of the command."""
    resources: Resources = Resources()
    """What a trial asks for and may use."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels that a node must have."""
    affinity: Annotated[dict[str, Any], Field(max_length=3)] | None = None
    """Affinity, as in a pod."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints that are borne."""
    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods, by which a cloud knows them, where the operator's administrator
    allows it. The token of the API server is not mounted. Default: the namespace's `default`."""
    priority_class_name: ObjectName | None = None
    """Priority class of the pods."""
    runtime_class_name: ObjectName | None = None
    """Runtime class of the pods."""
    scheduler_name: ObjectName | None = None
    """Scheduler of the pods. Default: the cluster's."""
    managed_by: (
        Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] | None
    ) = None
    """Controller of the Jobs in place of Kubernetes' own, such as kueue.x-k8s.io/multikueue."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=16), Keyed("name")] = ()
    """Volumes, for data above all."""
    volume_mounts: Annotated[tuple[Mount, ...], Field(max_length=16), Keyed("mountPath")] = ()
    """Where the volumes appear."""
    cache: Cache | None = None
    """Where the trials of a node share the weights that they read. Default: nowhere."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), Keyed("name")] = ()
    """Variables of the environment."""
    env_from: Annotated[tuple[EnvFrom, ...], Field(max_length=8)] = ()
    """Variables from all keys of Secrets or ConfigMaps."""
    shm_size: Quantity | None = None
    """Size of /dev/shm, through which data loaders hand over batches, such as 2Gi; there are as
    many of them as it holds batches for. Default: the runtime's 64 MiB."""
    labels: Labels = Field(default_factory=dict)
    """Labels of a trial's Job and pod, such as Kueue's kueue.x-k8s.io/queue-name."""
    annotations: Annotations = Field(default_factory=dict)
    """Annotations of a trial's Job and pod."""
    grace_period: Duration | None = None
    """Time to reach a checkpoint when the pod must go. Default: 30s."""
    security: Security = Security()
    """Who the container runs as."""

    rules: ClassVar = (
        Rule(
            "!has(self.volumeMounts) || self.volumeMounts.all(m, "
            "has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            "volumeMounts has a name that is none of the volumes: "
            "{self.volumeMounts.filter(m, !(has(self.volumes) && "
            "self.volumes.exists(v, v.name == m.name)))[0].name}",
            ".volumeMounts",
        ),
        Rule(
            "!has(self.shmSize) || !has(self.volumeMounts) || "
            "!self.volumeMounts.exists(m, m.mountPath == '/dev/shm')",
            "shmSize mounts /dev/shm already; set one of them",
            ".shmSize",
        ),
        Rule(
            "!has(self.cache) || (has(self.volumes) && self.volumes.exists(v, "
            "v.name == self.cache.volume && (has(v.hostPath) || has(v.csi) || "
            "!v.?persistentVolumeClaim.?readOnly.orValue(!has(v.persistentVolumeClaim)))))",
            "cache.volume '{self.cache.volume}' is none of the volumes that outlast a pod; name a "
            "persistentVolumeClaim that can be written to, a hostPath or a csi volume",
            ".cache.volume",
        ),
        *(
            Rule(
                f"!has(self.{name}) || !self.{name}.exists(key, key.startsWith('{GROUP}/'))",
                f"a key of {name} is the operator's own; {GROUP}/ is reserved",
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
                    f"volumeMounts has a name that is none of the volumes: {mount.name!r} "
                    f"({', '.join(names) or 'there are none'})"
                )
            if mount.mount_path == "/dev/shm" and self.shm_size is not None:
                raise ValueError("shmSize mounts /dev/shm already; set one of them")
        lasting = [
            v.name
            for v in self.volumes
            if v.host_path
            or v.csi
            or (v.persistent_volume_claim and not v.persistent_volume_claim.read_only)
        ]
        if self.cache is not None and self.cache.volume not in lasting:
            raise ValueError(
                f"cache.volume {self.cache.volume!r} is none of the volumes that outlast a pod "
                f"({', '.join(lasting) or 'there are none'}); name a persistentVolumeClaim that "
                "can be written to, a hostPath or a csi volume"
            )
        for field, keys in (("labels", self.labels), ("annotations", self.annotations)):
            for key in keys:
                if key.startswith(f"{GROUP}/"):
                    raise ValueError(
                        f"{field} has the key {key!r}, which is the operator's own; "
                        f"{GROUP}/ is reserved"
                    )
        return self


def unrestricted(template: TrialTemplate) -> list[tuple[str, str]]:
    """What of a template breaks Pod Security `restricted`: pairs of field and reason."""
    found = [
        (f"volumes[{i}].hostPath", f"the folder {v.host_path.path!r} of the node")
        for i, v in enumerate(template.volumes)
        if v.host_path is not None
    ]
    if template.security.privileged:
        found.append(("security.privileged", "a privileged container"))
    if template.security.run_as_user == 0:
        found.append(("security.runAsUser", "a container run as root"))
    return found
