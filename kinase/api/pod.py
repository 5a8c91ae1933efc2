"""`spec.trialTemplate`: how to run a trial, locally or as a pod."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Duration, Keyed, Model, ObjectName, Rule
from kinase.api.env import EnvFrom, EnvVar
from kinase.api.names import GROUP
from kinase.api.quantity import Quantity
from kinase.api.trial import MAX_ATTEMPTS, Workers
from kinase.api.volumes import Mount, Volume

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
Labels = Annotated[dict[LabelKey, Label], Field(max_length=32)]
Annotations = Annotated[
    dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)
]


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
    """How to run a trial. A local run uses `timeLimit`, `maxRetries`, `workers`, `command`, `args`
    and `env`; all other fields configure the pods on a cluster."""

    time_limit: Duration | None = None
    """Maximum time of one attempt, such as 10m, counted from the start of its process. A trial that
    takes longer is infeasible. Waiting for a node, a queue or an image is not counted. Default: no
    limit."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 2
    """Number of retries after a crash. A lost node, an eviction or a killed controller does not use
    up a retry."""
    max_disruptions: Annotated[int, Field(ge=0, le=MAX_ATTEMPTS)] = 100
    """On a cluster, the number of retries in a row after disruptions: the node rejected or evicted
    the pod, or the store was unavailable. An attempt that runs for 10 minutes resets the count.
    The delay between attempts grows from 10 s to 5 min, so 100 retries take about 8 hours. After
    the last retry the trial fails."""
    workers: Workers = 1
    """Number of processes that train one trial together, each on its share of every batch, so that
    a trial can use several GPUs. On a cluster each has a pod with these `resources`, and all pods
    of a trial must run at the same time. `training.batchSize` stays the size of the whole batch."""
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
    """Command of your own trainer (docs/own-trainer.md), to run instead of the image's. On one
    machine it is run there, from the folder in which kinase was started."""
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
